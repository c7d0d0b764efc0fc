//! Tokens in use: when each was used last, and who must let go when one ends.
//!
//! A token that has opened something has a [`LiveToken`] here, at least until its last use is
//! written. Only valid tokens come in, so there are never more than there are tokens that open
//! something. Whether a token is valid is the store's to say, at each use.
//!
//! Invariant: who holds a [`LiveToken`] hears of its end. A look-up that began before a token
//! ended and is finished after it gets none (`enter` compares how many have ended).

use std::collections::HashMap;
use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, broadcast};

use crate::ids::Timestamp;
use crate::store::{LastUse, TokenRow};

/// News that wait for whoever passes them on. Who is further behind has missed some, and is told so.
const NEWS_MAX: usize = 64;

/// A token that has opened something.
pub struct LiveToken {
    /// Its number; `None` for the JWT of an identity provider.
    pub number: Option<i64>,
    /// From when on it opens nothing.
    pub expires_at: Option<Timestamp>,
    ended: AtomicBool,
    news: Notify,
    last_use: LastUse,
}

impl LiveToken {
    fn new(row: &TokenRow) -> Self {
        Self {
            number: Some(row.number),
            expires_at: row.expires_at,
            ended: AtomicBool::new(false),
            news: Notify::new(),
            last_use: LastUse::new(row.last_used_at),
        }
    }

    /// A JWT that is good until then. Nobody revokes it, so nobody here knows of it but who holds it.
    pub(super) fn outside(until: Timestamp) -> Arc<Self> {
        Arc::new(Self {
            number: None,
            expires_at: Some(until),
            ended: AtomicBool::new(false),
            news: Notify::new(),
            last_use: LastUse::new(None),
        })
    }

    /// Has it been revoked, or has its time come while somebody waited for that?
    pub fn is_over(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Ends when the token does: what goes on in its name must stop then. Cancel-safe.
    pub async fn over(&self) {
        let mut news = pin!(self.news.notified());
        // Listen first, look second: nothing that happens in between is missed.
        news.as_mut().enable();
        if self.is_over() {
            return;
        }
        let Some(end) = self.expires_at else {
            return news.await;
        };
        let left = end.as_millis().saturating_sub(Timestamp::now().as_millis());
        let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
        tokio::select! {
            () = news => {}
            () = tokio::time::sleep(left) => self.end(),
        }
    }

    fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.news.notify_waiters();
    }
}

impl fmt::Debug for LiveToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            Some(number) => write!(f, "LiveToken({number})"),
            None => f.write_str("LiveToken(JWT)"),
        }
    }
}

/// All of them.
pub(super) struct Live {
    state: Mutex<State>,
    endings: broadcast::Sender<Vec<i64>>,
}

#[derive(Default)]
struct State {
    /// How often tokens have ended.
    epoch: u64,
    tokens: HashMap<i64, Arc<LiveToken>>,
}

