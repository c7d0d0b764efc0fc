//! Finds and reads ecosystem files, and calls the rest of the room in order:
//! text → raw value → apps → drafts → what they share → specs.
//!
//! Limits: [`FILE_MAX`] bytes, `syntax::DEPTH_MAX` levels, 10,000 apps. A mistake refuses the file
//! before anything was looked up; what is missing on this machine fails single apps.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::app::Draft;
use super::error::{AppFailure, ConfigError, Report, Warning, shown};
use super::fields::Fields;
use super::finish::finish;
use super::keys::APP;
use super::resolve::{self, Bases, variable};
use super::settings::Settings;
use super::spec::{AppSpec, Env, ExecMode};
use super::syntax::js::{self, JsError};
use super::syntax::{Entry, Node, Place, SyntaxError, Value, json, yaml};
use super::{app, check, daemon_settings, document, env};

/// Bytes of one file, or of what a JavaScript file evaluates to. The reference catalogue of 373
/// services takes a tenth of it.
pub const FILE_MAX: u64 = 4 << 20;

/// What the operator's shell gives.
#[derive(Clone, Debug)]
pub struct Shell {
    /// Absolute.
    pub cwd: PathBuf,
    /// Variables; those that are not UTF-8 are left out.
    pub env: BTreeMap<String, String>,
    /// This program, as apps whose `script` is `mcpm` run it.
    pub program: PathBuf,
}

impl Shell {
    /// That of this process.
    ///
    /// # Errors
    /// When the current folder is gone, or `/proc` is missing.
    pub fn current() -> io::Result<Self> {
        let env = std::env::vars_os();
        let env = env.filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        Ok(Self {
            cwd: std::env::current_dir()?,
            env: env.collect(),
            program: std::env::current_exe()?,
        })
    }

    /// The variables that an app of this shell may have, before its file adds any.
    pub fn passed_on(&self) -> Env {
        Env::from(&env::of_shell(&self.env))
    }
}

/// What the command line says about a file.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// `--env x`: `env_x` counts.
    pub env_name: Option<String>,
    /// `--only a,b`: these apps; empty for all.
    pub only: Vec<String>,
    /// Attributes that the command line gives to every app of the file.
    pub given: Vec<GivenAttribute>,
}

/// An attribute from the command line, for the apps of a file.
#[derive(Clone, Debug)]
pub struct GivenAttribute {
    /// Its canonical name.
    pub key: &'static str,
    /// Over what the file says, and not only where that says nothing.
    pub wins: bool,
    /// As typed; `true` is the flag.
    pub text: String,
}

/// What a file holds, ready to be sent.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// In the order of the file.
    pub apps: Vec<AppSpec>,
    /// Apps that can't be started as written.
    pub failed: Vec<AppFailure>,
    /// To be said.
    pub warnings: Vec<Warning>,
    /// The `mcpm` block.
    pub settings: Settings,
    /// Where that stands, absolute; `None` for standard input and command lines.
    pub file: Option<PathBuf>,
}

const SUFFIXES: &[&str] = &[
    ".json",
    ".json5",
    ".jsonc",
    ".yml",
    ".yaml",
    ".config.js",
    ".config.cjs",
    ".config.mjs",
];
/// Endings of scripts: `server.json.js` is one, although `.json` is in its name.
const SCRIPTS: &[&str] = &[
    "js", "cjs", "mjs", "ts", "tsx", "py", "sh", "rb", "php", "pl",
];

/// Whether an argument of `start` names an ecosystem file rather than a script or a process.
///
/// PM2 looks for `.json`, `.yml`, `.yaml` and `.config.js` anywhere in the argument; here only the
/// file's name counts, not its folders, and an ending that makes it a script wins.
pub fn is_ecosystem_file(name: &str) -> bool {
    let name = name.rsplit('/').next().unwrap_or(name);
    if SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) {
        return true;
    }
    let ending = name.rsplit('.').next().unwrap_or_default();
    let inside = |suffix: &&'static str| name.contains(&format!("{suffix}."));
    !SCRIPTS.contains(&ending) && SUFFIXES.iter().any(inside)
}

/// Reads an ecosystem file.
///
/// # Errors
/// Nothing of the file may be started: it can't be read, or it has mistakes (all are named).
pub fn load_file(path: &Path, shell: &Shell, options: &LoadOptions) -> Result<Loaded, ConfigError> {
    let absolute = resolve::tidy(&shell.cwd.join(path));
    let name = path.to_string_lossy();
    let root = if is_javascript(&name) {
        evaluate(&absolute, path, shell)?
    } else {
        parse(&name, &read_text(&absolute, path)?)?
    };
    let loaded = build(root, &name, absolute.parent(), shell, options)?;
    Ok(Loaded {
        file: Some(absolute),
        ..loaded
    })
}

