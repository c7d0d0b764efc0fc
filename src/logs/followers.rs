//! Those who follow what arrives: all of them are told each line when it is stored.
//!
//! Who follows a daemon that hands over hears all that this one has read, and then the end; the next
//! daemon reads on behind that, and they come to it a moment later. So it keeps for a while what it
//! has told, and gives it to them first. One lock sees to it that a line is either kept when they come
//! or still to be told: none is missed, and none told twice.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::time::Instant;

use super::capture::{Line, Missed, Origin};
use super::lines;

/// Lines a follower may be behind before it loses the oldest.
const LINES: usize = 16 * 1024;
/// For so long a daemon that takes over waits for those who followed the one before.
const KEPT_FOR: Duration = Duration::from_secs(60);
/// So much is kept for them, in bytes; of more the oldest lines are dropped, and counted.
const KEPT_MAX: usize = 4 * 1024 * 1024;
/// What a line costs beside its text, in bytes.
const LINE_COST: usize = 128;

/// All who follow; clones are the same ones.
#[derive(Clone, Default)]
pub(super) struct Followers(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// There while somebody follows: its places take half a megabyte.
    live: Option<broadcast::Sender<Arc<Line>>>,
    /// Nothing more is told.
    is_over: bool,
    kept: Option<Kept>,
}

/// What was told since this daemon took over.
struct Kept {
    until: Instant,
    lines: VecDeque<Arc<Line>>,
    bytes: usize,
    /// Lines for which there was no room.
    dropped: Missed,
}

/// What somebody gets who follows.
#[derive(Debug)]
pub struct Following {
    /// So many lines have come before the others and are not here.
    pub missed: Missed,
    /// What has arrived already.
    pub earlier: Vec<Arc<Line>>,
    /// What arrives from now on.
    pub live: broadcast::Receiver<Arc<Line>>,
}

impl From<broadcast::Receiver<Arc<Line>>> for Following {
    fn from(live: broadcast::Receiver<Arc<Line>>) -> Self {
        Self {
            missed: 0,
            earlier: Vec::new(),
            live,
        }
    }
}

impl Followers {
    /// Hands the lines of a piece to all of them.
    pub(super) fn tell(&self, origin: &Origin, piece: &[u8]) {
        let mut state = self.lock();
        state.forget_what_is_old();
        state.leave();
        let State { live, kept, .. } = &mut *state;
        if kept.is_none() && live.is_none() {
            return;
        }
        for line in lines::split(piece) {
            let line = Arc::new(Line {
                origin: origin.clone(),
                bytes: line.to_vec(),
            });
            if let Some(kept) = kept.as_mut() {
                kept.add(line.clone());
            }
            if let Some(live) = live.as_ref() {
                let _ = live.send(line);
            }
        }
    }

    /// What arrives from now on.
    pub(super) fn follow(&self) -> broadcast::Receiver<Arc<Line>> {
        self.lock().follow()
    }

    /// What has arrived since this daemon took over, and what arrives from now on.
    pub(super) fn follow_on(&self) -> Following {
        let mut state = self.lock();
        state.forget_what_is_old();
        let live = state.follow();
        match &state.kept {
            Some(kept) => Following {
                missed: kept.dropped,
                earlier: kept.lines.iter().cloned().collect(),
                live,
            },
            None => Following::from(live),
        }
    }

    /// What is told from now on is kept for a while.
    pub(super) fn expect(&self) {
        self.lock().kept = Some(Kept {
            until: Instant::now() + KEPT_FOR,
            lines: VecDeque::new(),
            bytes: 0,
            dropped: 0,
        });
    }

    /// Nothing more is told: they get what they have not taken yet, and then the end.
    pub(super) fn dismiss(&self) {
        let mut state = self.lock();
        state.live = None;
        state.is_over = true;
        state.kept = None;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn follow(&mut self) -> broadcast::Receiver<Arc<Line>> {
        if self.is_over {
            // One that has ended.
            return broadcast::channel(1).1;
        }
        let live = self.live.get_or_insert_with(|| broadcast::channel(LINES).0);
        live.subscribe()
    }

    /// Gives up what the last one has left who followed.
    fn leave(&mut self) {
        self.live = self.live.take().filter(|live| live.receiver_count() > 0);
    }

    fn forget_what_is_old(&mut self) {
        if self
            .kept
            .as_ref()
            .is_some_and(|kept| Instant::now() >= kept.until)
        {
            self.kept = None;
        }
    }
}

impl Kept {
    fn add(&mut self, line: Arc<Line>) {
        self.bytes += cost(&line);
        self.lines.push_back(line);
        while self.bytes > KEPT_MAX
            && let Some(oldest) = self.lines.pop_front()
        {
            self.bytes -= cost(&oldest);
            self.dropped += 1;
        }
    }
}

fn cost(line: &Line) -> usize {
    line.bytes.len() + LINE_COST
}

#[cfg(test)]
mod tests {
    use tokio::sync::broadcast::error::TryRecvError;

    use super::*;

    fn texts(following: &mut Following) -> Vec<String> {
        let mut lines = std::mem::take(&mut following.earlier);
        while let Ok(line) = following.live.try_recv() {
            lines.push(line);
        }
        let text = |line: &Arc<Line>| String::from_utf8_lossy(&line.bytes).into_owned();
        lines.iter().map(text).collect()
    }

    #[test]
    fn who_followed_the_daemon_before_gets_all_that_this_one_has_told_and_others_do_not() {
        let followers = Followers::default();
        followers.tell(&Origin::Daemon, b"nobody is there\n");
        followers.expect();
        followers.tell(&Origin::Daemon, b"one\ntwo\n");
        let mut stranger = Following::from(followers.follow());
        let mut known = followers.follow_on();
        followers.tell(&Origin::Daemon, b"three\n");
        assert_eq!(texts(&mut known), ["one", "two", "three"]);
        assert_eq!(
            (known.missed, texts(&mut stranger)),
            (0, vec!["three".to_owned()])
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_is_given_back_after_a_while() {
        let followers = Followers::default();
        followers.expect();
        followers.tell(&Origin::Daemon, b"one\n");
        tokio::time::advance(KEPT_FOR).await;
        let mut late = followers.follow_on();
        followers.tell(&Origin::Daemon, b"two\n");
        assert_eq!(texts(&mut late), ["two"]);
        assert!(followers.lock().kept.is_none());
    }

    #[test]
    fn more_than_there_is_room_for_is_counted() {
        let followers = Followers::default();
        followers.expect();
        let line = [vec![b'x'; KEPT_MAX / 4], vec![b'\n']].concat();
        for _ in 0..6 {
            followers.tell(&Origin::Daemon, &line);
        }
        let following = followers.follow_on();
        assert_eq!((following.missed, following.earlier.len()), (3, 3));
    }

    #[test]
    fn who_is_dismissed_gets_what_was_told_and_then_the_end() {
        let followers = Followers::default();
        let mut live = followers.follow();
        followers.tell(&Origin::Daemon, b"one\n");
        followers.dismiss();
        followers.tell(&Origin::Daemon, b"two\n");
        assert_eq!(live.try_recv().unwrap().bytes, b"one");
        assert_eq!(live.try_recv(), Err(TryRecvError::Closed));
        assert_eq!(followers.follow().try_recv(), Err(TryRecvError::Closed));
    }
}
