//! `mcpm config`: the daemon's settings, and where each comes from; with a key PM2's `config`.

use crate::api::List;
use crate::api::daemon::Setting;

use super::conf::{self, ConfArgs};
use super::exit::Exit;
use super::grid::{Cell, Column, Grid};
use super::next;
use super::session::Session;

/// Arguments of `config`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    conf: ConfArgs,
}

/// Prints them.
pub(crate) async fn run(args: &Args, session: &Session) -> anyhow::Result<Exit> {
    if args.conf.key.is_some() {
        return conf::conf(&args.conf, session);
    }
    let mut daemon = session.daemon().await?;
    let settings: List<Setting> = daemon.get("/api/v1/admin/daemon/config").await?;
    if args.conf.json {
        session.output.json(&settings)?;
    } else {
        session.output.table(&table(&settings.items))?;
    }
    next::warn(&mut daemon, &session.output).await?;
    Ok(Exit::Fine)
}

fn table(settings: &[Setting]) -> Grid {
    let mut grid = Grid::new(vec![
        Column::whole("setting"),
        Column::wrapped("value"),
        Column::wrapped("source"),
    ]);
    for setting in settings {
        grid.row(vec![
            Cell::new(&setting.name),
            Cell::new(&setting.value),
            Cell::new(&setting.source),
        ]);
    }
    grid
}
