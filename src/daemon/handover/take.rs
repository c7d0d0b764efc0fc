//! The side of the daemon that comes.

use std::fs::File;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::super::settings::Source;
use super::{Ended, Line, PROTOCOL, Word};
use crate::failpoint;

/// What the daemon that goes has passed.
#[derive(Debug)]
pub(in super::super) struct Taken {
    /// The home's lock.
    pub(in super::super) lock: File,
    /// The socket of commands.
    pub(in super::super) commands: UnixListener,
    /// The router's listener, when it had one.
    pub(in super::super) router: Option<TcpListener>,
    /// What flags, environment and shells have said.
    pub(in super::super) strong: Vec<Source>,
}

/// Says that this program can run here, and waits until everything is passed. Nothing may have been
/// changed before, and nothing may be done for services until [`yours`].
///
/// # Errors
/// When the going daemon does not pass it: for people.
pub(in super::super) async fn everything(line: &Line) -> Result<Taken, String> {
    let prepared = Word::Prepared {
        protocol: PROTOCOL,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let gone = "the daemon that was to hand over has thought better of it";
    line.say(&prepared, &[]).await.map_err(|_| gone)?;
    failpoint::reach("take.prepared");
    let (word, passed) = match line.hear().await {
        Ok(Some(heard)) => heard,
        Ok(None) => return Err(gone.to_owned()),
        Err(error) => return Err(format!("cannot hear the daemon that hands over: {error}")),
    };
    let mut passed = passed.into_iter();
    let (Word::Take { strong }, Some(lock), Some(commands)) = (word, passed.next(), passed.next())
    else {
        return Err("the daemon that hands over speaks another language".to_owned());
    };
    failpoint::reach("take.taken");
    let router = passed.next().map(|listener: OwnedFd| listener.into());
    Ok(Taken {
        lock: lock.into(),
        commands: commands.into(),
        router,
        strong,
    })
}

/// Says that all is there, and waits until the other one has stepped back: from then on this is the
/// daemon.
///
/// # Errors
/// When it has not, so that it still is the daemon: for people.
pub(in super::super) async fn yours(line: &Line) -> Result<(), String> {
    let gone = || "the daemon that was to hand over goes on itself".to_owned();
    failpoint::reach("take.before_ready");
    line.say(&Word::Ready, &[]).await.map_err(|_| gone())?;
    failpoint::reach("take.ready");
    match line.hear().await {
        Ok(Some((Word::Yours, _))) => {
            failpoint::reach("take.yours");
            Ok(())
        }
        _ => Err(gone()),
    }
}

/// Tells the daemon that went that this one can be told to end itself. One that is gone need not know.
pub(in super::super) async fn up(line: &Line) {
    let _ = line.say(&Word::Up, &[]).await;
}

/// Tells the going daemon why this one can't. Nobody to tell is no matter.
pub(in super::super) async fn failed(line: &Line, why: String) {
    let _ = line.say(&Word::Failed { why }, &[]).await;
}

/// Tells the daemon that went of each instance or token that ends. When some were missed, since they came
/// faster than it listens, all that it does is over.
pub(in super::super) async fn pass_on<T: Clone + Into<Ended>>(
    line: Arc<Line>,
    mut endings: broadcast::Receiver<T>,
) {
    loop {
        let ended = match endings.recv().await {
            Ok(ending) => ending.into(),
            Err(RecvError::Lagged(_)) => Ended::everything(),
            Err(RecvError::Closed) => return,
        };
        line.revoked(ended).await;
    }
}
