//! A descriptor that is kept back, so that somebody can be let in when they have run out.

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

/// What is opened does not matter: it only has a number.
const ANYTHING: &str = "/dev/null";

/// One descriptor. Clones share it.
#[derive(Clone, Debug)]
pub struct Reserve(Arc<Mutex<Option<File>>>);

impl Reserve {
    /// Takes one, if there is one.
    pub fn take() -> Self {
        let reserve = Self(Arc::default());
        reserve.refill();
        reserve
    }

    /// Takes one again when it was given up, if there is one.
    pub fn refill(&self) {
        let mut kept = self.kept();
        if kept.is_none() {
            *kept = File::open(ANYTHING).ok();
        }
    }

    /// Gives it up when this error says that descriptors have run out; `true`: another try has it.
    pub fn yields_to(&self, error: &io::Error) -> bool {
        let code = error.raw_os_error();
        let is = |errno: Errno| code == Some(errno.raw_os_error());
        (is(Errno::MFILE) || is(Errno::NFILE)) && self.kept().take().is_some()
    }

    fn kept(&self) -> MutexGuard<'_, Option<File>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_given_up_once_and_only_when_descriptors_have_run_out() {
        let reserve = Reserve::take();
        let run_out = io::Error::from_raw_os_error(Errno::MFILE.raw_os_error());
        assert!(!reserve.yields_to(&io::ErrorKind::ConnectionAborted.into()));
        assert!(reserve.yields_to(&run_out));
        assert!(!reserve.yields_to(&run_out), "it is gone");
        reserve.refill();
        assert!(reserve.clone().yields_to(&run_out));
    }
}
