//! `mcpm audit`: who has done what, from where and when; newest first, or as it happens.

use std::time::Duration;

use jiff::tz::TimeZone;

use crate::api::List;
use crate::api::audit::AuditEvent;
use crate::control::client::{Client, ClientError};
use crate::ids::Timestamp;
use crate::logs::stamp::Stamp;

use super::exit::Exit;
use super::grid::{Cell, Column, Grid};
use super::pages::{PAGE, Pages};
use super::render::Output;
use super::session::Session;
use super::style::{Paint, tame};
use super::when;

/// When something was, in the zone of whoever asks.
const TIME: &str = "YYYY-MM-DD HH:mm:ss";
/// Of one answer while nothing much happens.
const FOLLOW_PAGE: usize = 50;
/// Between two questions of one who follows.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);

/// Arguments of `audit`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Not before: so long ago, such as 2h or 7d, or a time such as 2026-11-22T23:49:07Z
    #[arg(long, value_name = "TIME", value_parser = when::earlier)]
    since: Option<Timestamp>,
    /// Before: the same
    #[arg(long, value_name = "TIME", value_parser = when::earlier)]
    until: Option<Timestamp>,
    /// Who did it, as the column says: admin, admin:7, user:alice, nobody
    #[arg(long, value_name = "WHO")]
    actor: Option<String>,
    /// Whose matter it was
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// Service type
    #[arg(long, value_name = "TYPE")]
    service: Option<String>,
    /// Public number of an instance: ins_…
    #[arg(long, value_name = "ID")]
    instance: Option<String>,
    /// What was done, or how that begins: `instance.rotate`, `isolation.`
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// The newest so many
    #[arg(
        long,
        value_name = "N",
        default_value_t = 50,
        value_parser = clap::value_parser!(u32).range(1..=100_000)
    )]
    limit: u32,
    /// Oldest first, and then what comes, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    /// The entries that are meant, newest first.
    fn pages(&self) -> Pages {
        let time = |time: Option<Timestamp>| time.map(|time| time.to_string());
        Pages::of("/api/v1/admin/audit")
            .filter("actor", self.actor.as_deref())
            .filter("user", self.user.as_deref())
            .filter("service", self.service.as_deref())
            .filter("instance", self.instance.as_deref())
            .filter("action", self.action.as_deref())
            .filter("since", time(self.since).as_deref())
            .filter("until", time(self.until).as_deref())
    }
}

/// Prints what was done; with `--follow` until it is interrupted.
pub(crate) async fn run(args: &Args, session: &Session) -> anyhow::Result<Exit> {
    let mut daemon = session.daemon().await?;
    let output = &session.output;
    let events = newest(args, &mut daemon).await?;
    if args.follow {
        follow(args, events.items, &mut daemon, output).await?;
    } else if args.json {
        output.json(&events)?;
    } else {
        let mut stamp = Stamp::new(TIME, TimeZone::system());
        let table = table(&events.items, &mut stamp);
        output.table(&table)?;
    }
    Ok(Exit::Fine)
}

/// As many as are asked for.
async fn newest(args: &Args, daemon: &mut Client) -> Result<List<AuditEvent>, ClientError> {
    let wanted = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let mut pages = args.pages();
    let mut items = Vec::new();
    while items.len() < wanted {
        let limit = (wanted - items.len()).min(PAGE);
        let Some(page) = pages.next(limit, daemon).await? else {
            break;
        };
        items.extend(page);
    }
    Ok(List {
        items,
        next_cursor: pages.cursor(),
    })
}

async fn follow(
    args: &Args,
    mut fresh: Vec<AuditEvent>,
    daemon: &mut Client,
    output: &Output,
) -> anyhow::Result<()> {
    let mut stamp = Stamp::new(TIME, TimeZone::system());
    let mut last = 0;
    loop {
        for event in fresh.iter().rev() {
            let line = if args.json {
                serde_json::to_string(event)?
            } else {
                line(event, &mut stamp)
            };
            output.data(format!("{line}\n").as_bytes())?;
        }
        last = fresh.first().map_or(last, |newest| newest.number);
        tokio::time::sleep(FOLLOW_EVERY).await;
        fresh = newer(args, last, daemon).await?;
    }
}

