//! Runs the lines of a case in a folder with the files of `tests/compat`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value, json};

use super::shape::{self, Facts};
use crate::harness::{Mcpm, eventually};

/// Programs that cases find in `PATH`, beside the stand-ins of `tests/compat/bin`; as the script
/// that records has them.
const TOOLS: [&str; 9] = [
    "bash", "sh", "env", "sed", "sleep", "ps", "cat", "node", "python3",
];
/// Variables that files set, that children are told, and that the shell of a case has.
const TOLD: [&str; 7] = [
    "PORT",
    "NODE_ENV",
    "NODE_APP_INSTANCE",
    "PYTHONUNBUFFERED",
    "name",
    "namespace",
    "INSTANCE_ID",
];

/// A daemon, and a folder with the files.
pub(super) struct Runs {
    mcpm: Mcpm,
    folder: PathBuf,
    said: PathBuf,
    bin: PathBuf,
}

/// What one process has said.
struct Heard {
    file: PathBuf,
    pid: Value,
    text: String,
}

/// What was recorded of a topic, by case.
pub(super) fn recorded(topic: &str) -> BTreeMap<String, Value> {
    let path = source().join("recorded").join(format!("{topic}.json"));
    let text = fs::read_to_string(path).expect("recordings");
    serde_json::from_str(&text).expect("JSON")
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compat")
}

impl Runs {
    /// `None`, and a word about it, when this machine has not all that the cases need.
    pub(super) fn new() -> Option<Self> {
        let mcpm = Mcpm::new();
        let [folder, said, bin] = ["case", "said", "bin"].map(|name| mcpm.folder().join(name));
        copy(&source().join("files"), &folder);
        copy(&source().join("bin"), &bin);
        fs::create_dir(&said).unwrap();
        for tool in TOOLS {
            let Some(path) = program(tool) else {
                eprintln!("skipped: there is no {tool} here");
                return None;
            };
            symlink(path, bin.join(tool)).unwrap();
        }
        Some(Self {
            mcpm,
            folder,
            said,
            bin,
        })
    }

