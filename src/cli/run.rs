//! Arguments → the command → exit code, and the one place where an error is printed.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use super::args::{Cli, Command};
use super::exit::{Exit, is_closed_pipe};
use super::render::Output;
use super::session::Session;
use super::{
    actions, bridge, completions, config, daemon, describe, flush, instances, kill, list, logs,
    ping, saving, services, start, startup, users,
};

/// Runs the command that these arguments ask for; the first is the program's name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(refusal) => return refused(&refusal).into(),
    };
    let output = Output::new(cli.silent, cli.no_color);
    match dispatch(cli.command, output) {
        Ok(exit) => exit.into(),
        Err(error) if is_closed_pipe(&error) => Exit::Fine.into(),
        Err(error) => {
            output.error(format!("{error:#}"));
            Exit::Failed.into()
        }
    }
}

/// Help and version are answers; everything else is a mistake, and a mistake is 1 (clap says 2).
fn refused(refusal: &clap::Error) -> Exit {
    // A closed pipe is the only way this fails.
    let _ = refusal.print();
    Exit::fine_if(matches!(
        refusal.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ))
}

fn dispatch(command: Command, output: Output) -> anyhow::Result<Exit> {
    match command {
        // These bring a runtime of their own, or need none.
        Command::Daemon(args) => daemon::run(args),
        Command::Bridge(args) => bridge::run(args),
        Command::Completions(args) => completions::run(&args, &output),
        Command::Startup(args) => startup::startup(&args, &output),
        Command::Unstartup(args) => startup::unstartup(&args, &output),
        command => {
            let session = Session::new(output)?;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(ask_daemon(command, &session))
        }
    }
}

async fn ask_daemon(command: Command, session: &Session) -> anyhow::Result<Exit> {
    match command {
        Command::Start(args) => start::run(*args, session).await,
        Command::Stop(args) => actions::stop(args, session).await,
        Command::Restart(args) => actions::restart(args, session).await,
        Command::Delete(args) => actions::delete(args, session).await,
        Command::Ls(args) => list::run(&args, session).await,
        Command::Jlist(args) => list::jlist(&args, session).await,
        Command::Describe(args) => describe::run(args, session).await,
        Command::Logs(args) => logs::run(args, session).await,
        Command::Flush(args) => flush::run(args, session).await,
        Command::Ping => ping::run(session).await,
        Command::Save(args) => saving::save(&args, session).await,
        Command::Resurrect => saving::resurrect(session).await,
        Command::Kill(args) => kill::run(&args, session).await,
        Command::Services(args) => services::run(&args, session).await,
        Command::Instances(args) => instances::run(args, session).await,
        Command::Users(args) => users::run(args, session).await,
        Command::Tokens(args) => users::tokens(&args, session).await,
        Command::Config(args) => config::run(&args, session).await,
        Command::Daemon(_)
        | Command::Bridge(_)
        | Command::Completions(_)
        | Command::Startup(_)
        | Command::Unstartup(_) => {
            unreachable!("`dispatch` has taken these")
        }
    }
}
