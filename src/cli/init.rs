//! `mcpm init` (`ecosystem`): a first ecosystem file for this folder.

use std::fs::File;
use std::io::{ErrorKind, Write};

use anyhow::{Context, bail};

use super::exit::Exit;
use super::render::Output;

const FILE: &str = "ecosystem.config.js";

const SIMPLE: &str = "\
module.exports = {
  apps: [{
    name: 'app',
    script: './app.js',
  }],
};
";

const FULL: &str = "\
// mcpm start                    starts all of this
// mcpm start --env production   with the variables of `env_production` on top
module.exports = {
  apps: [
    {
      name: 'app',
      script: './app.js',
      env: { NODE_ENV: 'development' },
      env_production: { NODE_ENV: 'production' },
    },

    // An MCP service: one process for all users, on a fixed port.
    {
      name: 'mcp-demo',
      script: 'mcpm',
      args: 'bridge demo',
      mcp: {
        service: 'demo',
        port: 49160,
        health: { http: '/health' },
        auth: {
          type: 'api_key',
          inject: { headers: { Authorization: 'Bearer {api_key}' } },
        },
      },
    },
  ],
};
";

/// Arguments of `init`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `simple`: as little as possible
    #[arg(value_parser = ["simple"])]
    kind: Option<String>,
}

/// Writes the file. One that is there is somebody's work, and stays.
pub(crate) fn run(args: &Args, output: &Output) -> anyhow::Result<Exit> {
    let mut file = match File::create_new(FILE) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("`{FILE}` is there already and is left as it is; delete or rename it first")
        }
        opened => opened.with_context(|| format!("cannot make `{FILE}` in this folder"))?,
    };
    let text = if args.kind.is_some() { SIMPLE } else { FULL };
    file.write_all(text.as_bytes())
        .with_context(|| format!("cannot write `{FILE}`"))?;
    output.line(format_args!("✓ wrote {FILE}; `mcpm start` starts it"))?;
    Ok(Exit::Fine)
}
