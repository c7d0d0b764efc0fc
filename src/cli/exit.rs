//! Exit codes: 0 fine, 1 refused or failed, 2 `runtime` ran out of work, 70 our bug (`main.rs`).

use std::io;
use std::process::ExitCode;

use crate::control::client::ClientError;
use crate::pm2;

/// How a command ended that has said all there is to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Exit {
    /// Done.
    Fine,
    /// Something was refused or failed, and the reason has been printed.
    Failed,
    /// `runtime`: nothing has run for a while.
    Idle,
}

impl Exit {
    /// Failed when either did.
    pub(crate) fn and(self, other: Self) -> Self {
        if self == Self::Fine { other } else { self }
    }

    /// Failed when this is false.
    pub(crate) fn fine_if(fine: bool) -> Self {
        if fine { Self::Fine } else { Self::Failed }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Fine => Self::SUCCESS,
            Exit::Failed => Self::FAILURE,
            Exit::Idle => Self::from(2),
        }
    }
}

/// The reader of our output has seen enough (`mcpm ls | head -1`): no error of anyone. A daemon, or a
/// PM2, that has gone away is one.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let is_of_a_peer = error
        .chain()
        .any(|cause| cause.is::<ClientError>() || cause.is::<pm2::ClientError>());
    !is_of_a_peer
        && error.chain().any(|cause| {
            cause
                .downcast_ref::<io::Error>()
                .is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_fails_all() {
        assert_eq!(Exit::Fine.and(Exit::Fine), Exit::Fine);
        assert_eq!(Exit::Fine.and(Exit::Failed), Exit::Failed);
        assert_eq!(Exit::Failed.and(Exit::Fine), Exit::Failed);
    }

    #[test]
    fn a_closed_pipe_is_found_below_other_words() {
        let closed = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(is_closed_pipe(&closed.context("cannot print")));
        assert!(!is_closed_pipe(&anyhow::anyhow!("broken pipe")));
        let closed = io::Error::from(io::ErrorKind::BrokenPipe);
        let daemon = anyhow::Error::from(ClientError::Request(closed.into()));
        assert!(!is_closed_pipe(&daemon.context("cannot restart web")));
    }
}
