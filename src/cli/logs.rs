//! `mcpm logs`: the last lines of each log file, then what arrives.

use jiff::tz::TimeZone;

use crate::api::daemon::DaemonInfo;
use crate::api::logs::LogEvent;
use crate::control::client::{Client, Lines, segment};
use crate::ids::Timestamp;

use super::exit::Exit;
use super::log_text::{LogText, Shape};
use super::render::Output;
use super::session::Session;
use super::style::Palette;

/// Lines of history per file, as PM2.
const HISTORY: usize = 15;
/// Bytes that are collected before they are printed, while more keeps arriving.
const BATCH: usize = 64 * 1024;

/// Said when the daemon that went could not give all that it had.
const CUT_OFF: &str =
    "the daemon ended before it had sent all lines: some may be missing here; the files have them";

/// Of `--timestamp`, as in PM2.
const TIMESTAMP: &str = "YYYY-MM-DD-HH:mm:ss";

/// Arguments of `logs`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Names, ids, namespaces, `all`, `/regex/`, or `PM2` for the daemon's own log
    #[arg(default_value = "all")]
    targets: Vec<String>,
    /// Lines of history per file [default: 15, with --json or --format 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    lines: Option<i64>,
    /// Print the history and end
    #[arg(long)]
    nostream: bool,
    /// Follow, which is the default
    #[arg(short, long, conflicts_with = "nostream")]
    follow: bool,
    /// Standard error only
    #[arg(long)]
    err: bool,
    /// Standard output only
    #[arg(long, conflicts_with = "err")]
    out: bool,
    /// Lines only, without prefixes; those of standard error to stderr
    #[arg(long)]
    raw: bool,
    /// One JSON object per line
    #[arg(long, conflicts_with = "raw")]
    json: bool,
    /// `timestamp=… app=… id=… type=… message=…`
    #[arg(long, conflicts_with_all = ["raw", "json"])]
    format: bool,
    /// Time of arrival before what arrives, in dayjs's tokens
    #[arg(long, value_name = "FORMAT", num_args = 0..=1, default_missing_value = TIMESTAMP)]
    timestamp: Option<String>,
    /// Marks this word where it comes first in a line
    #[arg(long, value_name = "WORD", num_args = 0..=1, default_missing_value = "")]
    highlight: Option<String>,
}

impl Args {
    /// A negative number means its absolute, as in PM2.
    fn history(&self) -> usize {
        let default = if (self.json || self.format) && !self.nostream {
            0
        } else {
            HISTORY
        };
        self.lines.map_or(default, |n| {
            usize::try_from(n.unsigned_abs()).unwrap_or(usize::MAX)
        })
    }

    fn path(&self) -> String {
        self.path_with(self.history())
    }

    /// What has come since another daemon has taken over, without a gap.
    fn path_to_go_on(&self) -> String {
        format!("{}&resume=true", self.path_with(0))
    }

    fn path_with(&self, lines: usize) -> String {
        let stream = match (self.out, self.err) {
            (true, _) => "&stream=out",
            (_, true) => "&stream=error",
            _ => "",
        };
        let is_all = self.targets.iter().any(|target| target == "all");
        let is_plain = !self.raw && !self.json && stream.is_empty();
        let own = if is_all && is_plain {
            "&daemon=true"
        } else {
            ""
        };
        let target = segment(&self.targets.join("\n"));
        let follow = !self.nostream;
        format!("/api/v1/admin/logs?target={target}&lines={lines}&follow={follow}{stream}{own}")
    }

    fn shape(&self, palette: Palette) -> Shape {
        match self {
            Self { raw: true, .. } => Shape::Raw,
            Self { json: true, .. } => Shape::Json,
            Self { format: true, .. } => Shape::Format,
            _ => Shape::Prefixed(palette),
        }
    }
}

/// `start --attach`: what these write from now on, until Ctrl-C.
pub(crate) async fn attach(targets: Vec<String>, session: &Session) -> anyhow::Result<Exit> {
    let args = Args {
        targets,
        lines: Some(0),
        nostream: false,
        follow: true,
        err: false,
        out: false,
        raw: false,
        json: false,
        format: false,
        timestamp: None,
        highlight: None,
    };
    run(args, session).await
}

