//! `mcpm id`, `pid` and `env`: single facts, in the form that scripts read from PM2.

use std::collections::BTreeMap;

use serde_json::json;

use crate::api::processes::Process;
use crate::control::client::Client;

use super::exit::Exit;
use super::inspect::inspect;
use super::list;
use super::session::Session;

/// Arguments of `id`.
#[derive(Debug, clap::Args)]
pub(crate) struct IdArgs {
    /// Name, namespace, `all`, `/regex/`
    target: String,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `pid`.
#[derive(Debug, clap::Args)]
pub(crate) struct PidArgs {
    /// Name, id, namespace, `/regex/` [default: all]
    target: Option<String>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `env`.
#[derive(Debug, clap::Args)]
pub(crate) struct EnvArgs {
    /// Ids, names, namespaces, `/regex/`
    #[arg(required = true, value_name = "TARGET")]
    targets: Vec<String>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// The ids in Node's form. None is an answer, too, as in PM2.
pub(crate) async fn id(args: IdArgs, session: &Session) -> anyhow::Result<Exit> {
    let found = any(&mut session.daemon().await?, &args.target).await?;
    let ids = json!(
        found
            .iter()
            .map(|process| process.pm_id)
            .collect::<Vec<_>>()
    );
    if args.json {
        session.output.json(&ids)?;
    } else {
        session.output.data((inspect(&ids) + "\n").as_bytes())?;
    }
    Ok(Exit::Fine)
}

/// A pid per line, 0 for what does not run; an empty line when nothing is meant, as in PM2.
pub(crate) async fn pid(args: PidArgs, session: &Session) -> anyhow::Result<Exit> {
    let target = args.target.as_deref().unwrap_or("all");
    let found = any(&mut session.daemon().await?, target).await?;
    if args.json {
        let pids: Vec<u32> = found.iter().map(|process| process.pid).collect();
        session.output.json(&pids)?;
        return Ok(Exit::Fine);
    }
    let lines: Vec<String> = found
        .iter()
        .map(|process| process.pid.to_string())
        .collect();
    session.output.data((lines.join("\n") + "\n").as_bytes())?;
    Ok(Exit::Fine)
}

/// The variables of each, complete: whoever may ask the daemon owns them.
pub(crate) async fn env(args: EnvArgs, session: &Session) -> anyhow::Result<Exit> {
    let mut daemon = session.daemon().await?;
    let output = &session.output;
    let (found, exit) =
        list::selected_by_all(&mut daemon, &args.targets, list::With::Secrets, output).await?;
    let home = session.home.path().to_string_lossy();
    if args.json {
        let each = |process: &Process| json!({"pmId": process.pm_id, "name": process.name, "env": variables(process, &home)});
        output.json(&crate::api::List::whole(found.iter().map(each).collect()))?;
        return Ok(exit);
    }
    let many = found.len() > 1;
    for process in &found {
        let mut text = String::new();
        if many {
            text += &format!("# {} ({})\n", process.name, process.pm_id);
        }
        for (name, value) in variables(process, &home) {
            text += &format!("{name}: {value}\n");
        }
        output.data(text.as_bytes())?;
    }
    Ok(exit)
}

async fn any(daemon: &mut Client, target: &str) -> anyhow::Result<Vec<Process>> {
    match list::selected(daemon, target, false).await {
        Err(error) if error.is("unknown_process") => Ok(Vec::new()),
        answer => Ok(answer?),
    }
}

/// What it was given, and what names it.
fn variables(process: &Process, home: &str) -> BTreeMap<String, String> {
    let mut variables = process.spec.env.to_map();
    let own = [
        ("name", process.name.to_string()),
        ("namespace", process.spec.namespace.clone()),
        ("pm_id", process.pm_id.to_string()),
        (
            process.spec.instance_var.as_str(),
            process.instance.to_string(),
        ),
        ("PM2_HOME", home.to_owned()),
    ];
    variables.extend(own.map(|(name, value)| (name.to_owned(), value)));
    variables
}