impl Live {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::default(),
            endings: broadcast::Sender::new(NEWS_MAX),
        }
    }

    /// News of tokens that were ended by somebody: their numbers.
    pub(super) fn endings(&self) -> broadcast::Receiver<Vec<i64>> {
        self.endings.subscribe()
    }

    /// How often tokens have ended so far: to be asked before a token is looked up.
    pub(super) fn epoch(&self) -> u64 {
        self.lock().epoch
    }

    /// Notes that a valid token has opened something. `None` when tokens have ended since the
    /// look-up began: it may have been this one, so it must be looked up again.
    pub(super) fn enter(
        &self,
        row: &TokenRow,
        epoch: u64,
        now: Timestamp,
    ) -> Option<Arc<LiveToken>> {
        let mut state = self.lock();
        if state.epoch != epoch {
            return None;
        }
        let entry = state.tokens.entry(row.number);
        let token = entry.or_insert_with(|| Arc::new(LiveToken::new(row)));
        token.last_use.touch(now);
        Some(Arc::clone(token))
    }

    /// Tells all that hold these tokens to let go. To be called when the store has ended them.
    pub(super) fn end(&self, numbers: &[i64]) {
        if numbers.is_empty() {
            return;
        }
        let mut state = self.lock();
        state.epoch += 1;
        for number in numbers {
            // The entry stays until its last use is written.
            if let Some(token) = state.tokens.get(number) {
                token.end();
            }
        }
        drop(state);
        // It fails when nobody listens.
        let _ = self.endings.send(numbers.to_vec());
    }

    /// When a token was used last, as far as it is known here.
    pub(super) fn last_use(&self, number: i64) -> Option<Timestamp> {
        self.lock().tokens.get(&number)?.last_use.at()
    }

    /// The last uses that the store has not got.
    pub(super) fn unflushed(&self) -> Vec<(i64, Timestamp)> {
        let state = self.lock();
        let tokens = state.tokens.iter();
        tokens
            .filter_map(|(number, token)| Some((*number, token.last_use.unwritten()?)))
            .collect()
    }

    /// The store has got these. Forgets tokens whose last use is written and which nobody holds.
    pub(super) fn flushed(&self, written: &[(i64, Timestamp)]) {
        let mut state = self.lock();
        for (number, at) in written {
            if let Some(token) = state.tokens.get(number) {
                token.last_use.set_written(*at);
            }
        }
        // Others get one only under this lock, so that a count of one does not grow meanwhile.
        state.tokens.retain(|_, token| {
            token.last_use.unwritten().is_some() || Arc::strong_count(token) > 1
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::TokenOwner;

    const MINUTE: i64 = 60_000;
    const NOW: Timestamp = Timestamp::from_millis(7 * MINUTE + 1);

    fn row(number: i64) -> TokenRow {
        TokenRow {
            number,
            hash: [0; 32],
            owner: TokenOwner::Admin,
            name: None,
            created_at: Timestamp::from_millis(0),
            expires_at: None,
            revoked_at: None,
            last_used_at: None,
            owner_disabled: false,
        }
    }

    #[tokio::test]
    async fn whoever_holds_a_token_hears_of_its_end_and_of_no_others() {
        let live = Live::new();
        let mut news = live.endings();
        let one = live.enter(&row(1), live.epoch(), NOW).unwrap();
        let two = live.enter(&row(2), live.epoch(), NOW).unwrap();
        let waiting = Arc::clone(&one);
        let waiting = tokio::spawn(async move { waiting.over().await });
        tokio::task::yield_now().await;
        live.end(&[]);
        assert!(news.is_empty());
        live.end(&[1, 4711]);
        waiting.await.unwrap();
        one.over().await; // and for those who ask later
        assert!(one.is_over() && !two.is_over());
        assert_eq!(news.try_recv(), Ok(vec![1, 4711]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_whose_time_comes_is_over_for_those_who_wait() {
        let live = Live::new();
        let end = Timestamp::from_millis(Timestamp::now().as_millis() + 60_000);
        let dated = TokenRow {
            expires_at: Some(end),
            ..row(1)
        };
        let token = live.enter(&dated, live.epoch(), NOW).unwrap();
        let early = tokio::time::timeout(Duration::from_secs(30), token.over());
        assert!(early.await.is_err() && !token.is_over());
        token.over().await;
        assert!(token.is_over());
    }

    #[tokio::test(start_paused = true)]
    async fn a_jwt_is_over_when_its_provider_has_said() {
        let end = Timestamp::from_millis(Timestamp::now().as_millis() + 60_000);
        let token = LiveToken::outside(end);
        let early = tokio::time::timeout(Duration::from_secs(30), token.over());
        assert!(early.await.is_err() && !token.is_over());
        token.over().await;
        assert!(token.is_over());
    }

    #[test]
    fn a_look_up_that_an_end_overtook_is_done_again() {
        let live = Live::new();
        let before = live.epoch();
        live.end(&[1]);
        assert!(live.enter(&row(1), before, NOW).is_none());
        assert!(live.enter(&row(2), live.epoch(), NOW).is_some());
    }

    #[test]
    fn last_uses_are_kept_to_the_minute_until_they_are_written() {
        let live = Live::new();
        let minute = Timestamp::from_millis(7 * MINUTE);
        let held = live.enter(&row(1), live.epoch(), NOW).unwrap();
        drop(live.enter(&row(2), live.epoch(), NOW));
        assert_eq!(live.last_use(1), Some(minute));
        let mut fresh = live.unflushed();
        fresh.sort_unstable_by_key(|(number, _)| *number);
        assert_eq!(fresh, [(1, minute), (2, minute)]);
        // While they were written one was used again.
        let later = Timestamp::from_millis(8 * MINUTE);
        drop(live.enter(&row(2), live.epoch(), later));
        live.flushed(&fresh);
        assert_eq!(live.unflushed(), [(2, later)]);
        live.flushed(&[(2, later)]);
        assert_eq!(live.last_use(2), None, "it is the store's now");
        assert_eq!(live.last_use(1), Some(minute));
        drop(held);
        live.flushed(&[]);
        assert_eq!(live.last_use(1), None);
    }
}
