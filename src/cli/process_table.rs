//! The `ls` table, in PM2's columns and widths. Pure.

use std::time::Duration;

use crate::api::processes::{Process, Status};
use crate::config::spec::ExecMode;
use crate::ids::Timestamp;

use super::grid::{Cell, Column, Grid};
use super::style::{Paint, Palette, width};
use super::units;

/// Widest a name's column gets, padding included.
const NAME_WIDE_MAX: usize = 40;

/// Which columns there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Full,
    Condensed,
    Mini,
}

/// One column of any layout, with its width as PM2 has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Id,
    Name,
    Namespace,
    Version,
    Mode,
    Pid,
    Uptime,
    Restarts,
    Status,
    Cpu,
    Memory,
    User,
    Watching,
}

impl Layout {
    const ALL: [Self; 3] = [Self::Full, Self::Condensed, Self::Mini];

    fn fields(self) -> &'static [Field] {
        use Field::{
            Cpu, Id, Memory, Mode, Name, Namespace, Pid, Restarts, Status, Uptime, User, Version,
            Watching,
        };
        match self {
            Self::Full => &[
                Id, Name, Namespace, Version, Mode, Pid, Uptime, Restarts, Status, Cpu, Memory,
                User, Watching,
            ],
            Self::Condensed => &[Id, Name, Mode, Restarts, Status, Cpu, Memory],
            Self::Mini => &[Id, Name, Status, Cpu, Memory],
        }
    }
}

/// The table for so many columns of a terminal (`None`: not a terminal, all there is).
pub(crate) fn render(
    processes: &[Process],
    now: Timestamp,
    columns: Option<usize>,
    palette: Palette,
) -> String {
    let mut sorted: Vec<&Process> = processes.iter().collect();
    sorted.sort_by(|a, b| (a.name.as_str(), a.pm_id).cmp(&(b.name.as_str(), b.pm_id)));
    let layout = choose(&sorted, columns);
    let header = layout
        .fields()
        .iter()
        .map(|&field| column(field, &sorted, layout));
    let mut grid = Grid::new(header.collect());
    for process in &sorted {
        grid.row(
            layout
                .fields()
                .iter()
                .map(|&field| cell(field, process, now))
                .collect(),
        );
    }
    grid.render(palette)
}

/// The widest layout that fits; the smallest when none does.
fn choose(processes: &[&Process], columns: Option<usize>) -> Layout {
    let Some(columns) = columns else {
        return Layout::Full;
    };
    let fits = |layout: &Layout| {
        let fields = layout.fields();
        let wide: usize = fields.iter().map(|&field| wide(field, processes)).sum();
        wide + fields.len() < columns
    };
    Layout::ALL.into_iter().find(fits).unwrap_or(Layout::Mini)
}

fn wide(field: Field, processes: &[&Process]) -> usize {
    match field {
        Field::Id => {
            let highest = processes.iter().map(|p| p.pm_id).max();
            highest.map_or(4, |id| (id.to_string().len() + 2).max(4))
        }
        Field::Name => {
            let longest = processes.iter().map(|p| width(p.name.as_str())).max();
            longest.map_or(11, |name| (name + 5).min(NAME_WIDE_MAX))
        }
        Field::Namespace => 13,
        Field::Version | Field::Mode => 9,
        Field::Uptime => 8,
        Field::Restarts => 6,
        Field::Status => 11,
        Field::Pid | Field::Cpu | Field::Memory | Field::User | Field::Watching => 10,
    }
}

fn column(field: Field, processes: &[&Process], layout: Layout) -> Column {
    let title = match field {
        Field::Id => "id",
        Field::Name => "name",
        Field::Namespace => "namespace",
        Field::Version => "version",
        Field::Mode => "mode",
        Field::Pid => "pid",
        Field::Uptime => "uptime",
        Field::Restarts => "↺",
        Field::Status => "status",
        Field::Cpu => "cpu",
        Field::Memory if layout == Layout::Condensed => "memory",
        Field::Memory => "mem",
        Field::User => "user",
        Field::Watching => "watching",
    };
    Column::fixed(title, wide(field, processes))
}

fn cell(field: Field, process: &Process, now: Timestamp) -> Cell {
    match field {
        Field::Id => Cell::painted(process.pm_id.to_string(), Paint::Head),
        Field::Name => Cell::new(process.name.as_str()),
        Field::Namespace => Cell::new(&process.spec.namespace),
        Field::Version => Cell::new(process.spec.version.as_deref().unwrap_or("N/A")),
        Field::Mode => Cell::new(mode(process)),
        Field::Pid => Cell::new(process.pid.to_string()),
        Field::Uptime => Cell::new(uptime(process, now)),
        Field::Restarts => Cell::new(process.restarts.to_string()),
        Field::Status => Cell::painted(process.status.as_str(), colour(process.status)),
        Field::Cpu => Cell::new(units::percent(process.cpu)),
        Field::Memory => Cell::new(units::memory(process.memory)),
        Field::User => Cell::new(&process.user),
        // No app is watched yet: the key is known and warns.
        Field::Watching => match process.spec.triggers.watch {
            Some(_) => Cell::painted("enabled", Paint::Good),
            None => Cell::painted("disabled", Paint::Dim),
        },
    }
}

