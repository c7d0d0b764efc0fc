//! From targets of the command line to what `config` reads, in this shell.
//!
//! The daemon never reads a user's file: this side does, with the folder and the variables of the
//! person who typed the command.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, anyhow, bail};

use crate::config::spec::{AppSpec, Env};
use crate::config::{
    ConfigError, LoadOptions, Loaded, Shell, amend, daemon_settings, from_command_line,
    is_ecosystem_file, load_file, load_text,
};

use super::app_flags::AppFlags;

/// Files that `start` takes when none is named, in this order.
const DEFAULT_FILES: [&str; 6] = [
    "ecosystem.config.js",
    "ecosystem.config.cjs",
    "ecosystem.config.mjs",
    "ecosystem.json",
    "ecosystem.yml",
    "ecosystem.yaml",
];
/// Largest ecosystem file that is taken from stdin.
const STDIN_MAX: u64 = 16 << 20;

/// What of an ecosystem file counts.
#[derive(Debug, clap::Args)]
pub(crate) struct Selection {
    /// Merge the `env_NAME` blocks of an ecosystem file
    #[arg(long, value_name = "NAME")]
    pub(crate) env: Option<String>,
    /// Only these apps of an ecosystem file
    #[arg(long, value_name = "NAMES")]
    only: Vec<String>,
}

impl Selection {
    /// PM2 takes commas and spaces between names.
    fn options(&self) -> LoadOptions {
        let names = self.only.iter().flat_map(|names| names.split([',', ' ']));
        LoadOptions {
            env_name: self.env.clone(),
            only: names
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect(),
            given: Vec::new(),
        }
    }

    /// Without a file it would mean nothing, and `delete all --only web` is not to delete all.
    ///
    /// # Errors
    /// When it selects, and no target is a file.
    pub(crate) fn refuse_without_file(&self, targets: &[String]) -> anyhow::Result<()> {
        match self.meaningless(targets) {
            Some(why) if self.selects_apps() => {
                bail!(
                    "{why}; name the file, or the apps in place of `{}`",
                    targets.join(" ")
                )
            }
            Some(why) => bail!("{why}; name the file"),
            None => Ok(()),
        }
    }

    /// Only some apps count.
    pub(crate) fn selects_apps(&self) -> bool {
        !self.only.is_empty()
    }

    /// Why it means nothing; `None` when it selects nothing, or a target is a file.
    pub(crate) fn meaningless(&self, targets: &[String]) -> Option<&'static str> {
        if targets.iter().any(|target| is_file(target)) {
            return None;
        }
        if self.selects_apps() {
            return Some("`--only` selects apps of an ecosystem file");
        }
        let block = self.env.is_some();
        block.then_some("`--env` selects a block of an ecosystem file")
    }
}

/// An ecosystem file, or `-` for one on stdin?
pub(crate) fn is_file(target: &str) -> bool {
    target == "-" || is_ecosystem_file(target)
}

/// The file that `start` takes when none is named.
///
/// # Errors
/// When this folder has none.
pub(crate) fn default_file() -> anyhow::Result<String> {
    let found = DEFAULT_FILES
        .into_iter()
        .find(|file| Path::new(file).exists());
    match found {
        Some(file) => Ok(file.to_owned()),
        None => bail!(
            "what to start? This folder has no ecosystem file: `{}`",
            DEFAULT_FILES.join("`, `")
        ),
    }
}

/// Reads an ecosystem file.
///
/// # Errors
/// Every mistake in it.
pub(crate) fn load(target: &str, selection: &Selection) -> anyhow::Result<Loaded> {
    load_with(target, &selection.options())
}

fn load_with(target: &str, options: &LoadOptions) -> anyhow::Result<Loaded> {
    let shell = shell()?;
    let loaded = if target == "-" {
        load_text("stdin", &read_stdin()?, &shell, options)
    } else {
        load_file(Path::new(target), &shell, options)
    };
    loaded.map_err(refusal)
}