/// Reads a text that has no file, such as standard input (`-`). Relative paths start at the
/// shell's folder. The name says the syntax; JSON or YAML when it does not.
///
/// # Errors
/// The text has mistakes; all are named.
pub fn load_text(
    name: &str,
    text: &str,
    shell: &Shell,
    options: &LoadOptions,
) -> Result<Loaded, ConfigError> {
    if text.len() as u64 > FILE_MAX {
        return Err(ConfigError::TooLarge {
            file: name.to_owned(),
            limit: FILE_MAX,
        });
    }
    build(parse(name, text)?, name, None, shell, options)
}

/// Reads a file that holds only settings of the daemon, such as `$MCPM_HOME/mcpm.json`.
///
/// # Errors
/// It can't be read, or it has mistakes; all are named.
pub fn load_settings(path: &Path) -> Result<(Settings, Vec<Warning>), ConfigError> {
    let name = path.to_string_lossy();
    let root = parse(&name, &read_text(path, path)?)?;
    let mut report = Report::new(Some(&name));
    let settings = match &root.value {
        Value::Map(entries) => daemon_settings::read(entries, root.at, &mut report),
        _ => {
            report.mistake(
                root.at,
                format!("the file is {}; write a map", root.described()),
            );
            Settings::default()
        }
    };
    Ok((settings, report.finish()?))
}

fn is_javascript(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    [".config.js", ".config.cjs", ".config.mjs"]
        .iter()
        .any(|suffix| file.contains(suffix))
}

