//! `mcpm daemon`: the daemon itself, in the foreground.

use std::net::SocketAddr;

use crate::config::daemon_settings;
use crate::daemon::DaemonOptions;

use super::exit::Exit;

/// Arguments of `daemon`. Flags are stronger than `MCPM_LISTEN` and `MCPM_PUBLIC_URL`, which the
/// daemon reads itself, since it tells where each setting comes from.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address of router and API [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = listen)]
    listen: Option<SocketAddr>,
    /// Origin of handed-out URLs, such as https://mcp.example.com
    #[arg(long, value_name = "URL", value_parser = origin)]
    public_url: Option<String>,
    /// Start what `save` saved
    #[arg(long)]
    resurrect: bool,
    /// Started by another command, which waits for a word
    #[arg(long, hide = true)]
    detached: bool,
    /// Started by another daemon, which hands over to this one
    #[arg(long, hide = true)]
    take_over: bool,
}

fn listen(text: &str) -> Result<SocketAddr, &'static str> {
    daemon_settings::listen(text).ok_or("write an address such as `127.0.0.1:8080`")
}

fn origin(text: &str) -> Result<String, &'static str> {
    daemon_settings::origin(text)
        .ok_or("write an origin without a path, such as `https://mcp.example.com`")
}

/// Returns when the daemon ends.
pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    crate::daemon::run(&DaemonOptions {
        detached: args.detached,
        listen: args.listen,
        public_url: args.public_url,
        resurrect: args.resurrect,
        ready: None,
        take_over: args.take_over,
    })?;
    Ok(Exit::Fine)
}
