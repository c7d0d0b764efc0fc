//! `/api/v1/admin/logs` and `/api/v1/admin/flush`: output of services, kept and as it arrives.

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use utoipa::{IntoParams, ToSchema};

use super::Problem;
use super::door::{Admin, Json, Query, Reply};
use super::error::{Answer, ApiError};
use super::processes::{LogEvent, Stream, ndjson};
use super::state::Api;
use crate::ids::PmId;
use crate::logs::files::LogFiles;
use crate::logs::{self, history};
use crate::supervisor::{Process, target};

/// Lines under way to one reader.
const QUEUE: usize = 256;
/// Most lines of history of one file.
const LINES_MAX: usize = 100_000;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct LogsQuery {
    /// As in `TargetRequest`; `all` when not given.
    target: Option<String>,
    /// Lines of history of each file; 15 when not given.
    lines: Option<usize>,
    /// Go on with what arrives.
    #[serde(default)]
    follow: bool,
    /// Only this stream.
    stream: Option<Stream>,
}

/// The last lines of each log, then what arrives.
#[utoipa::path(get, path = "/api/v1/admin/logs", params(LogsQuery), tag = "logs",
    responses((status = 200, body = LogEvent, content_type = "application/x-ndjson"),
              (status = 404, body = Problem)))]
pub(super) async fn read(
    _: Admin,
    State(api): State<Api>,
    Query(query): Query<LogsQuery>,
) -> Answer<Response> {
    let target = query.target.as_deref().unwrap_or("all");
    let (lines, only) = (query.lines.unwrap_or(15).min(LINES_MAX), query.stream);
    let processes = selected(&api, target)?;
    // Subscribed before the files are read, so that no line is missed in between.
    let live = query.follow.then(|| api.logs.follow());
    let (sender, events) = mpsc::channel(QUEUE);
    let supervisor = api.supervisor.clone();
    let target = target.to_owned();
    tokio::spawn(async move {
        let history = tokio::task::spawn_blocking(move || read_files(&processes, lines, only));
        for event in history.await.unwrap_or_default() {
            if sender.send(event).await.is_err() {
                return;
            }
        }
        let Some(mut live) = live else { return };
        loop {
            let next = tokio::select! {
                next = live.recv() => next,
                () = sender.closed() => return,
            };
            let event = match next {
                Ok(line) => {
                    let stream = shown(line.stream);
                    // Looked up anew each time: apps may come while someone follows.
                    let wanted = target == "all"
                        || target::select(&supervisor.snapshot(), &target)
                            .contains(&line.source.id);
                    if !wanted || only.is_some_and(|only| only != stream) {
                        continue;
                    }
                    event(line.source.id, &line.source.name, stream, &line.bytes)
                }
                Err(RecvError::Lagged(lines)) => LogEvent::Missed { lines },
                Err(RecvError::Closed) => return,
            };
            if sender.send(event).await.is_err() {
                return;
            }
        }
    });
    Ok(ndjson(events))
}

fn selected(api: &Api, target: &str) -> Answer<Vec<Arc<Process>>> {
    let snapshot = api.supervisor.snapshot();
    let ids = target::select(&snapshot, target);
    if ids.is_empty() && target != "all" {
        let detail = format!("no process, namespace or id is `{target}`; `mcpm ls` shows them");
        return Err(ApiError::not_found("unknown_process", detail));
    }
    Ok(ids
        .into_iter()
        .filter_map(|id| snapshot.get(id).cloned())
        .collect())
}

fn shown(stream: logs::Stream) -> Stream {
    match stream {
        logs::Stream::Out => Stream::Out,
        logs::Stream::Error => Stream::Error,
    }
}

fn event(pm_id: PmId, name: &crate::ids::AppName, stream: Stream, bytes: &[u8]) -> LogEvent {
    let text = std::str::from_utf8(bytes).ok().map(str::to_owned);
    let base64 = text.is_none().then(|| data_encoding::BASE64.encode(bytes));
    LogEvent::Line {
        pm_id,
        name: name.clone(),
        stream,
        text,
        base64,
    }
}

/// The history of each file once, the oldest file first. Blocks.
fn read_files(processes: &[Arc<Process>], lines: usize, only: Option<Stream>) -> Vec<LogEvent> {
    let mut files: Vec<(std::time::SystemTime, PathBuf, Stream, Arc<Process>)> = Vec::new();
    for process in processes {
        for (path, stream) in [
            (&process.out_log, Stream::Out),
            (&process.error_log, Stream::Error),
        ] {
            let Some(path) = path else { continue };
            if only.is_some_and(|only| only != stream) || files.iter().any(|file| file.1 == *path) {
                continue;
            }
            let changed = path.metadata().and_then(|meta| meta.modified());
            let changed = changed.unwrap_or(std::time::UNIX_EPOCH);
            files.push((changed, path.clone(), stream, process.clone()));
        }
    }
    files.sort_by_key(|file| file.0);
    let mut events = Vec::new();
    for (_, path, stream, process) in files {
        let (pm_id, name) = (process.id, process.spec.name.clone());
        let found = match history::last_lines(&path, lines) {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "cannot read a log file");
                continue;
            }
        };
        events.push(LogEvent::File {
            path,
            pm_id,
            name: name.clone(),
            stream,
        });
        events.extend(found.iter().map(|line| event(pm_id, &name, stream, line)));
    }
    events
}

/// What `flush` empties.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FlushRequest {
    /// As in `TargetRequest`; without it all logs, the daemon's own too.
    #[serde(default)]
    pub target: Option<String>,
}

/// How many processes a call has reached.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reached {
    /// That many.
    pub processes: usize,
}

/// Empties log files.
#[utoipa::path(post, path = "/api/v1/admin/flush", tag = "logs", request_body = FlushRequest,
    responses((status = 200, body = Reached), (status = 404, body = Problem)))]
pub(super) async fn flush(
    _: Admin,
    State(api): State<Api>,
    Json(request): Json<FlushRequest>,
) -> Answer<Reply<Reached>> {
    let target = request.target.as_deref().unwrap_or("all");
    let processes = selected(&api, target)?;
    for process in &processes {
        let files = LogFiles {
            out: process.out_log.clone(),
            error: process.error_log.clone(),
        };
        api.logs.truncate(process.id, files).await;
    }
    if request.target.is_none()
        && let Err(error) = std::fs::File::options()
            .write(true)
            .truncate(true)
            .open(api.home.log())
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, "cannot empty the daemon's own log");
    }
    Ok(Reply(Reached {
        processes: processes.len(),
    }))
}
