//! Who is under way to a provider. Pure: times and keys come in.
//!
//! A way has two legs: from the answer to `start` until a browser opens the start address, and from
//! there until the provider sends it back. Each leg has a key of its own, which counts once. Keys are
//! hashes of what the browser brings, so that a look-up tells nothing by its time.

use std::collections::HashMap;
use std::time::Duration;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::time::Instant;

use crate::ids::UserId;

/// For both legs together. People look for passwords and phones on the way.
pub const LIFE: Duration = Duration::from_secs(10 * 60);

/// Ways of all users: some MB at most.
const WAYS_MAX: usize = 10_000;

/// Ways of one user; a further one ends their oldest.
const WAYS_OF_ONE_MAX: usize = 16;

/// Hash of what a browser brings.
pub(super) type Key = [u8; 32];

/// What a key of a browser is known by.
pub(super) fn key(text: &str) -> Key {
    Sha256::digest(text.as_bytes()).into()
}

/// Too many are under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many users are connecting at the same time; try again in some minutes")]
pub struct TooMany;

/// Why somebody who comes back is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Nobody with this key is under way: made up, used before, or too late.
    #[error("this link was used already, or has expired: begin again")]
    Unknown,
    /// It began in another browser.
    #[error("this was begun in another browser: begin again in this one")]
    OtherBrowser,
}

/// All who are under way. `W` is what is known of one on the first leg, `A` on the second.
pub(super) struct Pending<W, A> {
    ways: HashMap<Key, Way<W, A>>,
    /// Counts ways, so that the oldest of a user is known.
    made: u64,
}

struct Way<W, A> {
    user: UserId,
    number: u64,
    end: Instant,
    leg: Leg<W, A>,
}

enum Leg<W, A> {
    Waiting(W),
    Asked { cookie: Key, asked: A },
}

impl<W, A> Default for Pending<W, A> {
    fn default() -> Self {
        Self {
            ways: HashMap::new(),
            made: 0,
        }
    }
}

impl<W, A> Pending<W, A> {
    /// Somebody begins.
    pub(super) fn begin(
        &mut self,
        ticket: Key,
        user: &UserId,
        waiting: W,
        now: Instant,
    ) -> Result<(), TooMany> {
        self.forget_late(now);
        let theirs = self.ways.iter().filter(|(_, way)| way.user == *user);
        let theirs: Vec<(u64, Key)> = theirs.map(|(key, way)| (way.number, *key)).collect();
        if theirs.len() >= WAYS_OF_ONE_MAX
            && let Some((_, oldest)) = theirs.iter().min()
        {
            self.ways.remove(oldest);
        }
        if self.ways.len() >= WAYS_MAX {
            return Err(TooMany);
        }
        self.made += 1;
        let way = Way {
            user: user.clone(),
            number: self.made,
            end: now + LIFE,
            leg: Leg::Waiting(waiting),
        };
        self.ways.insert(ticket, way);
        Ok(())
    }

    /// The start address is opened: from here on the way is known by `state`, to the browser that has
    /// `cookie`. `make` says what of the first leg goes on.
    pub(super) fn open<E: From<Unfit>>(
        &mut self,
        ticket: &Key,
        state: Key,
        cookie: Key,
        now: Instant,
        make: impl FnOnce(W) -> Result<A, E>,
    ) -> Result<(), E> {
        self.forget_late(now);
        let found = self.ways.remove(ticket).ok_or(Unfit::Unknown)?;
        let Leg::Waiting(waiting) = found.leg else {
            // A state at the wrong door is still one.
            self.ways.insert(*ticket, found);
            return Err(Unfit::Unknown.into());
        };
        let asked = make(waiting)?;
        let leg = Leg::Asked { cookie, asked };
        self.ways.insert(state, Way { leg, ..found });
        Ok(())
    }

    /// The provider has sent a browser back. Another browser than the one that began ends nothing.
    pub(super) fn arrive(
        &mut self,
        state: &Key,
        cookie: Option<&Key>,
        now: Instant,
    ) -> Result<A, Unfit> {
        self.forget_late(now);
        let Some(Leg::Asked { cookie: own, .. }) = self.ways.get(state).map(|way| &way.leg) else {
            return Err(Unfit::Unknown);
        };
        let is_own = cookie.is_some_and(|cookie| bool::from(own.ct_eq(cookie)));
        if !is_own {
            return Err(Unfit::OtherBrowser);
        }
        match self.ways.remove(state).map(|way| way.leg) {
            Some(Leg::Asked { asked, .. }) => Ok(asked),
            _ => Err(Unfit::Unknown),
        }
    }

