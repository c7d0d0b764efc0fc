//! `mcpm instances`: users' accesses to services.
//!
//! `add` prints the instance URL alone on stdout: `URL=$(mcpm instances add demo --user alice)`.

use anyhow::bail;
use clap::Subcommand;

use crate::api::List;
use crate::api::instances::{AdminCreateInstance, AdminInstance, InstanceGrant};
use crate::api::services::{AdminService, Field};
use crate::control::client::{Client, segment};

use super::credentials::{self, Values};
use super::exit::Exit;
use super::grid::{Cell, Column, Grid};
use super::prompt;
use super::session::Session;
use super::style::Paint;

const INSTANCES: &str = "/api/v1/admin/instances";

/// Arguments of `instances`.
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
    /// List instances, which is the default
    #[command(visible_alias = "ls")]
    List {
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Give a user access to a service, and print the instance URL
    #[command(
        after_help = "Secrets are asked for at the terminal, or read from stdin: one value, \
        a line per field, or a JSON object."
    )]
    Add(AddArgs),
    /// Remove an instance with its credentials
    #[command(visible_aliases = ["remove", "delete"])]
    Rm {
        /// Its public number: ins_…
        id: String,
    },
}

#[derive(Debug, clap::Args)]
struct AddArgs {
    /// Service type, as `mcpm services` shows it
    service: String,
    /// Owner
    #[arg(long, value_name = "ID")]
    user: String,
    /// A field that is no secret
    #[arg(long = "field", value_name = "NAME=VALUE")]
    fields: Vec<String>,
    /// Print the whole answer as JSON
    #[arg(long)]
    json: bool,
}

/// Lists, adds, removes.
pub(crate) async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    let mut daemon = session.daemon().await?;
    match args.action {
        None => list(args.json, &mut daemon, session).await,
        Some(Action::List { json }) => list(json, &mut daemon, session).await,
        Some(Action::Add(args)) => add(args, &mut daemon, session).await,
        Some(Action::Rm { id }) => {
            daemon
                .delete(&format!("{INSTANCES}/{}", segment(&id)))
                .await?;
            session.output.line(format_args!("✓ removed {id}"))?;
            Ok(Exit::Fine)
        }
    }
}

async fn add(args: AddArgs, daemon: &mut Client, session: &Session) -> anyhow::Result<Exit> {
    let services: List<AdminService> = daemon.get("/api/v1/admin/services").await?;
    let Some(found) = services
        .items
        .iter()
        .find(|s| s.service.service == args.service)
    else {
        bail!(
            "there is no service `{}`; `mcpm services` shows all",
            args.service
        );
    };
    let fields = credentials::fields(&found.service);
    let given = credentials::from_arguments(&args.fields, &fields)?;
    let mut values = complete(&fields, given)?;
    let request = AdminCreateInstance {
        user: args.user,
        service: args.service,
        api_key: values.remove("api_key"),
        additional_credentials: values,
    };
    let grant: InstanceGrant = daemon.post(INSTANCES, &request).await?;
    if args.json {
        session.output.json(&grant)?;
    } else {
        session
            .output
            .data(format!("{}\n", grant.instance_url).as_bytes())?;
        session.output.hint(&grant.message);
    }
    Ok(Exit::Fine)
}

/// Asks for what is missing.
fn complete(fields: &[Field], mut values: Values) -> anyhow::Result<Values> {
    let missing = credentials::missing(fields, &values);
    if missing.is_empty() {
        return Ok(values);
    }
    if !prompt::is_terminal() {
        let read = credentials::from_input(&prompt::read_all()?, fields, &missing)?;
        values.extend(read);
        return Ok(values);
    }
    for field in missing {
        let about = field.description.as_deref();
        let about = about.map_or(String::new(), |text| {
            format!(" ({})", super::style::tame(text))
        });
        let question = format!("{}{about}", field.name);
        let ask = if field.secret {
            prompt::ask_secret
        } else {
            prompt::ask
        };
        values.insert(field.name.clone(), ask(&question)?);
    }
    Ok(values)
}

async fn list(json: bool, daemon: &mut Client, session: &Session) -> anyhow::Result<Exit> {
    let instances: List<AdminInstance> = daemon.get(INSTANCES).await?;
    if json {
        session.output.json(&instances)?;
    } else {
        session
            .output
            .text(&table(&instances.items).render(session.output.palette()))?;
    }
    Ok(Exit::Fine)
}

pub(super) fn table(instances: &[AdminInstance]) -> Grid {
    let columns = ["instance", "user", "service", "state", "made", "last used"];
    let mut grid = Grid::new(columns.map(Column::fit).into());
    for instance in instances {
        let state = if instance.active {
            Cell::painted("active", Paint::Good)
        } else {
            Cell::painted("disabled", Paint::Bad)
        };
        grid.row(vec![
            Cell::new(&instance.id),
            Cell::new(&instance.user),
            Cell::new(&instance.service),
            state,
            Cell::new(instance.created_at.to_string()),
            Cell::new(
                instance
                    .last_used_at
                    .map_or("never".to_owned(), |at| at.to_string()),
            ),
        ]);
    }
    grid
}
