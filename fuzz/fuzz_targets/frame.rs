//! Whatever bytes a segment has, each is part of a whole frame or reported; what is in a frame is read or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use underpin::events::fuzzing;

fuzz_target!(|bytes: &[u8]| {
    fuzzing::frames(bytes);
    fuzzing::bodies(bytes);
});
