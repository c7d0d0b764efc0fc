use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rustix::process::{Pid, WaitOptions, getrlimit, waitpid};

use super::*;

/// A folder, which is also the child's, and what it may get.
struct Nest {
    dir: tempfile::TempDir,
    launcher: Launcher,
    user: Option<RunAs>,
}

impl Nest {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            launcher: Launcher::new().unwrap(),
            user: None,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    /// Runs it to its end and returns what it wrote, to both of its outputs.
    fn run_in(
        &mut self,
        cwd: &Path,
        words: &[&str],
        env: &[(&str, &str)],
    ) -> Result<String, Errno> {
        let (name, args) = words.split_first().unwrap();
        let args = args.iter().map(OsStr::new);
        let env = env.iter().copied().collect();
        let program = Program::new(OsStr::new(name), args, &env, cwd).unwrap();
        let output = File::create(self.path("output")).unwrap();
        let input = File::open("/dev/null").unwrap();
        let files = getrlimit(Resource::Nofile);
        let gets = Inheritance {
            stdio: [input.as_fd(), output.as_fd(), output.as_fd()],
            kept: &[],
            lock: None,
            group: None,
            user: self.user,
            files: Rlimit {
                current: Some(77),
                ..files
            },
            core: getrlimit(Resource::Core),
        };
        let launched = self.launcher.launch(&program, &gets);
        let pid = launched.map_err(|error| Errno::from_io_error(&error).unwrap())?;
        waitpid(Pid::from_raw(pid.cast_signed()), WaitOptions::empty()).unwrap();
        Ok(fs::read_to_string(self.path("output")).unwrap())
    }

    fn run(&mut self, words: &[&str], env: &[(&str, &str)]) -> Result<String, Errno> {
        let cwd = self.dir.path().to_owned();
        self.run_in(&cwd, words, env)
    }

    fn shell(&mut self, line: &str) -> String {
        self.run(&["/bin/sh", "-c", line], &[("PATH", DEFAULT_PATH)])
            .unwrap()
    }
}

#[test]
fn it_gets_its_words_variables_and_folder_and_nothing_else() {
    let mut nest = Nest::new();
    let words = [
        "/bin/sh",
        "-c",
        "pwd -P; echo \"$0 $1\"; /usr/bin/env",
        "a b",
        "ü",
    ];
    let said = nest.run(&words, &[("ONLY", "one = two")]).unwrap();
    let folder = fs::canonicalize(nest.dir.path()).unwrap();
    let start = format!("{}\na b ü\n", folder.display());
    assert!(said.starts_with(&start), "{said}");
    assert!(said.contains("ONLY=one = two\n"), "{said}");
    assert!(!said.contains("CARGO"), "{said}");
}

#[test]
fn no_descriptor_no_mask_and_no_handler_is_left_to_it() {
    let mut nest = Nest::new();
    let open = File::open("/dev/null").unwrap();
    let is_open = format!(
        "[ -e /proc/self/fd/{} ] && echo open; ulimit -n",
        open.as_raw_fd()
    );
    assert_eq!(nest.shell(&is_open), "77\n");
    let status = nest.run(&["/bin/cat", "/proc/self/status"], &[]).unwrap();
    let mask = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        let (_, mask) = line.split_once(":\t").unwrap();
        u64::from_str_radix(mask, 16).unwrap()
    };
    assert_eq!((mask("SigBlk"), mask("SigCgt")), (0, 0), "{status}");
    assert_eq!(mask("SigIgn") & (1 << (libc::SIGPIPE - 1)), 0, "{status}");
}

#[test]
fn it_leads_a_session() {
    let mut nest = Nest::new();
    let stat = nest.run(&["/bin/cat", "/proc/self/stat"], &[]).unwrap();
    let fields: Vec<&str> = stat.split(' ').collect();
    assert_eq!((fields[0], fields[0]), (fields[4], fields[5]), "{stat}");
}

#[test]
fn what_keeps_it_from_running_is_told() {
    let mut nest = Nest::new();
    let plain = nest.write("plain", "#!/bin/sh\n", 0o644);
    let broken = nest.write("broken", "#!/no/such/shell\n", 0o755);
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let (plain, broken) = (text(&plain), text(&broken));
    for (name, error) in [
        ("/no/such/program", Errno::NOENT),
        ("no-such-program", Errno::NOENT),
        ("", Errno::NOENT),
        (&plain, Errno::ACCESS),
        (&broken, Errno::NOENT),
        ("/dev", Errno::ACCESS),
    ] {
        assert_eq!(nest.run(&[name], &[]), Err(error), "{name}");
    }
    let nowhere = nest.path("nowhere");
    assert_eq!(
        nest.run_in(&nowhere, &["/bin/true"], &[]),
        Err(Errno::NOENT)
    );
    let long = "x".repeat(4 << 20);
    assert_eq!(nest.run(&["/bin/true", &long], &[]), Err(Errno::TOOBIG));
}

#[test]
fn names_are_looked_for_in_its_own_path() {
    let mut nest = Nest::new();
    nest.write("a/tool", "#!/bin/sh\necho from a\n", 0o644);
    nest.write("b/tool", "#!/bin/sh\necho from b\n", 0o755);
    nest.write("c/tool", "#!/bin/sh\necho from c\n", 0o755);
    let said = nest.run(&["tool"], &[("PATH", "/no/such:a:b:c")]);
    assert_eq!(said.unwrap(), "from b\n");
    let denied = nest.run(&["tool"], &[("PATH", "/no/such:a")]);
    assert_eq!(denied, Err(Errno::ACCESS));
}

#[test]
fn a_script_without_a_first_line_is_for_a_shell() {
    let mut nest = Nest::new();
    let script = nest.write("plain", "echo \"$0 $1\"\n", 0o755);
    let script = script.to_str().unwrap();
    let said = nest.run(&[script, "word"], &[]).unwrap();
    assert_eq!(said, format!("{script} word\n"));
}

#[test]
fn another_user_has_its_groups_and_what_fails_then_is_told() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root may start programs as somebody else");
        return;
    }
    let mut nest = Nest::new();
    fs::set_permissions(nest.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    nest.user = Some(RunAs {
        uid: 65_534,
        gid: 65_533,
    });
    let said = nest.run(&["/bin/sh", "-c", "id -u; id -g; id -G"], &[]);
    assert_eq!(said.unwrap(), "65534\n65533\n65533\n");
    let secret = nest.write("secret", "#!/bin/sh\n", 0o700);
    let secret = secret.to_str().unwrap().to_owned();
    assert_eq!(nest.run(&[&secret], &[]), Err(Errno::ACCESS));
    nest.write("closed/file", "", 0o600);
    let closed = nest.path("closed");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(
        nest.run_in(&closed, &["/bin/true"], &[]),
        Err(Errno::ACCESS)
    );
}

#[test]
fn zero_bytes_are_refused() {
    let program = Program::new(OsStr::new("a\0b"), [], &BTreeMap::new(), Path::new("/"));
    assert_eq!(program.unwrap_err().kind(), io::ErrorKind::InvalidInput);
}
