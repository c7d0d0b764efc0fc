//! `/api/v1/admin/logs` and `/api/v1/admin/flush`: output of services, kept and as it arrives.

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use utoipa::{IntoParams, ToSchema};

use super::Problem;
use super::door::{Admin, Json, Query, Reply};
use super::error::Answer;
use super::processes::ndjson;
use super::state::{Api, DaemonOrder};
use crate::audit::{By, words};
use crate::ids::{AppName, PmId, Timestamp};
use crate::logs::dress::Dates;
use crate::logs::{self, Following, Origin, history};
use crate::supervisor::target::Target;
use crate::supervisor::{CommandError, Process, Snapshot};

/// Lines under way to one reader.
const QUEUE: usize = 256;
/// Most lines of history of one file.
const LINES_MAX: usize = 100_000;
/// The word for the daemon's own log, as in PM2; an app of that name comes first.
const DAEMON: &str = "PM2";

/// A line of the answer to `GET /api/v1/admin/logs?target=…&lines=15&follow=true`, one JSON
/// object per line: first the history of each file, then what arrives.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum LogEvent {
    /// The history of one file follows.
    #[serde(rename_all = "camelCase")]
    File {
        /// Which file.
        #[schema(value_type = String)]
        path: PathBuf,
        /// Whose.
        #[schema(value_type = u32)]
        pm_id: PmId,
        /// Whose.
        #[schema(value_type = String)]
        name: AppName,
        /// Which of its streams.
        stream: Stream,
    },
    /// One line.
    #[serde(rename_all = "camelCase")]
    Line {
        /// Whose.
        #[schema(value_type = u32)]
        pm_id: PmId,
        /// Whose.
        #[schema(value_type = String)]
        name: AppName,
        /// Which of its streams.
        stream: Stream,
        /// The line without its line end, when it is UTF-8.
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<String>,
        /// The line without its line end in base64, when it is not.
        #[serde(skip_serializing_if = "Option::is_none")]
        base64: Option<String>,
        /// Of history: when it was written, where the line itself says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<String>, format = DateTime)]
        at: Option<Timestamp>,
    },
    /// The history ends here; the lines that follow arrive now.
    Live,
    /// The history of the daemon's own log follows.
    DaemonFile {
        /// Which file.
        #[schema(value_type = String)]
        path: PathBuf,
    },
    /// One line of the daemon's own log.
    DaemonLine {
        /// The line without its line end.
        text: String,
    },
    /// The reader was too slow and so many lines are not here (they are in the file).
    Missed {
        /// How many.
        lines: u64,
    },
}

/// Standard output or standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Error,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct LogsQuery {
    /// As in `TargetRequest`, several apart by line feeds, or `PM2` for the daemon's own log; `all`
    /// when not given.
    target: Option<String>,
    /// Lines of history of each file; 15 when not given.
    lines: Option<usize>,
    /// Go on with what arrives.
    #[serde(default)]
    follow: bool,
    /// Only this stream.
    stream: Option<Stream>,
    /// The daemon's own log as well.
    #[serde(default)]
    daemon: bool,
    /// Without history: instead of it, of a daemon that has taken over within the last minute, all that
    /// has arrived since. For those who have followed the one before to its end.
    #[serde(default)]
    resume: bool,
}

/// What a reader asks for.
struct Wanted {
    /// Whose logs.
    targets: Vec<Target>,
    lines: usize,
    only: Option<Stream>,
    daemon: bool,
}

impl Wanted {
    /// # Errors
    /// A word that means nothing.
    fn of(query: LogsQuery, snapshot: &Snapshot) -> Answer<Self> {
        let words = query.target.as_deref().unwrap_or("all");
        let mut wanted = Self {
            targets: Vec::new(),
            lines: query.lines.unwrap_or(15).min(LINES_MAX),
            only: query.stream,
            daemon: query.daemon,
        };
        for word in words.split('\n') {
            let target = target(Some(word))?;
            if word == DAEMON && target.select(snapshot).is_empty() {
                wanted.daemon = true;
                continue;
            }
            selected(snapshot, &target)?;
            wanted.targets.push(target);
        }
        Ok(wanted)
    }

    /// Looked up anew each time: apps may come while someone follows.
    fn ids(&self, snapshot: &Snapshot) -> Vec<PmId> {
        let all = self
            .targets
            .iter()
            .flat_map(|target| target.select(snapshot));
        let mut ids: Vec<PmId> = all.collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// A line that has arrived, if it is asked for.
    fn event(&self, line: &logs::Line, snapshot: &Snapshot) -> Option<LogEvent> {
        let (source, stream) = match &line.origin {
            Origin::Process(source, stream) => (source, shown(*stream)),
            Origin::Daemon => return self.daemon.then(|| daemon_line(&line.bytes)),
        };
        if self.only.is_some_and(|only| only != stream) {
            return None;
        }
        let is_wanted =
            |target: &Target| target.is_all() || target.select(snapshot).contains(&source.id);
        self.targets
            .iter()
            .any(is_wanted)
            .then(|| event((source.id, &source.name), stream, &line.bytes, None))
    }
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
    let (follow, resume) = (query.follow, query.resume);
    let wanted = Arc::new(Wanted::of(query, &api.supervisor.snapshot())?);
    // Subscribed before the files are read, so that no line is missed in between.
    let following = follow.then(|| {
        if resume {
            api.logs.follow_on()
        } else {
            Following::from(api.logs.follow())
        }
    });
    let (sender, events) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let mut events = if resume {
            Vec::new()
        } else {
            past(&wanted, &api).await
        };
        events.extend(following.is_some().then_some(LogEvent::Live));
        for event in events {
            if sender.send(event).await.is_err() {
                return;
            }
        }
        let Some(Following {
            missed,
            earlier,
            mut live,
        }) = following
        else {
            return;
        };
        for event in caught_up(missed, earlier, &wanted, &api.supervisor.snapshot()) {
            if sender.send(event).await.is_err() {
                return;
            }
        }
        loop {
            let next = tokio::select! {
                next = live.recv() => next,
                () = sender.closed() => return,
            };
            let event = match next {
                Ok(line) => wanted.event(&line, &api.supervisor.snapshot()),
                Err(RecvError::Lagged(lines)) => Some(LogEvent::Missed { lines }),
                Err(RecvError::Closed) => return,
            };
            let Some(event) = event else { continue };
            if sender.send(event).await.is_err() {
                return;
            }
        }
    });
    Ok(ndjson(events))
}

