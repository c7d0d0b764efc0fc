//! Takes connections, each bounded in what it may cost.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer::Site;
use super::settings::{Settings, SettingsError};
use crate::ids::Port;
use crate::sockets;

/// Connections at a time; more wait in the kernel's queue. Below the usual 1,024 descriptors, with
/// room for the files that are read.
const CONNECTIONS_MAX: usize = 400;
/// Until a request's headers are there, the wait for the next request included.
const HEADERS_WITHIN: Duration = Duration::from_secs(15);
/// All headers of a request.
const HEADERS_MAX: usize = 16 * 1024;
/// For one connection, however slowly it reads.
const CONNECTION_MAX: Duration = Duration::from_secs(60 * 60);
/// Time for answers under way after SIGINT; below PM2's default `kill_timeout` of 1600 ms.
const DRAIN_MAX: Duration = Duration::from_millis(1200);
/// Wait after a failed accept: out of descriptors is not cured by asking at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// The settings are wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// There is no such folder.
    #[error("cannot serve `{}`", folder.display())]
    Folder {
        /// As it was given.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The address can't be had.
    #[error("cannot listen on {address}: {why}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Who has it, or what the system said.
        why: String,
    },
    /// The system gives no threads or signals.
    #[error("cannot start the file server: {0}")]
    Start(io::Error),
}

/// Serves until SIGINT or SIGTERM. Blocks; builds its own runtime.
///
/// # Errors
/// When it can't begin.
pub fn run(settings: Settings) -> Result<(), SiteError> {
    let (folder, address) = (settings.folder.clone(), settings.listen);
    let site = Site::open(settings).map_err(|source| SiteError::Folder {
        folder: folder.clone(),
        source,
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(SiteError::Start)?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(SiteError::Start)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(SiteError::Start)?;
        let stop = async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|error| refused(address, &error))?;
        tracing::info!(%address, folder = %folder.display(), "files are served");
        serve(listener, site, stop).await;
        Ok(())
    })
}

fn refused(address: SocketAddr, error: &io::Error) -> SiteError {
    let owner = Port::new(address.port())
        .filter(|_| error.kind() == io::ErrorKind::AddrInUse)
        .and_then(|port| sockets::listener_owner(port).ok().flatten());
    let why = match owner {
        Some(owner) => format!("it is taken by {owner}"),
        None => error.to_string(),
    };
    SiteError::Listen { address, why }
}

async fn serve(listener: TcpListener, site: Site, stop: impl Future<Output = ()>) {
    let (site, places) = (Arc::new(site), Arc::new(Semaphore::new(CONNECTIONS_MAX)));
    let open = GracefulShutdown::new();
    let mut stop = pin!(stop);
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            next = next => next,
            () = &mut stop => break,
        };
        match (place, accepted) {
            (Ok(place), Ok((stream, _))) => connection(stream, place, &site, &open),
            (_, Err(error)) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            // Nobody closes the semaphore.
            (Err(_), _) => break,
        }
    }
    drop(listener);
    let _ = tokio::time::timeout(DRAIN_MAX, open.shutdown()).await;
}

fn connection(
    stream: TcpStream,
    place: OwnedSemaphorePermit,
    site: &Arc<Site>,
    open: &GracefulShutdown,
) {
    let site = site.clone();
    let service = service_fn(move |request| {
        let site = site.clone();
        async move { Ok::<_, Infallible>(site.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_buf_size(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let connection = open.watch(connection);
    tokio::spawn(async move {
        // A connection that breaks is its client's business.
        let _ = tokio::time::timeout(CONNECTION_MAX, connection).await;
        drop(place);
    });
}
