//! Has the service manager keep what must outlive this process, and takes back what it has kept for
//! the daemon before: an end of each pipe of output, and the router's listener.
//!
//! What a service wrote last before it ended while no daemon lived is still in its pipe then, and the
//! next daemon reads it by the pipe's name, as it reads all others: it only has to be there. Clients
//! that connect meanwhile wait in the listener.
//!
//! [`Kept::sort`] says what was passed; [`Keeper`] makes the store hold what the snapshots show, from
//! a task of its own: a service manager that is slow delays nothing else.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::listen::Front;
use super::run::DaemonOptions;
use crate::control::descriptor_store::{self, Name, Passed, Store};
use crate::control::service_manager;
use crate::home::Home;
use crate::ids::{PmId, Timestamp};
use crate::logs::Stream;
use crate::logs::pipes::Pipes;
use crate::supervisor::{Snapshot, Supervisor};

/// How long the end of the daemon waits for the service manager.
const LAST: Duration = Duration::from_secs(1);
/// Names of strays that are logged.
const SHOWN: usize = 10;

/// What a descriptor leads to: two of one pipe or socket are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn of(descriptor: &File) -> io::Result<Self> {
        let found = descriptor.metadata()?;
        Ok(Self {
            device: found.dev(),
            inode: found.ino(),
        })
    }
}

/// What the service manager has kept.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// The router's listener, at whatever address.
    pub(super) router: Option<TcpListener>,
    /// Ends of pipes. What is in a pipe is there as long as one is open.
    pub(super) pipes: BTreeMap<PmId, Vec<File>>,
    store: Stored,
}

/// What is in the store.
#[derive(Debug, Default)]
struct Stored {
    held: HashMap<Name, Identity>,
    /// Names of what is nobody's, or there more than once.
    strays: BTreeSet<String>,
    /// There is more under names that are not known: it was filled by a daemon that has handed over.
    is_more: bool,
}

impl Kept {
    /// Takes what was passed. To be called at the start of a process, before it opens descriptors of
    /// its own.
    pub(super) fn take(options: &DaemonOptions) -> Self {
        let is_service = !options.detached && !options.take_over && options.ready.is_none();
        let passed = if is_service {
            descriptor_store::passed()
        } else {
            Vec::new()
        };
        let mut kept = Self::sort(passed);
        kept.store.is_more = options.take_over;
        kept
    }

    /// Sorts it; what is not what its name says is closed.
    fn sort(passed: Vec<Passed>) -> Self {
        let mut kept = Self::default();
        for Passed { name, descriptor } in passed {
            let known = Name::parse(&name).filter(|known| is_one(*known, &descriptor));
            let (Some(known), Ok(identity)) = (known, Identity::of(&descriptor)) else {
                kept.store.strays.insert(name);
                continue;
            };
            if kept.store.strays.contains(&name)
                || kept.store.held.insert(known, identity).is_some()
            {
                kept.store.held.remove(&known);
                kept.store.strays.insert(name);
            }
            match known {
                Name::Router => kept.router = listener(descriptor).or(kept.router),
                Name::Pipe(id, _) => kept.pipes.entry(id).or_default().push(descriptor),
            }
        }
        kept
    }

    /// Another daemon has this home, and is to have the address, too.
    pub(super) fn leave_router(&self) {
        if self.router.is_some() {
            service_manager::tell(&descriptor_store::removal(&Name::Router.to_string()));
        }
    }

    /// Has the service manager keep what there is from now on, if it has a store for us.
    pub(super) fn go_on(self, home: &Home, supervisor: &Supervisor, front: &Front) -> Keeping {
        let mut keeping = JoinSet::new();
        let store = match Store::open() {
            Ok(Some(store)) => store,
            Ok(None) => return Keeping(keeping),
            Err(error) => {
                tracing::warn!(%error, "cannot reach the descriptor store of the service manager");
                return Keeping(keeping);
            }
        };
        let keeper = Keeper {
            store,
            stored: self.store,
            run_dir: home.run_dir(),
            table: supervisor.subscribe(),
            listeners: front.listeners(),
            seen: BTreeMap::new(),
            is_full: false,
        };
        keeping.spawn(keeper.run());
        Keeping(keeping)
    }
}

