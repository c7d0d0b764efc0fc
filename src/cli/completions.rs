//! `mcpm completions`: scripts that teach a shell our commands, and what these scripts ask.
//!
//! A script calls this program again, with `MCPM_COMPLETE` set, whenever a person presses Tab; the answer
//! comes from the grammar, and names come from the daemon that runs.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use anyhow::Context;
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_complete::engine::{
    ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter,
};
use clap_complete::env::{CompleteEnv, Shells};

use super::args::Cli;
use super::exit::Exit;
use super::list;
use super::render::Output;
use super::session::Session;

/// Set by the scripts, to the name of the shell.
const VARIABLE: &str = "MCPM_COMPLETE";
/// Nobody waits longer at a prompt.
const PATIENCE: Duration = Duration::from_secs(1);
/// Verbs whose targets may be files as well.
const WITH_FILES: [&str; 5] = ["start", "stop", "restart", "reload", "delete"];

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// For which shell
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(args: &Args, output: &Output) -> anyhow::Result<Exit> {
    let shells = Shells::builtins();
    let shell = shells.completer(&args.shell.to_string());
    let mut script = Vec::new();
    shell
        .context("there is no script for this shell")?
        .write_registration(VARIABLE, "mcpm", "mcpm", "mcpm", &mut script)?;
    output.data(&script)?;
    Ok(Exit::Fine)
}

/// Answers a script; `false` when it is a person who asks.
pub(crate) fn answer(args: &[OsString]) -> Result<bool, clap::Error> {
    if std::env::var_os(VARIABLE).is_none() {
        return Ok(false);
    }
    let folder = std::env::current_dir().ok();
    CompleteEnv::with_factory(grammar)
        .var(VARIABLE)
        .try_complete(args, folder.as_deref())
}

/// The grammar, with names where a process is meant.
fn grammar() -> Command {
    Cli::command().mut_subcommands(|command| {
        let files = WITH_FILES.contains(&command.get_name());
        command.mut_args(|arg| {
            if !["target", "targets"].contains(&arg.get_id().as_str()) {
                return arg;
            }
            let offer = move |current: &OsStr| targets(current, files);
            arg.add(ArgValueCompleter::new(offer))
        })
    })
}

fn targets(current: &OsStr, files: bool) -> Vec<CompletionCandidate> {
    let begun = current.to_string_lossy();
    let mut names = names().unwrap_or_default();
    names.extend(["all".to_owned()]);
    names.sort();
    names.dedup();
    names.retain(|name| name.starts_with(&*begun));
    let mut found: Vec<_> = names.into_iter().map(CompletionCandidate::new).collect();
    if files {
        found.extend(PathCompleter::file().complete(current));
    }
    found
}

/// Of the daemon that runs; none is started for this.
fn names() -> anyhow::Result<Vec<String>> {
    let session = Session::new(Output::new(true, true))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let listed = runtime.block_on(async {
        let ask = async {
            let mut daemon = session.running_daemon().await?;
            list::table(&mut daemon).await
        };
        tokio::time::timeout(PATIENCE, ask).await
    });
    Ok(listed??
        .rows
        .iter()
        .map(|row| row.name.to_string())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_takes_a_process_is_helped_with_names() {
        let grammar = grammar();
        for verb in [
            "start", "stop", "logs", "describe", "attach", "scale", "send", "flush",
        ] {
            let command = grammar.find_subcommand(verb).unwrap();
            let helped = command
                .get_positionals()
                .any(|arg| arg.get::<ArgValueCompleter>().is_some());
            assert!(helped, "{verb}");
        }
    }
}
