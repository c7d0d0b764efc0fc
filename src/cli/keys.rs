//! `mcpm keys`: the master key, and its rotation.
//!
//! A key that mcpm does not keep itself comes by prompt or stdin, never by argument.

use std::time::Duration;

use clap::Subcommand;
use serde_json::json;

use crate::api::keys::{KeyRotation, MasterKeyInfo, RotateKey};
use crate::control::client::Client;

use super::exit::Exit;
use super::grid::{Cell, Column, Grid};
use super::prompt;
use super::session::Session;

const KEYS: &str = "/api/v1/admin/keys";
/// How often it is asked how far a rotation is.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// Arguments of `keys`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show where the master key comes from and whether it is being rotated, which is the default
    #[command(visible_alias = "ls")]
    Show {
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Put another master key in the place of this one, while everything works on
    #[command(
        after_help = "A key that lies in `master.key` is made anew. One that comes from elsewhere is asked \
        for at the terminal, or read from stdin: keep it where you keep the old one before you begin."
    )]
    Rotate {
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Call a rotation off that is not over: the old key stays the one
    Cancel {
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
}

/// Shows, rotates, calls off.
pub(crate) async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    let mut daemon = session.daemon().await?;
    let before: MasterKeyInfo = daemon.get(KEYS).await?;
    let (what, json) = match args.action {
        None => return show(&before, args.json, session),
        Some(Action::Show { json }) => return show(&before, json, session),
        Some(Action::Rotate { json }) => {
            let new_key = next_key(&before)?;
            let path = format!("{KEYS}/rotate");
            let _: MasterKeyInfo = daemon.post(&path, &RotateKey { new_key }).await?;
            ("rotation", json)
        }
        Some(Action::Cancel { json }) => {
            let path = format!("{KEYS}/cancel");
            let _: MasterKeyInfo = daemon.post(&path, &json!({})).await?;
            ("cancellation", json)
        }
    };
    session.output.hint(format_args!(
        "the {what} goes on without this command; `mcpm keys` shows how far it is"
    ));
    let after = settled(&mut daemon).await?;
    if json {
        session.output.json(&after)?;
    } else {
        session.output.text(&told(&before, &after))?;
    }
    Ok(Exit::Fine)
}

/// The key that is to follow, where mcpm does not make it.
fn next_key(info: &MasterKeyInfo) -> anyhow::Result<Option<String>> {
    if info.source == "home" || info.rotation.is_some() {
        return Ok(None);
    }
    if prompt::is_terminal() {
        return prompt::ask_secret("the new master key").map(Some);
    }
    prompt::read_all().map(Some)
}

