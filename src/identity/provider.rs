//! One provider: the task that owns its keys, and the handle that tokens are checked with.
//!
//! The task is the only one that asks for keys: by its own plan, and when a token wants one that is not
//! there. Everybody else reads what it has published. While keys cannot be had, the last ones count
//! (`pace.rs` says how long).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::denied::Denied;
use super::keys::Keys;
use super::pace::{Age, Pace};
use super::source::{Source, SourceError};
use super::token::Unverified;
use crate::config::identity::ProviderSpec;
use crate::problem::chain;

/// How long a request waits for keys that are being asked for.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the task publishes.
#[derive(Debug)]
struct State {
    keys: Arc<Keys>,
    age: Age,
    /// Counts changes of the keys.
    generation: u64,
    /// Counts what was tried.
    attempts: u64,
    /// Why the last try came to nothing; `None` when it did not.
    trouble: Option<String>,
}

/// One provider.
pub(super) struct Provider {
    pub(super) spec: ProviderSpec,
    pace: &'static Pace,
    state: watch::Receiver<State>,
    asked: Arc<Notify>,
}

impl Provider {
    /// The provider, and the life of the task that keeps its keys.
    pub(super) fn new(spec: ProviderSpec) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let source = Source::of(&spec);
        let pace = source.pace();
        let (publish, state) = watch::channel(State {
            keys: Arc::new(Keys::Public(Vec::new())),
            age: Age::default(),
            generation: 0,
            attempts: 0,
            trouble: None,
        });
        let asked = Arc::new(Notify::new());
        let keeper = Keeper {
            issuer: spec.issuer.clone(),
            source,
            pace,
            publish,
            asked: Arc::clone(&asked),
        };
        let provider = Self {
            spec,
            pace,
            state,
            asked,
        };
        (provider, keeper.run())
    }

    /// Was this token signed by the provider? Answers with the generation of the keys. Waits, for a few
    /// seconds at most, where keys may be asked for now.
    ///
    /// # Errors
    /// It was not, or nothing can be said.
    pub(super) async fn verify(&self, token: &Unverified<'_>) -> Result<u64, Denied> {
        self.look().await;
        match self.try_verify(token) {
            Err(Denied::Key | Denied::NoKeys) => {
                self.ask().await;
                self.try_verify(token)
            }
            decided => decided,
        }
    }

    fn try_verify(&self, token: &Unverified<'_>) -> Result<u64, Denied> {
        let (keys, generation) = self.keys().ok_or(Denied::NoKeys)?;
        keys.verify(token)?;
        Ok(generation)
    }

    /// Of the keys that count now; `None` when none do.
    pub(super) fn generation(&self) -> Option<u64> {
        self.keys().map(|(_, generation)| generation)
    }

    fn keys(&self) -> Option<(Arc<Keys>, u64)> {
        let state = self.state.borrow();
        let usable = state.age.is_usable(self.pace, Instant::now());
        usable.then(|| (Arc::clone(&state.keys), state.generation))
    }

    /// Before a token is believed: where that costs a look at a file, has it looked at.
    pub(super) async fn look(&self) {
        if self.pace.looks_first {
            self.ask().await;
        }
    }

    /// Has keys asked for, when that may be now, and waits for the outcome. However many ask, they are
    /// asked for once.
    async fn ask(&self) {
        let mut state = self.state.clone();
        let before = {
            let seen = state.borrow_and_update();
            if !seen.age.may_ask(self.pace, Instant::now()) {
                return;
            }
            seen.attempts
        };
        self.asked.notify_one();
        let tried = state.wait_for(|state| state.attempts != before);
        // Whatever came of it stands in the state.
        let _ = timeout(PATIENCE, tried).await.is_ok();
    }

    /// What an operator should act on.
    pub(super) fn trouble(&self) -> Option<String> {
        let state = self.state.borrow();
        let trouble = state.trouble.as_ref()?;
        let usable = state.age.is_usable(self.pace, Instant::now());
        let what_counts = if usable {
            "the last ones count for a day"
        } else {
            "its tokens are refused"
        };
        let issuer = &self.spec.issuer;
        Some(format!(
            "the keys of the identity provider `{issuer}` cannot be had, {what_counts}: {trouble}"
        ))
    }
}

/// The task.
struct Keeper {
    issuer: String,
    source: Source,
    pace: &'static Pace,
    publish: watch::Sender<State>,
    asked: Arc<Notify>,
}

impl Keeper {
    /// Keeps the keys until it is dropped.
    async fn run(mut self) {
        loop {
            let due = self.publish.borrow().age.due(self.pace);
            tokio::select! {
                () = until(due) => {}
                () = self.asked.notified() => {
                    if !self.publish.borrow().age.may_ask(self.pace, Instant::now()) {
                        continue;
                    }
                }
            }
            let loaded = self.source.load().await;
            self.settle(loaded);
        }
    }

    fn settle(&self, loaded: Result<Option<Keys>, SourceError>) {
        let issuer = &self.issuer;
        let now = Instant::now();
        self.publish.send_modify(|state| {
            state.attempts += 1;
            match loaded {
                Ok(found) => {
                    if state.trouble.take().is_some() {
                        tracing::info!(%issuer, "the keys of an identity provider can be had again");
                    }
                    state.age.had(now);
                    if found.as_ref().is_some_and(|keys| keys.count() == 0) {
                        tracing::warn!(
                            %issuer,
                            "an identity provider has no key that can be used: `RS256` wants RSA of \
                             2,048 bits or more, `ES256` P-256"
                        );
                    }
                    let changed = found.filter(|keys| !keys.is_same(&state.keys));
                    if let Some(keys) = changed {
                        let count = keys.count();
                        tracing::info!(%issuer, count, "keys of an identity provider");
                        state.keys = Arc::new(keys);
                        state.generation += 1;
                    }
                }
                Err(error) => {
                    let trouble = chain(&error);
                    if state.trouble.as_ref() != Some(&trouble) {
                        tracing::warn!(%issuer, error = %trouble, "cannot get the keys of an identity provider; trying on");
                    }
                    state.age.failed(now);
                    state.trouble = Some(trouble);
                }
            }
        });
    }
}

async fn until(due: Option<Instant>) {
    if let Some(due) = due {
        sleep_until(due).await;
    }
}
