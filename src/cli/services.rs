//! `mcpm services`: what is offered to users, and how it does.

use crate::api::List;
use crate::api::services::AdminService;

use super::describe::readiness;
use super::exit::Exit;
use super::grid::{Cell, Column, Grid};
use super::next;
use super::session::Session;

/// Arguments of `services`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Prints them.
pub(crate) async fn run(args: &Args, session: &Session) -> anyhow::Result<Exit> {
    let mut daemon = session.daemon().await?;
    let services: List<AdminService> = daemon.get("/api/v1/admin/services").await?;
    if args.json {
        session.output.json(&services)?;
    } else {
        session.output.table(&table(&services.items))?;
    }
    next::warn(&mut daemon, &session.output).await?;
    Ok(Exit::Fine)
}

fn table(services: &[AdminService]) -> Grid {
    let mut grid = Grid::new(vec![
        Column::fit("service"),
        Column::fit("name").minor(1),
        Column::fit("app"),
        Column::whole("port"),
        Column::whole("health"),
        Column::whole("answers in").minor(2),
        Column::whole("good checks").minor(3),
        Column::whole("instances"),
    ]);
    for AdminService {
        service,
        app,
        port,
        instances,
    } in services
    {
        let (word, paint) = readiness(service.health.readiness);
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        grid.row(vec![
            Cell::new(&service.service),
            Cell::new(&service.display_name),
            Cell::new(app),
            Cell::new(port.to_string()),
            Cell::painted(word, paint),
            Cell::new(or_dash(
                service.health.response_ms.map(|ms| format!("{ms:.1} ms")),
            )),
            Cell::new(or_dash(
                service
                    .health
                    .uptime_percent
                    .map(|share| format!("{share:.2}%")),
            )),
            Cell::new(instances.to_string()),
        ]);
    }
    grid
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::style::Palette;

    #[test]
    fn a_service_is_a_row() {
        let demo = serde_json::json!({
            "service": "demo", "displayName": "Demo", "description": null, "category": null,
            "iconUrl": null, "authType": "api_key", "fields": [],
            "health": {
                "readiness": "ready", "lastCheck": null, "responseMs": 1.26,
                "consecutiveFailures": 0, "uptimePercent": null, "lastFailure": null
            },
            "app": "mcp-demo", "port": 49160, "instances": 2
        });
        let text = table(&[serde_json::from_value(demo).unwrap()]).render(Palette::PLAIN);
        let row =
            "│ demo    │ Demo │ mcp-demo │ 49160 │ ready  │ 1.3 ms     │ -           │ 2         │";
        assert!(text.contains(row), "{text}");
    }
}
