//! Commands for several targets: each is asked for, told as it ends, and counted.

use std::path::Path;

use super::exit::{Exit, is_closed_pipe};
use super::render::Output;
use crate::control::client::ClientError;

/// How the targets of one command have ended so far.
pub(crate) struct Tally<'a> {
    output: &'a Output,
    exit: Exit,
    is_nothing_done: bool,
}

impl<'a> Tally<'a> {
    pub(crate) fn new(output: &'a Output) -> Self {
        Self {
            output,
            exit: Exit::Fine,
            is_nothing_done: true,
        }
    }

    /// One more has ended; what was wrong with it is told.
    ///
    /// # Errors
    /// What ends the whole command, see [`told`].
    pub(crate) fn add(&mut self, done: anyhow::Result<Exit>) -> anyhow::Result<()> {
        self.is_nothing_done &= done.is_err();
        self.exit = self.exit.and(told(done, self.output)?);
        Ok(())
    }

    /// All were refused: there is nothing to show.
    pub(crate) fn is_nothing_done(&self) -> bool {
        self.is_nothing_done
    }

    /// Failed when one of them did.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }
}

/// Asks for a target, as it was typed and, where nobody knows it, as the script that it may be.
///
/// # Errors
/// Those of the daemon; of the word as it was typed when both are unknown.
pub(crate) async fn for_target<T>(
    word: &str,
    mut ask: impl AsyncFnMut(&str) -> Result<T, ClientError>,
) -> Result<T, ClientError> {
    let answer = ask(word).await;
    let Some(script) = script_behind(word, answer.as_ref().err()) else {
        return answer;
    };
    match ask(&script).await {
        Err(again) if again.is("unknown_process") => answer,
        again => again,
    }
}

/// `stop app.js`, as in PM2: an unknown word may be a script's path as this shell sees it.
fn script_behind(word: &str, refusal: Option<&ClientError>) -> Option<String> {
    let unknown = refusal.is_some_and(|error| error.is("unknown_process"));
    if !unknown || !Path::new(word).is_file() {
        return None;
    }
    let path = std::path::absolute(word).ok()?;
    let path = path.into_os_string().into_string().ok()?;
    (path != word).then_some(path)
}

/// One target of several: what was wrong with it is told, and fails the command; only when nobody
/// listens any more, the daemon or our reader, is it the end.
pub(crate) fn told(done: anyhow::Result<Exit>, output: &Output) -> anyhow::Result<Exit> {
    match done {
        Err(error) if concerns_one_target(&error) => {
            output.error(format_args!("{error:#}"));
            Ok(Exit::Failed)
        }
        other => other,
    }
}

fn concerns_one_target(error: &anyhow::Error) -> bool {
    let answered = match error.downcast_ref::<ClientError>() {
        Some(ClientError::Refused(_)) | None => true,
        Some(_) => false,
    };
    answered && !is_closed_pipe(error)
}
