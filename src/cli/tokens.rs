//! `mcpm tokens`: who may administer over the network; and tokens of users, which look alike.
//!
//! A token is printed alone on stdout, once: `TOKEN=$(mcpm tokens add --name ci)`.

use clap::Subcommand;

use crate::api::List;
use crate::api::tokens::{Revoked, Token, TokenRequest};
use crate::api::users::NewToken;
use crate::control::client::Client;
use crate::ids::Timestamp;

use super::exit::Exit;
use super::grid::{Cell, Column, Grid};
use super::session::Session;
use super::style::Paint;
use super::when;

const TOKENS: &str = "/api/v1/admin/tokens";

/// Arguments of `tokens`.
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
    /// List administrators' tokens, which is the default
    #[command(visible_alias = "ls")]
    List {
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Make an administrator's token, and print it
    Add(NewArgs),
    /// End administrators' tokens: they open nothing from then on
    #[command(visible_alias = "rm")]
    Revoke(RevokeArgs),
}

/// What a new token is to be like.
#[derive(Debug, clap::Args)]
pub(crate) struct NewArgs {
    /// For people, to tell tokens apart
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// When it ends: `90d` from now, or a time such as 2027-01-31; never when not given
    #[arg(long, value_name = "WHEN", value_parser = when::later)]
    expires: Option<Timestamp>,
    /// Print the whole answer as JSON
    #[arg(long)]
    json: bool,
}

/// Which tokens are to end.
#[derive(Debug, clap::Args)]
pub(crate) struct RevokeArgs {
    /// Their numbers, as the list shows them
    #[arg(value_name = "NUMBER", required_unless_present_any = ["all", "all_but"],
        conflicts_with_all = ["all", "all_but"])]
    numbers: Vec<i64>,
    /// All
    #[arg(long, conflicts_with = "all_but")]
    all: bool,
    /// All but this one
    #[arg(long, value_name = "NUMBER")]
    all_but: Option<i64>,
    /// Print the numbers of those that were ended as JSON
    #[arg(long)]
    json: bool,
}

/// Lists, makes, ends.
pub(crate) async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    let mut daemon = session.daemon().await?;
    match args.action {
        None => list(TOKENS, args.json, &mut daemon, session).await,
        Some(Action::List { json }) => list(TOKENS, json, &mut daemon, session).await,
        Some(Action::Add(args)) => add(TOKENS, args, &mut daemon, session).await,
        Some(Action::Revoke(args)) => revoke(TOKENS, args, &mut daemon, session).await,
    }
}

/// Prints the tokens of this list.
pub(crate) async fn list(
    path: &str,
    json: bool,
    daemon: &mut Client,
    session: &Session,
) -> anyhow::Result<Exit> {
    let tokens: List<Token> = daemon.get(path).await?;
    if json {
        session.output.json(&tokens)?;
    } else {
        let table = table(&tokens.items, Timestamp::now());
        session.output.table(&table)?;
    }
    Ok(Exit::Fine)
}

/// Makes one in this list, and prints it.
pub(crate) async fn add(
    path: &str,
    args: NewArgs,
    daemon: &mut Client,
    session: &Session,
) -> anyhow::Result<Exit> {
    let NewArgs {
        name,
        expires,
        json,
    } = args;
    let request = TokenRequest {
        name,
        expires_at: expires,
    };
    let made: NewToken = daemon.post(path, &request).await?;
    print(&made, json, session)
}

/// Prints a token that was just made, alone.
pub(crate) fn print(made: &NewToken, json: bool, session: &Session) -> anyhow::Result<Exit> {
    if json {
        session.output.json(made)?;
        return Ok(Exit::Fine);
    }
    session
        .output
        .data(format!("{}\n", made.token).as_bytes())?;
    let whose = match &made.user {
        Some(user) => format!("the token of {}", super::style::tame(user)),
        None => "a token for /api/v1/admin".to_owned(),
    };
    let end = made
        .expires_at
        .map_or_else(String::new, |end| format!("; it ends at {end}"));
    session.output.hint(format_args!(
        "{whose}, shown this once: Authorization: Bearer TOKEN{end}"
    ));
    Ok(Exit::Fine)
}

/// Ends some of this list.
pub(crate) async fn revoke(
    path: &str,
    args: RevokeArgs,
    daemon: &mut Client,
    session: &Session,
) -> anyhow::Result<Exit> {
    let ended = if args.numbers.is_empty() {
        let keep = args
            .all_but
            .map_or_else(String::new, |number| format!("?keep={number}"));
        daemon.delete_for(&format!("{path}{keep}")).await?
    } else {
        for number in &args.numbers {
            daemon.delete(&format!("{path}/{number}")).await?;
            session.output.line(format_args!("✓ revoked {number}"))?;
        }
        Revoked {
            revoked: args.numbers.clone(),
        }
    };
    if args.json {
        session.output.json(&ended)?;
    } else if args.numbers.is_empty() {
        let count = ended.revoked.len();
        let tokens = if count == 1 { "token" } else { "tokens" };
        session
            .output
            .line(format_args!("✓ revoked {count} {tokens}"))?;
    }
    Ok(Exit::Fine)
}

/// A row for each.
pub(crate) fn table(tokens: &[Token], now: Timestamp) -> Grid {
    let mut grid = Grid::new(vec![
        Column::whole("number"),
        Column::fit("name"),
        Column::whole("state"),
        Column::fit("made").minor(2),
        Column::fit("expires"),
        Column::fit("last used").minor(1),
        Column::fit("revoked").minor(3),
    ]);
    let or = |time: Option<Timestamp>, word: &str| {
        Cell::new(time.map_or_else(|| word.to_owned(), |time| time.to_string()))
    };
    for token in tokens {
        let (state, paint) = state(token, now);
        grid.row(vec![
            Cell::new(token.number.to_string()),
            Cell::new(token.name.as_deref().unwrap_or("-")),
            Cell::painted(state, paint),
            Cell::new(token.created_at.to_string()),
            or(token.expires_at, "never"),
            or(token.last_used_at, "never"),
            or(token.revoked_at, "-"),
        ]);
    }
    grid
}

fn state(token: &Token, now: Timestamp) -> (&'static str, Paint) {
    if token.active {
        ("active", Paint::Good)
    } else if token.revoked_at.is_some() {
        ("revoked", Paint::Bad)
    } else if token.expires_at.is_some_and(|end| end <= now) {
        ("expired", Paint::Bad)
    } else {
        // What is its user's may come back.
        ("disabled", Paint::Warn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::style::Palette;

    #[test]
    fn a_token_is_a_row_that_says_why_it_opens_nothing() {
        let token = |number, expires: Option<i64>, revoked: Option<i64>| Token {
            number,
            name: Some("ci\u{1b}[2J".into()),
            active: expires.is_none() && revoked.is_none() && number != 4,
            created_at: Timestamp::from_millis(0),
            expires_at: expires.map(Timestamp::from_millis),
            last_used_at: None,
            revoked_at: revoked.map(Timestamp::from_millis),
        };
        let tokens = [
            token(1, None, None),
            token(2, Some(9), None),
            token(3, Some(9), Some(5)),
            token(4, None, None),
        ];
        let text = table(&tokens, Timestamp::from_millis(10)).render(Palette::PLAIN);
        for (line, state) in text
            .lines()
            .skip(3)
            .zip(["active", "expired", "revoked", "disabled"])
        {
            assert!(line.contains(state), "{line}");
            assert!(
                !line.contains('\u{1b}') && line.contains("ci [2J"),
                "{line}"
            );
        }
    }
}
