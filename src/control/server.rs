//! The API on `$MCPM_HOME/mcpm.sock`.
//!
//! The folder lets nobody but its owner in, the socket has mode 0600, and each peer's user is
//! checked by the kernel's word (SO_PEERCRED): the owner and root may do everything, others get no
//! answer at all.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;

use crate::api::Gate;
use crate::sockets::Reserve;

/// Commands that may be under way at once; more of them wait.
const CONNECTIONS_MAX: usize = 256;
/// Commands that may wait to be taken; the system has a limit of its own (`net.core.somaxconn`).
const BACKLOG: i32 = 1024;
/// How long a client may take to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Wait after an accept that failed for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long an answer may take that was under way when another daemon took over.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Binds the socket. What a dead daemon left under its name is removed: the caller holds the lock
/// of the home, so nobody else can be using it.
///
/// # Errors
/// When the folder can't be written.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Takes over a listener: who connects from now on sees this process at the other end, and no more the
/// one that has made it (`control/presence.rs`).
///
/// # Errors
/// It is none.
pub fn passed(listener: std::os::unix::net::UnixListener) -> io::Result<UnixListener> {
    rustix::net::listen(&listener, BACKLOG)?;
    UnixListener::from_std(listener)
}

/// Serves until the task is dropped or another daemon has taken over. While the gate is closed commands
/// wait where the next daemon can take them. Tells `called` of each command. After a hand-over it
/// returns when the last answers are given.
pub async fn serve(listener: UnixListener, api: axum::Router, called: Arc<Notify>, gate: Gate) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let me = rustix::process::geteuid().as_raw();
    let reserve = Reserve::take();
    let mut failing = false;
    loop {
        reserve.refill();
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        if !gate.opened().await {
            drop(place);
            // The last answers are on their way.
            let _ = places.acquire_many(CONNECTIONS_MAX as u32).await;
            return;
        }
        let accepted = tokio::select! {
            biased;
            () = gate.closed() => continue,
            accepted = accept(&listener, &reserve) => accepted,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                if !failing {
                    tracing::warn!(%error, "cannot accept commands; trying on");
                }
                failing = true;
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        failing = false;
        if !may_command(&stream, me) {
            continue;
        }
        called.notify_one();
        let (api, gate, reserve) = (api.clone(), gate.clone(), reserve.clone());
        tokio::spawn(async move {
            answer(stream, api, gate).await;
            reserve.refill();
            drop(place);
        });
    }
}

/// Cancel-safe. When descriptors have run out the next command gets the one that is kept back.
async fn accept(listener: &UnixListener, reserve: &Reserve) -> io::Result<UnixStream> {
    let accepted = match listener.accept().await {
        Err(error) if reserve.yields_to(&error) => listener.accept().await,
        accepted => accepted,
    };
    accepted.map(|(stream, _)| stream)
}

/// One connection, to its end.
async fn answer(stream: UnixStream, api: axum::Router, gate: Gate) {
    let mut connection = std::pin::pin!(
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(api))
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = gate.left() => {
            connection.as_mut().graceful_shutdown();
            // One that goes on, such as a log that is followed, goes on with the next daemon.
            timeout(LAST_ANSWERS, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a command's connection ended early");
    }
}

fn may_command(stream: &UnixStream, me: u32) -> bool {
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == me || peer.uid() == 0 => true,
        Ok(peer) => {
            tracing::warn!(uid = peer.uid(), "refused a command of another user");
            false
        }
        Err(error) => {
            tracing::warn!(%error, "refused a command: cannot tell whose it is");
            false
        }
    }
}
