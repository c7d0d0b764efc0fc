//! What every command that asks the daemon holds: where to print, and how to reach it.

use crate::control::client::{Client, ClientError, OnSkew, OnStopped};
use crate::home::{Home, HomeError};

use super::daemon_start;
use super::render::Output;

/// One run of one command.
#[derive(Debug)]
pub(crate) struct Session {
    /// Where to print.
    pub(crate) output: Output,
    /// Whose daemon.
    pub(crate) home: Home,
}

impl Session {
    /// Touches nothing yet.
    pub(crate) fn new(output: Output) -> Result<Self, HomeError> {
        Ok(Self {
            output,
            home: Home::find()?,
        })
    }

    /// Does one run?
    pub(crate) fn has_daemon(&self) -> bool {
        std::os::unix::net::UnixStream::connect(self.home.socket()).is_ok()
    }

    /// The daemon that runs, or an error when none does.
    pub(crate) async fn running_daemon(&self) -> Result<Client, ClientError> {
        let daemon = Client::connect(&self.home.socket(), self.on_skew()).await?;
        Ok(daemon.telling_of_stops(self.on_stopped()))
    }

    /// The daemon, started when none runs.
    pub(crate) async fn daemon(&self) -> anyhow::Result<Client> {
        match self.running_daemon().await {
            Err(ClientError::NoDaemon { .. }) => {
                let daemon = daemon_start::up(&self.home, || self.on_skew()).await?;
                Ok(daemon.telling_of_stops(self.on_stopped()))
            }
            answer => Ok(answer?),
        }
    }

    /// An order that waits for a daemon that is stopped says so on stderr.
    fn on_stopped(&self) -> OnStopped {
        let output = self.output;
        Box::new(move |why| output.warning(format_args!("waiting: {why}")))
    }

    /// Versions that differ are told on stderr: stdout may be read by a program.
    fn on_skew(&self) -> OnSkew {
        let output = self.output;
        Box::new(move |skew| output.warning(skew))
    }
}
