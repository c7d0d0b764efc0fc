//! Processes whose parent has ended become the daemon's (child subreaper): what an app has left behind
//! is not lost among the processes of the machine, and its end is collected.
//!
//! The kernel gives them to the main thread. Nothing is ever started there, so whatever that thread is
//! the parent of is an orphan, and whether there are any is one system call.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, set_child_subreaper, waitid};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

/// Questions under way; those beyond wait.
const QUESTIONS: usize = 64;
/// `__WNOTHREAD` (wait(2)): children of this thread only.
const OF_THIS_THREAD: WaitIdOptions = WaitIdOptions::from_bits_retain(0x2000_0000);

type Question = oneshot::Sender<bool>;

/// Knows whether there are orphans.
#[derive(Clone, Debug)]
pub struct Orphans(mpsc::Sender<Question>);

/// Collects orphans that have ended.
#[derive(Debug)]
pub struct Keeper {
    questions: mpsc::Receiver<Question>,
    ends: Signal,
}

/// From now on orphans come to this process.
///
/// # Errors
/// When the system refuses, or signals can't be caught.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn keep() -> io::Result<(Orphans, Keeper)> {
    let ends = signal(SignalKind::child())?;
    set_child_subreaper(Some(Pid::INIT))?;
    let (orphans, questions) = mpsc::channel(QUESTIONS);
    Ok((Orphans(orphans), Keeper { questions, ends }))
}

impl Orphans {
    /// An orphan of some app lives.
    pub async fn any(&self) -> bool {
        let (answer, any) = oneshot::channel();
        // Without a keeper nobody can say that there is none.
        self.0.send(answer).await.is_err() || any.await.unwrap_or(true)
    }
}

impl Keeper {
    /// Collects for ever. Await it on the process's main thread: on another it finds nothing.
    pub async fn run(mut self) -> Infallible {
        loop {
            tokio::select! {
                _ = self.ends.recv() => {
                    collect();
                }
                Some(question) = self.questions.recv() => {
                    let _ = question.send(collect());
                }
            }
        }
    }
}

/// Collects all children of this process, each some time after its end: another daemon that watches
/// them can read how they have ended meanwhile.
pub async fn collect_all_late(after: Duration) -> Infallible {
    // Without news the first look is the only one.
    let mut ends = signal(SignalKind::child()).ok();
    loop {
        tokio::time::sleep(after).await;
        collect_with(WaitIdOptions::empty());
        match &mut ends {
            Some(ends) => drop(ends.recv().await),
            None => std::future::pending().await,
        }
    }
}

/// Collects the children of this thread that have ended; whether there are others.
fn collect() -> bool {
    collect_with(OF_THIS_THREAD)
}

fn collect_with(of: WaitIdOptions) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | of;
    loop {
        match waitid(WaitId::All, options) {
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::thread;

    use super::*;

    #[test]
    fn only_children_of_its_own_thread_are_collected() {
        let elsewhere = thread::spawn(|| Command::new("/bin/true").spawn().unwrap());
        let mut elsewhere = elsewhere.join().unwrap();
        thread::spawn(|| {
            assert!(!collect());
            let child = Command::new("/bin/cat")
                .stdin(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            assert!(collect());
            let pid = Pid::from_child(&child);
            drop(child);
            // Returns when it has ended, and leaves it uncollected.
            waitid(
                WaitId::Pid(pid),
                WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
            )
            .unwrap();
            assert!(!collect());
            assert!(waitid(WaitId::Pid(pid), WaitIdOptions::EXITED).is_err());
        })
        .join()
        .unwrap();
        assert!(elsewhere.wait().unwrap().success());
    }
}
