//! Counts different things that each of many does within a while, and says when they are enough. Pure.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

/// How many are told apart; what comes beyond is counted together.
pub(super) const KEYS_MAX: usize = 1024;
/// Looking for those whose time is over is no work for every call.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// What is enough.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    /// So many different things…
    pub(super) enough: usize,
    /// …within this.
    pub(super) within: Duration,
    /// After it was told of somebody nothing more is told of them for so long.
    pub(super) quiet: Duration,
}

/// Of whom it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told<K> {
    /// This one.
    One(K),
    /// Several of those that are counted together.
    Many,
}

/// The counts.
#[derive(Debug)]
pub(super) struct Tally<K> {
    rule: Rule,
    /// Those that are counted together stand under `None`.
    seen: HashMap<Option<K>, Seen>,
    swept: Option<Instant>,
}

/// What somebody has done.
#[derive(Debug)]
struct Seen {
    /// Then all is forgotten.
    until: Instant,
    /// Fewer than are enough.
    things: Vec<u64>,
    told: bool,
}

impl<K: Copy + Eq + Hash> Tally<K> {
    pub(super) fn new(rule: Rule) -> Self {
        Self {
            rule,
            seen: HashMap::new(),
            swept: None,
        }
    }

    /// Counts this thing, unless it is counted already. Says of whom it is to be told, once it is
    /// enough.
    pub(super) fn see(&mut self, who: K, thing: u64, now: Instant) -> Option<Told<K>> {
        let rule = self.rule;
        let place = self.place(who, now);
        let begin = || Seen {
            until: now + rule.within,
            things: Vec::new(),
            told: false,
        };
        let seen = self.seen.entry(place).or_insert_with(begin);
        if seen.until <= now {
            *seen = begin();
        }
        if seen.told || seen.things.contains(&thing) {
            return None;
        }
        seen.things.push(thing);
        if seen.things.len() < rule.enough {
            return None;
        }
        *seen = Seen {
            until: now + rule.quiet,
            things: Vec::new(),
            told: true,
        };
        Some(place.map_or(Told::Many, Told::One))
    }

    /// Where this one is counted.
    fn place(&mut self, who: K, now: Instant) -> Option<K> {
        if self.seen.contains_key(&Some(who)) || self.has_room() {
            return Some(who);
        }
        if self.swept.is_none_or(|swept| swept + SWEEP_EVERY <= now) {
            self.swept = Some(now);
            self.seen.retain(|_, seen| seen.until > now);
        }
        self.has_room().then_some(who)
    }

    fn has_room(&self) -> bool {
        self.seen.len() < KEYS_MAX
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const RULE: Rule = Rule {
        enough: 3,
        within: Duration::from_secs(10),
        quiet: Duration::from_secs(100),
    };

    #[test]
    fn different_things_within_a_while_are_told_once() {
        let mut tally = Tally::new(RULE);
        let start = Instant::now();
        let mut see = |who: &'static str, thing, second| {
            tally.see(who, thing, start + Duration::from_secs(second))
        };
        assert_eq!(see("a", 1, 0), None);
        assert_eq!(see("a", 1, 1), None, "the same thing again");
        assert_eq!(see("a", 2, 1), None);
        assert_eq!(see("b", 3, 1), None, "somebody else");
        assert_eq!(see("a", 3, 9), Some(Told::One("a")));
        for second in 10..109 {
            assert_eq!(see("a", second, second), None, "quiet");
        }
        assert_eq!([see("a", 1, 109), see("a", 2, 110)], [None, None]);
        assert_eq!(see("a", 3, 111), Some(Told::One("a")));
        // What is too far apart is not together.
        assert_eq!([see("b", 4, 12), see("b", 5, 21)], [None, None]);
        assert_eq!(see("b", 6, 22), None);
    }

    #[test]
    fn those_that_are_too_many_are_counted_together() {
        let mut tally = Tally::new(RULE);
        let start = Instant::now();
        for who in 0..KEYS_MAX {
            assert_eq!(tally.see(who, 1, start), None);
        }
        let late = [KEYS_MAX + 1, KEYS_MAX + 2, KEYS_MAX + 3];
        let told = late.map(|who| tally.see(who, who as u64, start));
        assert_eq!(told, [None, None, Some(Told::Many)]);
        // Those that were there first are still told apart.
        assert_eq!(tally.see(0, 2, start), None);
        assert_eq!(tally.see(0, 3, start), Some(Told::One(0)));
        // When their time is over there is room again.
        let later = start + RULE.within;
        for thing in 1..3 {
            assert_eq!(tally.see(KEYS_MAX + 9, thing, later), None);
        }
        assert_eq!(
            tally.see(KEYS_MAX + 9, 3, later),
            Some(Told::One(KEYS_MAX + 9))
        );
    }

    proptest! {
        #[test]
        fn never_told_without_reason_and_never_more_than_there_is_room(
            steps in proptest::collection::vec((0u64..40, 0u64..6, 0u64..8), 0..400),
        ) {
            let mut tally = Tally::new(RULE);
            let start = Instant::now();
            let (mut second, mut seen, mut told) = (0, Vec::new(), Vec::new());
            for (who, thing, pause) in steps {
                second += pause;
                seen.push((who, thing, second));
                let now = start + Duration::from_secs(second);
                if let Some(found) = tally.see(who, thing, now) {
                    prop_assert_eq!(found, Told::One(who));
                    let recent = |&&(other, _, at): &&(u64, u64, u64)| {
                        other == who && at + RULE.within.as_secs() > second
                    };
                    let things: BTreeSet<u64> =
                        seen.iter().filter(recent).map(|&(_, thing, _)| thing).collect();
                    prop_assert!(things.len() >= RULE.enough);
                    let again = told.iter().any(|&(other, at): &(u64, u64)| {
                        other == who && at + RULE.quiet.as_secs() > second
                    });
                    prop_assert!(!again);
                    told.push((who, second));
                }
            }
            prop_assert!(tally.seen.len() <= KEYS_MAX + 1);
            for seen in tally.seen.values() {
                prop_assert!(seen.things.len() < RULE.enough);
            }
        }
    }
}