/// The task that has things kept; what it has not done yet when this is dropped is not done.
#[derive(Default)]
pub(super) struct Keeping(JoinSet<()>);

impl Keeping {
    /// Waits until all that has ended is no longer kept: to be called when all has. A service manager
    /// that is slow is told by the next daemon.
    pub(super) async fn finish(mut self) {
        let _ = timeout(LAST, self.0.join_next()).await;
    }
}

/// It is of the kind that this name stands for.
fn is_one(name: Name, descriptor: &File) -> bool {
    match name {
        Name::Router => rustix::net::sockopt::socket_acceptconn(descriptor).unwrap_or(false),
        Name::Pipe(..) => descriptor
            .metadata()
            .is_ok_and(|found| found.file_type().is_fifo()),
    }
}

fn listener(descriptor: File) -> Option<TcpListener> {
    let listener = TcpListener::from(OwnedFd::from(descriptor));
    listener.set_nonblocking(true).ok().map(|()| listener)
}

/// Which run of a process had its pipes looked at.
type Run = (u64, Timestamp);

struct Keeper {
    store: Store,
    stored: Stored,
    run_dir: PathBuf,
    table: watch::Receiver<Arc<Snapshot>>,
    listeners: watch::Receiver<Option<Arc<OwnedFd>>>,
    seen: BTreeMap<PmId, Run>,
    /// That there is no more room was said.
    is_full: bool,
}

impl Keeper {
    /// Keeps until the supervisor is gone; the router goes first.
    async fn run(mut self) {
        self.tidy().await;
        let mut is_routed = true;
        loop {
            self.keep_listener().await;
            self.keep_pipes().await;
            tokio::select! {
                changed = self.table.changed() => if changed.is_err() { return },
                changed = self.listeners.changed(), if is_routed => is_routed = changed.is_ok(),
            }
        }
    }

    /// Has everything removed that is nobody's.
    async fn tidy(&mut self) {
        let snapshot = self.table.borrow().clone();
        let is_gone = |name: Name| matches!(name, Name::Pipe(id, _) if snapshot.get(id).is_none());
        let mut strays = std::mem::take(&mut self.stored.strays);
        self.stored.held.retain(|name, _| {
            let is_gone = is_gone(*name);
            if is_gone {
                strays.insert(name.to_string());
            }
            !is_gone
        });
        if strays.is_empty() {
            return;
        }
        let shown: Vec<&String> = strays.iter().take(SHOWN).collect();
        tracing::warn!(
            descriptors = strays.len(), names = ?shown,
            "the service manager had kept descriptors that are of no process here, not what their \
             names say, or there twice; they are closed"
        );
        for name in &strays {
            self.remove(name).await;
        }
    }

    async fn keep_listener(&mut self) {
        let listener = self.listeners.borrow_and_update().clone();
        let listener = listener.and_then(|listener| listener.try_clone().ok());
        if let Some(listener) = listener {
            self.keep(Name::Router, &File::from(listener)).await;
        } else if self.stored.held.remove(&Name::Router).is_some() {
            self.remove(&Name::Router.to_string()).await;
        }
    }

