//! Owns the router's address: binds it or takes it over, serves on it, moves to another one when
//! told, and hands it over, to the next daemon or to whoever keeps it until there is one.
//!
//! An address that somebody else has is no reason for services not to run: it is tried again, and
//! every command's answer shows a warning until it is had.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use super::settings::Chosen;
use crate::api::state::InForce;
use crate::audit::Audit;
use crate::ids::Port;
use crate::instances::Instances;
use crate::limits::Limits;
use crate::oauth::OAuth;
use crate::router::{Figures, Names, Proxies, Router, RouterConfig, RouterRooms};
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
    pub(super) instances: Instances,
    pub(super) users: Users,
    pub(super) limits: Limits,
    pub(super) audit: Audit,
    pub(super) oauth: OAuth,
    pub(super) figures: Figures,
    pub(super) api: axum::Router,
    pub(super) in_force: Arc<ArcSwap<InForce>>,
    /// What an operator should act on, whatever the address.
    pub(super) warnings: Vec<String>,
}

/// The listener as another process can have it; `None` while there is none.
type Shared = watch::Sender<Option<Arc<OwnedFd>>>;

/// How the router ends.
enum End {
    /// It finishes what is under way.
    Close,
    /// Another daemon has the address: connections end by themselves, until this one is told that it
    /// is enough.
    Leave(oneshot::Receiver<()>),
}

/// Handle to the task that serves.
pub(super) struct Front {
    chosen: watch::Sender<Chosen>,
    end: oneshot::Sender<End>,
    shared: Shared,
    task: JoinSet<()>,
}

impl Front {
    /// Tries the address once, then serves, or goes on trying, in a task of its own. A listener that
    /// another daemon has passed is used when it is that address.
    pub(super) async fn open(
        parts: Parts,
        chosen: Chosen,
        passed: Option<std::net::TcpListener>,
    ) -> Self {
        let (sender, wanted) = watch::channel(chosen.clone());
        let (end, ended) = oneshot::channel();
        let (shared, _) = watch::channel(None);
        let first = bind(&parts, &chosen, passed, &shared).await;
        let mut task = JoinSet::new();
        task.spawn(run(parts, wanted, ended, first, shared.clone()));
        Self {
            chosen: sender,
            end,
            shared,
            task,
        }
    }

    /// The listener, for another process; `None` while there is none.
    ///
    /// # Errors
    /// When there is no descriptor left.
    pub(super) fn listener(&self) -> std::io::Result<Option<OwnedFd>> {
        let shared = self.shared.borrow();
        shared.as_deref().map(OwnedFd::try_clone).transpose()
    }

    /// The listener as it is now and becomes, for whoever has it kept. Nobody may hold on to one that
    /// has been replaced.
    pub(super) fn listeners(&self) -> watch::Receiver<Option<Arc<OwnedFd>>> {
        self.shared.subscribe()
    }

    /// Serves with these settings from now on. Requests that are under way are finished.
    pub(super) fn apply(&self, chosen: Chosen) {
        self.chosen.send_replace(chosen);
    }

    /// Takes no more requests and waits for those that are under way.
    pub(super) async fn close(self) {
        self.end(End::Close).await;
    }

    /// Takes no more connections, since another daemon does, and waits until those that are open have
    /// ended by themselves. What has not when the other end of `enough` says so, or is dropped, is
    /// ended as by [`Front::close`].
    pub(super) async fn leave(self, enough: oneshot::Receiver<()>) {
        self.end(End::Leave(enough)).await;
    }

    async fn end(self, end: End) {
        let Self {
            chosen: _chosen,
            end: how,
            shared,
            mut task,
        } = self;
        shared.send_replace(None);
        let _ = how.send(end);
        while task.join_next().await.is_some() {}
    }
}

