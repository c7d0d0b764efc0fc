//! `mcpm users` and `mcpm tokens`: who may own instances, and who may administer.
//!
//! A token is printed alone on stdout, once: `TOKEN=$(mcpm users add alice)`.

use clap::Subcommand;
use serde_json::json;

use crate::api::List;
use crate::api::users::{AddUser, NewToken, User};
use crate::control::client::{Client, segment};

use super::exit::Exit;
use super::grid::{Cell, Column, Grid};
use super::session::Session;

const USERS: &str = "/api/v1/admin/users";

/// Arguments of `users`.
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
    /// List users, which is the default
    #[command(visible_alias = "ls")]
    List {
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Add a user, and print their token
    Add {
        /// Your own name for them: 1 to 255 bytes
        id: String,
    },
    /// Remove a user with all their instances, credentials and tokens
    #[command(visible_aliases = ["remove", "delete"])]
    Rm {
        /// Whom
        id: String,
    },
    /// Make another token for a user, and print it
    Token {
        /// For whom
        id: String,
    },
}

/// Arguments of `tokens`.
#[derive(Debug, clap::Args)]
pub(crate) struct TokensArgs {
    #[command(subcommand)]
    action: TokenAction,
}

#[derive(Debug, Subcommand)]
enum TokenAction {
    /// Make an administrator's token, and print it
    Add,
}

/// Lists, adds, removes.
pub(crate) async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    let mut daemon = session.daemon().await?;
    match args.action {
        None => list(args.json, &mut daemon, session).await,
        Some(Action::List { json }) => list(json, &mut daemon, session).await,
        Some(Action::Add { id }) => {
            let added: NewToken = daemon.post(USERS, &AddUser { id }).await?;
            print_token(&added, session)
        }
        Some(Action::Token { id }) => {
            let path = format!("{USERS}/{}/tokens", segment(&id));
            let made: NewToken = daemon.post(&path, &json!({})).await?;
            print_token(&made, session)
        }
        Some(Action::Rm { id }) => {
            daemon.delete(&format!("{USERS}/{}", segment(&id))).await?;
            session.output.line(format_args!("✓ removed {id}"))?;
            Ok(Exit::Fine)
        }
    }
}

/// Makes an administrator's token.
pub(crate) async fn tokens(args: &TokensArgs, session: &Session) -> anyhow::Result<Exit> {
    let TokenAction::Add = args.action;
    let mut daemon = session.daemon().await?;
    let made: NewToken = daemon.post("/api/v1/admin/tokens", &json!({})).await?;
    print_token(&made, session)
}

fn print_token(made: &NewToken, session: &Session) -> anyhow::Result<Exit> {
    session
        .output
        .data(format!("{}\n", made.token).as_bytes())?;
    session.output.hint(match &made.user {
        Some(user) => format!("the token of {user}, shown this once: Authorization: Bearer TOKEN"),
        None => "a token for /api/v1/admin, shown this once: Authorization: Bearer TOKEN".into(),
    });
    Ok(Exit::Fine)
}

async fn list(json: bool, daemon: &mut Client, session: &Session) -> anyhow::Result<Exit> {
    let users: List<User> = daemon.get(USERS).await?;
    if json {
        session.output.json(&users)?;
    } else {
        session
            .output
            .text(&table(&users.items).render(session.output.palette()))?;
    }
    Ok(Exit::Fine)
}

fn table(users: &[User]) -> Grid {
    let mut grid = Grid::new(["user", "instances", "added"].map(Column::fit).into());
    for user in users {
        grid.row(vec![
            Cell::new(&user.id),
            Cell::new(user.instances.to_string()),
            Cell::new(user.created_at.to_string()),
        ]);
    }
    grid
}