/// What has come after this one, newest first.
async fn newer(
    args: &Args,
    last: i64,
    daemon: &mut Client,
) -> Result<Vec<AuditEvent>, ClientError> {
    let mut pages = args.pages();
    let mut found = Vec::new();
    while let Some(page) = pages.next::<AuditEvent>(FOLLOW_PAGE, daemon).await? {
        let is_all_new = page.iter().all(|event| event.number > last);
        found.extend(page.into_iter().filter(|event| event.number > last));
        if !is_all_new {
            break;
        }
    }
    Ok(found)
}

fn table(events: &[AuditEvent], stamp: &mut Stamp) -> Grid {
    let mut grid = Grid::new(vec![
        Column::whole("when"),
        Column::fit("what"),
        Column::fit("who"),
        Column::fit("user"),
        Column::fit("service").minor(1),
        Column::whole("instance").minor(3),
        Column::fit("from").minor(2),
        Column::wrapped("detail"),
    ]);
    for event in events {
        let or_dash = |text: &Option<String>| Cell::new(text.as_deref().unwrap_or("-"));
        let action = if event.action.starts_with("isolation.") {
            Cell::painted(&event.action, Paint::Bad)
        } else {
            Cell::new(&event.action)
        };
        grid.row(vec![
            Cell::new(stamp.text(event.at)),
            action,
            Cell::new(&event.actor),
            or_dash(&event.user),
            or_dash(&event.service),
            or_dash(&event.instance),
            or_dash(&event.address),
            or_dash(&event.detail),
        ]);
    }
    grid
}

/// The same on one line, without what is not told.
fn line(event: &AuditEvent, stamp: &mut Stamp) -> String {
    let mut line = format!("{}  {}", stamp.text(event.at), event.action);
    let words = [
        ("by", Some(&event.actor)),
        ("user", event.user.as_ref()),
        ("service", event.service.as_ref()),
        ("instance", event.instance.as_ref()),
        ("from", event.address.as_ref()),
        ("-", event.detail.as_ref()),
    ];
    for (name, word) in words {
        if let Some(word) = word {
            line += &format!(" {name} {word}");
        }
    }
    tame(&line)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::style::Palette;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn args(line: &str) -> Args {
        Line::try_parse_from(line.split(' ')).unwrap().args
    }

    fn event() -> AuditEvent {
        let event = serde_json::json!({
            "number": 7, "at": "2026-11-22T23:49:07Z", "actor": "admin:3",
            "action": "instance.remove", "user": "al\u{1b}ice", "service": "demo", "instance": null,
            "address": "192.0.2.1", "requestId": "q", "detail": null
        });
        serde_json::from_value(event).unwrap()
    }

    #[test]
    fn options_become_the_question() {
        let call = |line: &str| args(line).pages().call(9).unwrap();
        let path = "/api/v1/admin/audit?limit=9";
        assert_eq!(call("audit"), path);
        let all = "audit --user a&b --service demo --instance ins_x --action isolation. \
                   --since 2026-11-22T23:49:07Z";
        assert_eq!(
            call(all),
            format!(
                "{path}&user=a%26b&service=demo&instance=ins%5Fx&action=isolation%2E\
                 &since=2026%2D11%2D22T23%3A49%3A07%2E000Z"
            )
        );
    }

    #[test]
    fn a_moment_is_a_time_or_how_long_ago() {
        let now = Timestamp::now().as_millis();
        let hours = 2 * 3600 * 1000;
        let ago = args("audit --since 2h").since.unwrap().as_millis();
        assert!((now - hours..=now - hours + 60_000).contains(&ago));
        assert!(Line::try_parse_from(["audit", "--until", "1600"]).is_err());
    }

    #[test]
    fn an_event_is_a_row_or_a_line_that_steers_no_terminal() {
        let mut stamp = Stamp::new(TIME, TimeZone::UTC);
        let text = table(&[event()], &mut stamp).render(Palette::PLAIN);
        let row = "│ 2026-11-22 23:49:07 │ instance.remove │ admin:3 │ al ice │ demo    │ -        \
                   │ 192.0.2.1 │ -      │";
        assert!(text.contains(row), "{text}");
        let expected = "2026-11-22 23:49:07  instance.remove by admin:3 user al ice service demo \
                        from 192.0.2.1";
        assert_eq!(line(&event(), &mut stamp), expected);
    }
}