async fn run(
    parts: Parts,
    mut wanted: watch::Receiver<Chosen>,
    mut ended: oneshot::Receiver<End>,
    first: Option<(TcpListener, SocketAddr)>,
    shared: Shared,
) {
    let mut bound = first;
    loop {
        let chosen = wanted.borrow_and_update().clone();
        let Some((listener, address)) = bound.take() else {
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                changed = wanted.changed() => if changed.is_err() { return },
                _ = &mut ended => return,
            }
            let chosen = wanted.borrow_and_update().clone();
            bound = bind(&parts, &chosen, None, &shared).await;
            continue;
        };
        let rooms = RouterRooms {
            services: parts.figures.services.clone(),
            instances: parts.instances.clone(),
            users: parts.users.clone(),
            limits: parts.limits.clone(),
            audit: parts.audit.clone(),
            oauth: parts.oauth.clone(),
            sessions: parts.figures.sessions.clone(),
            refused: parts.figures.refused.clone(),
            access_log: parts.figures.access_log.clone(),
        };
        let router = Router::new(
            RouterConfig {
                max_body: chosen.max_body,
                require_auth_all: chosen.require_auth,
                hold: HOLD,
                head_timeout: HEAD_TIMEOUT,
                // A name of a page's own is an attack, wherever pages reach us.
                names: Names::new(address.ip().is_loopback(), chosen.public_url.as_deref())
                    .with_pages(&chosen.cors),
                public_url: public_url(&chosen, address),
                proxies: Proxies::new(
                    &chosen.trusted_proxies,
                    chosen.trusted_header,
                    chosen.proxy_protocol,
                ),
            },
            rooms,
            parts.api.clone(),
        );
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = router.serve(listener, async move { drop(stopped.await) });
        let order = async {
            let order = loop {
                tokio::select! {
                    biased;
                    end = &mut ended => break Some(end.unwrap_or(End::Close)),
                    changed = wanted.changed() => if changed.is_err() {
                        break Some(End::Close);
                    },
                }
                let next = wanted.borrow_and_update().clone();
                if !next.serves_as(&chosen) {
                    wanted.mark_changed();
                    break None;
                }
                // Nothing that goes on has to end for it.
                show(&parts, &next, address);
            };
            drop(stop);
            order
        };
        let ((), order) = tokio::join!(serving, order);
        if let Some(End::Leave(mut enough)) = order {
            tokio::select! {
                () = router.leave() => return,
                _ = &mut enough => {}
            }
            drain(&router).await;
            return;
        }
        // The same address is had again by the listener that is there.
        drain(&router).await;
        if order.is_some() {
            return;
        }
        let chosen = wanted.borrow_and_update().clone();
        bound = bind(&parts, &chosen, None, &shared).await;
    }
}

/// Finishes what is under way.
async fn drain(router: &Router) {
    let left = router.drain(DRAIN).await;
    if left > 0 {
        tracing::warn!(requests = left, "ended requests that were still under way");
    }
}

/// Puts identity providers in force, binds or takes over, and shows what came of it. A listener that
/// is there already and has that address is taken: who connects meanwhile waits in it, and another
/// process may have it, too.
async fn bind(
    parts: &Parts,
    chosen: &Chosen,
    passed: Option<std::net::TcpListener>,
    shared: &Shared,
) -> Option<(TcpListener, SocketAddr)> {
    parts.users.identity().apply(&chosen.identity_provider);
    let mut warnings = parts.warnings.clone();
    // Whoever holds on to a former address keeps it from everybody.
    let former = shared.send_replace(None);
    let former = former.and_then(|former| former.try_clone().ok());
    let former = former.map(std::net::TcpListener::from);
    let is_it = |passed: &std::net::TcpListener| {
        let found = passed.local_addr();
        found.is_ok_and(|found| is_at(found, chosen.listen))
    };
    let had = match passed.or(former).filter(is_it) {
        Some(passed) => TcpListener::from_std(passed),
        None => TcpListener::bind(chosen.listen).await,
    };
    let bound = match had {
        Ok(listener) => {
            let address = listener.local_addr().unwrap_or(chosen.listen);
            let another = listener.as_fd().try_clone_to_owned().ok();
            shared.send_replace(another.map(Arc::new));
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
    if chosen.proxy_protocol && chosen.trusted_proxies.is_empty() {
        let warning = "`proxy_protocol` has no effect, since `trusted_proxies` names nobody; write the \
                       addresses of your proxies there";
        warnings.push(warning.to_owned());
    }
    let listen = bound.as_ref().map(|(_, address)| *address);
    let public_url = public_url(chosen, listen.unwrap_or(chosen.listen));
    let settings = chosen.rows(&public_url);
    parts.in_force.store(Arc::new(InForce {
        listen,
        public_url,
        pages: chosen.cors.clone(),
        settings,
        warnings,
    }));
    bound
}

/// Shows settings that the router serves alike with.
fn show(parts: &Parts, chosen: &Chosen, address: SocketAddr) {
    let before = parts.in_force.load();
    let settings = chosen.rows(&public_url(chosen, address));
    parts.in_force.store(Arc::new(InForce {
        settings,
        ..InForce::clone(&before)
    }));
}

/// Origin of handed-out URLs.
fn public_url(chosen: &Chosen, address: SocketAddr) -> String {
    let own = || format!("http://{address}");
    chosen.public_url.clone().unwrap_or_else(own)
}

/// A listener that is there is the one that is wanted; port 0 means any.
fn is_at(found: SocketAddr, wanted: SocketAddr) -> bool {
    found == wanted || (wanted.port() == 0 && found.ip() == wanted.ip())
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
