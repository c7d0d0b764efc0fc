//! No bytes make the reader of ecosystem files panic, hang, or accept an app without a program.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use mcpm::config::{LoadOptions, Shell, load_text};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    // A shell that finds nothing: what counts is the reading, not this machine.
    let shell = Shell {
        cwd: "/nonexistent".into(),
        env: BTreeMap::from([("PATH".to_owned(), "/nonexistent".to_owned())]),
        program: "/nonexistent/mcpm".into(),
    };
    let options = LoadOptions {
        env_name: Some("production".to_owned()),
        only: Vec::new(),
        given: Vec::new(),
    };
    for name in ["eco.json", "eco.yaml", "package.json"] {
        if let Ok(loaded) = load_text(name, text, &shell, &options) {
            for app in &loaded.apps {
                assert!(app.program.script.is_absolute() && app.instances >= 1);
            }
        }
    }
});
