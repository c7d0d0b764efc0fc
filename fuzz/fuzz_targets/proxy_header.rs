//! Headers of the PROXY protocol: whoever reads what it is asked for ends, and never reads beyond.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcpm::router::proxy_protocol::{HEADER_MAX, Said, read};

fuzz_target!(|data: &[u8]| {
    let mut end = 0;
    while let Ok(Said::More(more)) = read(&data[..end]) {
        assert!(more > 0, "it waits for nothing");
        end += more;
        assert!(end <= HEADER_MAX, "it reads for ever");
        if end > data.len() {
            break;
        }
    }
    let _ = read(data);
});
