//! `mcpm why`: how the last runs of a process have ended, who wanted it, and what followed.

use std::time::Duration;

use jiff::tz::TimeZone;

use crate::api::List;
use crate::api::exits::{PastExit, ProcessExits};
use crate::api::processes::Status;
use crate::control::client::{Client, ClientError, segment};
use crate::ids::Timestamp;
use crate::logs::stamp::Stamp;
use crate::supervisor::last_exits::{LINES_MAX, Next, NoLines, Who};

use super::exit::Exit;
use super::session::Session;
use super::style::{Paint, Palette, tame};
use super::targets::{for_target, told};
use super::{process_table, units};

/// When an exit was, in the zone of whoever asks.
const TIME: &str = "YYYY-MM-DD HH:mm:ss";
/// Below the number of an exit.
const INDENT: &str = "    ";
/// Behind the name of a stream when an earlier daemon had started the run.
const OLDER: &str = " (which of it is of earlier runs cannot be told)";
/// A run is told in seconds when it was shorter.
const LONG: Duration = Duration::from_secs(120);

/// Arguments of `why`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Names, ids, namespaces, `all`, `/regex/`
    #[arg(required = true, value_name = "TARGET")]
    targets: Vec<String>,
    /// The last lines of every exit, not only of the newest
    #[arg(short, long)]
    all: bool,
    /// So many last lines of each stream, at most 20
    #[arg(long, value_name = "N", default_value_t = LINES_MAX)]
    lines: usize,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Of which exits how many lines are shown.
#[derive(Clone, Copy, Debug)]
struct Shown {
    of_all: bool,
    lines: usize,
}

/// Tells the story of each process that is meant.
pub(crate) async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    let mut daemon = session.daemon().await?;
    let output = &session.output;
    let mut found: Vec<ProcessExits> = Vec::new();
    let mut exit = Exit::Fine;
    for target in &args.targets {
        match exits(&mut daemon, target).await {
            Ok(list) => {
                for process in list.items {
                    if found.iter().all(|known| known.pm_id != process.pm_id) {
                        found.push(process);
                    }
                }
            }
            Err(error) => exit = exit.and(told(Err(error.into()), output)?),
        }
    }
    if args.json {
        output.json(&List::whole(found))?;
        return Ok(exit);
    }
    let shown = Shown {
        of_all: args.all,
        lines: args.lines,
    };
    let mut stamp = Stamp::new(TIME, TimeZone::system());
    let now = Timestamp::now();
    for (at, process) in found.iter().enumerate() {
        if at > 0 {
            output.line("")?;
        }
        output.text(&story(process, shown, now, &mut stamp, output.palette()))?;
    }
    Ok(exit)
}

async fn exits(daemon: &mut Client, target: &str) -> Result<List<ProcessExits>, ClientError> {
    let ask = async |word: &str| {
        let path = format!("/api/v1/admin/processes/exits?target={}", segment(word));
        daemon.get(&path).await
    };
    for_target(target, ask).await
}

fn story(
    process: &ProcessExits,
    shown: Shown,
    now: Timestamp,
    stamp: &mut Stamp,
    palette: Palette,
) -> String {
    let title = palette.paint(
        Paint::Head,
        &format!("{} ({})", process.name, process.pm_id),
    );
    let word = process.status.as_str();
    let status = palette.paint(process_table::colour(process.status), word);
    if process.exits.is_empty() {
        return match &process.reason {
            Some(reason) => format!(
                "{title} is {status}, and no run of it has ended: {}\n",
                tame(reason)
            ),
            None => format!("{title} has not ended yet; it is {status}\n"),
        };
    }
    let since = match process.status {
        Status::Online => {
            let uptime = process_table::uptime(process.status, process.started_at, now);
            format!(" for {uptime}")
        }
        _ => String::new(),
    };
    let restarts = match process.restarts {
        1 => "1 restart".to_owned(),
        number => format!("{number} restarts"),
    };
    let mut text = format!("{title} · {status}{since}, {restarts}\n");
    let newest = process.exits.iter().position(has_lines).unwrap_or(0);
    for (at, exit) in process.exits.iter().enumerate() {
        let decision = tame(&exit.decision);
        let decision = match exit.next {
            Next::Errored => palette.paint(Paint::Bad, &decision),
            Next::Started | Next::Waits | Next::Stopped | Next::Replaced => decision,
        };
        let (number, time) = (at + 1, stamp.text(exit.at));
        text += &format!("{number:>2}. {time}  {}\n", tame(&headline(exit)));
        text += &format!("{INDENT}→ {decision}\n");
        if shown.lines > 0 && (shown.of_all || at == newest) {
            text += &last_lines(exit, shown.lines, palette);
        }
    }
    text
}