/// Reads an ecosystem file to start its apps, with the options that count with files.
///
/// # Errors
/// Every mistake in it.
pub(crate) fn load_to_start(
    target: &str,
    selection: &Selection,
    flags: &AppFlags,
) -> anyhow::Result<Loaded> {
    let mut options = selection.options();
    options.given = flags.for_files();
    for given in &mut options.given {
        if given.key == "cwd" {
            // As the shell sees it, and not from the file's folder.
            given.text = std::path::absolute(&given.text)?
                .to_string_lossy()
                .into_owned();
        }
    }
    load_with(target, &options)
}

/// Makes an app of a script and flags.
///
/// # Errors
/// What is wrong with them.
pub(crate) fn from_script(
    script: &str,
    args: &[String],
    flags: &AppFlags,
) -> anyhow::Result<Loaded> {
    from_command_line(&flags.app(script, args), &shell()?).map_err(refusal)
}

/// Puts options and arguments over what a process is made from.
///
/// # Errors
/// What is wrong with them.
pub(crate) fn amended(
    spec: &AppSpec,
    flags: &AppFlags,
    args: &[String],
) -> anyhow::Result<AppSpec> {
    let mut loaded = amend(spec, &flags.app("", args), &shell()?).map_err(refusal)?;
    match (loaded.apps.pop(), loaded.failed.pop()) {
        (Some(app), _) => Ok(app),
        (None, Some(failure)) => bail!("{}: {}", failure.name, failure.message),
        (None, None) => Ok(spec.clone()),
    }
}

/// The variables of this shell that an app may have.
///
/// # Errors
/// When the current folder is gone.
pub(crate) fn shell_env() -> anyhow::Result<Env> {
    Ok(shell()?.passed_on())
}

/// What this shell says about the daemon's own settings: `MCPM_LISTEN` and its kin.
pub(crate) fn daemon_variables() -> BTreeMap<String, String> {
    let said = |name: &str| Some((name.to_owned(), std::env::var(name).ok()?));
    let said = daemon_settings::VARIABLES.into_iter().filter_map(said);
    said.filter(|(_, text)| !text.is_empty()).collect()
}

/// This shell, as apps find it.
///
/// # Errors
/// When the current folder is gone.
pub(crate) fn shell() -> anyhow::Result<Shell> {
    Shell::current().context("cannot read the current folder")
}

fn read_stdin() -> anyhow::Result<String> {
    let mut text = String::new();
    std::io::stdin()
        .take(STDIN_MAX + 1)
        .read_to_string(&mut text)
        .context("cannot read stdin")?;
    if text.len() as u64 > STDIN_MAX {
        bail!(
            "stdin holds more than {} MiB: that is no ecosystem file",
            STDIN_MAX >> 20
        );
    }
    Ok(text)
}

/// Several mistakes stand on lines of their own, so that editors find them.
fn refusal(error: ConfigError) -> anyhow::Error {
    let text = format!("{:#}", anyhow!(error));
    let is_mistake = |line: &&str| !line.starts_with("warning: ");
    match text.lines().filter(is_mistake).count() {
        0 | 1 => anyhow!(text),
        mistakes => anyhow!("nothing was started, for {mistakes} mistakes:\n{text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_beside_a_mistake_is_not_counted() {
        let selection = Selection {
            env: None,
            only: Vec::new(),
        };
        let text = "{ apps: [{ name: 'c', script: 'x', mcp: { service: 'y', prot: 2 } }] }";
        let error = load_text("stdin", text, &shell().unwrap(), &selection.options());
        let said = refusal(error.err().unwrap()).to_string();
        assert!(
            said.contains("\nwarning: ") && !said.contains("mistakes:"),
            "{said}"
        );
    }

    #[test]
    fn names_are_split_at_commas_and_spaces() {
        let selection = Selection {
            env: Some("prod".into()),
            only: vec!["a,b c".into(), "d, ".into()],
        };
        let options = selection.options();
        assert_eq!(options.only, ["a", "b", "c", "d"]);
        assert_eq!(options.env_name.as_deref(), Some("prod"));
    }

    #[test]
    fn a_dash_is_a_file_on_stdin() {
        assert!(is_file("-") && is_file("ecosystem.json") && !is_file("web"));
    }
}
