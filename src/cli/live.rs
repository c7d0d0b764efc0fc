//! Shows a start as it goes: lines that are redrawn in a terminal, plain lines in a pipe.
//!
//! `Board` is pure: it turns steps into text with cursor movements. Settled steps scroll up as
//! ordinary lines; only those under way are redrawn below them.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::api::List;
use crate::api::processes::Process;
use crate::control::client::Lines;
use crate::ids::PmId;

use super::progress::{Progress, Stage, Step};
use super::render::{Output, Size};
use super::style::{Paint, Palette, cut, pad, tame, width};

/// Between two frames of the spinner.
const FRAME: Duration = Duration::from_millis(80);
const SPINNER: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
/// Where a pipe is asked for a deadline, there is one; this stands for "none".
const FAR: Duration = Duration::from_secs(24 * 3600);

/// Follows the daemon's lists until each of these processes is settled. `limit` takes the place of
/// every service's own `start_timeout`.
///
/// # Errors
/// When the daemon goes away, or nobody reads what is printed.
pub(crate) async fn follow(
    ids: &[PmId],
    mut lists: Lines<List<Process>>,
    began: Instant,
    limit: Option<Duration>,
    output: &Output,
) -> anyhow::Result<Progress> {
    let first = lists.next().await?.ok_or_else(daemon_left)?.items;
    let mut progress = Progress::new(ids, &first, limit);
    let mut board = Board::new(&progress, output.palette());
    let mut changed = progress.observe(&first, began.elapsed());
    let live = output.is_live();
    let mut ticks = interval(FRAME);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        match output.size().filter(|_| live) {
            Some(size) => output.text(&board.frame(&progress.steps, &changed, size))?,
            None => output.text(&board.lines(&progress.steps, &changed))?,
        }
        if progress.is_settled() {
            return Ok(progress);
        }
        let deadline = began + progress.deadline().unwrap_or(FAR);
        changed = tokio::select! {
            list = lists.next() => {
                let list = list?.ok_or_else(daemon_left)?;
                progress.observe(&list.items, began.elapsed())
            }
            () = sleep_until(deadline) => progress.expire(began.elapsed()),
            _ = ticks.tick(), if live => {
                board.turn();
                Vec::new()
            }
        };
    }
}

fn daemon_left() -> anyhow::Error {
    anyhow::anyhow!("the daemon ended while the apps were starting; see its mcpm.log")
}

/// What has been drawn, and how steps look.
struct Board {
    palette: Palette,
    label_wide: usize,
    place_wide: usize,
    /// Lines under the settled ones that the next frame takes back.
    drawn: usize,
    turn: usize,
}

impl Board {
    fn new(progress: &Progress, palette: Palette) -> Self {
        let widest = |of: fn(&Step) -> usize| progress.steps.iter().map(of).max().unwrap_or(0);
        Self {
            palette,
            label_wide: widest(|step| width(&step.label)).min(40),
            place_wide: widest(|step| step.place.as_deref().map_or(0, width)),
            drawn: 0,
            turn: 0,
        }
    }

    fn turn(&mut self) {
        self.turn = (self.turn + 1) % SPINNER.len();
    }

    /// Changes as lines of their own; not each note of one that is tried again and again.
    fn lines(&self, steps: &[Step], changed: &[usize]) -> String {
        changed
            .iter()
            .filter(|&&at| steps[at].is_news())
            .map(|&at| self.line(&steps[at], "…", usize::MAX) + "\n")
            .collect()
    }

