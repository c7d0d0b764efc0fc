//! What a service says of itself when it answers `initialize`. Pure.

use serde_json::Value;

use super::names::Names;
use super::translate::decoded;
use super::wire::message::{self, Inner, Kind};

/// Lists of which a service says whether they may change.
const LISTS: [&str; 3] = ["tools", "prompts", "resources"];

/// What an answer to `initialize` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) revision: Option<String>,
    /// Lists that may change.
    pub(super) lists: Vec<String>,
}

/// What the answer to one of these names says; `None` for anything else, and an error for an error.
pub(super) fn facts(data: &[u8], names: &Names) -> Option<Result<Facts, ()>> {
    let scan = message::scan(data).ok()?;
    scan.messages.iter().find_map(|one| {
        names.meant(&data[one.id.clone()?])?;
        match one.kind() {
            Kind::Result => Some(Ok(facts_of(data, one.result.as_ref()?))),
            Kind::Error => Some(Err(())),
            Kind::Request | Kind::Notification | Kind::Other => None,
        }
    })
}

pub(super) fn facts_of(data: &[u8], result: &Inner) -> Facts {
    let revision = result
        .revision
        .as_ref()
        .and_then(|span| decoded(data, span));
    let capabilities = result.capabilities.as_ref();
    let capabilities: Value = capabilities
        .and_then(|span| serde_json::from_slice(&data[span.clone()]).ok())
        .unwrap_or_default();
    let may_change = |list: &&str| capabilities[*list]["listChanged"] == true;
    let lists = LISTS.into_iter().filter(may_change);
    Facts {
        revision,
        lists: lists.map(str::to_owned).collect(),
    }
}
