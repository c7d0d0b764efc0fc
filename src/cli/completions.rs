//! `mcpm completions`: scripts that teach a shell our commands, and what these scripts ask.
//!
//! A script calls this program again, with `MCPM_COMPLETE` set, whenever a person presses Tab; the answer
//! comes from the grammar, and names come from the daemon that runs. Names may hold anything: what is typed
//! is compared without its quotes (zsh and fish quote what they are offered; bash does not).

mod bash;
mod nouns;
mod words;

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use anyhow::Context;
use clap::builder::{Resettable, Str};
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_complete::engine::{
    ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter,
};
use clap_complete::env::{CompleteEnv, Elvish, Fish, Powershell, Shells, Zsh};

use crate::api::process_table::Row;
use crate::audit::words as words_of_audit;

use super::args::Cli;
use super::exit::Exit;
use super::render::Output;
use super::session::Session;
use super::{line, list};
use bash::Bash;
use words::unquoted;

/// Set by the scripts, to the name of the shell.
const VARIABLE: &str = "MCPM_COMPLETE";
/// Which word is being completed; not of fish, where it is the last.
const INDEX: &str = "_CLAP_COMPLETE_INDEX";
/// Those that have a script.
const SHELLS: Shells<'static> = Shells(&[&Bash, &Elvish, &Fish, &Powershell, &Zsh]);
/// Nobody waits longer at a prompt.
const PATIENCE: Duration = Duration::from_secs(1);
/// Verbs whose targets may be files as well.
const WITH_FILES: [&str; 5] = ["start", "stop", "restart", "reload", "delete"];
/// Those that are sent to programs.
const SIGNALS: [&str; 9] = [
    "SIGHUP", "SIGINT", "SIGQUIT", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGTERM", "SIGCONT", "SIGSTOP",
];

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// For which shell: bash, zsh, fish, elvish or powershell
    #[arg(value_parser = shell)]
    shell: Shell,
}

/// PM2's words install themselves into the shell's start file, which is the operator's own.
fn shell(word: &str) -> Result<Shell, String> {
    <Shell as clap::ValueEnum>::from_str(word, true).map_err(|_| {
        "write bash, zsh, fish, elvish or powershell, and put `source <(mcpm completions bash)` or \
         its like into the start file of your shell"
            .to_owned()
    })
}

/// Prints the script.
pub(crate) fn run(args: &Args, output: &Output) -> anyhow::Result<Exit> {
    let shells = SHELLS;
    let shell = shells.completer(&args.shell.to_string());
    let mut script = Vec::new();
    let program = std::env::args_os().next().unwrap_or_default();
    let name = if line::is_pm2(&program) {
        "pm2"
    } else {
        "mcpm"
    };
    shell
        .context("there is no script for this shell")?
        .write_registration(VARIABLE, name, name, name, &mut script)?;
    output.data(&script)?;
    Ok(Exit::Fine)
}

/// Answers a script; `false` when it is a person who asks.
pub(crate) fn answer(args: &[OsString]) -> Result<bool, clap::Error> {
    if std::env::var_os(VARIABLE).is_none() {
        return Ok(false);
    }
    let folder = std::env::current_dir().ok();
    let index = std::env::var(INDEX)
        .ok()
        .and_then(|index| index.parse().ok());
    CompleteEnv::with_factory(grammar)
        .var(VARIABLE)
        .shells(SHELLS)
        .try_complete(as_meant(args, index), folder.as_deref())
}

/// The line with the word that is being completed (`index`, else the last) without its quotes. Pure.
fn as_meant(args: &[OsString], index: Option<usize>) -> Vec<OsString> {
    let mut args = args.to_vec();
    let Some(dashes) = args.iter().position(|arg| arg == "--") else {
        return args;
    };
    let words = &mut args[dashes + 1..];
    let at = index.unwrap_or(words.len().saturating_sub(1));
    if let Some(word) = words.get_mut(at)
        && let Some(text) = word.to_str().map(unquoted)
    {
        *word = text.into();
    }
    args
}