    /// Takes the last frame's lines back, prints what has settled, and draws what is under way.
    fn frame(&mut self, steps: &[Step], changed: &[usize], size: Size) -> String {
        let mut text = String::new();
        if self.drawn > 0 {
            // Up to the first drawn line, then clear from there to the end of the screen.
            text += &format!("\x1b[{}A\r\x1b[J", self.drawn);
        }
        for &at in changed.iter().filter(|&&at| steps[at].is_settled()) {
            text += &(self.line(&steps[at], "", usize::MAX) + "\n");
        }
        let busy: Vec<&Step> = steps.iter().filter(|step| !step.is_settled()).collect();
        // A line for what does not fit, and one for the cursor.
        let room = size.rows.saturating_sub(2).max(1);
        for step in busy.iter().take(room) {
            // One column stays free: a full line would wrap in some terminals.
            let line = self.line(step, SPINNER[self.turn], size.columns.saturating_sub(1));
            text += &(line + "\n");
        }
        self.drawn = busy.len().min(room);
        if busy.len() > room {
            text += &format!("… and {} more\n", busy.len() - room);
            self.drawn += 1;
        }
        text
    }

    fn line(&self, step: &Step, busy: &str, columns: usize) -> String {
        let (icon, paint) = match step.stage {
            Stage::Waiting(_) => (busy, Paint::Busy),
            Stage::Done(_) => ("✓", Paint::Good),
            Stage::Spare(_) => ("–", Paint::Dim),
            Stage::Failed(_) => ("✗", Paint::Bad),
        };
        let mut rest = pad(&cut(&step.label, self.label_wide), self.label_wide);
        if self.place_wide > 0 {
            let place = step.place.as_deref().unwrap_or_default();
            rest += &format!("  {}", pad(place, self.place_wide));
        }
        rest += &format!("  {}", tame(&step.note()));
        format!(
            "{} {}",
            self.palette.paint(paint, icon),
            cut(&rest, columns.saturating_sub(2))
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::processes::Readiness;
    use crate::cli::samples::service;

    const SIZE: Size = Size {
        columns: 60,
        rows: 10,
    };

    fn progress(services: &[(&str, Readiness)]) -> (Progress, Vec<Process>) {
        let list: Vec<Process> = (0..)
            .zip(services)
            .map(|(id, &(name, readiness))| {
                service(id, name, 49160 + u16::try_from(id).unwrap(), readiness)
            })
            .collect();
        let ids: Vec<_> = list.iter().map(|p| p.pm_id).collect();
        (Progress::new(&ids, &list, None), list)
    }

    #[test]
    fn a_pipe_gets_a_line_per_change() {
        let (mut progress, list) =
            progress(&[("demo", Readiness::Ready), ("figma", Readiness::Starting)]);
        let board = Board::new(&progress, Palette::PLAIN);
        let changed = progress.observe(&list, Duration::from_millis(41));
        let lines = board.lines(&progress.steps, &changed);
        assert_eq!(lines, "✓ demo   127.0.0.1:49160  ready in 41 ms\n");
    }

    #[test]
    fn a_terminal_keeps_what_is_settled_and_redraws_the_rest() {
        let (mut progress, list) =
            progress(&[("demo", Readiness::Ready), ("figma", Readiness::Starting)]);
        let mut board = Board::new(&progress, Palette::PLAIN);
        let first = board.frame(&progress.steps, &[], SIZE);
        assert_eq!(first.lines().count(), 2);
        assert!(!first.contains('\x1b'), "nothing to take back yet");
        let changed = progress.observe(&list, Duration::from_millis(41));
        let second = board.frame(&progress.steps, &changed, SIZE);
        let expected = "\x1b[2A\r\x1b[J✓ demo   127.0.0.1:49160  ready in 41 ms\n\
                        ⠋ figma  127.0.0.1:49161  starting\n";
        assert_eq!(second, expected);
    }

    #[test]
    fn more_than_the_screen_holds_is_counted() {
        let services = [("a", Readiness::Starting); 20];
        let (progress, _) = progress(&services);
        let mut board = Board::new(&progress, Palette::PLAIN);
        let frame = board.frame(
            &progress.steps,
            &[],
            Size {
                columns: 20,
                rows: 10,
            },
        );
        assert_eq!(frame.lines().count(), 9);
        assert!(frame.ends_with("… and 12 more\n"), "{frame}");
        assert!(frame.lines().all(|line| width(line) < 20), "{frame}");
    }
}
