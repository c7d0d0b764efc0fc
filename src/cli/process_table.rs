//! The `ls` table, in PM2's columns and widths. Pure.
//!
//! Where PM2's smallest table does not fit, names are cut, then CPU and memory are left out: a row that
//! wraps cannot be read.

use std::cmp::Ordering;
use std::time::Duration;

use crate::api::process_table::Row;
use crate::api::processes::Status;
use crate::config::spec::ExecMode;
use crate::ids::Timestamp;

use super::describe::readiness;
use super::grid::{Cell, Column, Grid};
use super::style::{Paint, Palette, tame, width};
use super::units;

/// Widest a name's column gets, padding included.
const NAME_WIDE_MAX: usize = 40;
/// As short as it is cut where columns are few, padding included.
const NAME_WIDE_MIN: usize = 12;

/// Which columns there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Full,
    Condensed,
    Mini,
    Narrow,
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
    const ALL: [Self; 4] = [Self::Full, Self::Condensed, Self::Mini, Self::Narrow];

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
            Self::Narrow => &[Id, Name, Status],
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

    /// Puts rows in this order.
    pub(crate) fn apply(self, rows: &mut [Row]) {
        rows.sort_by(|a, b| self.compare(a, b));
    }

    /// Which of two comes first; of equal ones the lower id.
    pub(crate) fn compare(self, a: &Row, b: &Row) -> Ordering {
        let order = match self.by {
            Key::Name => a.name.as_str().cmp(b.name.as_str()),
            Key::Namespace => a.namespace.cmp(&b.namespace),
            Key::Pid => a.pid.cmp(&b.pid),
            Key::Id => a.pm_id.cmp(&b.pm_id),
            Key::Cpu => a.cpu.total_cmp(&b.cpu),
            Key::Memory => a.memory.cmp(&b.memory),
            // The longest run began first; what does not run has none.
            Key::Uptime => begun(b).cmp(&begun(a)),
            Key::Status => a.status.as_str().cmp(b.status.as_str()),
        };
        let order = if self.descending {
            order.reverse()
        } else {
            order
        };
        order.then(a.pm_id.cmp(&b.pm_id))
    }
}

fn begun(row: &Row) -> i64 {
    let online = row.status == Status::Online;
    let start = row.started_at.filter(|_| online);
    start.map_or(i64::MAX, Timestamp::as_millis)
}

/// A block of lines for each process, as PM2's `ls -m`.
pub(crate) fn mini_list(rows: &[Row], now: Timestamp) -> String {
    let block = |row: &Row| {
        let null = std::path::PathBuf::from("/dev/null");
        let log = row.error_log.as_ref().unwrap_or(&null);
        let version = row.version.as_deref().unwrap_or("N/A");
        let mut text = format!("+--- {}\n", tame(row.name.as_str()));
        for (name, value) in [
            ("namespace", row.namespace.clone()),
            ("version", version.to_owned()),
            ("pid", row.pid.to_string()),
            ("pm2 id", row.pm_id.to_string()),
            ("status", row.status.as_str().to_owned()),
            ("mode", mode(row).to_owned()),
            ("restarted", row.restarts.to_string()),
            ("uptime", uptime(row.status, row.started_at, now)),
            ("memory usage", units::memory(row.memory)),
            ("error log", log.display().to_string()),
            (
                "watching",
                if row.watched { "yes" } else { "no" }.to_owned(),
            ),
            ("PID file", row.pid_file.display().to_string()),
        ] {
            text += &format!("{name} : {}\n", tame(&value));
        }
        text + "\n"
    };
    rows.iter().map(block).collect()
}

/// The table for so many columns of a terminal (`None`: not a terminal, all there is).
pub(crate) fn render(
    rows: &[Row],
    now: Timestamp,
    columns: Option<usize>,
    palette: Palette,
) -> String {
    let (layout, name) = choose(rows, columns);
    let fields = layout.fields(any_service(rows));
    let header = fields.iter().map(|&field| {
        let wide = if field == Field::Name {
            name
        } else {
            wide(field, rows)
        };
        Column::fixed(title(field, layout), wide)
    });
    let mut grid = Grid::new(header.collect());
    for row in rows {
        grid.row(fields.iter().map(|&field| cell(field, row, now)).collect());
    }
    grid.render(palette)
}

fn any_service(rows: &[Row]) -> bool {
    rows.iter().any(|row| row.port.is_some())
}

/// The widest layout that fits with whole names, else the widest of the small ones that fits with names
/// cut; and how wide names are in it.
fn choose(rows: &[Row], columns: Option<usize>) -> (Layout, usize) {
    let whole = wide(Field::Name, rows);
    let Some(columns) = columns else {
        return (Layout::Full, whole);
    };
    // What is left for names; a border stands before each column and at the end.
    let room = |layout: Layout| {
        let fields = layout.fields(any_service(rows));
        let others = fields.iter().filter(|&&field| field != Field::Name);
        let taken: usize = others.map(|&field| wide(field, rows)).sum();
        columns.saturating_sub(taken + fields.len() + 1)
    };
    let fits = |layout: &Layout| room(*layout) >= whole;
    // Cut names say more than no CPU and no memory.
    let mut all = Layout::ALL
        .into_iter()
        .filter(|&layout| layout != Layout::Narrow);
    if let Some(layout) = all.find(fits) {
        return (layout, whole);
    }
    let shortest = NAME_WIDE_MIN.min(whole);
    let small = [Layout::Mini, Layout::Narrow];
    let cut = small.into_iter().find(|&layout| room(layout) >= shortest);
    let layout = cut.unwrap_or(Layout::Narrow);
    (layout, room(layout).clamp(shortest, whole))
}