fn has_lines(exit: &PastExit) -> bool {
    !exit.out_lines.is_empty() || !exit.error_lines.is_empty()
}

/// `exited with code 1 after 4.2 s · peak 84.0mb · by itself`.
fn headline(exit: &PastExit) -> String {
    let how = match (exit.code, &exit.signal) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("was ended by {signal}"),
        (None, None) if exit.asked_by == Who::Unwatched => "was found dead".to_owned(),
        (None, None) => "ended, and nobody can know how".to_owned(),
    };
    let after = exit.uptime_ms.map_or_else(String::new, |ms| {
        format!(" after {}", lasted(Duration::from_millis(ms)))
    });
    let peak = match exit.peak_memory {
        Some(bytes) => format!(" · peak {}", units::memory(bytes)),
        None if exit.asked_by == Who::Unwatched => String::new(),
        None => " · peak -".to_owned(),
    };
    format!("{how}{after}{peak} · {}", who(exit))
}

fn lasted(time: Duration) -> String {
    if time < LONG {
        units::took(time)
    } else {
        units::uptime(time)
    }
}

/// Who wanted it to end, and what they said.
fn who(exit: &PastExit) -> String {
    let who = match exit.asked_by {
        Who::Itself if exit.signal.is_some() => "nobody here asked for it",
        Who::Itself => "by itself",
        Who::Start => "asked by `start`",
        Who::Stop => "asked by `stop`",
        Who::Restart => "asked by `restart`",
        Who::Reload => "asked by `reload`",
        Who::Delete => "asked by `delete`",
        Who::Health => "asked by its health checks",
        Who::Memory => "asked by its memory limit",
        Who::Clock => "asked by the clock",
        Who::Files => "asked by a watched file",
        Who::Daemon => "the daemon ended",
        Who::Unwatched => "no daemon was running",
    };
    let why = exit.asked_why.as_ref();
    why.map_or_else(|| who.to_owned(), |why| format!("{who}: {why}"))
}

