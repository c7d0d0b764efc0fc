//! What an import would do, as a table and as JSON.

use serde_json::{Value, json};

use crate::api::processes::looks_secret;
use crate::pm2::takeover::{App, Left};

use super::exit::Exit;
use super::grid::{Cell, Column, Grid};
use super::render::Output;

/// An import that was planned.
pub(crate) struct Report<'a> {
    /// Where the list comes from, in words.
    pub(crate) source: &'a str,
    /// To be started.
    pub(crate) apps: &'a [App],
    /// Not to be started.
    pub(crate) left: &'a [Left],
    /// The processes that PM2 would end with `--take-over`, by its numbers.
    pub(crate) stops: &'a [u64],
}

/// Prints it. Fine when nothing is lost.
pub(crate) fn print(report: &Report<'_>, as_json: bool, output: &Output) -> anyhow::Result<Exit> {
    if as_json {
        output.json(&to_json(report))?;
    } else {
        output.line(format_args!("list    {}", report.source))?;
        output.table(&table(report.apps))?;
        output.text(&notes(report))?;
    }
    Ok(Exit::fine_if(report.left.iter().all(|left| !left.is_loss)))
}

fn table(apps: &[App]) -> Grid {
    let mut grid = Grid::new(vec![
        Column::fit("name"),
        Column::fit("namespace").minor(1),
        Column::whole("mode"),
        Column::whole("×"),
        Column::fit("interpreter").minor(2),
        Column::wrapped("script"),
    ]);
    for app in apps {
        let field = |key: &str, default: &str| {
            let value = app.entry.get(key).and_then(Value::as_str);
            Cell::new(value.unwrap_or(default))
        };
        grid.row(vec![
            Cell::new(&app.name),
            field("namespace", "default"),
            field("exec_mode", "fork"),
            Cell::new(app.instances.to_string()),
            field("interpreter", "-"),
            field("script", "-"),
        ]);
    }
    grid
}

/// What there is to say of apps, beside the table of those that are to start.
fn notes(report: &Report<'_>) -> String {
    let mut text = String::new();
    let notes = report
        .apps
        .iter()
        .flat_map(|app| app.notes.iter().map(|note| (&app.name, note)));
    for (name, note) in notes {
        text += &format!("  {name}: {note}\n");
    }
    for Left { name, why, .. } in report.left {
        text += &format!("✗ {name}: {why}\n");
    }
    match report.stops {
        [] => {}
        stops => {
            let stops: Vec<String> = stops.iter().map(u64::to_string).collect();
            text += &format!("--take-over has PM2 end and forget: {}\n", stops.join(", "));
        }
    }
    text
}

/// Values of variables whose names look secret are `***`, as in every list.
fn to_json(report: &Report<'_>) -> Value {
    let apps = report.apps.iter().map(|app| {
        let mut entry = Value::Object(app.entry.clone());
        if let Some(Value::Object(env)) = entry.get_mut("env") {
            for (_, value) in env.iter_mut().filter(|(name, _)| looks_secret(name)) {
                *value = json!("***");
            }
        }
        json!({ "name": app.name, "instances": app.instances, "notes": app.notes, "app": entry })
    });
    let left = report.left.iter();
    let left = left.map(|left| json!({ "name": left.name, "why": left.why }));
    json!({
        "source": report.source,
        "apps": apps.collect::<Value>(),
        "left": left.collect::<Value>(),
        "takeOverStops": report.stops,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::style::Palette;

    fn app() -> App {
        let entry = json!({
            "name": "web", "script": "/srv/web.js", "interpreter": "node", "exec_mode": "cluster",
            "env": { "API_KEY": "s3cret", "PORT": 80 },
        });
        let Value::Object(entry) = entry else {
            panic!()
        };
        App {
            name: "web".to_owned(),
            script: "/srv/web.js".to_owned(),
            instances: 2,
            entry,
            notes: vec!["a note".to_owned()],
        }
    }

    #[test]
    fn people_see_what_would_start_and_what_not() {
        let left = [Left {
            name: "pm2-logrotate".to_owned(),
            why: "a module".to_owned(),
            is_loss: false,
        }];
        let report = Report {
            source: "`d`",
            apps: &[app()],
            left: &left,
            stops: &[0, 2],
        };
        let shown = table(report.apps).render(Palette::PLAIN) + &notes(&report);
        for line in [
            "│ web  │ default   │ cluster │ 2 │ node        │ /srv/web.js │",
            "  web: a note",
            "✗ pm2-logrotate: a module",
            "--take-over has PM2 end and forget: 0, 2",
        ] {
            assert!(shown.contains(line), "{shown}");
        }
    }

    #[test]
    fn programs_see_no_secrets() {
        let report = Report {
            source: "`d`",
            apps: &[app()],
            left: &[],
            stops: &[],
        };
        let shown = to_json(&report);
        assert_eq!(
            shown["apps"][0]["app"]["env"],
            json!({ "API_KEY": "***", "PORT": 80 })
        );
    }
}