/// The grammar, with names where a process is meant, files and signals.
fn grammar() -> Command {
    Cli::command().mut_subcommands(|command| {
        let files = WITH_FILES.contains(&command.get_name());
        let command = nouns::offered(command);
        with_hidden_aliases(command).mut_args(|arg| match arg.get_id().as_str() {
            "target" | "targets" => {
                let offer = move |current: &OsStr| targets(current, files);
                arg.add(ArgValueCompleter::new(offer))
            }
            "file" => arg.add(ArgValueCompleter::new(PathCompleter::file())),
            "signal" => arg.add(ArgValueCompleter::new(signals)),
            "action" => arg.add(ArgValueCompleter::new(actions)),
            _ => arg,
        })
    })
}

/// The engine would offer the aliases in the place of the names.
fn with_hidden_aliases(command: Command) -> Command {
    // Until this process has answered, which it does next: texts of the grammar live as long.
    let leaked = |alias: &str| -> &'static str { Box::leak(alias.to_owned().into_boxed_str()) };
    let aliases: Vec<&'static str> = command.get_all_aliases().map(leaked).collect();
    command
        .visible_alias(Resettable::<Str>::Reset)
        .aliases(aliases)
}

/// What the audit log tells of.
fn actions(current: &OsStr) -> Vec<CompletionCandidate> {
    let begun = current.to_string_lossy();
    let fits = |word: &&str| word.starts_with(&*begun);
    let words = words_of_audit::ALL.into_iter().filter(fits);
    words.map(CompletionCandidate::new).collect()
}

fn signals(current: &OsStr) -> Vec<CompletionCandidate> {
    let begun = current.to_string_lossy().to_ascii_uppercase();
    let fits = |name: &&str| name.starts_with(&begun) || name[3..].starts_with(&begun);
    let names = SIGNALS.into_iter().filter(fits);
    names.map(CompletionCandidate::new).collect()
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
    let words = |row: &Row| [row.name.to_string(), row.namespace.clone()];
    Ok(listed??.rows.iter().flat_map(words).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_offered_and_aliases_understood() {
        let grammar = grammar();
        let delete = grammar.find_subcommand("del").unwrap();
        assert_eq!(delete.get_name(), "delete");
        assert_eq!(delete.get_visible_aliases().count(), 0);
        assert_eq!(signals(OsStr::new("usr")).len(), 2);
        assert_eq!(actions(OsStr::new("isolation.")).len(), 4);
    }

    #[test]
    fn the_word_that_is_being_completed_is_taken_without_its_quotes() {
        let line = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        let typed = line(&["mcpm", "--", "mcpm", "stop", r"my\ a", "x"]);
        let meant = line(&["mcpm", "--", "mcpm", "stop", "my a", "x"]);
        assert_eq!(as_meant(&typed, Some(2)), meant);
        assert_eq!(as_meant(&typed[..5], None), meant[..5]);
        assert_eq!(as_meant(&typed, Some(9)), typed);
        assert_eq!(as_meant(&line(&["mcpm"]), None), line(&["mcpm"]));
    }

    #[test]
    fn whoever_takes_an_instance_is_helped_with_numbers() {
        let grammar = grammar();
        let instances = grammar.find_subcommand("instances").unwrap();
        for verb in [
            "show", "disable", "enable", "expire", "label", "rotate", "rm",
        ] {
            let command = instances.find_subcommand(verb).unwrap();
            let first = command.get_positionals().next().unwrap();
            assert!(first.get::<ArgValueCompleter>().is_some(), "{verb}");
        }
    }

    #[test]
    fn whoever_takes_a_process_is_helped_with_names() {
        let grammar = grammar();
        for verb in [
            "start", "stop", "logs", "describe", "why", "attach", "scale", "send", "flush",
        ] {
            let command = grammar.find_subcommand(verb).unwrap();
            let helped = command
                .get_positionals()
                .any(|arg| arg.get::<ArgValueCompleter>().is_some());
            assert!(helped, "{verb}");
        }
    }
}
