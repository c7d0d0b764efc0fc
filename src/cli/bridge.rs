//! `mcpm bridge`: MCP servers that mcpm brings with it, to be started as apps.

use std::path::PathBuf;

use clap::Subcommand;

use crate::bridge::{self, BridgeOptions};
use crate::ids::Port;

use super::exit::Exit;

/// Arguments of `bridge`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// A server to try things with: `echo`, `whoami`, `count`
    Demo {
        #[command(flatten)]
        listen: Listen,
    },
    /// A server made from a service's config.json: each tool is a call of its REST API
    Rest {
        /// The config.json
        file: PathBuf,
        /// Calls may reach private addresses
        #[arg(long)]
        allow_private: bool,
        #[command(flatten)]
        listen: Listen,
    },
}

#[derive(Debug, clap::Args)]
struct Listen {
    /// Port on 127.0.0.1 [default: PORT of the environment]
    #[arg(long)]
    port: Option<Port>,
    /// Answer callers that are not mcpm's router, too
    #[arg(long)]
    no_router_secret: bool,
}

/// Returns when the server ends.
pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    crate::daemon::log::start();
    match args.kind {
        Kind::Demo { listen } => bridge::demo::run(&listen.options(false))?,
        Kind::Rest {
            file,
            allow_private,
            listen,
        } => bridge::rest::run(&file, &listen.options(allow_private))?,
    }
    Ok(Exit::Fine)
}

impl Listen {
    fn options(&self, allow_private: bool) -> BridgeOptions {
        BridgeOptions {
            port: self.port,
            no_router_secret: self.no_router_secret,
            allow_private,
        }
    }
}
