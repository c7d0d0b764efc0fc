//! No bytes make the reader of stored credentials panic, and what it reads it writes again alike: a
//! master key that opens a row of another release, or of a broken disk, must not end the daemon.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcpm::vault::Fields;

fuzz_target!(|data: &[u8]| {
    let Some(fields) = Fields::decode(data) else {
        return;
    };
    let again = Fields::decode(&fields.expose().encode()).expect("its own form is read");
    assert!(again.expose() == fields.expose());
});
