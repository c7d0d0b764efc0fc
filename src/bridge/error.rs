//! Why a bridge did not start. The CLI prints these and exits with 1.

use std::io;
use std::path::PathBuf;

use crate::ids::Port;

/// Why a bridge did not start.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// Nobody said where to listen.
    #[error("no port to listen on; give `--port 49160` or set the variable `PORT`")]
    NoPort,
    /// `PORT` of the environment.
    #[error("the variable `PORT` is `{0}`; write a number from 1 to 65535")]
    BadPort(String),
    /// Started by hand, or by something else than mcpm.
    #[error(
        "the variable `MCPM_ROUTER_SECRET` is not set: a bridge is run by mcpm, which sets it, and \
         serves mcpm's router only; to try one by hand, pass `--no-router-secret`"
    )]
    NoRouterSecret,
    /// Somebody else listens there.
    #[error("port {0} is taken by another program; end that one, or choose another port")]
    PortTaken(Port),
    /// The system refuses the port for another reason.
    #[error("cannot listen on 127.0.0.1:{port}")]
    Listen {
        /// The port.
        port: Port,
        /// What the system said.
        source: io::Error,
    },
    /// The system gives no reactor.
    #[error("cannot start the bridge")]
    Start(#[source] io::Error),
    /// The service's `config.json` can't be read.
    #[error("cannot read `{}`", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The service's `config.json` says things that it can't mean.
    #[error("`{}` is not a service's configuration:{}", file.display(), list(mistakes))]
    Config {
        /// The file.
        file: PathBuf,
        /// All of them, each with its place.
        mistakes: Vec<String>,
    },
}

fn list(mistakes: &[String]) -> String {
    mistakes
        .iter()
        .map(|mistake| format!("\n  {mistake}"))
        .collect()
}