fn mode(process: &Process) -> &'static str {
    match process.spec.exec_mode {
        ExecMode::ForkMode => "fork",
        ExecMode::ClusterMode => "cluster",
    }
}

/// Since the last start while it is online, else `0`.
pub(crate) fn uptime(process: &Process, now: Timestamp) -> String {
    match (process.status, process.started_at) {
        (Status::Online, Some(start)) => {
            let ms = now.as_millis().saturating_sub(start.as_millis());
            units::uptime(Duration::from_millis(u64::try_from(ms).unwrap_or(0)))
        }
        _ => "0".to_owned(),
    }
}

/// PM2's colours of statuses.
pub(crate) fn colour(status: Status) -> Paint {
    match status {
        Status::Online => Paint::Good,
        Status::Launching => Paint::Busy,
        Status::Stopping | Status::Stopped | Status::WaitingRestart | Status::Errored => Paint::Bad,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::samples::process;

    const NOW: i64 = 1_795_391_347_550;

    fn at(columns: Option<usize>, processes: &[Process]) -> String {
        render(
            processes,
            Timestamp::from_millis(NOW),
            columns,
            Palette::PLAIN,
        )
    }

    #[test]
    fn the_full_table_is_pm2s() {
        let mut app = process(1, "app");
        app.spec.version = Some("1.0.0".into());
        app.started_at = Some(Timestamp::from_millis(NOW - 18_400));
        app.memory = 50_226_790;
        app.pid = 10292;
        app.user = "u".into();
        let expected = "\
┌────┬────────┬─────────────┬─────────┬─────────┬──────────┬────────┬──────┬───────────┬──────────┬──────────┬──────────┬──────────┐
│ id │ name   │ namespace   │ version │ mode    │ pid      │ uptime │ ↺    │ status    │ cpu      │ mem      │ user     │ watching │
├────┼────────┼─────────────┼─────────┼─────────┼──────────┼────────┼──────┼───────────┼──────────┼──────────┼──────────┼──────────┤
│ 1  │ app    │ default     │ 1.0.0   │ fork    │ 10292    │ 18s    │ 0    │ online    │ 0%       │ 47.9mb   │ u        │ disabled │
└────┴────────┴─────────────┴─────────┴─────────┴──────────┴────────┴──────┴───────────┴──────────┴──────────┴──────────┴──────────┘
";
        assert_eq!(at(None, &[app]), expected);
    }

    #[test]
    fn an_empty_list_is_a_header_and_a_border() {
        let table = at(None, &[]);
        assert_eq!(table.lines().count(), 3);
        assert!(
            table.contains("│ id │ name      │ namespace   │"),
            "{table}"
        );
    }

    #[test]
    fn the_widest_layout_that_fits_is_shown() {
        let app = [process(0, "app")];
        let columns_of = |wide| {
            at(Some(wide), &app)
                .lines()
                .nth(1)
                .unwrap()
                .matches('│')
                .count()
                - 1
        };
        assert_eq!(
            [columns_of(200), columns_of(132), columns_of(131)],
            [13, 13, 7]
        );
        assert_eq!([columns_of(66), columns_of(65), columns_of(10)], [7, 5, 5]);
    }

    #[test]
    fn rows_stand_by_name_and_long_words_are_cut() {
        let mut waiting = process(0, "b");
        waiting.status = Status::WaitingRestart;
        let table = at(None, &[waiting, process(2, "a"), process(1, "a")]);
        let ids: Vec<_> = table
            .lines()
            .skip(3)
            .filter_map(|l| l.split(' ').nth(1))
            .collect();
        assert_eq!(ids, ["1", "2", "0"]);
        assert!(table.contains("│ waiting … │"), "{table}");
    }

    #[test]
    fn only_what_is_online_has_an_uptime() {
        let mut app = process(0, "app");
        app.started_at = Some(Timestamp::from_millis(NOW - 120_000));
        assert_eq!(uptime(&app, Timestamp::from_millis(NOW)), "2m");
        assert_eq!(
            uptime(&app, Timestamp::from_millis(0)),
            "0s",
            "a clock that went back"
        );
        app.status = Status::Stopped;
        assert_eq!(uptime(&app, Timestamp::from_millis(NOW)), "0");
    }
}
