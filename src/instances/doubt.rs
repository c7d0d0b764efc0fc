//! When a credential is doubted, by what its service answers. Pure.
//!
//! A service that says 401 may mean the credential or the request. So the first 401 takes nothing from
//! anybody: it only makes earlier good answers of the external service worthless ([`Doubts`]). Several in a
//! row are a reason to ask that service again ([`Streak`]).

use std::collections::HashMap;
use std::time::Duration;

use crate::ids::{ServiceType, Timestamp, UserId};

/// So many refusals without a good answer between them are a reason to ask.
const IN_A_ROW: u32 = 3;
/// Within this; a client that calls once an hour is heard, too.
const WITHIN: Duration = Duration::from_secs(24 * 3600);
/// The external service is asked no more often than this about one instance.
const ASK_EVERY: Duration = Duration::from_secs(5 * 60);
/// Users and services that are told apart; beyond these all are doubted.
const DOUBTS_MAX: usize = 4096;

/// What a service has said lately to the requests of one instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Streak {
    count: u32,
    began: Option<Timestamp>,
    asked: Option<Timestamp>,
}

impl Streak {
    /// It has said 401. `true` when the external service is to be asked about the credential.
    pub(super) fn refused(&mut self, now: Timestamp) -> bool {
        let is_over = |began: Timestamp| !is_within(began, now, WITHIN);
        if self.began.is_none_or(is_over) {
            self.count = 0;
            self.began = Some(now);
        }
        self.count = self.count.saturating_add(1);
        let waits = self
            .asked
            .is_some_and(|asked| is_within(asked, now, ASK_EVERY));
        let asks = self.count >= IN_A_ROW && !waits;
        if asks {
            self.asked = Some(now);
        }
        asks
    }

    /// It has taken a request.
    pub(super) fn accepted(&mut self) {
        self.count = 0;
        self.began = None;
    }

    /// The question could not be put: the next refusal is a reason again.
    pub(super) fn not_asked(&mut self) {
        self.asked = None;
    }

    /// Takes over when the same instance was asked about last.
    pub(super) fn inherit(&mut self, older: &Self) {
        self.asked = self.asked.max(older.asked);
    }

    /// Since when it has said nothing but 401, when that is often enough to be told.
    pub(super) fn refuses_since(&self) -> Option<Timestamp> {
        self.began.filter(|_| self.count >= IN_A_ROW)
    }
}

/// Is it not longer ago? A clock that was set back makes no wait.
fn is_within(then: Timestamp, now: Timestamp, limit: Duration) -> bool {
    let passed = now.as_millis().saturating_sub(then.as_millis());
    u128::try_from(passed).is_ok_and(|passed| passed < limit.as_millis())
}

/// From when on good answers of external services count: those from before the last 401 do not.
#[derive(Debug)]
pub(super) struct Doubts {
    /// Nobody knows what was said before: another daemon may have heard it.
    floor: Timestamp,
    last: HashMap<(UserId, ServiceType), Timestamp>,
}

impl Doubts {
    /// Nothing from before counts.
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            floor: now,
            last: HashMap::new(),
        }
    }

    /// A service has said 401 to this user's credential.
    pub(super) fn add(&mut self, user: &UserId, service: &ServiceType, now: Timestamp) {
        if self.last.len() >= DOUBTS_MAX {
            self.last.clear();
            self.floor = self.floor.max(now);
        }
        self.last.insert((user.clone(), service.clone()), now);
    }

    /// Does a good answer count that was asked for then?
    pub(super) fn admits(&self, user: &UserId, service: &ServiceType, asked_at: Timestamp) -> bool {
        let last = self.last.get(&(user.clone(), service.clone()));
        asked_at > self.floor && last.is_none_or(|last| asked_at > *last)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn three_in_a_row_are_a_reason_once_in_five_minutes() {
        let mut streak = Streak::default();
        let asks: Vec<bool> = (0..5).map(|n| streak.refused(at(n))).collect();
        assert_eq!(asks, [false, false, true, false, false]);
        assert_eq!(streak.refuses_since(), Some(at(0)));
        assert!(!streak.refused(at(301)), "299 s after the question");
        assert!(streak.refused(at(302)));
        streak.not_asked();
        assert!(streak.refused(at(303)));
    }

    #[test]
    fn a_good_answer_between_begins_anew() {
        let mut streak = Streak::default();
        for n in 0..9 {
            assert!(!streak.refused(at(n)));
            if n % 2 == 1 {
                streak.accepted();
            }
        }
        assert_eq!(streak.refuses_since(), None);
    }

    #[test]
    fn refusals_of_other_days_are_no_row() {
        let (mut streak, day) = (Streak::default(), 24 * 3600);
        assert!(!streak.refused(at(0)) && !streak.refused(at(1)));
        assert!(!streak.refused(at(day)) && !streak.refused(at(day + 1)));
        assert!(streak.refused(at(day + 2)));
    }

    #[test]
    fn another_url_is_no_new_question() {
        let (mut older, mut newer) = (Streak::default(), Streak::default());
        let asks = (0..3).filter(|n| older.refused(at(*n))).count();
        assert_eq!(asks, 1);
        newer.inherit(&older);
        assert!((10..20).all(|n| !newer.refused(at(n))));
    }

    #[test]
    fn a_401_makes_earlier_good_answers_worthless() {
        let (alice, bob) = (
            UserId::parse("alice").unwrap(),
            UserId::parse("bob").unwrap(),
        );
        let figma = ServiceType::parse("figma").unwrap();
        let mut doubts = Doubts::new(at(10));
        assert!(!doubts.admits(&alice, &figma, at(10)) && doubts.admits(&alice, &figma, at(11)));
        doubts.add(&alice, &figma, at(20));
        assert!(!doubts.admits(&alice, &figma, at(20)) && doubts.admits(&bob, &figma, at(20)));
        assert!(doubts.admits(&alice, &figma, at(21)));
        // However many there are, none is forgotten in anybody's favour.
        for n in 0..DOUBTS_MAX {
            doubts.add(&UserId::parse(&format!("u{n}")).unwrap(), &figma, at(30));
        }
        assert!(doubts.last.len() <= DOUBTS_MAX);
        assert!(!doubts.admits(&alice, &figma, at(20)) && doubts.admits(&alice, &figma, at(31)));
    }

    proptest! {
        #[test]
        fn nobody_is_asked_about_more_often_and_never_without_a_row(
            steps in proptest::collection::vec((0i64..400, any::<bool>()), 0..200),
        ) {
            let (mut streak, mut now, mut row, mut asked) = (Streak::default(), 0, 0, None);
            for (pause, refused) in steps {
                now += pause;
                if !refused {
                    streak.accepted();
                    row = 0;
                    continue;
                }
                row += 1;
                if streak.refused(at(now)) {
                    prop_assert!(row >= 3);
                    prop_assert!(asked.is_none_or(|asked| now - asked >= 300));
                    asked = Some(now);
                }
            }
        }
    }
}