/// Waits until there is nothing to do any more, or nothing that the daemon could do.
async fn settled(daemon: &mut Client) -> anyhow::Result<MasterKeyInfo> {
    loop {
        let info: MasterKeyInfo = daemon.get(KEYS).await?;
        if info
            .rotation
            .as_ref()
            .is_none_or(|rotation| rotation.waits_for_key)
        {
            return Ok(info);
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

fn show(info: &MasterKeyInfo, json: bool, session: &Session) -> anyhow::Result<Exit> {
    if json {
        session.output.json(info)?;
        return Ok(Exit::Fine);
    }
    session.output.table(&table(info))?;
    if let Some(rotation) = info
        .rotation
        .as_ref()
        .filter(|rotation| rotation.waits_for_key)
    {
        session.output.text(&steps(info, rotation))?;
    }
    Ok(Exit::Fine)
}

fn table(info: &MasterKeyInfo) -> Grid {
    let mut grid = Grid::new(vec![Column::whole("master key"), Column::wrapped("is")]);
    let mut row = |name: &str, value: String| grid.row(vec![Cell::new(name), Cell::new(value)]);
    row("number", info.number.clone());
    row("from", place(info));
    let since = info.since.map(|at| at.to_string());
    row(
        "since",
        since.unwrap_or_else(|| "before mcpm wrote that down".to_owned()),
    );
    row(
        "rotation",
        info.rotation.as_ref().map_or("none".to_owned(), progress),
    );
    grid
}

/// Where the key comes from, for people.
fn place(info: &MasterKeyInfo) -> String {
    let path = info.path.as_deref().unwrap_or_default();
    match info.source.as_str() {
        "environment" => "MCPM_MASTER_KEY".to_owned(),
        "file" => format!("{path} (MCPM_MASTER_KEY_FILE)"),
        "systemd" => format!("{path} (a credential of systemd)"),
        _ => path.to_owned(),
    }
}

fn progress(rotation: &KeyRotation) -> String {
    let KeyRotation {
        next,
        seen,
        instances,
        ..
    } = rotation;
    let what = if rotation.called_off {
        format!("to {next}, called off")
    } else {
        format!("to {next}")
    };
    if rotation.waits_for_key {
        format!("{what}; everything is sealed, and the key is not in its place yet")
    } else {
        format!("{what}; {seen} of {instances} instances are sealed")
    }
}

/// What has come of it.
fn told(before: &MasterKeyInfo, after: &MasterKeyInfo) -> String {
    let mut text = match &after.rotation {
        Some(rotation) => steps(after, rotation),
        None if before.number == after.number => format!(
            "✓ the master key is {} as before, and the other one opens nothing any more\n",
            after.number
        ),
        None => format!(
            "✓ the master key is {} now, and {} opens nothing any more\n\
             Copies of mcpm.db from before open with that one only: back up mcpm.db and {} now.\n",
            after.number,
            before.number,
            place(after)
        ),
    };
    let unreadable = after
        .rotation
        .as_ref()
        .map_or(0, |rotation| rotation.unreadable);
    if unreadable > 0 {
        text += &format!(
            "{unreadable} values open with no key, and did not before; mcpm.log names their instances\n"
        );
    }
    text
}

/// What the operator has to do, step by step; each of them can be put off or undone.
fn steps(info: &MasterKeyInfo, rotation: &KeyRotation) -> String {
    let (number, next) = (&info.number, &rotation.next);
    if rotation.called_off {
        return format!(
            "Everything is sealed with {number} again, and the daemon runs with {next}.\n\
             Put {number} back where it was ({}), and start the daemon with it.\n",
            place(info)
        );
    }
    let (put, start) = match info.source.as_str() {
        "environment" => (
            "set MCPM_MASTER_KEY to the new key where the daemon's environment is set".to_owned(),
            "start the daemon anew with it: `mcpm kill --keep`, then any command; or `systemctl restart`",
        ),
        "systemd" => (
            "put the new key into the credential `mcpm-master-key` of the unit".to_owned(),
            "start the daemon anew: `systemctl restart` (`systemctl reload` keeps the old credential)",
        ),
        _ => (
            format!(
                "write the new key into {}",
                info.path.as_deref().unwrap_or_default()
            ),
            "have the daemon read it: `mcpm update`",
        ),
    };
    format!(
        "✓ everything is sealed with the new master key {next}; {number} opens it, too, until you are done:\n\
         \x20 1. {put}\n\
         \x20 2. {start}\n\
         \x20 3. `mcpm keys` shows {next} and no rotation: {number} opens nothing any more, and you can \
         destroy it\n\
         Until the second step everything works with {number}, also after a restart. Without the new key: \
         `mcpm keys cancel`.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(source: &str, rotation: Option<KeyRotation>) -> MasterKeyInfo {
        MasterKeyInfo {
            source: source.to_owned(),
            path: Some("/keys/mcpm".to_owned()),
            number: "01010101".to_owned(),
            since: None,
            rotation,
        }
    }

    fn rotation(waits_for_key: bool) -> KeyRotation {
        KeyRotation {
            next: "02020202".to_owned(),
            started_at: crate::ids::Timestamp::from_millis(0),
            called_off: false,
            instances: 9,
            seen: 4,
            unreadable: 0,
            waits_for_key,
        }
    }

    #[test]
    fn what_is_to_be_done_depends_on_who_keeps_the_key() {
        for (source, words) in [
            ("environment", ["MCPM_MASTER_KEY", "mcpm kill --keep"]),
            ("file", ["/keys/mcpm", "mcpm update"]),
            ("systemd", ["mcpm-master-key", "systemctl restart"]),
        ] {
            let waiting = info(source, Some(rotation(true)));
            let text = told(&info(source, None), &waiting);
            for word in words.into_iter().chain(["mcpm keys cancel", "02020202"]) {
                assert!(text.contains(word), "{word} in {text}");
            }
        }
    }

    #[test]
    fn how_far_it_is_stands_in_the_table() {
        assert_eq!(
            progress(&rotation(false)),
            "to 02020202; 4 of 9 instances are sealed"
        );
        assert!(progress(&rotation(true)).contains("not in its place"));
        let called_off = KeyRotation {
            called_off: true,
            ..rotation(false)
        };
        assert!(progress(&called_off).contains("called off"));
    }

    #[test]
    fn a_new_key_wants_a_new_backup_and_the_old_one_does_not() {
        let before = info("home", None);
        let after = MasterKeyInfo {
            number: "02020202".to_owned(),
            ..info("home", None)
        };
        assert!(told(&before, &after).contains("back up"));
        assert!(!told(&before, &before).contains("back up"));
    }
}
