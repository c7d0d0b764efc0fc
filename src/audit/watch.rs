//! Tells what looks like an attempt to cross from one user to another from single mistakes. Pure.
//!
//! Each client (`source.rs`) is told of once per kind and hour, however much it sends.

use std::time::Duration;

use tokio::time::Instant;

use super::tally::{Rule, Tally, Told};
use super::words;
use crate::ids::Source;

const HOUR: Duration = Duration::from_secs(60 * 60);

/// Instance ids that do not exist. One who follows old links has a handful; one who guesses needs
/// more than there can ever be.
const GUESSES: Rule = Rule {
    enough: 20,
    within: Duration::from_secs(60),
    quiet: HOUR,
};
/// Shorter ones are words of those who look for other programs' holes (`wp-login.php`).
const GUESS_BYTES_MIN: usize = 16;

/// Tokens that are not valid, the same one again counts. A client that was left with a revoked token
/// tries it a few times.
const WRONG_TOKENS: Rule = Rule {
    enough: 10,
    within: Duration::from_secs(10 * 60),
    quiet: HOUR,
};

/// Users whose instances are used for the first time of the day. An assistant that runs elsewhere
/// calls for many users from one address: hence so many.
const MANY_USERS: Rule = Rule {
    enough: 50,
    within: HOUR,
    quiet: Duration::from_secs(24 * 60 * 60),
};

/// A valid token of somebody else is never a mistake that a program makes by itself.
const FOREIGN_TOKEN: Rule = Rule {
    enough: 1,
    within: HOUR,
    quiet: HOUR,
};

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// One of `words`.
    pub(super) action: &'static str,
    /// Whose doing it was; `None` for many clients.
    pub(super) source: Option<Source>,
    /// For people.
    pub(super) detail: String,
}

/// What was seen so far. Its size has a bound.
#[derive(Debug)]
pub(super) struct Watch {
    guesses: Tally<Source>,
    wrong_tokens: Tally<Source>,
    users: Tally<Source>,
    foreign_tokens: Tally<u64>,
    /// Tells wrong tokens apart without knowing them.
    shown: u64,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self {
            guesses: Tally::new(GUESSES),
            wrong_tokens: Tally::new(WRONG_TOKENS),
            users: Tally::new(MANY_USERS),
            foreign_tokens: Tally::new(FOREIGN_TOKEN),
            shown: 0,
        }
    }

    /// An instance id of so many bytes, with this keyed hash, was not found.
    pub(super) fn unknown_id(
        &mut self,
        source: Source,
        bytes: usize,
        hash: &[u8; 32],
        now: Instant,
    ) -> Option<Event> {
        if bytes < GUESS_BYTES_MIN {
            return None;
        }
        let [a, b, c, d, e, f, g, h, ..] = *hash;
        let thing = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        let told = self.guesses.see(source, thing, now)?;
        let what = "instance ids that do not exist";
        Some(several(words::GUESSED_IDS, told, GUESSES, what))
    }

    /// A token was shown that is not valid.
    pub(super) fn wrong_token(&mut self, source: Source, now: Instant) -> Option<Event> {
        self.shown = self.shown.wrapping_add(1);
        let told = self.wrong_tokens.see(source, self.shown, now)?;
        let what = "tokens that are not valid";
        Some(several(words::WRONG_TOKENS, told, WRONG_TOKENS, what))
    }

    /// A user, of whom only a hash is needed, has an instance that was used for the first time of the
    /// day. All users may come from this machine: then a proxy stands before the router.
    pub(super) fn first_use(&mut self, source: Source, user: u64, now: Instant) -> Option<Event> {
        if source.is_loopback() {
            return None;
        }
        let told = self.users.see(source, user, now)?;
        let what = "users, or more, whose instances were used";
        Some(several(words::MANY_USERS, told, MANY_USERS, what))
    }

    /// A user's token was shown at the URL of another one's instance; `which` stands for the client
    /// and both.
    pub(super) fn foreign_token(
        &mut self,
        source: Source,
        which: u64,
        now: Instant,
    ) -> Option<Event> {
        let told = self.foreign_tokens.see(which, 0, now)?;
        Some(Event {
            action: words::FOREIGN_TOKEN,
            source: (told != Told::Many).then_some(source),
            detail: "a token of another user was shown at this instance's URL".to_owned(),
        })
    }
}

