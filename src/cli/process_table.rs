//! The `ls` table, in PM2's columns and widths. Pure.

use std::time::Duration;

use crate::api::processes::{Process, Status};
use crate::config::spec::ExecMode;
use crate::ids::Timestamp;

use super::describe::readiness;
use super::grid::{Cell, Column, Grid};
use super::style::{Paint, Palette, tame, width};
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
    Port,
    Health,
    Cpu,
    Memory,
    User,
    Watching,
}

impl Layout {
    const ALL: [Self; 3] = [Self::Full, Self::Condensed, Self::Mini];

    /// Port and health are shown when there is a service; else the table is PM2's.
    fn fields(self, services: bool) -> Vec<Field> {
        use Field::{
            Cpu, Health, Id, Memory, Mode, Name, Namespace, Pid, Port, Restarts, Status, Uptime,
            User, Version, Watching,
        };
        let fields: &[Field] = match self {
            Self::Full => &[
                Id, Name, Namespace, Version, Mode, Pid, Uptime, Restarts, Status, Port, Health,
                Cpu, Memory, User, Watching,
            ],
            Self::Condensed => &[Id, Name, Mode, Restarts, Status, Port, Health, Cpu, Memory],
            Self::Mini => &[Id, Name, Status, Cpu, Memory],
        };
        let shown = |field: &&Field| services || !matches!(field, Port | Health);
        fields.iter().filter(shown).copied().collect()
    }
}

/// What rows are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sort {
    by: Key,
    descending: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Name,
    Namespace,
    Pid,
    Id,
    Cpu,
    Memory,
    Uptime,
    Status,
}

impl Default for Sort {
    fn default() -> Self {
        Self {
            by: Key::Name,
            descending: false,
        }
    }
}

impl Sort {
    /// Reads `FIELD`, `FIELD:asc` or `FIELD:desc`.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let (field, order) = text.split_once(':').unwrap_or((text, "asc"));
        let by = match field {
            "name" => Key::Name,
            "namespace" => Key::Namespace,
            "pid" => Key::Pid,
            "id" | "pm_id" => Key::Id,
            "cpu" => Key::Cpu,
            "memory" | "mem" => Key::Memory,
            "uptime" => Key::Uptime,
            "status" => Key::Status,
            _ => return Err("sort by name, namespace, pid, id, cpu, memory, uptime or status"),
        };
        let descending = match order {
            "asc" => false,
            "desc" => true,
            _ => return Err("write `asc` or `desc` after the colon"),
        };
        Ok(Self { by, descending })
    }

    /// The processes in this order; equal ones by id.
    pub(crate) fn apply(self, processes: &[Process]) -> Vec<&Process> {
        let mut sorted: Vec<&Process> = processes.iter().collect();
        sorted.sort_by_key(|process| process.pm_id);
        sorted.sort_by(|a, b| {
            let order = match self.by {
                Key::Name => a.name.as_str().cmp(b.name.as_str()),
                Key::Namespace => a.spec.namespace.cmp(&b.spec.namespace),
                Key::Pid => a.pid.cmp(&b.pid),
                Key::Id => a.pm_id.cmp(&b.pm_id),
                Key::Cpu => a.cpu.total_cmp(&b.cpu),
                Key::Memory => a.memory.cmp(&b.memory),
                // The longest run began first; what does not run has none.
                Key::Uptime => begun(b).cmp(&begun(a)),
                Key::Status => a.status.as_str().cmp(b.status.as_str()),
            };
            if self.descending {
                order.reverse()
            } else {
                order
            }
        });
        sorted
    }
}

fn begun(process: &Process) -> i64 {
    let online = process.status == Status::Online;
    let start = process.started_at.filter(|_| online);
    start.map_or(i64::MAX, Timestamp::as_millis)
}

/// A block of lines for each process, as PM2's `ls -m`.
pub(crate) fn mini_list(processes: &[&Process], now: Timestamp) -> String {
    let block = |process: &&Process| {
        let null = std::path::PathBuf::from("/dev/null");
        let log = process.error_log.as_ref().unwrap_or(&null);
        let version = process.spec.version.as_deref().unwrap_or("N/A");
        let mut text = format!("+--- {}\n", tame(process.name.as_str()));
        for (name, value) in [
            ("namespace", process.spec.namespace.clone()),
            ("version", version.to_owned()),
            ("pid", process.pid.to_string()),
            ("pm2 id", process.pm_id.to_string()),
            ("status", process.status.as_str().to_owned()),
            ("mode", mode(process).to_owned()),
            ("restarted", process.restarts.to_string()),
            ("uptime", uptime(process, now)),
            ("memory usage", units::memory(process.memory)),
            ("error log", log.display().to_string()),
            (
                "watching",
                if is_watched(process) { "yes" } else { "no" }.to_owned(),
            ),
            ("PID file", process.pid_file.display().to_string()),
        ] {
            text += &format!("{name} : {}\n", tame(&value));
        }
        text + "\n"
    };
    processes.iter().map(block).collect()
}

/// Do changed files restart it?
fn is_watched(process: &Process) -> bool {
    process.spec.triggers.watch.is_some()
}

