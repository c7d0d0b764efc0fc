//! `mcpm attach`: the terminal as a process's own, for a while.
//!
//! What is typed goes line by line to its standard input, what it writes comes out as it is. The
//! process knows nothing of it and goes on when one leaves.

use std::io::{BufRead, BufReader, Read};

use anyhow::{bail, ensure};
use tokio::sync::mpsc;

use crate::api::List;
use crate::api::logs::LogEvent;
use crate::api::outcomes::Outcome;
use crate::api::process_orders::SendRequest;
use crate::api::processes::Process;
use crate::control::client::Client;
use crate::ids::Timestamp;

use super::exit::Exit;
use super::list;
use super::log_text::{LogText, Shape};
use super::render::Output;
use super::session::Session;

/// Lines that were typed and not sent yet. More wait in the terminal, or in the pipe before us.
const TYPED: usize = 16;
/// Longest line: what `send` takes.
const LINE_MAX: u64 = 64 * 1024 - 2;

/// Arguments of `attach`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Id or name of one process
    target: String,
}

/// Ends with the end of what is typed (Ctrl-D) or with Ctrl-C; the process goes on.
pub(crate) async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    let output = &session.output;
    let mut daemon = session.daemon().await?;
    let found = list::selected(&mut daemon, &args.target, false).await?;
    let process = only(&args.target, &found)?;
    ensure!(
        process.pid != 0,
        "{} ({}) does not run; `mcpm start {}` starts it",
        process.name,
        process.pm_id,
        process.pm_id
    );
    let target = process.pm_id.to_string();
    let path = format!("/api/v1/admin/logs?target={target}&lines=0&follow=true");
    let mut events = daemon.stream::<LogEvent>(&path).await?;
    // From here on nothing that it writes is missed.
    let mut typed = typed_lines()?;
    output.hint(format_args!(
        "attached to {} ({target}): lines go to its standard input; Ctrl-C or Ctrl-D leaves it running",
        process.name
    ));
    let mut text = LogText::new(Shape::Raw, 0);
    let mut exit = Exit::Fine;
    let mut left = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        tokio::select! {
            event = events.next() => {
                let Some(event) = event? else {
                    bail!("the daemon no longer tells what {} writes", process.name);
                };
                show(&event, &mut text, output)?;
            }
            line = typed.recv() => match line {
                Some(line) => exit = exit.and(send(&mut daemon, &target, line, output).await?),
                None => return Ok(exit),
            },
            left = &mut left => {
                left?;
                return Ok(exit);
            }
        }
    }
}

/// The one process that a word means.
fn only<'a>(word: &str, found: &'a [Process]) -> anyhow::Result<&'a Process> {
    match found {
        [one] => Ok(one),
        [] => bail!("there is no such process"),
        several => {
            let ids: Vec<String> = several.iter().map(|p| p.pm_id.to_string()).collect();
            bail!(
                "`{word}` means {} processes; name one by its id: {}",
                several.len(),
                ids.join(", ")
            )
        }
    }
}

fn show(event: &LogEvent, text: &mut LogText, output: &Output) -> anyhow::Result<()> {
    text.add(event, Timestamp::now());
    let (out, error) = text.take();
    output.data(&out)?;
    if !error.is_empty() {
        output.data_to_stderr(&error)?;
    }
    Ok(())
}

async fn send(
    daemon: &mut Client,
    target: &str,
    line: String,
    output: &Output,
) -> anyhow::Result<Exit> {
    let request = SendRequest {
        target: target.to_owned(),
        line,
    };
    let path = "/api/v1/admin/processes/send";
    let outcomes: List<Outcome> = daemon.post(path, &request).await?;
    let failed = outcomes.items.into_iter().find_map(|outcome| outcome.error);
    if let Some(error) = &failed {
        output.failed(error);
    }
    Ok(Exit::fine_if(failed.is_none()))
}

/// Lines of our own standard input, read by a thread of its own: nothing else can wait for a
/// terminal. It ends with the program.
fn typed_lines() -> std::io::Result<mpsc::Receiver<String>> {
    let (sender, lines) = mpsc::channel(TYPED);
    let read = move || {
        let mut input = BufReader::new(std::io::stdin().lock());
        loop {
            let mut line = Vec::new();
            match input.by_ref().take(LINE_MAX).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let line = String::from_utf8_lossy(&line);
            let line = line.strip_suffix('\n').unwrap_or(&line);
            if sender.blocking_send(line.to_owned()).is_err() {
                return;
            }
        }
    };
    let thread = std::thread::Builder::new().name("mcpm-typed".into());
    thread.spawn(read)?;
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::samples::process;

    #[test]
    fn a_word_must_mean_one_process() {
        let found = [process(3, "web"), process(4, "web")];
        assert!(only("web", &found[..1]).is_ok());
        let refused = only("web", &found).unwrap_err().to_string();
        assert!(refused.ends_with("by its id: 3, 4"), "{refused}");
        assert!(only("web", &[]).is_err());
    }
}