    /// The pipes of a process are there from its first start on, and are looked at with each run: what
    /// has been removed by somebody is made anew then.
    async fn keep_pipes(&mut self) {
        let snapshot = self.table.borrow_and_update().clone();
        for process in &snapshot.processes {
            let run = (process.generation, process.created_at);
            if self.seen.insert(process.id, run) == Some(run) {
                continue;
            }
            let pipes = Pipes::of(&self.run_dir, process.id);
            for stream in [Stream::Out, Stream::Error] {
                match pipes.reader(stream) {
                    Ok(pipe) => self.keep(Name::Pipe(process.id, stream), &pipe).await,
                    // It has never been started.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => {
                        tracing::warn!(app = %process.spec.name, %error, "cannot have its output kept");
                    }
                }
            }
        }
        if self.seen.len() == snapshot.processes.len() {
            return;
        }
        let is_gone = |id: &PmId| snapshot.get(*id).is_none();
        let gone: Vec<PmId> = self.seen.keys().copied().filter(is_gone).collect();
        for id in gone {
            self.seen.remove(&id);
            for stream in [Stream::Out, Stream::Error] {
                let name = Name::Pipe(id, stream);
                if self.stored.held.remove(&name).is_some() {
                    self.remove(&name.to_string()).await;
                }
            }
        }
    }

    /// Has this descriptor kept under this name, and no other.
    async fn keep(&mut self, name: Name, descriptor: &File) {
        let Ok(identity) = Identity::of(descriptor) else {
            return;
        };
        if self.stored.held.get(&name) == Some(&identity) {
            return;
        }
        if self.stored.held.remove(&name).is_some() || self.stored.is_more {
            self.remove(&name.to_string()).await;
        }
        let room = self.store.room();
        if self.stored.held.len() >= room {
            if !self.is_full {
                self.is_full = true;
                tracing::warn!(
                    room,
                    "the service manager keeps no more descriptors than that: what other processes \
                     write before they end while no daemon lives is lost"
                );
            }
            return;
        }
        match self.store.keep(name, descriptor.as_fd()).await {
            Ok(()) => {
                self.stored.held.insert(name, identity);
            }
            Err(error) => {
                tracing::warn!(%name, %error, "the service manager does not keep a descriptor");
            }
        }
    }

    async fn remove(&self, name: &str) {
        if let Err(error) = self.store.remove(name).await {
            tracing::warn!(name, %error, "the service manager does not let go of a descriptor");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn passed(name: &str, descriptor: impl Into<OwnedFd>) -> Passed {
        Passed {
            name: name.to_owned(),
            descriptor: File::from(descriptor.into()),
        }
    }

    fn names(kept: &Kept) -> Vec<String> {
        let mut names: Vec<String> = kept.store.held.keys().map(Name::to_string).collect();
        names.sort();
        names
    }

    #[test]
    fn what_was_passed_is_what_its_name_says_or_nobodys() {
        let dir = tempfile::tempdir().unwrap();
        let pipes = Pipes::of(dir.path(), PmId(7));
        pipes.make(None).unwrap();
        let router = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = router.local_addr().unwrap();
        let connection = std::net::TcpStream::connect(address).unwrap();
        let kept = Kept::sort(vec![
            passed("router", router),
            passed("out.7", pipes.reader(Stream::Out).unwrap()),
            passed("err.7", tempfile::tempfile().unwrap()),
            passed("out.8", connection),
            passed("stored", tempfile::tempfile().unwrap()),
        ]);
        assert_eq!(names(&kept), ["out.7", "router"]);
        assert_eq!(kept.router.unwrap().local_addr().unwrap(), address);
        assert_eq!(kept.pipes[&PmId(7)].len(), 1);
        assert_eq!(kept.pipes.len(), 1);
        let strays: Vec<&str> = kept.store.strays.iter().map(String::as_str).collect();
        assert_eq!(strays, ["err.7", "out.8", "stored"]);
    }

    #[test]
    fn what_is_there_twice_is_used_and_kept_anew() {
        let dir = tempfile::tempdir().unwrap();
        let pipes = Pipes::of(dir.path(), PmId(0));
        pipes.make(None).unwrap();
        let pipe = || passed("out.0", pipes.reader(Stream::Out).unwrap());
        for count in [2, 3] {
            let kept = Kept::sort((0..count).map(|_| pipe()).collect());
            assert!(names(&kept).is_empty());
            assert_eq!(kept.pipes[&PmId(0)].len(), count);
            assert!(kept.store.strays.contains("out.0"));
        }
    }

    #[test]
    fn a_listener_of_another_kind_is_no_address() {
        let dir = tempfile::tempdir().unwrap();
        let other = UnixListener::bind(dir.path().join("socket")).unwrap();
        let kept = Kept::sort(vec![passed("router", other)]);
        // Whoever wants it looks at its address first.
        assert!(kept.router.unwrap().local_addr().is_err());
    }
}
