//! The REST API: a file per resource, its request and answer types with it.
//!
//! One door for people and programs: the CLI (over `$MCPM_HOME/mcpm.sock`), the web page and
//! scripts use the same calls. camelCase, lists as [`List`], times RFC 3339, errors as [`Problem`].
//! `door.rs` checks who is asking, `ends.rs` ends answers with their token, `gate.rs` holds calls while the daemon hands over, `routes.rs` is
//! the table of all calls and makes the OpenAPI document, `state.rs` holds the handles that handlers
//! work with.

pub mod daemon;
pub mod outcomes;
pub mod processes;
pub mod process_table;
pub mod process_orders;
pub mod exits;
pub mod logs;
pub mod saved;
pub mod services;
pub mod oauth;
mod pages;
mod paging;
pub mod instances;
pub mod instance_changes;
pub mod import;
mod versions;
mod objects;
mod unread;
pub mod limits;
mod metrics;
pub mod users;
pub mod keys;
pub mod tokens;
pub mod usage;
pub mod audit;
pub mod error;
pub mod door;
pub mod gate;
pub mod state;
mod ends;
mod openapi;
pub mod routes;

pub use crate::problem::Problem;
pub use door::Door;
pub use gate::Gate;
pub use state::Api;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A list and where it goes on.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct List<T> {
    /// This page.
    pub items: Vec<T>,
    /// Pass as `cursor` to get the next page; `null` when this was the last.
    pub next_cursor: Option<String>,
}

impl<T> List<T> {
    /// A list that fits on one page.
    pub fn whole(items: Vec<T>) -> Self {
        Self {
            items,
            next_cursor: None,
        }
    }

    /// The same page of something made of each item.
    pub(crate) fn map<U>(self, make: impl FnMut(T) -> U) -> List<U> {
        List {
            items: self.items.into_iter().map(make).collect(),
            next_cursor: self.next_cursor,
        }
    }
}