fn wide(field: Field, rows: &[Row]) -> usize {
    match field {
        Field::Id => {
            let highest = rows.iter().map(|p| p.pm_id).max();
            highest.map_or(4, |id| (id.to_string().len() + 2).max(4))
        }
        Field::Name => {
            let longest = rows.iter().map(|p| width(p.name.as_str())).max();
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

fn title(field: Field, layout: Layout) -> &'static str {
    match field {
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
    }
}

fn cell(field: Field, row: &Row, now: Timestamp) -> Cell {
    match field {
        Field::Id => Cell::painted(row.pm_id.to_string(), Paint::Head),
        Field::Name => Cell::new(row.name.as_str()),
        Field::Namespace => Cell::new(&row.namespace),
        Field::Version => Cell::new(row.version.as_deref().unwrap_or("N/A")),
        Field::Mode => Cell::new(mode(row)),
        Field::Pid => Cell::new(row.pid.to_string()),
        Field::Uptime => Cell::new(uptime(row.status, row.started_at, now)),
        Field::Restarts => Cell::new(row.restarts.to_string()),
        Field::Status => Cell::painted(row.status.as_str(), colour(row.status)),
        Field::Port => {
            let port = row.port.map(|port| port.to_string());
            Cell::new(port.unwrap_or_default())
        }
        Field::Health => match row.readiness {
            Some(now) => {
                let (word, paint) = readiness(now);
                Cell::painted(word, paint)
            }
            None => Cell::new(""),
        },
        Field::Cpu => Cell::new(units::percent(row.cpu)),
        Field::Memory => Cell::new(units::memory(row.memory)),
        Field::User => Cell::new(&row.user),
        Field::Watching if row.watched => Cell::painted("enabled", Paint::Good),
        Field::Watching => Cell::painted("disabled", Paint::Dim),
    }
}

fn mode(row: &Row) -> &'static str {
    match row.exec_mode {
        ExecMode::ForkMode => "fork",
        ExecMode::ClusterMode => "cluster",
    }
}

/// Since the last start while it is online, else `0`.
pub(crate) fn uptime(status: Status, started: Option<Timestamp>, now: Timestamp) -> String {
    match (status, started) {
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
    use crate::api::processes::{Process, Readiness};
    use crate::cli::samples::{process, service};
    use crate::config::spec::WatchSpec;

    const NOW: i64 = 1_795_391_347_550;

    fn at(columns: Option<usize>, processes: &[Process]) -> String {
        let mut rows: Vec<Row> = processes.iter().map(Row::from).collect();
        Sort::default().apply(&mut rows);
        render(&rows, Timestamp::from_millis(NOW), columns, Palette::PLAIN)
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
        assert_eq!([columns_of(66), columns_of(65), columns_of(10)], [7, 5, 3]);
    }

    #[test]
    fn few_columns_cut_names_and_then_leave_cpu_and_memory_out() {
        let app = [process(0, "a-service-with-a-long-name")];
        let row = |wide| {
            let table = at(Some(wide), &app);
            table.lines().nth(3).unwrap().to_owned()
        };
        assert!(row(82).contains("│ a-service-with-a-long-name    │ online "));
        assert_eq!(
            row(60),
            "│ 0  │ a-service-with-a… │ online    │ 0%       │ 0b       │"
        );
        assert_eq!(row(40), "│ 0  │ a-service-with-a-l… │ online    │");
        assert_eq!(row(31), "│ 0  │ a-service… │ online    │");
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
        for columns in 30..220 {
            let table = at(Some(columns), &list);
            let widest = table.lines().map(width).max().unwrap();
            assert!(widest <= columns, "{widest} in {columns}:\n{table}");
        }
    }

    #[test]
    fn rows_are_sorted_as_asked() {
        let mut list = [process(0, "b"), process(1, "a"), process(2, "c")];
        list[0].memory = 5;
        list[2].memory = 9;
        list[1].started_at = None;
        let order = |text: &str| -> Vec<u32> {
            let mut rows: Vec<Row> = list.iter().map(Row::from).collect();
            Sort::parse(text).unwrap().apply(&mut rows);
            rows.iter().map(|row| row.pm_id.0).collect()
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
        let text = mini_list(&[Row::from(&app)], Timestamp::from_millis(NOW));
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
        let mini = mini_list(&[Row::from(&app)], Timestamp::from_millis(NOW));
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
        assert_eq!(
            uptime(app.status, app.started_at, Timestamp::from_millis(NOW)),
            "2m"
        );
        assert_eq!(
            uptime(app.status, app.started_at, Timestamp::from_millis(0)),
            "0s",
            "a clock that went back"
        );
        app.status = Status::Stopped;
        assert_eq!(
            uptime(app.status, app.started_at, Timestamp::from_millis(NOW)),
            "0"
        );
    }
}
