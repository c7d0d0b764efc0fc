//! `mcpm completions`: scripts that teach a shell our commands.

use clap::CommandFactory;
use clap_complete::Shell;

use super::args::Cli;
use super::exit::Exit;
use super::render::Output;

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// For which shell
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(args: &Args, output: &Output) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "mcpm", &mut script);
    output.data(&script)?;
    Ok(Exit::Fine)
}
