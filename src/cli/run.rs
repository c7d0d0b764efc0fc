//! Arguments → the command → exit code, and the one place where an error is printed.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches};

use crate::problem::advised;

use super::args::{Cli, Command};
use super::exit::{Exit, is_closed_pipe};
use super::render::Output;
use super::session::Session;
use super::{
    actions, attach, audit, bridge, completions, conf, config, daemon, describe, facts, flush,
    import, init, instances, keys, kill, line, list, logs, man, orders, ping, refused, reload,
    reload_logs, report, runtime, saving, scale, serve, services, start, startup, tokens, update,
    usage, users, why,
};

/// How the name that containers use is typed: it takes no command.
const RUNTIME_USAGE: &str = "pm2-runtime [OPTIONS] <FILE>... [-- <ARGS>...]";

/// Runs the command that these arguments ask for; the first is the program's name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let is_pm2 = args.first().is_some_and(|program| line::is_pm2(program));
    match completions::answer(&args) {
        Ok(false) => {}
        Ok(true) => return Exit::Fine.into(),
        Err(refusal) => return refuse(&refusal, &Output::new(false, false)).into(),
    }
    let is_runtime = args
        .first()
        .is_some_and(|program| line::is_runtime(program));
    let typed = as_typed(&args);
    let line = line::arrange(args, &Cli::command());
    let cli = match read(line.args, is_runtime) {
        Ok(cli) => cli,
        // Scripts compare what `pm2 -v` says.
        Err(refusal) if is_pm2 && refusal.kind() == ErrorKind::DisplayVersion => {
            let version = concat!(env!("CARGO_PKG_VERSION"), "\n");
            let _ = Output::new(false, false).data(version.as_bytes());
            return Exit::Fine.into();
        }
        Err(refusal) if line.is_without_command && is_mistake(&refusal) => {
            Output::new(false, false).error(format_args!(
                "a command is missing: what shall be done with `{typed}`? Write it as in \
                 `mcpm start app.js {typed}`; `mcpm --help` lists the commands"
            ));
            return Exit::Failed.into();
        }
        Err(refusal) => return refuse(&refusal, &Output::new(false, false)).into(),
    };
    let is_quiet = std::env::var_os("PM2_SILENT").is_some_and(|told| !told.is_empty());
    let output = Output::new(cli.silent || is_quiet, cli.no_color).for_programs(line.asks_for_json);
    for option in &line.ignored {
        output.warning(format_args!("`{option}` has no effect here"));
    }
    match dispatch(cli.command, output) {
        Ok(exit) => exit.into(),
        Err(error) if is_closed_pipe(&error) => Exit::Fine.into(),
        Err(error) => {
            let told = format!("{error:#}");
            // The daemon has said already what to do about its own limit.
            let is_advised = told.contains("raise the limit");
            output.error(if is_advised { told } else { advised(&told) });
            Exit::Failed.into()
        }
    }
}

fn read(args: Vec<OsString>, is_runtime: bool) -> Result<Cli, clap::Error> {
    let mut grammar = Cli::command();
    if is_runtime {
        grammar =
            grammar.mut_subcommand("runtime", |runtime| runtime.override_usage(RUNTIME_USAGE));
    }
    let mut found = grammar.try_get_matches_from_mut(args)?;
    Cli::from_arg_matches_mut(&mut found).map_err(|refusal| refusal.format(&mut grammar))
}

/// All but the program's name, as it was typed.
fn as_typed(args: &[OsString]) -> String {
    let words = args.iter().skip(1).map(|word| word.to_string_lossy());
    words.collect::<Vec<_>>().join(" ")
}

/// Neither an answer nor the help for somebody who has typed nothing.
fn is_mistake(refusal: &clap::Error) -> bool {
    !matches!(
        refusal.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    )
}