/// Ends with Ctrl-C, or with the history when it was asked for alone.
pub(crate) async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    let output = &session.output;
    let mut daemon = session.daemon().await?;
    let info: DaemonInfo = daemon.get("/api/v1/admin/daemon").await?;
    let mut pid = info.pid;
    let mut events = daemon.stream::<LogEvent>(&args.path()).await?;
    let history = args.history();
    let shape = args.shape(output.palette());
    if matches!(shape, Shape::Prefixed(_)) && history > 0 {
        let and = if args.nostream {
            ""
        } else {
            ", then what arrives (Ctrl-C ends)"
        };
        let targets = args.targets.join(", ");
        output.line(format_args!(
            "[TAILING] last {history} lines of {targets}{and}"
        ))?;
    }
    let mut text = LogText::new(shape, history);
    if let Some(format) = &args.timestamp {
        text = text.with_arrival(format, TimeZone::system());
    }
    if let Some(word) = args.highlight.clone().filter(|word| !word.is_empty()) {
        text = text.with_highlight(word);
    }
    loop {
        let ended = print(&mut events, &mut text, output).await;
        if args.nostream {
            return ended.map(|()| Exit::Fine);
        }
        // Another daemon may have taken over, and goes on where this one has ended.
        let Some(mut next) = successor(session, &mut pid).await else {
            ended?;
            // The daemon may say goodbye before it goes.
            return Err(events.left().into());
        };
        if ended.is_err() {
            output.warning(CUT_OFF);
        }
        events = next.stream::<LogEvent>(&args.path_to_go_on()).await?;
    }
}

/// The daemon that has taken over from this one; `None` when none has.
async fn successor(session: &Session, pid: &mut u32) -> Option<Client> {
    let mut daemon = session.running_daemon().await.ok()?;
    let info: DaemonInfo = daemon.get("/api/v1/admin/daemon").await.ok()?;
    (std::mem::replace(pid, info.pid) != info.pid).then_some(daemon)
}

/// Prints what comes, to the end.
async fn print(
    events: &mut Lines<LogEvent>,
    text: &mut LogText,
    output: &Output,
) -> anyhow::Result<()> {
    while let Some(event) = events.next().await? {
        let now = Timestamp::now();
        text.add(&event, now);
        let mut batched = 0;
        // Printed in few pieces while much arrives, and at once when nothing more has.
        while batched < BATCH
            && let Some(event) = events.buffered()?
        {
            text.add(&event, now);
            batched += 1024;
        }
        let (out, error) = text.take();
        output.data(&out)?;
        if !error.is_empty() {
            output.data_to_stderr(&error)?;
        }
    }
    Ok(())
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

    fn path(line: &str) -> String {
        Line::try_parse_from(line.split(' ')).unwrap().args.path()
    }

    #[test]
    fn options_become_the_question() {
        let all = "/api/v1/admin/logs?target=all";
        assert_eq!(
            path("logs"),
            format!("{all}&lines=15&follow=true&daemon=true")
        );
        assert_eq!(
            path("logs -f --lines -3"),
            format!("{all}&lines=3&follow=true&daemon=true")
        );
        assert_eq!(
            path("logs all --nostream --err --lines 0"),
            format!("{all}&lines=0&follow=false&stream=error")
        );
        assert_eq!(path("logs --json"), format!("{all}&lines=0&follow=true"));
        assert_eq!(
            path("logs --json --nostream"),
            format!("{all}&lines=15&follow=false")
        );
    }

    #[test]
    fn several_targets_are_one_question() {
        assert!(path("logs web 3 --format").ends_with("target=web%0A3&lines=0&follow=true"));
        assert!(path("logs PM2 --timestamp").ends_with("target=PM2&lines=15&follow=true"));
    }

    #[test]
    fn the_next_daemon_is_asked_to_go_on_where_the_last_one_has_ended() {
        let line = Line::try_parse_from(["logs", "web", "--raw", "--lines", "9"]).unwrap();
        let expected = "/api/v1/admin/logs?target=web&lines=0&follow=true&resume=true";
        assert_eq!(line.args.path_to_go_on(), expected);
    }

    #[test]
    fn a_name_can_be_anything() {
        assert!(path("logs a/b&c").contains("target=a%2Fb%26c&"));
    }
}
