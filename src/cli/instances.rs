//! `mcpm instances`: users' accesses to services.
//!
//! `add` prints the instance URL alone on stdout: `URL=$(mcpm instances add demo --user alice)`.

mod changes;
mod export;
mod formulas;
mod import;
mod listing;
mod rows;

use anyhow::bail;
use clap::Subcommand;

use crate::api::List;
use crate::api::instances::{AdminCreateInstance, InstanceGrant};
use crate::api::services::{AdminService, Field};
use crate::control::client::Client;

use super::credentials::{self, Values};
use super::exit::Exit;
use super::prompt;
use super::session::Session;
use super::when::{self, End};
use changes::Order;
pub(super) use listing::table;

const INSTANCES: &str = "/api/v1/admin/instances";

/// Arguments of `instances`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: listing::ListArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List instances, which is the default
    #[command(visible_alias = "ls")]
    List(listing::ListArgs),
    /// Show all about instances
    Show(Named),
    /// Give a user access to a service, and print the instance URL
    #[command(
        after_help = "Secrets are asked for at the terminal, or read from stdin: one value, \
        a line per field, or a JSON object."
    )]
    Add(AddArgs),
    /// Have instances answer no more, until they are enabled
    Disable(Named),
    /// Have instances answer again
    Enable(Named),
    /// Have an instance answer until a time, or for ever
    Expire {
        /// Its public number: ins_…
        #[arg(value_name = "ID")]
        instance: String,
        /// `30d`, `12h`, `2027-01-31`, an RFC 3339 time, `now` or `never`
        #[arg(value_parser = when::end)]
        when: End,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Call an instance something, for people
    Label {
        /// Its public number: ins_…
        #[arg(value_name = "ID")]
        instance: String,
        /// At most 100 characters; without it the label is taken away
        text: Option<String>,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Kill the URLs of instances; their owners get new ones
    Rotate(Named),
    /// Remove instances with their credentials
    #[command(visible_aliases = ["remove", "delete"])]
    Rm {
        /// Their public numbers: ins_…
        #[arg(required = true, value_name = "ID")]
        instances: Vec<String>,
    },
    /// Add the instances of another system, with credentials, from a file
    #[command(
        after_help = "Rows whose user has an instance of the service already are left alone, so that \
        an import can be begun again. An old id goes on as it is when it holds 128 random bits. \
        Credentials are not tried with the services."
    )]
    Import(import::Args),
    /// Print all instances, without URLs and credentials, for another program
    Export(export::Args),
}

#[derive(Debug, clap::Args)]
struct Named {
    /// Their public numbers: ins_…
    #[arg(required = true, value_name = "ID")]
    instances: Vec<String>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
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
    /// What people call a new one
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
    /// Have a new one answer until then: `30d`, `2027-01-31`, …
    #[arg(long, value_name = "WHEN", value_parser = when::end)]
    expires: Option<End>,
    /// Print the whole answer as JSON
    #[arg(long)]
    json: bool,
}

/// Lists, adds, changes, removes.
pub(crate) async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    let mut daemon = session.daemon().await?;
    let daemon = &mut daemon;
    let action = args.action.unwrap_or(Action::List(args.list));
    let (order, ids, json) = match action {
        Action::List(args) => return listing::list(&args, daemon, session).await,
        Action::Show(Named { instances, json }) => {
            return listing::show(&instances, json, daemon, session).await;
        }
        Action::Add(args) => return add(args, daemon, session).await,
        Action::Rm { instances } => return changes::remove(&instances, daemon, session).await,
        Action::Import(args) => return import::run(&args, daemon, session).await,
        Action::Export(args) => return export::run(&args, daemon, session).await,
        Action::Disable(named) => (Order::Disable, named.instances, named.json),
        Action::Enable(named) => (Order::Enable, named.instances, named.json),
        Action::Rotate(named) => (Order::Rotate, named.instances, named.json),
        Action::Expire {
            instance,
            when,
            json,
        } => (Order::Expire(when.0), vec![instance], json),
        Action::Label {
            instance,
            text,
            json,
        } => {
            let text = text.filter(|text| !text.is_empty());
            (Order::Label(text), vec![instance], json)
        }
    };
    changes::obey(&order, &ids, json, daemon, session).await
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
        label: args.label,
        expires_at: args.expires.and_then(|End(end)| end),
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
