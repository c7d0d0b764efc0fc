//! What a token that is to be made may be like. Pure.

use std::fmt;

use crate::ids::Timestamp;

/// Characters of a name.
const NAME_MAX: usize = 64;

/// Days that a token lives which a user makes for themselves, when they do not say, and at most.
pub const OWN_DAYS: i64 = 90;
/// See [`OWN_DAYS`].
pub const OWN_DAYS_MAX: i64 = 365;

const DAY: i64 = 24 * 60 * 60 * 1000;

/// A token that is to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// For people, to tell tokens apart.
    pub name: Option<String>,
    /// From when on it opens nothing; `None` for never.
    pub expires_at: Option<Timestamp>,
}

/// Why such a token is not made. The caller can mend each of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Empty, too long, or with control characters.
    #[error("a token's name has 1 to {NAME_MAX} characters and no control characters")]
    Name,
    /// It would never open anything.
    #[error("the token would have ended at {0} already; name a time to come, such as `90d`")]
    Past(Timestamp),
    /// A user's own token would outlive what it is made with, or live longer than a year.
    #[error("a token of your own ends by {limit} at the latest: {why}")]
    TooLong {
        /// The last moment.
        limit: Timestamp,
        /// Where that comes from.
        why: Bound,
    },
}

/// Why a user's own token may not live longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The token that it is made with ends then.
    Maker,
    /// None lives longer than [`OWN_DAYS_MAX`].
    Days,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Maker => f.write_str("that is the end of the token it is made with"),
            Self::Days => write!(f, "that is {OWN_DAYS_MAX} days from now"),
        }
    }
}

impl Wanted {
    /// Is it a token that can be made?
    ///
    /// # Errors
    /// Says what would be right.
    pub fn check(&self, now: Timestamp) -> Result<(), Unfit> {
        let fits = |name: &String| {
            let long = name.chars().take(NAME_MAX + 1).count();
            (1..=NAME_MAX).contains(&long) && !name.chars().any(char::is_control)
        };
        if !self.name.as_ref().is_none_or(fits) {
            return Err(Unfit::Name);
        }
        match self.expires_at {
            Some(end) if end <= now => Err(Unfit::Past(end)),
            _ => Ok(()),
        }
    }

    /// As a user may have it for themselves: it ends, and never later than the token that it is
    /// made with, whose end is `maker`. So a token that was given for a week stays one.
    ///
    /// # Errors
    /// It asks for a later end by name.
    pub fn for_oneself(self, maker: Option<Timestamp>, now: Timestamp) -> Result<Self, Unfit> {
        let in_days =
            |days: i64| Timestamp::from_millis(now.as_millis().saturating_add(days * DAY));
        let (limit, why) = match maker {
            Some(end) if end < in_days(OWN_DAYS_MAX) => (end, Bound::Maker),
            _ => (in_days(OWN_DAYS_MAX), Bound::Days),
        };
        let expires_at = match self.expires_at {
            Some(end) if end > limit => return Err(Unfit::TooLong { limit, why }),
            Some(end) => end,
            None => in_days(OWN_DAYS).min(limit),
        };
        Ok(Self {
            expires_at: Some(expires_at),
            ..self
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn after(days: i64) -> Timestamp {
        Timestamp::from_millis(NOW.as_millis() + days * DAY)
    }

    fn until(expires_at: Option<Timestamp>) -> Wanted {
        Wanted {
            name: None,
            expires_at,
        }
    }

    #[test]
    fn names_are_short_and_on_one_line() {
        let named = |name: &str| Wanted {
            name: Some(name.into()),
            expires_at: None,
        };
        for good in ["a", "my laptop / \u{1f980}", &"\u{f6}".repeat(NAME_MAX)] {
            assert_eq!(named(good).check(NOW), Ok(()), "{good}");
        }
        for bad in ["", "a\nb", "\u{1b}[2J", &"x".repeat(NAME_MAX + 1)] {
            assert_eq!(named(bad).check(NOW), Err(Unfit::Name), "{bad}");
        }
        assert_eq!(Wanted::default().check(NOW), Ok(()));
    }

    #[test]
    fn the_end_of_a_token_is_to_come() {
        assert_eq!(until(Some(after(1))).check(NOW), Ok(()));
        assert_eq!(until(Some(NOW)).check(NOW), Err(Unfit::Past(NOW)));
        assert!(until(Some(after(-1))).check(NOW).is_err());
    }

    #[test]
    fn a_users_own_token_ends_and_not_after_the_one_it_is_made_with() {
        let check = |asked: Option<i64>, maker: Option<i64>, expected: Result<i64, Bound>| {
            let made = until(asked.map(after)).for_oneself(maker.map(after), NOW);
            let found = match made {
                Ok(wanted) => Ok(wanted.expires_at),
                Err(Unfit::TooLong { why, .. }) => Err(why),
                Err(other) => panic!("{other}"),
            };
            let expected = expected.map(|days| Some(after(days)));
            assert_eq!(found, expected, "{asked:?} {maker:?}");
        };
        check(None, None, Ok(OWN_DAYS));
        check(None, Some(7), Ok(7));
        check(None, Some(1000), Ok(OWN_DAYS));
        check(Some(365), None, Ok(365));
        check(Some(366), None, Err(Bound::Days));
        check(Some(366), Some(1000), Err(Bound::Days));
        check(Some(7), Some(7), Ok(7));
        check(Some(8), Some(7), Err(Bound::Maker));
    }

    proptest! {
        #[test]
        fn no_chain_of_own_tokens_outlives_its_first(
            first in 1..2000i64, asked in proptest::collection::vec(proptest::option::of(1..2000i64), 0..10),
        ) {
            let mut maker = after(first);
            for days in asked {
                let wanted = until(days.map(after));
                if let Ok(made) = wanted.for_oneself(Some(maker), NOW) {
                    let end = made.expires_at.expect("own tokens end");
                    prop_assert!(end <= maker && end <= after(OWN_DAYS_MAX));
                    maker = end;
                }
            }
            prop_assert!(maker <= after(first));
        }
    }
}
