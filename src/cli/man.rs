//! `mcpm man`: manual pages, made from the grammar, one for each command.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Command, CommandFactory};
use clap_mangen::Man;

use super::args::Cli;
use super::exit::Exit;
use super::render::Output;

/// Arguments of `man`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write `mcpm.1`, `mcpm-start.1`, … into this folder [default: print `mcpm.1`]
    folder: Option<PathBuf>,
}

/// Prints the page, or writes all of them.
pub(crate) fn run(args: &Args, output: &Output) -> anyhow::Result<Exit> {
    let Some(folder) = &args.folder else {
        let mut page = Vec::new();
        Man::new(Cli::command()).render(&mut page)?;
        output.data(&page)?;
        return Ok(Exit::Fine);
    };
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder `{}`", folder.display()))?;
    let mut grammar = Cli::command();
    // Gives each command its full name: `mcpm-users-add`.
    grammar.build();
    let pages = write(&grammar, folder)?;
    output.line(format_args!(
        "✓ wrote {pages} pages to {}; `man -M` takes the folder above a `man1`",
        folder.display()
    ))?;
    Ok(Exit::Fine)
}

/// Its own page and those of its commands.
fn write(command: &Command, folder: &Path) -> anyhow::Result<usize> {
    let page = Man::new(command.clone());
    page.generate_to(folder).with_context(|| {
        format!(
            "cannot write `{}`",
            folder.join(page.get_filename()).display()
        )
    })?;
    let shown = command
        .get_subcommands()
        .filter(|below| !below.is_hide_set());
    shown
        .map(|below| write(below, folder))
        .try_fold(1, |sum, pages| Ok(sum + pages?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_that_tells_its_options() {
        let folder = tempfile::tempdir().unwrap();
        let mut grammar = Cli::command();
        grammar.build();
        let pages = write(&grammar, folder.path()).unwrap();
        let read = |name: String| std::fs::read_to_string(folder.path().join(name));
        let mut verbs = 0;
        for verb in grammar.get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let name = verb.get_name();
            let page = read(format!("mcpm-{name}.1")).unwrap_or_else(|_| panic!("{name}"));
            for option in verb.get_arguments().filter(|arg| !arg.is_hide_set()) {
                let Some(long) = option.get_long() else {
                    continue;
                };
                let shown = format!("\\-\\-{}", long.replace('-', "\\-"));
                assert!(page.contains(&shown), "{name} {long}: {page}");
            }
            verbs += 1;
        }
        assert!(verbs > 40 && pages > verbs);
        assert!(
            read("mcpm.1".to_owned())
                .unwrap()
                .contains("mcpm\\-start(1)")
        );
        assert!(read("mcpm-users-add.1".to_owned()).is_ok());
    }
}
