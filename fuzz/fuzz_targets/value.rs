//! Whatever bytes stand for a value, they are refused, or read so that it is written and read the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use underpin::events::fuzzing;

fuzz_target!(|bytes: &[u8]| {
    fuzzing::values(bytes);
});
