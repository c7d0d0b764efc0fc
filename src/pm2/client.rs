//! Asks a running PM2: what it has, and to let go of it.
//!
//! Every wait has an end: a PM2 that hangs must not hang us.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::message::{self, Answer, Decoder, MessageError};

/// For a connection, and for an answer that takes PM2 no time.
const PATIENCE: Duration = Duration::from_secs(10);
/// Processes that PM2 ends at the same time: each has its `kill_timeout`, and hundreds one after
/// another would take minutes.
const AT_ONCE: usize = 64;
/// Bytes that are read at once.
const PIECE: usize = 64 * 1024;

/// Why a running PM2 gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It can't be reached, or has gone away.
    #[error("cannot speak with the PM2 behind `{}`", path.display())]
    Io {
        /// Its socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It does not answer.
    #[error("the PM2 behind `{}` does not answer; is it hanging?", .0.display())]
    Silent(PathBuf),
    /// What it says is not understood.
    #[error("cannot understand the PM2 behind `{}`", path.display())]
    Message {
        /// Its socket.
        path: PathBuf,
        /// Why.
        source: MessageError,
    },
    /// It refused.
    #[error("PM2 says: {0}")]
    Refused(String),
}

/// A process of PM2's list that was to be removed.
#[derive(Debug)]
pub struct Removed {
    /// Its number there.
    pub pm_id: u64,
    /// Why it is still there.
    pub error: Option<String>,
}

/// A connection to a running PM2.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    stream: UnixStream,
    decoder: Decoder,
    calls: u64,
}

impl Client {
    /// `None` when none runs in this folder.
    ///
    /// # Errors
    /// When one does, and can't be reached.
    pub async fn connect(pm2_home: &Path) -> Result<Option<Self>, ClientError> {
        let path = pm2_home.join("rpc.sock");
        let stream = match timeout(PATIENCE, UnixStream::connect(&path)).await {
            Err(_) => return Err(ClientError::Silent(path)),
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                return match error.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(None),
                    _ => Err(ClientError::Io {
                        path,
                        source: error,
                    }),
                };
            }
        };
        Ok(Some(Self {
            path,
            stream,
            decoder: Decoder::default(),
            calls: 0,
        }))
    }

    /// All that it has: the `pm2_env` of each, with its `pm_id`.
    ///
    /// # Errors
    /// When it does not tell.
    pub async fn list(&mut self) -> Result<Vec<Map<String, Value>>, ClientError> {
        let id = self.send("getMonitorData", &[json!({})]).await?;
        let answers = self.answers([id.clone()], PATIENCE).await?;
        let listed = match answers.into_values().next() {
            Some(Ok(args)) => args.into_iter().next(),
            Some(Err(error)) => return Err(ClientError::Refused(error)),
            None => None,
        };
        let Some(Value::Array(listed)) = listed else {
            return Err(self.misunderstood(MessageError::NoAnswer));
        };
        let of_entry = |entry: Value| match entry {
            Value::Object(mut entry) => match entry.remove("pm2_env") {
                Some(Value::Object(fields)) => Some(fields),
                _ => None,
            },
            _ => None,
        };
        Ok(listed.into_iter().filter_map(of_entry).collect())
    }

    /// Has it end these and forget them; a process that was only stopped would be started again
    /// by its clock. `grace` is the longest `kill_timeout` among them.
    ///
    /// # Errors
    /// When it stops answering; some may be gone then.
    pub async fn remove(
        &mut self,
        pm_ids: &[u64],
        grace: Duration,
    ) -> Result<Vec<Removed>, ClientError> {
        let mut removed = Vec::new();
        for some in pm_ids.chunks(AT_ONCE) {
            let mut calls = BTreeMap::new();
            for &pm_id in some {
                // Its watcher would bring it back.
                let args = [json!("deleteProcessId"), json!(pm_id)];
                self.send("stopWatch", &args).await?;
                let call = self.send("deleteProcessId", &[json!(pm_id)]).await?;
                calls.insert(call, pm_id);
            }
            let answers = self
                .answers(calls.keys().cloned(), grace + PATIENCE)
                .await?;
            for (call, outcome) in answers {
                if let Some(&pm_id) = calls.get(&call) {
                    let error = outcome.err();
                    removed.push(Removed { pm_id, error });
                }
            }
        }
        Ok(removed)
    }

    /// Returns what its answer will repeat.
    async fn send(&mut self, method: &str, args: &[Value]) -> Result<String, ClientError> {
        self.calls += 1;
        let id = format!("mcpm:{}", self.calls);
        let bytes = message::call(method, args, &id);
        let path = self.path.clone();
        match timeout(PATIENCE, self.stream.write_all(&bytes)).await {
            Ok(Ok(())) => Ok(id),
            // What it said before it closed tells more, and is read next.
            Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(id),
            Ok(Err(source)) => Err(ClientError::Io { path, source }),
            Err(_) => Err(ClientError::Silent(path)),
        }
    }

    /// Waits until all of these calls are answered, no longer than `patience` in all.
    async fn answers(
        &mut self,
        calls: impl IntoIterator<Item = String>,
        patience: Duration,
    ) -> Result<BTreeMap<String, Result<Vec<Value>, String>>, ClientError> {
        let mut open: Vec<String> = calls.into_iter().collect();
        let mut answers = BTreeMap::new();
        let path = self.path.clone();
        let gather = async {
            while !open.is_empty() {
                let Answer { to, outcome } = self.answer().await?;
                let before = open.len();
                open.retain(|call| *call != to);
                // Other calls' answers are of no interest.
                if open.len() < before {
                    answers.insert(to, outcome);
                }
            }
            Ok(())
        };
        match timeout(patience, gather).await {
            Ok(gathered) => gathered.map(|()| answers),
            Err(_) => Err(ClientError::Silent(path)),
        }
    }

    async fn answer(&mut self) -> Result<Answer, ClientError> {
        let mut piece = vec![0; PIECE];
        loop {
            match self.decoder.take() {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => {}
                Err(error) => return Err(self.misunderstood(error)),
            }
            let read = match self.stream.read(&mut piece).await {
                Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                other => other,
            };
            let count = read.map_err(|source| ClientError::Io {
                path: self.path.clone(),
                source,
            })?;
            self.decoder.feed(&piece[..count]);
        }
    }

    fn misunderstood(&self, source: MessageError) -> ClientError {
        ClientError::Message {
            path: self.path.clone(),
            source,
        }
    }
}