/// Help and version are answers; everything else is a mistake, and a mistake is 1 (clap says 2).
fn refuse(refusal: &clap::Error, output: &Output) -> Exit {
    if let Some(ContextValue::String(verb)) = refusal.get(ContextKind::InvalidSubcommand)
        && let Some(reason) = refused::reason(verb)
    {
        output.error(format_args!("`{verb}` is {reason}"));
        return Exit::Failed;
    }
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
        Command::Site => serve::run_site(),
        Command::Completions(args) => completions::run(&args, &output),
        Command::Man(args) => man::run(&args, &output),
        Command::Runtime(args) => runtime::run(&args, Session::new(output)?),
        Command::Start(args) if args.no_daemon => {
            let session = Session::new(output)?;
            if session.has_daemon() {
                return in_runtime(Command::Start(args), &session);
            }
            runtime::run(&args.in_foreground(), session)
        }
        Command::Init(args) => init::run(&args, &output),
        Command::Set(args) => conf::set(&args, &Session::new(output)?),
        Command::Get(args) => conf::get(&args, &Session::new(output)?),
        Command::Conf(args) => conf::conf(&args, &Session::new(output)?),
        Command::Unset(args) => conf::unset(&args, &Session::new(output)?),
        Command::Multiset(args) => conf::multiset(&args, &Session::new(output)?),
        Command::Startup(args) => startup::startup(&args, &output),
        Command::Unstartup(args) => startup::unstartup(&args, &output),
        command => in_runtime(command, &Session::new(output)?),
    }
}

fn in_runtime(command: Command, session: &Session) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(ask_daemon(command, session))
}

async fn ask_daemon(command: Command, session: &Session) -> anyhow::Result<Exit> {
    match command {
        Command::Start(args) => start::run(*args, session).await,
        Command::Stop(args) => actions::stop(args, session).await,
        Command::Restart(args) => actions::restart(args, session).await,
        Command::Reload(args) => reload::run(args, session).await,
        Command::StartOrRestart(args) => reload::start_or_restart(args, session).await,
        Command::StartOrReload(args) => reload::start_or_reload(args, session).await,
        Command::Scale(args) => scale::run(args, session).await,
        Command::Reset(args) => orders::reset(args, session).await,
        Command::SendSignal(args) => orders::signal(args, session).await,
        Command::Send(args) => orders::send(args, session).await,
        Command::Attach(args) => attach::run(args, session).await,
        Command::Id(args) => facts::id(args, session).await,
        Command::Pid(args) => facts::pid(args, session).await,
        Command::Env(args) => facts::env(args, session).await,
        Command::Prettylist(args) => list::prettylist(&args, session).await,
        Command::Report => report::run(session).await,
        Command::Cleardump => saving::clear(session).await,
        Command::Delete(args) => actions::delete(args, session).await,
        Command::Ls(args) => list::run(&args, session).await,
        Command::Jlist(args) => list::jlist(&args, session).await,
        Command::Describe(args) => describe::run(args, session).await,
        Command::Why(args) => why::run(args, session).await,
        Command::Logs(args) => logs::run(args, session).await,
        Command::Flush(args) => flush::run(args, session).await,
        Command::ReloadLogs => reload_logs::run(session).await,
        Command::Ping(args) => ping::run(&args, session).await,
        Command::Save(args) => saving::save(&args, session).await,
        Command::Resurrect => saving::resurrect(session).await,
        Command::Import(args) => import::run(args, session).await,
        Command::Kill(args) => kill::run(&args, session).await,
        Command::Update(args) => update::run(&args, session).await,
        Command::Services(args) => services::run(&args, session).await,
        Command::Instances(args) => instances::run(args, session).await,
        Command::Users(args) => users::run(args, session).await,
        Command::Tokens(args) => tokens::run(args, session).await,
        Command::Usage(args) => usage::run(args, session).await,
        Command::Audit(args) => audit::run(&args, session).await,
        Command::Keys(args) => keys::run(args, session).await,
        Command::Serve(args) => serve::run(args, session).await,
        Command::Config(args) => config::run(&args, session).await,
        Command::Daemon(_)
        | Command::Bridge(_)
        | Command::Site
        | Command::Completions(_)
        | Command::Man(_)
        | Command::Runtime(_)
        | Command::Init(_)
        | Command::Set(_)
        | Command::Get(_)
        | Command::Conf(_)
        | Command::Unset(_)
        | Command::Multiset(_)
        | Command::Startup(_)
        | Command::Unstartup(_) => {
            unreachable!("`dispatch` has taken these")
        }
    }
}
