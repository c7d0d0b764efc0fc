//! `mcpm serve`: a folder's files over HTTP, by a process like any other; and the hidden command
//! that this process is.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context, bail};
use serde_json::{Map, Value, json};

use crate::config::load_app;
use crate::ids::Port;
use crate::site::{self, Settings};

use super::exit::Exit;
use super::session::Session;
use super::{list, loading, start};

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder [default: this one]
    path: Option<PathBuf>,
    /// Where it listens [default: 8080]
    port: Option<Port>,
    /// The same
    #[arg(long = "port", value_name = "PORT", conflicts_with = "port")]
    port_option: Option<Port>,
    /// Address to listen on [default: 0.0.0.0]
    #[arg(long, value_name = "ADDRESS")]
    host: Option<IpAddr>,
    /// Name in the list [default: static-page-server-PORT]
    #[arg(short, long)]
    name: Option<String>,
    /// A single-page application: unknown paths get index.html
    #[arg(long)]
    spa: bool,
    /// User who may read
    #[arg(long, value_name = "USER", requires = "basic_auth_password")]
    basic_auth_username: Option<String>,
    /// Password of that user; in the variable it stays out of the shell's history
    #[arg(
        long,
        value_name = "PASSWORD",
        env = "PM2_SERVE_BASIC_AUTH_PASSWORD",
        hide_env_values = true
    )]
    basic_auth_password: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "")]
    monitor: Option<String>,
    #[arg(long, hide = true)]
    ftp: bool,
}

impl Args {
    /// The app, as an ecosystem file would hold it.
    fn app(&self) -> anyhow::Result<Value> {
        let path = self.path.clone().unwrap_or_else(|| PathBuf::from("."));
        let path = path
            .canonicalize()
            .with_context(|| format!("cannot serve `{}`", path.display()))?;
        if !path.is_dir() {
            bail!("cannot serve `{}`: it is no folder", path.display());
        }
        let port = self.port.or(self.port_option);
        let port = port.map_or(8080, Port::get);
        let mut env = Map::new();
        let mut put = |name: &str, value: Value| {
            env.insert(format!("PM2_SERVE_{name}"), value);
        };
        put("PATH", json!(path));
        put("PORT", json!(port.to_string()));
        put("SPA", json!(self.spa.to_string()));
        if let Some(host) = self.host {
            put("HOST", json!(host));
        }
        if let Some(user) = &self.basic_auth_username {
            put("BASIC_AUTH", json!("true"));
            put("BASIC_AUTH_USERNAME", json!(user));
        }
        if let Some(password) = &self.basic_auth_password {
            put("BASIC_AUTH_PASSWORD", json!(password));
        }
        let name = self.name.clone();
        let name = name.unwrap_or_else(|| format!("static-page-server-{port}"));
        Ok(json!({ "name": name, "script": "serve", "cwd": path, "env": env }))
    }
}

/// Starts it.
pub(crate) async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    if args.monitor.is_some() {
        bail!("`--monitor` belongs to PM2's hosted dashboard, and mcpm reports to nobody");
    }
    if args.ftp {
        bail!("`--ftp` lists folders, which mcpm does not: put an index.html there");
    }
    let loaded = load_app(&args.app()?, &loading::shell()?)?;
    let mut daemon = session.daemon().await?;
    let exit = start::start_new(loaded, &mut daemon, session).await?;
    list::print_table(&mut daemon, &session.output).await?;
    Ok(exit)
}

/// Is it: serves until it is asked to end.
pub(crate) fn run_site() -> anyhow::Result<Exit> {
    crate::daemon::log::start();
    let settings = Settings::read(|name| std::env::var(name).ok())?;
    site::run(settings)?;
    Ok(Exit::Fine)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn app(line: &str) -> Value {
        let line = Line::try_parse_from(line.split(' ')).unwrap();
        line.args.app().unwrap()
    }

    #[test]
    fn the_words_become_an_app() {
        let plain = app("serve");
        let here = std::env::current_dir().unwrap();
        assert_eq!(plain["name"], "static-page-server-8080");
        assert_eq!(
            (&plain["script"], &plain["cwd"]),
            (&json!("serve"), &json!(here))
        );
        assert_eq!(plain["env"]["PM2_SERVE_PORT"], "8080");
        let full = app("serve /tmp 81 --spa --basic-auth-username u --basic-auth-password p");
        assert_eq!(full["name"], "static-page-server-81");
        assert_eq!(full["env"]["PM2_SERVE_SPA"], "true");
        assert_eq!(full["env"]["PM2_SERVE_BASIC_AUTH_PASSWORD"], "p");
        assert_eq!(app("serve --port 82 -n x")["env"]["PM2_SERVE_PORT"], "82");
    }
}
