//! Scripts, interpreters and folders on a disk made for the purpose.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

struct Room {
    file: tempfile::TempDir,
    shell: tempfile::TempDir,
    path: String,
}

impl Room {
    /// A file's folder, a shell's folder, and a `PATH` with the programs named.
    fn new(programs: &[&str]) -> Self {
        let room = Self {
            file: tempfile::tempdir().unwrap(),
            shell: tempfile::tempdir().unwrap(),
            path: String::new(),
        };
        fs::create_dir(room.shell.path().join("bin")).unwrap();
        let room = Self {
            path: room.shell.path().join("bin").display().to_string(),
            ..room
        };
        for name in programs {
            room.put(
                room.shell.path(),
                &format!("bin/{name}"),
                "#!/bin/sh\n",
                0o755,
            );
        }
        room
    }

    fn put(&self, dir: &Path, name: &str, text: &str, mode: u32) {
        fs::write(dir.join(name), text).unwrap();
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn find<'a>(
        &'a self,
        script: &'a str,
        change: impl FnOnce(&mut Wanted<'a>),
    ) -> Result<Found, Missing> {
        let mut wanted = Wanted {
            script,
            args: &[],
            interpreter: None,
            interpreter_args: &[],
            cwd: None,
            path: Some(&self.path),
            own: Path::new("/own/mcpm-binary"),
        };
        change(&mut wanted);
        let bases = Bases {
            file: Some(self.file.path()),
            shell: self.shell.path(),
            home: None,
        };
        find(wanted, bases)
    }

    fn bin(&self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }
}

#[test]
fn the_program_of_a_first_line_must_be_there() {
    let room = Room::new(&["python3"]);
    let missing = |line: &str| {
        room.put(room.file.path(), "run", &format!("{line}\nwork\n"), 0o755);
        room.find("run", |_| {}).err()
    };
    for (line, named) in [
        ("#!/opt/none/bin/ruby -w", "`/opt/none/bin/ruby`"),
        ("#!/bin/sh\r", "first line"),
        ("#! /usr/bin/env nothing", "`nothing`"),
    ] {
        let (key, message) = missing(line).expect(line);
        assert_eq!(key, "script");
        assert!(
            message.contains(named) && message.contains("first line"),
            "{message}"
        );
    }
    for line in [
        "#!/bin/sh",
        "#! /bin/sh -e",
        "#!/usr/bin/env python3",
        "#!/usr/bin/env -S nothing",
    ] {
        assert_eq!(missing(line), None, "{line}");
    }
}

#[test]
fn the_word_mcpm_is_this_program() {
    let room = Room::new(&["mcpm", "bash"]);
    for (script, args) in [
        ("mcpm", vec![]),
        ("./target/release/mcpm", vec![]),
        ("mcpm bridge demo", vec!["bridge", "demo"]),
    ] {
        let found = room.find(script, |_| {}).unwrap();
        assert_eq!(
            found.program.script,
            Path::new("/own/mcpm-binary"),
            "{script}"
        );
        assert_eq!(found.program.args, args);
        assert_eq!(found.program.interpreter, None);
        assert_eq!(found.cwd, room.file.path());
    }
    let found = room.find("mcpm bridge demo | tee x", |_| {}).unwrap();
    assert_eq!(found.program.args, ["-c", "mcpm bridge demo | tee x"]);
}

#[test]
fn extensions_content_and_the_executable_bit_choose_the_interpreter() {
    let room = Room::new(&["node", "python3", "bash"]);
    let dir = room.file.path();
    for (name, text, mode, expected) in [
        ("a.js", "", 0o644, Some("node")),
        ("b.py", "", 0o644, Some("python3")),
        ("c.sh", "", 0o644, Some("bash")),
        ("d", "#!/bin/sh\n", 0o755, None),
        ("e", "#!/usr/bin/env node\n", 0o644, Some("node")),
        ("f", "\x7fELF\0", 0o755, None),
        ("with space", "#!/bin/sh\n", 0o755, None),
    ] {
        room.put(dir, name, text, mode);
        let found = room.find(name, |_| {}).unwrap();
        assert_eq!(
            found.program.interpreter,
            expected.map(|e| room.bin(e)),
            "{name}"
        );
        assert_eq!(found.program.script, dir.join(name));
        assert_eq!(found.cwd, dir);
    }
}

#[test]
fn a_cwd_is_looked_in_first() {
    let room = Room::new(&["node"]);
    fs::create_dir(room.shell.path().join("sub")).unwrap();
    room.put(&room.shell.path().join("sub"), "a.js", "", 0o644);
    let found = room.find("a.js", |w| w.cwd = Some("./sub")).unwrap();
    assert_eq!(found.cwd, room.shell.path().join("sub"));
    assert_eq!(found.program.script, room.shell.path().join("sub/a.js"));
}

#[test]
fn a_program_of_the_path_runs_where_the_shell_is() {
    let room = Room::new(&["npx"]);
    let found = room.find("npx", |_| {}).unwrap();
    assert_eq!(found.program.script, Path::new(&room.bin("npx")));
    assert_eq!(
        (found.program.interpreter, found.cwd),
        (None, room.shell.path().to_owned())
    );
}

#[test]
fn command_lines_go_to_a_shell_with_their_arguments() {
    let args = ["--port".to_owned(), "1 2".to_owned()];
    let room = Room::new(&["bash"]);
    let program = room
        .find("python x.py -v", |w| w.args = &args)
        .unwrap()
        .program;
    assert_eq!(program.script, Path::new(&room.bin("bash")));
    let expected = [
        "-c",
        "python x.py -v \"$@\"",
        &room.bin("bash"),
        "--port",
        "1 2",
    ];
    assert_eq!(program.args, expected);
}

#[test]
fn what_is_missing_is_named_with_its_key() {
    let room = Room::new(&["python3"]);
    room.put(room.file.path(), "a.js", "", 0o644);
    room.put(room.file.path(), "bin.elf", "\0\0", 0o644);
    let check = |script, interpreter: Option<&'static str>, cwd, key, part: &str| {
        let found = room.find(script, |w| (w.interpreter, w.cwd) = (interpreter, cwd));
        let (found, message) = found.unwrap_err();
        assert_eq!(found, key, "{message}");
        assert!(message.contains(part), "{message}");
    };
    check("./nope", None, None, "script", "does not exist; looked in");
    check("nope", None, None, "script", "and `PATH`");
    check("a.js", None, None, "script", "needs `node`");
    check("bin.elf", None, None, "script", "not executable");
    check("a.js", Some("none"), None, "script", "chmod +x");
    check(
        "a.js",
        Some("ruby"),
        None,
        "exec_interpreter",
        "not in `PATH`",
    );
    check("a.js", Some("node@18"), None, "exec_interpreter", "nvm");
    check("a.js", None, Some("nowhere"), "cwd", "does not exist");
    check("a.js", None, Some("a.js"), "cwd", "not a folder");
    check(".", None, None, "script", "folder");
    let args = room
        .find("a.js", |w| w.interpreter = Some("python3 -u"))
        .unwrap()
        .program;
    assert_eq!(args.interpreter_args, ["-u"]);
}

#[test]
fn names_come_from_scripts() {
    for (script, name) in [
        ("./a/web.js", "web"),
        ("python x.py -v", "python x"),
        (".env", ".env"),
        ("run", "run"),
    ] {
        assert_eq!(default_name(script), name);
    }
}
