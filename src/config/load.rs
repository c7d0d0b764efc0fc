//! Stand-in for the real file reader, which lives on another branch.
#![expect(missing_docs, reason = "a stand-in")]
use super::spec::Env;
use super::{AppSpec, Settings};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
pub struct Shell {
    pub cwd: PathBuf,
    pub env: BTreeMap<String, String>,
    pub program: PathBuf,
}
impl Shell {
    pub fn current() -> std::io::Result<Self> {
        Ok(Self {
            cwd: std::env::current_dir()?,
            env: std::env::vars().collect(),
            program: std::env::current_exe()?,
        })
    }
    pub fn passed_on(&self) -> Env {
        Env(self.env.clone())
    }
}
#[derive(Default)]
pub struct LoadOptions {
    pub env_name: Option<String>,
    pub only: Vec<String>,
}
#[derive(Default)]
pub struct Loaded {
    pub apps: Vec<AppSpec>,
    pub failed: Vec<String>,
    pub warnings: Vec<String>,
    pub settings: Settings,
}
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);
pub struct CommandLineApp {
    pub script: String,
    pub name: Option<String>,
    pub namespace: Option<String>,
    pub interpreter: Option<String>,
    pub interpreter_args: Option<String>,
    pub args: Vec<String>,
    pub cwd: Option<String>,
    pub instances: Option<String>,
    pub port: Option<String>,
    pub max_restarts: Option<u32>,
    pub min_uptime: Option<String>,
    pub restart_delay: Option<String>,
    pub exp_backoff_restart_delay: Option<String>,
    pub stop_exit_codes: Vec<String>,
    pub kill_timeout: Option<String>,
    pub kill_signal: Option<String>,
    pub autorestart: bool,
    pub autostart: bool,
    pub treekill: bool,
    pub execute_command: bool,
    pub out_file: Option<String>,
    pub error_file: Option<String>,
    pub pid_file: Option<String>,
    pub merge_logs: bool,
    pub disable_logs: bool,
    pub filter_env: Vec<String>,
    pub uid: Option<String>,
    pub gid: Option<String>,
    pub others: Vec<(String, String)>,
}
fn parse(text: &str) -> Result<Loaded, ConfigError> {
    let apps = serde_json::from_str(text).map_err(|e| ConfigError(e.to_string()))?;
    Ok(Loaded {
        apps,
        ..Loaded::default()
    })
}
pub fn is_ecosystem_file(target: &str) -> bool {
    target.ends_with(".json") || target.ends_with(".yml") || target.ends_with(".config.js")
}
pub fn load_file(path: &Path, _: &Shell, _: &LoadOptions) -> Result<Loaded, ConfigError> {
    parse(&std::fs::read_to_string(path).map_err(|e| ConfigError(e.to_string()))?)
}
pub fn load_text(_: &str, text: &str, _: &Shell, _: &LoadOptions) -> Result<Loaded, ConfigError> {
    parse(text)
}
pub fn from_command_line(app: &CommandLineApp, _: &Shell) -> Result<Loaded, ConfigError> {
    Err(ConfigError(format!(
        "script `{}` does not exist",
        app.script
    )))
}
