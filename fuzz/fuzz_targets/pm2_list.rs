//! No bytes on PM2's socket, and no list that it may send, make the reader panic or start what is no
//! app.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use mcpm::pm2::message::Decoder;
use mcpm::pm2::takeover;

fuzz_target!(|data: &[u8]| {
    let mut decoder = Decoder::default();
    // In two pieces, as a socket may cut them.
    let (head, tail) = data.split_at(data.len() / 2);
    for piece in [head, tail] {
        decoder.feed(piece);
        while let Ok(Some(answer)) = decoder.take() {
            let listed = answer.outcome.unwrap_or_default();
            let takeover = takeover::apps(&listed, Path::new("/nonexistent"), None);
            for app in &takeover.apps {
                assert!(app.instances >= 1 && app.entry.contains_key("script"));
            }
        }
    }
});
