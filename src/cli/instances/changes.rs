//! What is done to instances that are there: each that is named, one after the other.

use serde_json::json;

use crate::api::List;
use crate::api::instance_changes::ChangeInstance;
use crate::api::instances::AdminInstance;
use crate::control::client::{Client, ClientError, segment};
use crate::ids::Timestamp;

use super::INSTANCES;
use crate::cli::exit::Exit;
use crate::cli::session::Session;
use crate::cli::style::tame;
use crate::cli::targets::Tally;

/// What is to be done.
#[derive(Clone, Debug)]
pub(super) enum Order {
    /// It answers no more, until it is enabled.
    Disable,
    /// It answers again.
    Enable,
    /// It answers until then; `None` is for ever.
    Expire(Option<Timestamp>),
    /// It is called so, or nothing.
    Label(Option<String>),
    /// It gets another URL.
    Rotate,
}

impl Order {
    async fn give(&self, id: &str, daemon: &mut Client) -> Result<AdminInstance, ClientError> {
        let path = format!("{INSTANCES}/{}", segment(id));
        let mut change = ChangeInstance::default();
        match self {
            Self::Disable => change.disabled = Some(true),
            Self::Enable => change.disabled = Some(false),
            Self::Expire(end) => change.expires_at = Some(*end),
            Self::Label(text) => change.label = Some(text.clone()),
            Self::Rotate => return daemon.post(&format!("{path}/rotate"), &json!({})).await,
        }
        daemon.patch(&path, &change).await
    }

    /// What has happened, for people.
    fn told(&self, instance: &AdminInstance) -> String {
        let AdminInstance {
            id, user, service, ..
        } = instance;
        let whose = format!("{id}, {service} of {user}");
        match self {
            Self::Disable => format!("disabled {whose}: its URL is dead until it is enabled"),
            Self::Enable => format!("enabled {whose}"),
            Self::Expire(None) => format!("{whose} never expires"),
            Self::Expire(Some(end)) if instance.expires_at.is_some() && !instance.active => {
                format!("{whose} does not answer; its expiry is {end}")
            }
            Self::Expire(Some(end)) => format!("{whose} answers until {end}"),
            Self::Label(None) => format!("{whose} has no label"),
            Self::Label(Some(text)) => format!("{whose} is called `{text}`"),
            Self::Rotate => format!("rotated {whose}: its old URL is dead"),
        }
    }
}

/// Does it to each; one that is refused is told, and fails the command.
pub(super) async fn obey(
    order: &Order,
    ids: &[String],
    json: bool,
    daemon: &mut Client,
    session: &Session,
) -> anyhow::Result<Exit> {
    let output = &session.output;
    let mut tally = Tally::new(output);
    let mut changed = Vec::new();
    for id in ids {
        let done = match order.give(id, daemon).await {
            Ok(instance) => {
                let told = tame(&order.told(&instance));
                changed.push(instance);
                output.line(format_args!("✓ {told}"))?;
                Ok(Exit::Fine)
            }
            Err(error) => Err(error.into()),
        };
        tally.add(done)?;
    }
    if matches!(order, Order::Rotate) && !changed.is_empty() {
        output.hint(
            "the owner alone sees the new URL: `GET /api/v1/services/TYPE/instance` with their token",
        );
    }
    if json {
        output.json(&List::whole(changed))?;
    }
    Ok(tally.exit())
}

/// Removes each, with its credential.
pub(super) async fn remove(
    ids: &[String],
    daemon: &mut Client,
    session: &Session,
) -> anyhow::Result<Exit> {
    let output = &session.output;
    let mut tally = Tally::new(output);
    for id in ids {
        let path = format!("{INSTANCES}/{}", segment(id));
        let done = match daemon.delete(&path).await {
            Ok(()) => {
                output.line(format_args!("✓ removed {id}"))?;
                Ok(Exit::Fine)
            }
            Err(error) => Err(error.into()),
        };
        tally.add(done)?;
    }
    Ok(tally.exit())
}
