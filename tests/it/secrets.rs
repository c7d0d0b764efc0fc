//! Secrets are nowhere but where they belong, whatever happens: a whole run with planted ones, and a
//! search for them in all that it leaves behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use data_encoding::HEXLOWER_PERMISSIVE;
use memchr::memmem;
use serde_json::json;

use crate::harness::{Mcpm, Ran, demo, eventually, is_alive, kill, processes_of, run, service};

/// What must be found nowhere.
struct Secret {
    what: &'static str,
    bytes: Vec<u8>,
}

/// A home in which everything that is said is kept.
struct Watched {
    mcpm: Mcpm,
    /// All that commands have printed, but for what they print by order.
    said: Vec<u8>,
    secrets: Vec<Secret>,
}

impl Watched {
    /// This is a secret.
    fn plant(&mut self, what: &'static str, secret: impl AsRef<[u8]>) {
        let bytes = secret.as_ref().to_vec();
        assert!(bytes.len() >= 16, "{what} would be found by chance");
        self.secrets.push(Secret { what, bytes });
    }

    /// The master key is a secret as it is written and as it is.
    fn plant_master_key(&mut self) {
        let text = fs::read_to_string(self.mcpm.home().join("master.key")).unwrap();
        let text = text.trim();
        let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).unwrap();
        self.plant("a master key", text);
        self.plant("a master key, as bytes", bytes);
    }

    /// Runs a command in a shell that allows cores of any size that may be allowed, with a daemon that
    /// tells all it can.
    fn run(&mut self, args: &[&str], stdin: &str) -> Ran {
        let ran = self.by_order(args, stdin);
        self.said.extend(ran.stdout.as_bytes());
        ran
    }

    /// The same for one whose stdout is a secret, by order.
    fn by_order(&mut self, args: &[&str], stdin: &str) -> Ran {
        let plain = self.mcpm.command(args);
        let mut shell = Command::new("sh");
        shell
            .args(["-c", r#"ulimit -S -c "$(ulimit -H -c)"; exec "$0" "$@""#])
            .arg(plain.get_program())
            .args(plain.get_args())
            .current_dir(self.mcpm.folder())
            .env_clear()
            .envs(
                plain
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            )
            .env("MCPM_LOG", "debug");
        let ran = run(shell, stdin);
        self.said.extend(ran.stderr.as_bytes());
        ran
    }

    #[track_caller]
    fn ok(&mut self, args: &[&str]) {
        let ran = self.run(args, "");
        assert_eq!(ran.code, Some(0), "mcpm {}: {ran}", args.join(" "));
    }

    /// Gives the user an instance with this key, and returns the id in its URL.
    #[track_caller]
    fn instance(&mut self, user: &str, service: &str, key: &str) -> String {
        let body = json!({ "apiKey": key }).to_string();
        let path = format!("/api/v1/services/{service}/authenticate");
        let answer = self.mcpm.api(user, "POST", &path, &body);
        assert_eq!(answer.status, 200, "{answer:?}");
        self.plant_id(&answer.json()["instanceId"])
    }

    fn plant_id(&mut self, id: &serde_json::Value) -> String {
        let id = id.as_str().expect("an instance id").to_owned();
        self.plant("an instance id", &id);
        id
    }

    /// What the daemon answers to this is kept, whatever it is.
    fn ask(&mut self, user: &str, method: &str, path: &str, body: &str) -> u16 {
        let answer = self.mcpm.api(user, method, path, body);
        self.said.extend(answer.text().as_bytes());
        answer.status
    }

    /// Looks for every secret in every file of the home, in all that was said, and in the arguments of
    /// all that runs.
    #[track_caller]
    fn search(&self) {
        let mut places = vec![(PathBuf::from("(what commands said)"), self.said.clone())];
        files(&self.mcpm.home(), &mut places);
        for pid in processes_of(&self.mcpm.home()) {
            let path = PathBuf::from(format!("/proc/{pid}/cmdline"));
            let arguments = fs::read(&path).unwrap_or_default();
            places.push((path, arguments));
        }
        assert!(places.len() > 5, "there is something to look at");
        for (path, bytes) in &places {
            for secret in &self.secrets {
                let is_its_place =
                    secret.what.starts_with("a master key") && path.ends_with("master.key");
                let found = memmem::find(bytes, &secret.bytes).is_some();
                assert!(
                    !found || is_its_place,
                    "{} is in {}",
                    secret.what,
                    path.display()
                );
            }
        }
    }

    /// The daemon gets a signal of which programs die with a core, until it does.
    #[track_caller]
    fn crash(&self, signal: &str) {
        let pid = self.mcpm.daemon_pid();
        let folder = fs::read_link(format!("/proc/{pid}/cwd")).unwrap();
        let before = cores(&folder);
        // The handler that looks for overflows of the stack lets the first one of some kinds pass.
        let ended = eventually(|| {
            kill(pid, signal);
            !is_alive(pid)
        });
        assert!(ended, "it lives on after SIG{signal}");
        assert_eq!(cores(&folder), before, "in {}", folder.display());
        for folder in [self.mcpm.home(), self.mcpm.folder().to_owned()] {
            assert_eq!(cores(&folder), Vec::<PathBuf>::new());
        }
    }
}

/// Regular files below a folder, whole.
fn files(folder: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&path, found),
            // One that has just been put aside is found under its new name.
            Ok(kind) if kind.is_file() => {
                found.extend(fs::read(&path).ok().map(|bytes| (path, bytes)));
            }
            _ => {}
        }
    }
}