/// The table for so many columns of a terminal (`None`: not a terminal, all there is).
pub(crate) fn render(
    sorted: &[&Process],
    now: Timestamp,
    columns: Option<usize>,
    palette: Palette,
) -> String {
    let layout = choose(sorted, columns);
    let fields = layout.fields(any_service(sorted));
    let header = fields.iter().map(|&field| column(field, sorted, layout));
    let mut grid = Grid::new(header.collect());
    for process in sorted {
        grid.row(
            fields
                .iter()
                .map(|&field| cell(field, process, now))
                .collect(),
        );
    }
    grid.render(palette)
}

fn any_service(processes: &[&Process]) -> bool {
    processes.iter().any(|process| process.spec.mcp.is_some())
}

/// The widest layout that fits; the smallest when none does.
fn choose(processes: &[&Process], columns: Option<usize>) -> Layout {
    let Some(columns) = columns else {
        return Layout::Full;
    };
    let fits = |layout: &Layout| {
        let fields = layout.fields(any_service(processes));
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
        Field::Port => 7,
        Field::Health => 12,
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
        Field::Port => "port",
        Field::Health => "health",
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
        Field::Port => {
            let port = process.spec.mcp.as_ref().map(|mcp| mcp.port.to_string());
            Cell::new(port.unwrap_or_default())
        }
        Field::Health => match &process.health {
            Some(health) => {
                let (word, paint) = readiness(health.readiness);
                Cell::painted(word, paint)
            }
            None => Cell::new(""),
        },
        Field::Cpu => Cell::new(units::percent(process.cpu)),
        Field::Memory => Cell::new(units::memory(process.memory)),
        Field::User => Cell::new(&process.user),
        Field::Watching if is_watched(process) => Cell::painted("enabled", Paint::Good),
        Field::Watching => Cell::painted("disabled", Paint::Dim),
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
    use crate::api::processes::Readiness;
    use crate::cli::samples::{process, service};
    use crate::config::spec::WatchSpec;

    const NOW: i64 = 1_795_391_347_550;

    fn at(columns: Option<usize>, processes: &[Process]) -> String {
        render(
            &Sort::default().apply(processes),
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
    fn services_show_port_and_health() {
        let list = [
            process(0, "web"),
            service(1, "demo", 49160, Readiness::PortTaken),
        ];
        let table = at(None, &list);
        assert!(
            table.contains("│ status    │ port  │ health     │ cpu"),
            "{table}"
        );
        assert!(
            table.contains("│ online    │ 49160 │ port taken │"),
            "{table}"
        );
        assert!(
            table.contains("│ online    │       │            │"),
            "{table}"
        );
        let condensed = at(Some(100), &list);
        assert!(
            condensed.contains("49160") && !condensed.contains("namespace"),
            "{condensed}"
        );
    }

    #[test]
    fn no_layout_is_wider_than_the_terminal() {
        let list = [
            process(0, "web"),
            service(1, "demo", 49160, Readiness::Ready),
        ];
        for columns in 50..220 {
            let table = at(Some(columns), &list);
            let widest = table.lines().map(width).max().unwrap();
            assert!(widest <= columns, "{widest} in {columns}:\n{table}");
        }
    }

    #[test]
    fn rows_are_sorted_as_asked() {
        let mut list = vec![process(0, "b"), process(1, "a"), process(2, "c")];
        list[0].memory = 5;
        list[2].memory = 9;
        list[1].started_at = None;
        let order = |text: &str| -> Vec<u32> {
            let sorted = Sort::parse(text).unwrap().apply(&list);
            sorted.iter().map(|p| p.pm_id.0).collect()
        };
        assert_eq!(order("name"), [1, 0, 2]);
        assert_eq!(order("name:desc"), [2, 0, 1]);
        assert_eq!(order("memory:desc"), [2, 0, 1]);
        assert_eq!(order("id"), [0, 1, 2]);
        assert_eq!(order("uptime:asc"), [1, 0, 2]);
        assert!(Sort::parse("nope").is_err() && Sort::parse("cpu:up").is_err());
    }

    #[test]
    fn the_mini_list_is_pm2s() {
        let app = process(3, "app");
        let text = mini_list(&[&app], Timestamp::from_millis(NOW));
        assert!(
            text.starts_with("+--- app\nnamespace : default\nversion : N/A\npid : 1003\n"),
            "{text}"
        );
        assert!(text.ends_with("PID file : /h/pids/app-3.pid\n\n"), "{text}");
        assert_eq!(text.lines().count(), 14);
    }

    #[test]
    fn what_is_watched_is_shown() {
        let mut app = process(0, "app");
        app.spec.triggers.watch = Some(WatchSpec {
            base: "/srv".into(),
            paths: vec!["/srv".into()],
            ignore: Vec::new(),
            extensions: Vec::new(),
            delay: Duration::from_millis(100),
        });
        let mini = mini_list(&[&app], Timestamp::from_millis(NOW));
        assert!(mini.contains("watching : yes\n"), "{mini}");
        let table = at(None, &[app, process(1, "b")]);
        assert!(
            table.contains("│ enabled  │") && table.contains("│ disabled │"),
            "{table}"
        );
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
