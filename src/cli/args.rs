//! The command line's grammar: options for all commands, and the list of commands.
//!
//! Names and aliases are PM2's where PM2 has them (`reference`: its verbs and flags). The arguments
//! of a command stand in the command's own file.

use clap::{ArgAction, Parser, Subcommand};

use super::{
    actions, attach, audit, bridge, completions, conf, config, daemon, describe, facts, flush,
    import, init, instances, keys, kill, list, logs, man, orders, ping, reload, runtime, saving,
    scale, serve, services, start, startup, tokens, update, usage, users, why,
};

/// Starts MCP services on fixed ports, keeps them alive, and routes users' private URLs to them.
#[derive(Debug, Parser)]
#[command(
    name = "mcpm",
    version,
    disable_version_flag = true,
    // As in PM2 the last one of an option counts.
    args_override_self = true,
    disable_help_subcommand = true,
    after_help = "State lies in $MCPM_HOME (default ~/.mcpm). Most commands start the daemon when none runs."
)]
pub(crate) struct Cli {
    /// Print only what was asked for: no tables, progress or hints
    #[arg(short, long, global = true)]
    pub(crate) silent: bool,
    /// Print without colours (as NO_COLOR)
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
    /// Print the version
    #[arg(short = 'v', short_alias = 'V', long, action = ArgAction::Version)]
    version: Option<bool>,
    /// What to do
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Every command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the apps of an ecosystem file, a script, or known processes
    Start(Box<start::Args>),
    /// Stop processes; they stay listed
    Stop(actions::StopArgs),
    /// Restart processes
    Restart(actions::RestartArgs),
    /// Restart processes one after another, each when the one before is up
    Reload(reload::Args),
    /// Start the apps of a file that are not listed, restart the others
    #[command(name = "startOrRestart")]
    StartOrRestart(reload::FileArgs),
    /// Start the apps of a file that are not listed, reload the others
    #[command(name = "startOrReload", visible_alias = "startOrGracefulReload")]
    StartOrReload(reload::FileArgs),
    /// Run more or fewer processes of an app
    Scale(scale::Args),
    /// Count restarts from 0 again
    Reset(orders::ResetArgs),
    /// Send a signal to processes
    #[command(name = "sendSignal")]
    SendSignal(orders::SignalArgs),
    /// Write a line to the standard input of processes
    Send(orders::SendArgs),
    /// Type into a process, and see what it writes
    Attach(attach::Args),
    /// Stop processes and forget them
    #[command(visible_alias = "del")]
    Delete(actions::DeleteArgs),
    /// List processes
    #[command(visible_aliases = ["list", "l", "ps", "status"])]
    Ls(list::Args),
    /// List processes as JSON in PM2's shape
    Jlist(list::JlistArgs),
    /// List processes in the text form of PM2's `prettylist`
    Prettylist(list::JlistArgs),
    /// Print the ids of an app's processes
    Id(facts::IdArgs),
    /// Print pids
    Pid(facts::PidArgs),
    /// Print the variables of processes
    Env(facts::EnvArgs),
    /// Show all about processes
    #[command(visible_aliases = ["show", "desc", "info"])]
    Describe(describe::Args),
    /// Tell how processes have ended, who wanted it, and what followed
    Why(why::Args),
    /// Show the last lines of logs, and follow them
    #[command(visible_alias = "log")]
    Logs(logs::Args),
    /// Empty log files
    Flush(flush::Args),
    /// Open log files anew, after another program has moved them
    #[command(name = "reloadLogs", visible_alias = "reload-logs")]
    ReloadLogs,
    /// Ask the daemon whether it is there
    Ping(ping::Args),
    /// Save the list of processes for `resurrect`
    #[command(visible_alias = "dump")]
    Save(saving::SaveArgs),
    /// Start what was saved
    Resurrect,
    /// Empty the saved list
    Cleardump,
    /// Start what another process manager runs or has saved
    Import(import::Args),
    /// Stop everything, and the daemon
    Kill(kill::Args),
    /// Let this version take over from the running daemon; processes and requests go on
    #[command(visible_alias = "updatePM2")]
    Update(update::Args),
    /// Have the daemon started at boot, with what `save` saved
    Startup(startup::Args),
    /// No longer start the daemon at boot
    Unstartup(startup::Args),
    /// List services: type, port, health, instances
    Services(services::Args),
    /// List, add, change, move and remove users' instances of services
    Instances(instances::Args),
    /// List, show, add, switch off and remove users, and their tokens
    Users(users::Args),
    /// List, make and end administrators' tokens for the REST API
    Tokens(tokens::Args),
    /// Show how much users have used services
    Usage(usage::Args),
    /// Tell who has done what, from where and when
    Audit(audit::Args),
    /// Show the master key's place, and rotate it
    Keys(keys::Args),
    /// Write a first ecosystem.config.js into this folder
    #[command(visible_alias = "ecosystem")]
    Init(init::Args),
    /// Print what helps to find a mistake
    Report,
    /// Keep a value in module_conf.json
    Set(conf::SetArgs),
    /// Print a value of module_conf.json, or all
    Get(conf::GetArgs),
    /// Print a value of module_conf.json, or all; with a value, keep it
    Conf(conf::ConfArgs),
    /// Remove a value of module_conf.json
    Unset(conf::UnsetArgs),
    /// Keep several values in module_conf.json
    Multiset(conf::MultisetArgs),
    /// Show the daemon's settings and where each comes from
    Config(config::Args),
    /// Run apps and daemon in the foreground, as the one program of a container
    Runtime(Box<runtime::Args>),
    /// Run the daemon in the foreground
    Daemon(daemon::Args),
    /// Serve a folder's files over HTTP, by a process in the list
    #[command(visible_alias = "expose")]
    Serve(serve::Args),
    /// Be the process of `serve`
    #[command(hide = true)]
    Site,
    /// Run an MCP server that mcpm brings with it
    Bridge(bridge::Args),
    /// Print a completion script for a shell
    #[command(alias = "completion")]
    Completions(completions::Args),
    /// Print the manual page, or write one for each command into a folder
    Man(man::Args),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_grammar_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn pm2s_spellings_are_understood() {
        for line in [
            "mcpm start",
            "mcpm start ecosystem.json --env prod --only a,b",
            "mcpm start app.js -n web -i 2 -- --port 80",
            "mcpm start 0",
            "mcpm -s ls",
            "mcpm ls -s",
            "mcpm list",
            "mcpm l",
            "mcpm ps",
            "mcpm status",
            "mcpm stop a b 0",
            "mcpm restart all --update-env",
            "mcpm restart all -a",
            "mcpm del web",
            "mcpm show web",
            "mcpm desc 0",
            "mcpm info web",
            "mcpm why web 0 --all --lines 5",
            "mcpm log",
            "mcpm logs web --lines 50 --nostream --raw --err",
            "mcpm logs -f --out --json",
            "mcpm logs web api --format --highlight error",
            "mcpm logs PM2 --timestamp",
            "mcpm reloadLogs",
            "mcpm dump",
            "mcpm save --force",
            "mcpm kill --keep",
            "mcpm update",
            "mcpm updatePM2",
            "mcpm update --drain 30s --program /usr/bin/mcpm",
            "mcpm startup systemd -u www --hp /home/www",
            "mcpm unstartup systemd",
            "mcpm --no-color jlist",
            "mcpm users token alice --name laptop --expires 90d",
            "mcpm users revoke alice 3 5",
            "mcpm users revoke alice --all --json",
            "mcpm tokens",
            "mcpm tokens ls --json",
            "mcpm tokens add --expires 2027-01-31T00:00:00Z",
            "mcpm tokens revoke --all-but 3",
            "mcpm audit --since 2h --action isolation. --user alice --json",
            "mcpm audit --follow --limit 5 --until 2026-11-22T23:49:07Z",
            "mcpm instances --user alice --inactive --json",
            "mcpm instances disable ins_a ins_b",
            "mcpm instances expire ins_a 30d",
            "mcpm instances label ins_a",
            "mcpm instances import - --add-users --mapping map.csv",
            "mcpm instances export --csv --service figma",
        ] {
            let parsed = Cli::try_parse_from(line.split(' '));
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }

    #[test]
    fn what_is_missing_or_unknown_is_refused() {
        for line in [
            "mcpm",
            "mcpm strat",
            "mcpm stop",
            "mcpm logs --err --out",
            "mcpm instances add demo",
            "mcpm instances rotate",
            "mcpm instances ls --active --inactive",
            "mcpm instances export --csv --json",
            "mcpm users add",
            "mcpm users revoke alice",
            "mcpm users revoke alice 3 --all",
            "mcpm users token alice --expires soon",
            "mcpm tokens revoke",
            "mcpm tokens revoke --all --all-but 3",
            "mcpm ls --nope",
            "mcpm audit --since yesterday",
            "mcpm audit --limit 0",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