/// Files that look like cores.
fn cores(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name == "core" || name.starts_with("core.")
        })
        .collect();
    found.sort();
    found
}

/// The soft limit of a process on its core.
fn core_limit(pid: u32) -> String {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let mut words = line.expect("a limit on cores").split_whitespace();
    words.nth(4).expect("its soft value").to_owned()
}

#[test]
fn a_whole_run_leaves_no_secret_behind_and_no_core() {
    let mcpm = Mcpm::new();
    let file = mcpm.ecosystem([service("web").with_api_key(), demo("demo")]);
    let mut world = Watched {
        mcpm,
        said: Vec::new(),
        secrets: Vec::new(),
    };
    world.ok(&["start", &file]);
    world.plant_master_key();
    for user in ["alice", "bob"] {
        let token = world.mcpm.token(user);
        world.plant("a user's token", token);
    }
    let admin = world.by_order(&["tokens", "add"], "").stdout;
    world.plant("an admin's token", admin.trim());

    // ── made, used, changed, removed ──
    let (first, second) = (
        "planted-first-key-0123456789",
        "planted-second-key-0123456789",
    );
    let (third, fourth) = (
        "planted-third-key-0123456789",
        "planted-fourth-key-0123456789",
    );
    for key in [first, second, third, fourth] {
        world.plant("a credential", key);
    }
    let alice = world.instance("alice", "web", first);
    world.instance("alice", "web", second);
    let bob = world.instance("bob", "web", third);
    world.instance("bob", "demo", third);
    let origin = world.mcpm.origin();
    let ask = |id: &str, rest: &str| world.mcpm.get(&format!("{origin}/{id}{rest}"));
    assert_eq!(ask(&alice, "/web/hello").status, 200);
    assert_eq!(ask(&bob, "/web/hello").status, 200);
    let rotated = world
        .mcpm
        .api("alice", "POST", "/api/v1/services/web/instance/rotate", "");
    let alice = world.plant_id(&rotated.json()["instanceId"]);
    assert_eq!(
        world.ask("bob", "DELETE", "/api/v1/services/demo/instance", ""),
        204
    );
    let add = ["instances", "add", "demo", "--user", "bob"];
    let url = world.by_order(&add, fourth).stdout;
    let added = url.trim().split('/').nth(3).unwrap().to_owned();
    world.plant("an instance id", added);

    // ── bad requests ──
    let path = "/api/v1/services/web/authenticate";
    for body in [
        format!(r#"{{"apiKey": "{fourth}"#),
        format!(r#"{{"apiKey": {{"{fourth}": 1}}}}"#),
        format!(r#"{{"nope": "{fourth}"}}"#),
        format!(r#"{{"apiKey": "{fourth}\r\nX-Evil: 1"}}"#),
        format!(r#"{{"apiKey": "{fourth}", "additionalCredentials": {{"api_key": "other"}}}}"#),
        format!(r#"{{"apiKey": "{fourth}", "additionalCredentials": {{"nope": "{third}"}}}}"#),
    ] {
        let status = world.ask("alice", "POST", path, &body);
        assert!((400..500).contains(&status), "{status} to {body}");
    }
    for wrong in [
        format!("{origin}/{alice}/demo"),
        format!("{origin}/{alice}/nope/x"),
        format!("{origin}/{alice}"),
        format!("{origin}/{alice}x/web"),
        format!("{origin}/api/v1/services/{alice}"),
    ] {
        let answer = world.mcpm.get(&wrong);
        assert!((400..500).contains(&answer.status), "{answer:?}");
        world.said.extend(answer.text().as_bytes());
    }

    // ── all that tells something ──
    let tell: [&[&str]; 12] = [
        &["ls"],
        &["jlist"],
        &["prettylist"],
        &["describe", "web"],
        &["services"],
        &["instances"],
        &["instances", "--json"],
        &["users"],
        &["config"],
        &["keys"],
        &["report"],
        &["logs", "--nostream", "--lines", "200"],
    ];
    for args in tell {
        world.ok(args);
    }
    world.ok(&["save"]);
    world.search();

    // ── the daemon's own turns ──
    world.ok(&["keys", "rotate"]);
    world.plant_master_key();
    let web = world.mcpm.list()["web"].pid;
    let hard = limit_of_children(web);
    assert!(["0", "1"].contains(&core_limit(world.mcpm.daemon_pid()).as_str()));
    world.crash("ABRT");
    world.ok(&["ping"]);
    world.ok(&["update"]);
    world.crash("SEGV");
    world.ok(&["jlist"]);
    let up = world.mcpm.wait_until(|list| list["web"].is_up());
    assert_eq!(up["web"].pid, web, "services go on");
    let still = world.mcpm.get(&format!("{origin}/{alice}/web/hello"));
    assert_eq!(still.status, 200);
    assert!(
        still.text().contains(second),
        "with the key that was given last"
    );
    for args in tell {
        world.ok(args);
    }
    world.search();
    world.ok(&["kill"]);
    world.search();
    if hard == "0" {
        eprintln!("skipped in part: no cores are allowed here, so that none could be written");
    }
}

/// A service has the limit back that the shell had.
#[track_caller]
fn limit_of_children(pid: u32) -> String {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let hard = line.and_then(|line| line.split_whitespace().nth(5));
    let hard = hard.expect("its hard value").to_owned();
    assert_eq!(core_limit(pid), hard, "soft and hard, as in the shell");
    hard
}
