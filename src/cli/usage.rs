//! `mcpm usage`: how much users have used services.
//!
//! The daemon answers rows of a day; they are added up here.

use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use crate::api::List;
use crate::api::usage::{AdminDayUsage, UsageCounts};
use crate::ids::{Day, ServiceType, Timestamp, UserId};
use crate::store::{UsageKey, UsageRow};
use crate::usage::report::{self, Group, Report, Sum};

use super::exit::Exit;
use super::grid::{Cell, Column, Grid};
use super::pages::Pages;
use super::session::Session;
use super::style::Paint;
use super::units::{memory, took};
use super::when;

/// How much is shown when nobody says, in milliseconds.
const SHOWN: i64 = 30 * 24 * 3600 * 1000;

/// Arguments of `usage`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Of this user only
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// Of this service only
    #[arg(long, value_name = "TYPE")]
    service: Option<String>,
    /// From so long ago on, such as `7d`, or from a day such as `2026-11-01` [default: 30d]
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Day>,
    /// Add up by this alone [default: by user and service]
    #[arg(long, value_name = "WHAT")]
    by: Option<By>,
    /// Print as JSON: a row for each day, user and service, or for each group with `--by`
    #[arg(long)]
    json: bool,
}

/// What to add up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    /// A row for each user
    User,
    /// A row for each service
    Service,
    /// A row for each day
    Day,
}

impl From<Option<By>> for report::By {
    fn from(by: Option<By>) -> Self {
        match by {
            None => Self::UserAndService,
            Some(By::User) => Self::User,
            Some(By::Service) => Self::Service,
            Some(By::Day) => Self::Day,
        }
    }
}

/// Where to begin: books are kept by days of UTC.
fn since(text: &str) -> Result<Day, String> {
    Day::parse(text).or_else(|_| when::earlier(text).map(Day::of))
}

/// A group as JSON; what its rows do not have in common is `null`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct UsageGroup {
    user: Option<String>,
    service: Option<String>,
    day: Option<String>,
    last_day: Option<String>,
    usage: UsageCounts,
}

/// Asks for all rows, and shows them added up.
pub(crate) async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    let from = args.since.unwrap_or_else(|| {
        let now = Timestamp::now().as_millis();
        Day::of(Timestamp::from_millis(now - SHOWN))
    });
    let mut daemon = session.daemon().await?;
    let rows: List<AdminDayUsage> = Pages::of("/api/v1/admin/usage")
        .filter("from", Some(&from.to_string()))
        .filter("user", args.user.as_deref())
        .filter("service", args.service.as_deref())
        .all(&mut daemon)
        .await?;
    let output = &session.output;
    if args.json && args.by.is_none() {
        output.json(&rows)?;
        return Ok(Exit::Fine);
    }
    let mut report = Report::new(args.by.into());
    for row in &rows.items {
        report.add(&numbers(row)?);
    }
    if args.json {
        let groups = report.groups().iter().map(|(group, sum)| json(group, sum));
        output.json(&List::whole(groups.collect()))?;
    } else if rows.items.is_empty() {
        output.line(format_args!("nothing was used since {from}"))?;
    } else {
        output.table(&table(&report, args.by))?;
    }
    Ok(Exit::Fine)
}

/// As the books have it.
fn numbers(row: &AdminDayUsage) -> anyhow::Result<UsageRow> {
    Ok(UsageRow {
        key: UsageKey {
            day: Day::parse(&row.day)?,
            user: UserId::parse(&row.user)?,
            service: ServiceType::parse(&row.service)?,
        },
        usage: row.usage.numbers(),
    })
}

fn json(group: &Group, sum: &Sum) -> UsageGroup {
    UsageGroup {
        user: group.user.as_ref().map(ToString::to_string),
        service: group.service.as_ref().map(ToString::to_string),
        day: group.day.map(|day| day.to_string()),
        last_day: sum.last_day.map(|day| day.to_string()),
        usage: UsageCounts::of(&sum.usage),
    }
}

fn table(report: &Report, by: Option<By>) -> Grid {
    let mut columns = match by {
        None => vec![Column::fit("user"), Column::fit("service")],
        Some(By::User) => vec![Column::fit("user")],
        Some(By::Service) => vec![Column::fit("service")],
        Some(By::Day) => vec![Column::whole("day")],
    };
    let names = columns.len();
    columns.extend([
        Column::whole("requests"),
        Column::whole("errors"),
        Column::whole("in").minor(2),
        Column::whole("out").minor(3),
        Column::whole("p50").minor(1),
        Column::whole("p99"),
    ]);
    if by != Some(By::Day) {
        columns.push(Column::whole("last day").minor(4));
    }
    let mut grid = Grid::new(columns);
    let mut add = |mut cells: Vec<Cell>, sum: &Sum| {
        cells.extend(sum_cells(sum));
        if by != Some(By::Day) {
            let last = sum.last_day.map_or(String::new(), |day| day.to_string());
            cells.push(Cell::new(last));
        }
        grid.row(cells);
    };
    for (group, sum) in report.groups() {
        let user = group.user.as_ref().map(ToString::to_string);
        let service = group.service.as_ref().map(ToString::to_string);
        let day = group.day.map(|day| day.to_string());
        let named = [user, service, day].into_iter().flatten();
        add(named.map(Cell::new).collect(), sum);
    }
    if report.groups().len() > 1 {
        let mut cells = vec![Cell::new(""); names];
        cells[0] = Cell::painted("all", Paint::Head);
        add(cells, report.total());
    }
    grid
}