fn read_text(absolute: &Path, path: &Path) -> Result<String, ConfigError> {
    let unreadable = |source| ConfigError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(absolute).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(FILE_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    let name = || path.to_string_lossy().into_owned();
    if bytes.len() as u64 > FILE_MAX {
        return Err(ConfigError::TooLarge {
            file: name(),
            limit: FILE_MAX,
        });
    }
    String::from_utf8(bytes).map_err(|error| ConfigError::NotUtf8 {
        file: name(),
        offset: error.utf8_error().valid_up_to(),
    })
}

fn parse(name: &str, text: &str) -> Result<Node, ConfigError> {
    let lower = name.to_ascii_lowercase();
    let file = lower.rsplit('/').next().unwrap_or(&lower);
    let json = file.contains(".json");
    let yaml = !json && (file.contains(".yml") || file.contains(".yaml"));
    // Without a name's help: JSON begins with a bracket or a comment, YAML hardly ever does.
    let looks_like_json = text
        .trim_start_matches('\u{feff}')
        .trim_start()
        .starts_with(['{', '[', '/']);
    let result = if yaml || (!json && !looks_like_json) {
        yaml::parse(text)
    } else {
        json::parse(text)
    };
    result.map_err(|error| refuse(name, error))
}

fn refuse(name: &str, SyntaxError { at, message }: SyntaxError) -> ConfigError {
    let mut report = Report::new(Some(name));
    report.mistake(at, message);
    match report.finish() {
        Err(error) => error,
        Ok(_) => ConfigError::Mistakes {
            warnings: Vec::new(),
            mistakes: Vec::new(),
        },
    }
}

fn evaluate(absolute: &Path, path: &Path, shell: &Shell) -> Result<Node, ConfigError> {
    // A clear answer for a missing file, instead of node's.
    File::open(absolute).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    let name = path.to_string_lossy();
    let file = || name.clone().into_owned();
    let node = resolve::in_path("node", variable(&shell.env, "PATH")).ok_or_else(|| {
        ConfigError::Node {
            file: file(),
            reason: "which is not in `PATH`; install it".to_owned(),
        }
    })?;
    let env = env::of_shell(&shell.env);
    js::evaluate(&node, absolute, &env, &shell.cwd, FILE_MAX).map_err(|error| match error {
        JsError::Syntax(error) => refuse(&name, error),
        JsError::Node(reason) => ConfigError::Node {
            file: file(),
            reason,
        },
        JsError::TooLarge => ConfigError::TooLarge {
            file: file(),
            limit: FILE_MAX,
        },
    })
}

/// From the raw value on; also for command lines, which have no file.
fn build(
    root: Node,
    name: &str,
    folder: Option<&Path>,
    shell: &Shell,
    options: &LoadOptions,
) -> Result<Loaded, ConfigError> {
    let is_package = Path::new(name)
        .file_name()
        .is_some_and(|file| file == "package.json");
    let mut report = Report::new(Some(name));
    let mut document = document::read(root, is_package, &mut report);
    for app in &mut document.apps {
        give(app, &options.given);
    }
    let env_name = options.env_name.as_deref();
    let mut drafts: Vec<Draft> = Vec::new();
    for node in &document.apps {
        drafts.extend(app::read(node, &shell.env, env_name, &mut report));
    }
    check::check(&drafts, &mut report);
    let drafts = only(drafts, &options.only, &mut report);
    if let Some(name) = env_name {
        about_missing_blocks(&drafts, name, &mut report);
    }
    let mut loaded = finish_all(drafts, folder, shell, &mut report);
    loaded.warnings = report.finish()?;
    // A name that no app has must not change settings on its own.
    if has_wanted(&loaded, options) {
        loaded.settings = document.settings;
    }
    Ok(loaded)
}

/// Is there any of the apps that were named, if some were?
fn has_wanted(loaded: &Loaded, options: &LoadOptions) -> bool {
    options.only.is_empty() || !(loaded.apps.is_empty() && loaded.failed.is_empty())
}

/// Adds what the command line says to what the file says of an app.
fn give(app: &mut Node, given: &[GivenAttribute]) {
    let Value::Map(entries) = &mut app.value else {
        return;
    };
    for GivenAttribute { key, wins, text } in given {
        let is_it = |entry: &Entry| APP.find(&entry.key).is_some_and(|known| known.name == *key);
        if *wins {
            entries.retain(|entry| !is_it(entry));
        } else if entries.iter().any(is_it) {
            continue;
        }
        let value = match text.as_str() {
            "true" => Value::Bool(true),
            _ => Value::Text(text.clone()),
        };
        entries.push(Entry {
            key: (*key).to_owned(),
            at: app.at,
            node: Node::placeless(value),
        });
    }
}

/// Resolves one app, as an ecosystem file would hold it, that stands in none. `Loaded` has one app,
/// or one failure. What apps may not share with each other is not looked at.
///
/// # Errors
/// The app has mistakes; all are named.
pub fn load_app(app: &serde_json::Value, shell: &Shell) -> Result<Loaded, ConfigError> {
    build_one(&Node::from_json(app), shell)
}

/// One app that has no file.
pub(crate) fn build_one(app: &Node, shell: &Shell) -> Result<Loaded, ConfigError> {
    let mut report = Report::new(None);
    let draft = app::read(app, &shell.env, None, &mut report);
    let mut loaded = finish_all(draft.into_iter().collect(), None, shell, &mut report);
    loaded.warnings = report.finish()?;
    Ok(loaded)
}

fn only(drafts: Vec<Draft>, only: &[String], report: &mut Report) -> Vec<Draft> {
    if only.is_empty() {
        return drafts;
    }
    let names: HashSet<&str> = drafts.iter().map(|draft| draft.name.as_str()).collect();
    for name in only.iter().filter(|name| !names.contains(name.as_str())) {
        report.warn(
            Place::default(),
            format!("no app is named {} (`--only`)", shown(name)),
        );
    }
    let wanted: HashSet<&str> = only.iter().map(String::as_str).collect();
    drafts
        .into_iter()
        .filter(|draft| wanted.contains(draft.name.as_str()))
        .collect()
}

/// An app that is started without the variables that `--env` asks for.
fn about_missing_blocks(drafts: &[Draft], name: &str, report: &mut Report) {
    let without = |draft: &&Draft| !draft.fields.env_blocks.contains_key(name);
    for draft in drafts.iter().filter(without) {
        report.about(Some(draft.name.to_string()));
        let message = format!("there is no `env_{name}` for `--env {name}`; `env` alone counts");
        report.warn(draft.fields.at, message);
    }
    report.about(None);
}

/// Looks at the machine, unless the file is refused anyway.
fn finish_all(
    drafts: Vec<Draft>,
    folder: Option<&Path>,
    shell: &Shell,
    report: &mut Report,
) -> Loaded {
    let mut loaded = Loaded::default();
    if report.mistake_count() > 0 {
        return loaded;
    }
    let bases = Bases {
        file: folder,
        shell: &shell.cwd,
        home: variable(&shell.env, "HOME"),
    };
    for draft in drafts {
        let name = draft.name.to_string();
        let places = draft.fields.clone();
        match finish(draft, bases, &shell.program) {
            Ok(spec) => {
                about_replicas(&spec, &places, report);
                loaded.apps.push(spec);
            }
            Err((key, message)) => {
                let at = report.position(places.place(key));
                loaded.failed.push(AppFailure { name, at, message });
            }
        }
    }
    loaded
}

/// What of PM2's cluster is missing so far, said where a person asked for it.
fn about_replicas(spec: &AppSpec, fields: &Fields, report: &mut Report) {
    let asked = fields.count("instances").is_some_and(|count| count != 1);
    let message = match (&spec.mcp, spec.exec_mode) {
        _ if !asked => return,
        (Some(_), _) => "more than one process for a service is not acted upon yet: one serves it",
        (None, ExecMode::ClusterMode) if spec.instances > 1 && spec.increment_var.is_none() => {
            "replicas do not share a port yet: each must listen on one of its own \
             (`increment_var: \"PORT\"` gives it one), else one of them runs"
        }
        (None, _) => return,
    };
    report.about(Some(spec.name.to_string()));
    report.warn(fields.place("instances"), message);
    report.about(None);
}

#[cfg(test)]
mod tests;