    pub(super) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.mcpm.command(args);
        command
            .current_dir(&self.folder)
            .env("PATH", &self.bin)
            .env("SAID", &self.said)
            .env("CASE", &self.folder)
            .env("APP_FROM_SHELL", "shell")
            .env("APP_SECRET", "shh");
        command
    }

    /// Runs the lines of a case and returns their exit codes.
    pub(super) fn run(&self, case: &Value) -> Vec<Option<i32>> {
        let steps = case["steps"].as_array().expect("steps");
        let mut codes = Vec::new();
        for (at, step) in steps.iter().enumerate() {
            let words: Vec<&str> = step
                .as_array()
                .expect("words")
                .iter()
                .filter_map(Value::as_str)
                .collect();
            let before = (at > 0).then(|| self.hear_all());
            codes.push(self.code(&words));
            if let Some(before) = before {
                self.give_back(before);
            }
        }
        codes
    }

    /// Waits until every process has spoken, and takes what each has said: what is restarted shall
    /// be heard anew.
    fn hear_all(&self) -> Vec<Heard> {
        let heard = |entry: &Value| {
            let file = self.said.join(entry["pm_id"].to_string());
            let text = fs::read_to_string(&file).ok()?;
            // It is there before it is written.
            if text.is_empty() {
                return None;
            }
            let pid = entry["pid"].clone();
            Some(Heard { file, pid, text })
        };
        let is_quiet =
            |entry: &Value| entry["pm2_env"]["status"] == json!("online") && heard(entry).is_none();
        eventually(|| !self.list().iter().any(is_quiet));
        let all: Vec<Heard> = self.list().iter().filter_map(heard).collect();
        for Heard { file, .. } in &all {
            fs::remove_file(file).unwrap();
        }
        all
    }

    /// What was not started again has said what it had said.
    fn give_back(&self, before: Vec<Heard>) {
        let listed = self.list();
        for Heard { file, pid, text } in before {
            let id = file.file_name().and_then(|name| name.to_str());
            let now = listed
                .iter()
                .find(|entry| Some(entry["pm_id"].to_string().as_str()) == id);
            if now.is_some_and(|now| now["pid"] == pid || now["pid"] == json!(0)) && !file.exists()
            {
                fs::write(file, text).unwrap();
            }
        }
    }

    /// PM2's `start` waits for nothing.
    pub(super) fn code(&self, words: &[&str]) -> Option<i32> {
        let mut words = words.to_vec();
        if let Some(at) = words.iter().position(|word| *word == "start") {
            words.insert(at + 1, "--no-wait");
        }
        self.ran(&words).0
    }

    fn ran(&self, words: &[&str]) -> (Option<i32>, Vec<u8>) {
        let output = self.command(words).output().expect("mcpm");
        (output.status.code(), output.stdout)
    }

    /// `jlist`.
    pub(super) fn list(&self) -> Vec<Value> {
        let text = self.ran(&["jlist", "--show-secrets"]).1;
        serde_json::from_slice(&text).expect("`jlist` prints JSON")
    }

    /// What runs now.
    pub(super) fn shape(&self, codes: &[Option<i32>]) -> Facts {
        let processes = self.list();
        let processes: Vec<Value> = processes.iter().map(|entry| self.process(entry)).collect();
        shape::listed(codes, &processes)
    }

    /// What kind of value stands where in `jlist`.
    pub(super) fn types(&self) -> Facts {
        shape::types(&self.list())
    }

    /// Ends all and begins anew.
    pub(super) fn clear(&self) {
        self.ran(&["delete", "all"]);
        fs::remove_dir_all(&self.said).unwrap();
        fs::create_dir(&self.said).unwrap();
    }

    fn process(&self, entry: &Value) -> Value {
        let mut facts = entry["pm2_env"].as_object().expect("a map").clone();
        let told = |(name, value): (String, Value)| is_told(&name).then_some((name, value));
        let env = match facts.remove("env") {
            Some(Value::Object(env)) => env.into_iter().filter_map(told).collect(),
            _ => Map::new(),
        };
        facts.insert("env".to_owned(), Value::Object(env));
        facts.insert("name".to_owned(), entry["name"].clone());
        facts.insert("id".to_owned(), entry["pm_id"].clone());
        if let Ok(said) = fs::read_to_string(self.said.join(entry["pm_id"].to_string())) {
            facts.insert("said".to_owned(), said_by(&said));
        }
        self.plain(&Value::Object(facts))
    }

    /// Without paths of this machine.
    fn plain(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => {
                let home = self.mcpm.home();
                let paths = [
                    (&self.folder, "$DIR"),
                    (&home, "$HOME"),
                    (&self.bin, "$BIN"),
                ];
                let plain = paths.iter().fold(text.clone(), |text, (path, name)| {
                    text.replace(path.to_str().expect("UTF-8"), name)
                });
                json!(plain)
            }
            Value::Array(items) => items.iter().map(|item| self.plain(item)).collect(),
            Value::Object(map) => {
                let plain = map
                    .iter()
                    .map(|(key, item)| (key.clone(), self.plain(item)));
                Value::Object(plain.collect())
            }
            other => other.clone(),
        }
    }
}

fn is_told(name: &str) -> bool {
    name.starts_with("APP_") || TOLD.contains(&name)
}

/// What a program of `tests/compat/files` wrote down.
fn said_by(text: &str) -> Value {
    let of = |kind: &'static str| {
        text.lines().filter_map(move |line| {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            (word == kind).then_some(rest)
        })
    };
    let env = of("env").filter_map(|line| line.split_once('='));
    let env: Map<String, Value> = env
        .filter(|(name, _)| is_told(name))
        .map(|(name, value)| (name.to_owned(), json!(value)))
        .collect();
    json!({
        "cwd": of("cwd").next(),
        "flags": of("flag").collect::<Vec<_>>(),
        "args": of("arg").collect::<Vec<_>>(),
        "env": env,
    })
}

fn program(tool: &str) -> Option<PathBuf> {
    if tool == "python3" {
        // What stands in `PATH` may be a shim that looks at its own name.
        let line = ["-c", "import sys; print(sys.executable)"];
        let output = Command::new(tool).args(line).output().ok()?;
        let path = String::from_utf8(output.stdout).ok()?;
        return fs::canonicalize(path.trim()).ok();
    }
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).map(|folder| folder.join(tool));
    let found = found.into_iter().find(|path| path.is_file())?;
    fs::canonicalize(found).ok()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
