//! Whatever bytes stand for a part of an index or for a block, they are refused or read, and nothing beyond them is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use underpin::events::fuzzing;

fuzz_target!(|bytes: &[u8]| {
    fuzzing::indexes(bytes);
});