    fn forget_late(&mut self, now: Instant) {
        self.ways.retain(|_, way| now < way.end);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Ways = Pending<u8, u8>;

    fn user(name: &str) -> UserId {
        UserId::parse(name).unwrap()
    }

    fn open(ways: &mut Ways, ticket: &str, state: &str, now: Instant) -> Result<(), Unfit> {
        let cookie = key(&format!("cookie of {state}"));
        ways.open(&key(ticket), key(state), cookie, now, Ok)
    }

    fn arrive(ways: &mut Ways, state: &str, now: Instant) -> Result<u8, Unfit> {
        let cookie = key(&format!("cookie of {state}"));
        ways.arrive(&key(state), Some(&cookie), now)
    }

    #[test]
    fn each_leg_counts_once_and_only_in_its_browser() {
        let (mut ways, now) = (Ways::default(), Instant::now());
        ways.begin(key("t"), &user("a"), 7, now).unwrap();
        assert_eq!(arrive(&mut ways, "t", now), Err(Unfit::Unknown));
        assert_eq!(open(&mut ways, "t", "s", now), Ok(()));
        assert_eq!(open(&mut ways, "t", "s2", now), Err(Unfit::Unknown));
        assert_eq!(open(&mut ways, "s", "s2", now), Err(Unfit::Unknown));
        let other = ways.arrive(&key("s"), Some(&key("mine")), now);
        assert_eq!(other, Err(Unfit::OtherBrowser));
        assert_eq!(ways.arrive(&key("s"), None, now), Err(Unfit::OtherBrowser));
        assert_eq!(arrive(&mut ways, "s", now), Ok(7));
        assert_eq!(arrive(&mut ways, "s", now), Err(Unfit::Unknown));
    }

    #[test]
    fn both_legs_end_after_ten_minutes() {
        let (mut ways, now) = (Ways::default(), Instant::now());
        ways.begin(key("t"), &user("a"), 1, now).unwrap();
        ways.begin(key("u"), &user("a"), 2, now).unwrap();
        let late = now + LIFE;
        let early = late - Duration::from_millis(1);
        assert_eq!(open(&mut ways, "t", "s", early), Ok(()));
        assert_eq!(open(&mut ways, "u", "v", late), Err(Unfit::Unknown));
        assert_eq!(arrive(&mut ways, "s", late), Err(Unfit::Unknown));
    }

    #[test]
    fn the_table_is_bounded_for_one_and_for_all() {
        let (mut ways, now) = (Ways::default(), Instant::now());
        for n in 0..=WAYS_OF_ONE_MAX {
            ways.begin(key(&n.to_string()), &user("a"), 0, now).unwrap();
        }
        assert_eq!(open(&mut ways, "0", "s", now), Err(Unfit::Unknown));
        assert_eq!(open(&mut ways, "1", "s", now), Ok(()));
        for n in ways.ways.len()..WAYS_MAX {
            let name = format!("u{n}");
            ways.begin(key(&name), &user(&name), 0, now).unwrap();
        }
        let full = ways.begin(key("x"), &user("x"), 0, now);
        assert_eq!(full, Err(TooMany));
        let later = now + LIFE;
        assert_eq!(ways.begin(key("x"), &user("x"), 0, later), Ok(()));
        assert_eq!(ways.ways.len(), 1);
    }

    proptest! {
        #[test]
        fn nobody_arrives_twice_or_with_what_they_did_not_begin(
            steps in proptest::collection::vec((0..3u8, 0..4u8), 0..60),
        ) {
            let (mut ways, now) = (Ways::default(), Instant::now());
            let mut left = [0i32; 4];
            for (step, n) in steps {
                let (ticket, state) = (format!("t{n}"), format!("s{n}"));
                match step {
                    0 => ways.begin(key(&ticket), &user("a"), n, now).unwrap(),
                    1 => if open(&mut ways, &ticket, &state, now).is_ok() {
                        left[usize::from(n)] = 1;
                    },
                    _ => if let Ok(got) = arrive(&mut ways, &state, now) {
                        prop_assert_eq!(got, n);
                        left[usize::from(n)] -= 1;
                        prop_assert!(left[usize::from(n)] >= 0);
                    },
                }
            }
        }
    }
}