/// What has arrived before somebody came who follows on.
fn caught_up(
    missed: u64,
    earlier: Vec<Arc<logs::Line>>,
    wanted: &Wanted,
    snapshot: &Snapshot,
) -> Vec<LogEvent> {
    let missed = (missed > 0).then_some(LogEvent::Missed { lines: missed });
    let earlier = earlier
        .into_iter()
        .filter_map(|line| wanted.event(&line, snapshot));
    missed.into_iter().chain(earlier).collect()
}

/// The last lines of all files that are asked for.
async fn past(wanted: &Arc<Wanted>, api: &Api) -> Vec<LogEvent> {
    let (asked, snapshot) = (wanted.clone(), api.supervisor.snapshot());
    let own = asked.daemon.then(|| api.home.log());
    let read = move || {
        let mut events = own
            .map(|path| read_own(path, asked.lines))
            .unwrap_or_default();
        events.extend(read_files(&asked, &snapshot));
        events
    };
    let read = tokio::task::spawn_blocking(read).await;
    read.unwrap_or_default()
}

/// What a word means; everything when there is none.
///
/// # Errors
/// When it is no pattern.
pub(super) fn target(word: Option<&str>) -> Answer<Target> {
    let target = word.map_or(Ok(Target::all()), Target::parse);
    target.map_err(|error| CommandError::from(error).into())
}

/// The processes that a target means.
///
/// # Errors
/// When it means none.
pub(super) fn selected(snapshot: &Snapshot, target: &Target) -> Answer<Vec<Arc<Process>>> {
    let ids = target.select(snapshot);
    if ids.is_empty() && !target.is_all() {
        return Err(CommandError::Unknown(target.word().to_owned()).into());
    }
    let found = ids.iter().filter_map(|&id| snapshot.get(id));
    Ok(found.cloned().collect())
}

fn daemon_line(bytes: &[u8]) -> LogEvent {
    LogEvent::DaemonLine {
        text: String::from_utf8_lossy(bytes).into_owned(),
    }
}

fn read_own(path: PathBuf, lines: usize) -> Vec<LogEvent> {
    let found = history::last_lines(&path, lines).unwrap_or_default();
    let lines = found.iter().map(|line| daemon_line(line));
    std::iter::once(LogEvent::DaemonFile { path: path.clone() })
        .chain(lines)
        .collect()
}

fn shown(stream: logs::Stream) -> Stream {
    match stream {
        logs::Stream::Out => Stream::Out,
        logs::Stream::Error => Stream::Error,
    }
}

fn event(
    (pm_id, name): (PmId, &AppName),
    stream: Stream,
    bytes: &[u8],
    at: Option<Timestamp>,
) -> LogEvent {
    let text = std::str::from_utf8(bytes).ok().map(str::to_owned);
    let base64 = text.is_none().then(|| data_encoding::BASE64.encode(bytes));
    LogEvent::Line {
        pm_id,
        name: name.clone(),
        stream,
        text,
        base64,
        at,
    }
}

/// The history of each file once, the oldest file first. Blocks.
fn read_files(wanted: &Wanted, snapshot: &Snapshot) -> Vec<LogEvent> {
    let (lines, only) = (wanted.lines, wanted.only);
    let ids = wanted.ids(snapshot);
    let mut files: Vec<(std::time::SystemTime, PathBuf, Stream, Arc<Process>)> = Vec::new();
    for process in ids.iter().filter_map(|&id| snapshot.get(id)) {
        for (path, stream) in [
            (&process.logs.out, Stream::Out),
            (&process.logs.error, Stream::Error),
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
        let dates = Dates::of(&process.spec.logs.format, &TimeZone::system());
        let one = |line: &Vec<u8>| event((pm_id, &name), stream, line, dates.read(line));
        events.extend(found.iter().map(one));
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
    by: By,
    State(api): State<Api>,
    Json(request): Json<FlushRequest>,
) -> Answer<Reply<Reached>> {
    let snapshot = api.supervisor.snapshot();
    let processes = selected(&snapshot, &target(request.target.as_deref())?)?;
    for process in &processes {
        api.logs.truncate(process.logs.clone()).await;
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
    let target = request.target.unwrap_or_else(|| "all logs".to_owned());
    api.audit
        .record(by.entry(words::LOGS_FLUSH).with_detail(target));
    Ok(Reply(Reached {
        processes: processes.len(),
    }))
}

/// Opens all log files anew, the daemon's own too: another program has moved them.
#[utoipa::path(post, path = "/api/v1/admin/logs/reopen", tag = "logs",
    responses((status = 204)))]
pub(super) async fn reopen(_: Admin, State(api): State<Api>) -> Answer<StatusCode> {
    let order = |done| DaemonOrder::ReopenLogs { done };
    api.order(order, "not_opened").await?;
    Ok(StatusCode::NO_CONTENT)
}