fn last_lines(exit: &PastExit, count: usize, palette: Palette) -> String {
    if !has_lines(exit) {
        let why = match exit.no_lines {
            None => "it wrote nothing",
            Some(NoLines::NoFile) => "its output goes to no file",
            Some(NoLines::TooOften) => "its last lines were not read: it ends too often",
            Some(NoLines::Unread) => "its last lines could not be read",
            Some(NoLines::Unstored) => "its last lines could not be stored",
        };
        return format!("{INDENT}{}\n", palette.paint(Paint::Dim, why));
    }
    let mut text = String::new();
    for (name, lines) in [
        ("standard error", &exit.error_lines),
        ("standard output", &exit.out_lines),
    ] {
        if lines.is_empty() {
            continue;
        }
        let doubt = if exit.may_be_older { OLDER } else { "" };
        let title = format!("{name}{doubt}");
        text += &format!("{INDENT}{}\n", palette.paint(Paint::Dim, &title));
        for line in &lines[lines.len().saturating_sub(count)..] {
            text += &format!("{INDENT}| {}\n", tame(line));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn process(exits: &serde_json::Value) -> ProcessExits {
        let process = json!({
            "pmId": 3, "name": "web", "instance": 0, "status": "online", "reason": null,
            "restarts": 5, "startedAt": "2026-11-26T10:14:03Z", "exits": exits
        });
        serde_json::from_value(process).unwrap()
    }

    fn told(process: &ProcessExits, of_all: bool, lines: usize) -> String {
        let shown = Shown { of_all, lines };
        let now = "\"2026-11-26T10:16:04Z\"";
        let now: Timestamp = serde_json::from_str(now).unwrap();
        let mut stamp = Stamp::new(TIME, TimeZone::UTC);
        story(process, shown, now, &mut stamp, Palette::PLAIN)
    }

    /// By itself with code 1, then by `stop`.
    fn two() -> ProcessExits {
        process(&json!([
            {
                "at": "2026-11-26T10:14:02.5Z", "pid": 7, "code": 1, "signal": null,
                "askedBy": "itself", "askedWhy": null, "uptimeMs": 4200, "peakMemory": 88_080_384,
                "next": "waits", "decision": "to be started again after 1500 ms",
                "outLines": ["one", "two"], "errorLines": ["a\u{1b}[2Jb"], "noLines": null
            },
            {
                "at": "2026-11-25T10:14:02Z", "pid": 6, "code": null, "signal": "SIGINT",
                "askedBy": "stop", "askedWhy": null, "uptimeMs": 7_200_000, "peakMemory": null,
                "next": "stopped", "decision": "stopped, as asked",
                "outLines": [], "errorLines": [], "noLines": "no_file"
            }
        ]))
    }

    #[test]
    fn the_newest_exit_comes_first_and_with_its_lines() {
        let expected = "\
web (3) · online for 2m, 5 restarts
 1. 2026-11-26 10:14:02  exited with code 1 after 4.2 s · peak 84.0mb · by itself
    → to be started again after 1500 ms
    standard error
    | a [2Jb
    standard output
    | one
    | two
 2. 2026-11-25 10:14:02  was ended by SIGINT after 2h · peak - · asked by `stop`
    → stopped, as asked
";
        assert_eq!(told(&two(), false, LINES_MAX), expected);
    }

    #[test]
    fn lines_that_may_be_of_an_earlier_run_are_told_as_that() {
        let mut process = two();
        process.exits[0].may_be_older = true;
        let text = told(&process, false, LINES_MAX);
        let title = "standard error (which of it is of earlier runs cannot be told)\n";
        assert!(text.contains(title), "{text}");
    }

    #[test]
    fn more_or_fewer_lines_are_shown_when_asked_for() {
        let all = told(&two(), true, 1);
        assert!(all.ends_with("    its output goes to no file\n"), "{all}");
        assert!(all.contains("| two") && !all.contains("| one"), "{all}");
        let none = told(&two(), true, 0);
        assert!(!none.contains('|') && !none.contains("no file"), "{none}");
    }

    #[test]
    fn who_wanted_it_says_why() {
        let mut exit = two().exits.remove(0);
        exit.asked_by = Who::Files;
        exit.asked_why = Some("app.js has changed".to_owned());
        let files = "asked by a watched file: app.js has changed";
        assert!(headline(&exit).ends_with(files));
        exit.asked_by = Who::Unwatched;
        (exit.code, exit.asked_why, exit.uptime_ms) = (None, None, None);
        exit.peak_memory = None;
        assert_eq!(headline(&exit), "was found dead · no daemon was running");
    }

    #[test]
    fn one_that_never_ended_is_told_in_a_sentence() {
        let mut never = process(&json!([]));
        let text = told(&never, false, LINES_MAX);
        assert_eq!(text, "web (3) has not ended yet; it is online\n");
        never.status = Status::Errored;
        never.reason = Some("there is no `/x`".to_owned());
        let text = told(&never, false, LINES_MAX);
        let expected = "web (3) is errored, and no run of it has ended: there is no `/x`\n";
        assert_eq!(text, expected);
    }
}
