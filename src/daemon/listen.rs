//! Owns the router's address: binds it, serves on it, and moves to another one when told.
//!
//! An address that somebody else has is no reason for services not to run: it is tried again, and
//! every command's answer shows a warning until it is had.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use super::settings::Chosen;
use crate::api::state::InForce;
use crate::ids::Port;
use crate::instances::Instances;
use crate::router::{Names, Router, RouterConfig, Services};
use crate::sockets;
use crate::users::Users;

/// Between two tries of an address that is taken.
const RETRY: Duration = Duration::from_secs(1);
/// How long requests that are under way may take when the daemon stops or the address changes.
const DRAIN: Duration = Duration::from_secs(3);

/// How long a request waits for a service that restarts: a client's patience is a minute, and most
/// services are there in a second.
const HOLD: Duration = Duration::from_secs(10);

/// How long a client may take to send its first request, and each head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// What the router is made of.
pub(super) struct Parts {
    pub(super) services: Arc<Services>,
    pub(super) instances: Instances,
    pub(super) users: Users,
    pub(super) api: axum::Router,
    pub(super) in_force: Arc<ArcSwap<InForce>>,
    /// What an operator should act on, whatever the address.
    pub(super) warnings: Vec<String>,
}

/// Handle to the task that serves.
pub(super) struct Front {
    chosen: watch::Sender<Chosen>,
    task: JoinSet<()>,
}

impl Front {
    /// Tries the address once, then serves, or goes on trying, in a task of its own.
    pub(super) async fn open(parts: Parts, chosen: Chosen) -> Self {
        let (sender, wanted) = watch::channel(chosen.clone());
        let first = bind(&parts, &chosen).await;
        let mut task = JoinSet::new();
        task.spawn(run(parts, wanted, first));
        Self {
            chosen: sender,
            task,
        }
    }

    /// Serves with these settings from now on. Requests that are under way are finished.
    pub(super) fn apply(&self, chosen: Chosen) {
        self.chosen.send_replace(chosen);
    }

    /// Takes no more requests and waits for those that are under way.
    pub(super) async fn close(self) {
        let Self { chosen, mut task } = self;
        drop(chosen);
        while task.join_next().await.is_some() {}
    }
}

async fn run(
    parts: Parts,
    mut wanted: watch::Receiver<Chosen>,
    first: Option<(TcpListener, SocketAddr)>,
) {
    let mut bound = first;
    let mut old = JoinSet::new();
    loop {
        let chosen = wanted.borrow_and_update().clone();
        let Some((listener, address)) = bound.take() else {
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                changed = wanted.changed() => if changed.is_err() { break },
            }
            let chosen = wanted.borrow_and_update().clone();
            bound = bind(&parts, &chosen).await;
            continue;
        };
        let router = Router::new(
            RouterConfig {
                max_body: chosen.max_body,
                require_auth_all: chosen.require_auth,
                hold: HOLD,
                head_timeout: HEAD_TIMEOUT,
                // Where only this machine can connect, a name of a page's own is an attack.
                names: Names::new(address.ip().is_loopback(), chosen.public_url.as_deref()),
            },
            parts.services.clone(),
            parts.instances.clone(),
            parts.users.clone(),
            parts.api.clone(),
        );
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = router.clone();
        old.spawn(async move {
            serving
                .serve(listener, async move { drop(stopped.await) })
                .await;
            let left = serving.drain(DRAIN).await;
            if left > 0 {
                tracing::warn!(requests = left, "ended requests that were still under way");
            }
        });
        let ended = wanted.changed().await.is_err();
        drop(stop);
        if ended {
            break;
        }
        // The same address can be had again only when its listener is closed.
        while old.join_next().await.is_some() {}
        let chosen = wanted.borrow_and_update().clone();
        bound = bind(&parts, &chosen).await;
    }
    while old.join_next().await.is_some() {}
}

/// Binds, and shows what came of it.
async fn bind(parts: &Parts, chosen: &Chosen) -> Option<(TcpListener, SocketAddr)> {
    let mut warnings = parts.warnings.clone();
    let bound = match TcpListener::bind(chosen.listen).await {
        Ok(listener) => {
            let address = listener.local_addr().unwrap_or(chosen.listen);
            tracing::info!(%address, "the router listens");
            Some((listener, address))
        }
        Err(error) => {
            let warning = explain(chosen.listen, &error).await;
            if !parts.in_force.load().warnings.contains(&warning) {
                tracing::error!("{warning}");
            }
            warnings.push(warning);
            None
        }
    };
    let listen = bound.as_ref().map(|(_, address)| *address);
    let origin = || format!("http://{}", listen.unwrap_or(chosen.listen));
    let public_url = chosen.public_url.clone().unwrap_or_else(origin);
    let settings = chosen.rows(&public_url);
    parts.in_force.store(Arc::new(InForce {
        listen,
        public_url,
        settings,
        warnings,
    }));
    bound
}

async fn explain(address: SocketAddr, error: &std::io::Error) -> String {
    if error.kind() == std::io::ErrorKind::AddrInUse
        && let Some(port) = Port::new(address.port())
        && let Ok(Ok(Some(owner))) =
            tokio::task::spawn_blocking(move || sockets::listener_owner(port)).await
    {
        return format!(
            "the router's address {address} is taken by {owner}: end that program, or choose \
             another address with `MCPM_LISTEN` or `listen` in the `mcpm` block"
        );
    }
    format!("the router cannot listen on {address}: {error}")
}
