//! `mcpm users`: who may own instances.
//!
//! A token is printed alone on stdout, once: `TOKEN=$(mcpm users add alice)`.

use clap::Subcommand;

use crate::api::List;
use crate::api::limits::Quota;
use crate::api::users::{AddUser, NewToken, SetGroup, User, UserDetails};
use crate::config::limits as config;
use crate::control::client::{Client, segment};
use crate::ids::Timestamp;

use super::exit::Exit;
use super::grid::{Cell, Column, Grid};
use super::pages::Pages;
use super::session::Session;
use super::style::Paint;
use super::{instances, tokens};

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
    /// Show a user with their instances and tokens
    Show(OneArgs),
    /// Add a user, and print their token
    Add {
        /// Your own name for them: 1 to 255 bytes
        id: String,
        /// One of the groups of `limits`, whose limits hold for them
        #[arg(long, value_name = "GROUP")]
        group: Option<String>,
        /// Print the whole answer as JSON
        #[arg(long)]
        json: bool,
    },
    /// Switch a user off: their tokens and URLs open nothing, and all that is theirs is kept
    Disable(OneArgs),
    /// Switch a user on again
    Enable(OneArgs),
    /// Put a user into a group of `limits`, whose limits hold for them from the next request on
    SetGroup {
        /// Whom
        id: String,
        /// Which group
        #[arg(required_unless_present = "none")]
        group: Option<String>,
        /// None: the limits of all users hold
        #[arg(long, conflicts_with = "group")]
        none: bool,
        /// Print as JSON
        #[arg(long)]
        json: bool,
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
        #[command(flatten)]
        new: tokens::NewArgs,
    },
    /// List the tokens of a user
    Tokens(OneArgs),
    /// End tokens of a user: they open nothing from then on
    Revoke {
        /// Whose
        id: String,
        #[command(flatten)]
        which: tokens::RevokeArgs,
    },
}

#[derive(Debug, clap::Args)]
struct OneArgs {
    /// Whom
    id: String,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Lists, shows, adds, switches, removes; and what there is to do with their tokens.
pub(crate) async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    let mut daemon = session.daemon().await?;
    let daemon = &mut daemon;
    match args.action {
        None => list(args.json, daemon, session).await,
        Some(Action::List { json }) => list(json, daemon, session).await,
        Some(Action::Show(args)) => show(&args, daemon, session).await,
        Some(Action::Add { id, group, json }) => {
            let added: NewToken = daemon.post(USERS, &AddUser { id, group }).await?;
            tokens::print(&added, json, session)
        }
        Some(Action::Disable(args)) => {
            switch("disable", "switched off", &args, daemon, session).await
        }
        Some(Action::Enable(args)) => switch("enable", "switched on", &args, daemon, session).await,
        Some(Action::SetGroup {
            id, group, json, ..
        }) => set_group(&id, group, json, daemon, session).await,
        Some(Action::Rm { id }) => {
            daemon.delete(&of(&id)).await?;
            session.output.line(format_args!("✓ removed {id}"))?;
            Ok(Exit::Fine)
        }
        Some(Action::Token { id, new }) => tokens::add(&tokens_of(&id), new, daemon, session).await,
        Some(Action::Tokens(args)) => {
            tokens::list(&tokens_of(&args.id), args.json, daemon, session).await
        }
        Some(Action::Revoke { id, which }) => {
            tokens::revoke(&tokens_of(&id), which, daemon, session).await
        }
    }
}

fn of(id: &str) -> String {
    format!("{USERS}/{}", segment(id))
}

fn tokens_of(id: &str) -> String {
    format!("{}/tokens", of(id))
}

async fn switch(
    action: &str,
    done: &str,
    args: &OneArgs,
    daemon: &mut Client,
    session: &Session,
) -> anyhow::Result<Exit> {
    let path = format!("{}/{action}", of(&args.id));
    let user: User = daemon.post(&path, &serde_json::json!({})).await?;
    if args.json {
        session.output.json(&user)?;
    } else {
        session.output.line(format_args!("✓ {done} {}", args.id))?;
    }
    Ok(Exit::Fine)
}

async fn set_group(
    id: &str,
    group: Option<String>,
    json: bool,
    daemon: &mut Client,
    session: &Session,
) -> anyhow::Result<Exit> {
    let path = format!("{}/group", of(id));
    let user: User = daemon.post(&path, &SetGroup { group }).await?;
    if json {
        session.output.json(&user)?;
    } else {
        let group = user.group.as_deref().unwrap_or("no group");
        session.output.line(format_args!("✓ {id} is in {group}"))?;
    }
    Ok(Exit::Fine)
}

async fn show(args: &OneArgs, daemon: &mut Client, session: &Session) -> anyhow::Result<Exit> {
    let details: UserDetails = daemon.get(&of(&args.id)).await?;
    if args.json {
        session.output.json(&details)?;
        return Ok(Exit::Fine);
    }
    let (output, now) = (&session.output, Timestamp::now());
    output.table(&table(std::slice::from_ref(&details.user)))?;
    output.table(&limits(&details))?;
    if !details.instances.is_empty() {
        output.table(&instances::table(&details.instances, now))?;
    }
    if !details.tokens.is_empty() {
        output.table(&tokens::table(&details.tokens, now))?;
    }
    Ok(Exit::Fine)
}

async fn list(json: bool, daemon: &mut Client, session: &Session) -> anyhow::Result<Exit> {
    let users: List<User> = Pages::of(USERS).all(daemon).await?;
    if json {
        session.output.json(&users)?;
    } else {
        session.output.table(&table(&users.items))?;
    }
    Ok(Exit::Fine)
}

/// What limits a user, and each of their instances that anything limits.
fn limits(details: &UserDetails) -> Grid {
    let mut grid = Grid::new(["limits of", "at most"].map(Column::fit).into());
    let mut row = |of: &str, quota: Quota| {
        let quota = config::Quota::from(quota).to_string();
        grid.row(vec![Cell::new(of), Cell::new(&quota)]);
    };
    row(&details.user.id, details.limits);
    for (service, quota) in &details.instance_limits {
        if *quota != Quota::default() {
            row(&format!("their {service}"), *quota);
        }
    }
    grid
}

fn table(users: &[User]) -> Grid {
    let mut grid = Grid::new(vec![
        Column::fit("user"),
        Column::whole("state"),
        Column::fit("group"),
        Column::whole("instances"),
        Column::fit("added").minor(2),
        Column::fit("disabled").minor(1),
    ]);
    for user in users {
        let state = match user.disabled_at {
            None => Cell::painted("active", Paint::Good),
            Some(_) => Cell::painted("disabled", Paint::Bad),
        };
        let since = user.disabled_at.map(|at| at.to_string());
        grid.row(vec![
            Cell::new(&user.id),
            state,
            Cell::new(user.group.as_deref().unwrap_or("-")),
            Cell::new(user.instances.to_string()),
            Cell::new(user.created_at.to_string()),
            Cell::new(since.as_deref().unwrap_or("-")),
        ]);
    }
    grid
}
