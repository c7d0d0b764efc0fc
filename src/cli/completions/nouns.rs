//! Numbers of instances, ids of users and types of services, where a command of `instances` wants one.

use std::ffi::OsStr;

use clap::{Arg, Command};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate, PathCompleter};
use serde::de::DeserializeOwned;

use super::PATIENCE;
use crate::api::List;
use crate::api::instances::AdminInstance;
use crate::api::services::AdminService;
use crate::api::users::User;
use crate::cli::render::Output;
use crate::cli::session::Session;

/// The command with names offered; others stay as they are.
pub(super) fn offered(command: Command) -> Command {
    if command.get_name() != "instances" {
        return command;
    }
    command
        .mut_args(with_names)
        .mut_subcommands(|below| below.mut_args(with_names))
}

fn with_names(arg: Arg) -> Arg {
    match arg.get_id().as_str() {
        "instance" | "instances" => arg.add(ArgValueCompleter::new(|current: &OsStr| {
            begun(current, numbers())
        })),
        "user" => arg.add(ArgValueCompleter::new(|current: &OsStr| {
            begun(current, users())
        })),
        "service" => arg.add(ArgValueCompleter::new(|current: &OsStr| {
            begun(current, services())
        })),
        "file" | "mapping" => arg.add(ArgValueCompleter::new(PathCompleter::file())),
        _ => arg,
    }
}

/// Those that go on as the word has begun. Without a daemon there are none.
fn begun(current: &OsStr, names: anyhow::Result<Vec<String>>) -> Vec<CompletionCandidate> {
    let begun = current.to_string_lossy();
    let names = names.unwrap_or_default().into_iter();
    let names = names.filter(|name| name.starts_with(&*begun));
    names.map(CompletionCandidate::new).collect()
}

/// Of as many as one page holds: more would be no help.
fn numbers() -> anyhow::Result<Vec<String>> {
    let page: List<AdminInstance> = ask("/api/v1/admin/instances?limit=1000")?;
    Ok(page.items.into_iter().map(|one| one.id).collect())
}

fn users() -> anyhow::Result<Vec<String>> {
    let page: List<User> = ask("/api/v1/admin/users?limit=1000")?;
    Ok(page.items.into_iter().map(|one| one.id).collect())
}

fn services() -> anyhow::Result<Vec<String>> {
    let all: List<AdminService> = ask("/api/v1/admin/services")?;
    Ok(all
        .items
        .into_iter()
        .map(|one| one.service.service)
        .collect())
}

/// Asks the daemon that runs; none is started for this.
fn ask<T: DeserializeOwned>(path: &str) -> anyhow::Result<T> {
    let session = Session::new(Output::new(true, true))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let answered = runtime.block_on(async {
        let ask = async {
            let mut daemon = session.running_daemon().await?;
            daemon.get(path).await
        };
        tokio::time::timeout(PATIENCE, ask).await
    });
    Ok(answered??)
}
