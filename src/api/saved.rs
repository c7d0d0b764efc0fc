//! `/api/v1/admin/save` and `/api/v1/admin/resurrect`: the list that survives a reboot.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Problem;
use super::door::{Admin, Json, Reply};
use super::error::{Answer, ApiError};
use super::logs::Reached;
use super::outcomes::{Outcome, outcomes};
use super::state::Api;
use crate::audit::{By, words};
use crate::supervisor::Snapshot;
use crate::supervisor::dump::{self, Read};

/// `POST /api/v1/admin/save`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SaveRequest {
    /// Save a list without processes, too.
    #[serde(default)]
    pub force: bool,
}

/// Answer of `POST /api/v1/admin/resurrect`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resurrected {
    /// What became of each process that was not listed already.
    pub items: Vec<Outcome>,
    /// How many were saved.
    pub saved: usize,
    /// That it was an older list, and why; `null` when all is well.
    pub warning: Option<String>,
    /// Which entries could not be read, and why.
    #[serde(default)]
    pub unreadable: Vec<String>,
}

/// Writes the list to `dump.pm2`. An empty list is not written over a saved one unless it is forced.
#[utoipa::path(post, path = "/api/v1/admin/save", tag = "processes", request_body = SaveRequest,
    responses((status = 200, body = Reached), (status = 409, body = Problem)))]
pub(super) async fn save(
    _: Admin,
    by: By,
    State(api): State<Api>,
    Json(request): Json<SaveRequest>,
) -> Answer<Reply<Reached>> {
    let snapshot = api.supervisor.snapshot();
    let processes = snapshot.processes.len();
    if processes == 0 && !request.force {
        let detail = "the list is empty; the saved list is left as it is";
        return Err(ApiError::new(StatusCode::CONFLICT, "empty_list", detail));
    }
    let saved = write(&api, snapshot).await?;
    api.audit.record(by.entry(words::LIST_SAVE));
    Ok(saved)
}

/// Empties the saved list, so that nothing is brought back.
#[utoipa::path(delete, path = "/api/v1/admin/save", tag = "processes",
    responses((status = 200, body = Reached)))]
pub(super) async fn clear(_: Admin, by: By, State(api): State<Api>) -> Answer<Reply<Reached>> {
    let cleared = write(&api, Arc::default()).await?;
    api.audit.record(by.entry(words::LIST_CLEAR));
    Ok(cleared)
}

async fn write(api: &Api, snapshot: Arc<Snapshot>) -> Answer<Reply<Reached>> {
    let processes = snapshot.processes.len();
    let path = api.home.dump();
    let written = tokio::task::spawn_blocking(move || dump::write(&path, &snapshot)).await;
    match written {
        Ok(Ok(())) => Ok(Reply(Reached { processes })),
        Ok(Err(error)) => {
            let detail = format!("cannot write `{}`: {error}", api.home.dump().display());
            Err(ApiError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "not_saved",
                detail,
            ))
        }
        Err(error) => Err(ApiError::internal(&error)),
    }
}

/// Brings back what was saved; names that are in the list already are left alone.
#[utoipa::path(post, path = "/api/v1/admin/resurrect", tag = "processes",
    responses((status = 200, body = Resurrected), (status = 404, body = Problem)))]
pub(super) async fn resurrect(
    _: Admin,
    by: By,
    State(api): State<Api>,
) -> Answer<Reply<Resurrected>> {
    let path = api.home.dump();
    let read = tokio::task::spawn_blocking(move || dump::read(&path)).await;
    let Read {
        saved,
        warning,
        unreadable,
    } = match read {
        Ok(Ok(read)) => read,
        Ok(Err(error)) => return Err(ApiError::not_found("no_saved_list", error.to_string())),
        Err(error) => return Err(ApiError::internal(&error)),
    };
    let count = saved.len();
    let Reply(resurrected) = outcomes(api.supervisor.resurrect(saved).await?);
    api.audit.record(by.entry(words::LIST_RESURRECT));
    Ok(Reply(Resurrected {
        items: resurrected.items,
        saved: count,
        warning,
        unreadable,
    }))
}