fn sum_cells(sum: &Sum) -> Vec<Cell> {
    let usage = &sum.usage;
    let errors = usage.errors.to_string();
    let errors = match usage.errors {
        0 => Cell::new(errors),
        _ => Cell::painted(errors, Paint::Bad),
    };
    let quantile = |per_mille| Cell::new(usage.quantile(per_mille).map_or(String::new(), latency));
    vec![
        Cell::new(usage.requests.to_string()),
        errors,
        Cell::new(memory(usage.bytes_in)),
        Cell::new(memory(usage.bytes_out)),
        quantile(500),
        quantile(990),
    ]
}

/// `0.4 ms`, then as other times are shown.
fn latency(us: u64) -> String {
    match us {
        0..10_000 => format!("{}.{} ms", us / 1000, us % 1000 / 100),
        _ => took(Duration::from_micros(us)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::style::Palette;
    use crate::store::Usage;
    use crate::store::histogram::bucket;

    fn row(day: &str, user: &str, service: &str, requests: u64) -> UsageRow {
        let mut usage = Usage {
            requests,
            errors: requests / 10,
            bytes_in: 100 * requests,
            bytes_out: 2048 * requests,
            latency_us: 400 * requests,
            latency_max_us: 420,
            ..Usage::default()
        };
        usage.latencies.add(bucket(400), requests);
        UsageRow {
            key: UsageKey {
                day: Day::parse(day).unwrap(),
                user: UserId::parse(user).unwrap(),
                service: ServiceType::parse(service).unwrap(),
            },
            usage,
        }
    }

    fn shown(by: Option<By>) -> String {
        let mut report = Report::new(by.into());
        report.add(&row("2026-11-25", "alice", "figma", 9));
        report.add(&row("2026-11-26", "alice", "figma", 1));
        report.add(&row("2026-11-26", "bob", "figma", 20));
        table(&report, by).render(Palette::PLAIN)
    }

    #[test]
    fn a_row_for_each_group_and_one_for_all() {
        let expected = "\
            ┌───────┬─────────┬──────────┬────────┬───────┬────────┬────────┬────────┬────────────┐\n\
            │ user  │ service │ requests │ errors │ in    │ out    │ p50    │ p99    │ last day   │\n\
            ├───────┼─────────┼──────────┼────────┼───────┼────────┼────────┼────────┼────────────┤\n\
            │ alice │ figma   │ 10       │ 0      │ 1000b │ 20.0kb │ 0.4 ms │ 0.4 ms │ 2026-11-26 │\n\
            │ bob   │ figma   │ 20       │ 2      │ 2.0kb │ 40.0kb │ 0.4 ms │ 0.4 ms │ 2026-11-26 │\n\
            │ all   │         │ 30       │ 2      │ 2.9kb │ 60.0kb │ 0.4 ms │ 0.4 ms │ 2026-11-26 │\n\
            └───────┴─────────┴──────────┴────────┴───────┴────────┴────────┴────────┴────────────┘\n";
        assert_eq!(shown(None), expected);
        let by_day = shown(Some(By::Day));
        assert!(by_day.contains("│ 2026-11-25 │ 9 "), "{by_day}");
        assert!(!by_day.contains("last day"), "{by_day}");
        assert!(shown(Some(By::Service)).contains("│ figma   │ 30 "));
    }

    #[test]
    fn a_beginning_is_a_time_or_a_day() {
        assert_eq!(since("2026-01-02").unwrap().to_string(), "2026-01-02");
        let week = Timestamp::now().as_millis() - 7 * 24 * 3600 * 1000;
        let [early, late] = [week, week + 60_000].map(|at| Day::of(Timestamp::from_millis(at)));
        assert!((early..=late).contains(&since("7d").unwrap()));
        assert!(since("last week").is_err());
    }

    #[test]
    fn latencies_have_the_unit_that_fits() {
        for (us, text) in [
            (80, "0.0 ms"),
            (470, "0.4 ms"),
            (9_999, "9.9 ms"),
            (41_500, "41 ms"),
            (1_234_000, "1.2 s"),
        ] {
            assert_eq!(latency(us), text);
        }
    }
}