fn several(action: &'static str, told: Told<Source>, rule: Rule, what: &str) -> Event {
    let (source, by) = match told {
        Told::One(source) => (Some(source), ""),
        Told::Many => (None, ", by several clients of very many"),
    };
    let (enough, minutes) = (rule.enough, rule.within.as_secs() / 60);
    Event {
        action,
        source,
        detail: format!("{enough} {what} within {minutes} min{by}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tally::KEYS_MAX;
    use super::*;

    fn source(n: u32) -> Source {
        Source::of(std::net::Ipv4Addr::from(0xc000_0200 + n).into())
    }

    fn hash(n: u64) -> [u8; 32] {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&n.to_be_bytes());
        hash
    }

    #[test]
    fn many_different_ids_are_guesses_and_one_old_link_is_none() {
        let (mut watch, now) = (Watch::new(), Instant::now());
        for _ in 0..1000 {
            assert_eq!(watch.unknown_id(source(1), 43, &hash(7), now), None);
        }
        let guess = |watch: &mut Watch, n| watch.unknown_id(source(2), 43, &hash(n), now);
        for n in 1..20 {
            assert_eq!(guess(&mut watch, n), None);
        }
        let event = guess(&mut watch, 20).unwrap();
        assert_eq!(event.action, "isolation.guessed_ids");
        assert_eq!(event.source, Some(source(2)));
        assert_eq!(
            event.detail,
            "20 instance ids that do not exist within 1 min"
        );
        for n in 21..500 {
            assert_eq!(guess(&mut watch, n), None, "told once");
        }
        for n in 0..500 {
            let word = watch.unknown_id(source(3), "wp-login.php".len(), &hash(n), now);
            assert_eq!(word, None);
        }
    }

    #[test]
    fn a_wrong_token_again_and_again_is_told() {
        let (mut watch, now) = (Watch::new(), Instant::now());
        for _ in 1..WRONG_TOKENS.enough {
            assert_eq!(watch.wrong_token(source(1), now), None);
            assert_eq!(watch.wrong_token(source(2), now), None);
        }
        let event = watch.wrong_token(source(1), now).unwrap();
        assert_eq!(event.action, "isolation.wrong_tokens");
        let later = now + WRONG_TOKENS.within;
        assert_eq!(watch.wrong_token(source(2), later), None, "too slow");
    }

    #[test]
    fn many_users_of_one_address_are_told_unless_it_is_ours() {
        let (mut watch, now) = (Watch::new(), Instant::now());
        let local = Source::of(std::net::Ipv4Addr::LOCALHOST.into());
        for user in 0..100 {
            assert_eq!(watch.first_use(local, user, now), None);
            assert_eq!(watch.first_use(source(1), user % 49, now), None);
        }
        let event = watch.first_use(source(1), 49, now).unwrap();
        assert_eq!(event.action, "isolation.many_users");
        assert_eq!(event.source, Some(source(1)));
    }

    #[test]
    fn a_foreign_token_is_told_once_an_hour() {
        let (mut watch, now) = (Watch::new(), Instant::now());
        let see = |watch: &mut Watch, which, at| watch.foreign_token(source(1), which, at);
        assert_eq!(
            see(&mut watch, 1, now).unwrap().action,
            "isolation.foreign_token"
        );
        assert_eq!(see(&mut watch, 1, now), None);
        assert!(see(&mut watch, 2, now).is_some(), "another instance");
        assert!(see(&mut watch, 1, now + HOUR).is_some());
    }

    #[test]
    fn guesses_of_a_crowd_are_told_too() {
        let (mut watch, now) = (Watch::new(), Instant::now());
        let mut events = Vec::new();
        // A guess each: nobody is told of as long as they are told apart.
        for n in 0..KEYS_MAX as u32 + 100 {
            events.extend(watch.unknown_id(source(n), 43, &hash(n.into()), now));
        }
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].source, None);
        assert!(events[0].detail.ends_with("clients of very many"));
    }

    proptest! {
        #[test]
        fn whatever_comes_few_events_follow(
            steps in proptest::collection::vec((0u32..30, 0u64..60, 0u8..4, 0u64..3), 0..600),
        ) {
            let (mut watch, start) = (Watch::new(), Instant::now());
            let (mut second, mut events) = (0, 0u64);
            for (client, thing, kind, pause) in steps {
                second += pause;
                let now = start + Duration::from_secs(second);
                let client = source(client);
                let event = match kind {
                    0 => watch.unknown_id(client, 43, &hash(thing), now),
                    1 => watch.wrong_token(client, now),
                    2 => watch.first_use(client, thing, now),
                    _ => watch.foreign_token(client, thing % 4, now),
                };
                events += u64::from(event.is_some());
            }
            let hours = second / 3600 + 1;
            // Three kinds of each client, and one of each pair of users.
            prop_assert!(events <= hours * (3 * 30 + 4));
        }
    }
}
