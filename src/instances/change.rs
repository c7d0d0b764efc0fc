//! What is to be changed of an instance, and what its terms are then. Pure.

use crate::ids::{Label, Timestamp};
use crate::store::Terms;

/// What is to be changed; what is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// What people call it; `Some(None)` takes the label away.
    pub label: Option<Option<Label>>,
    /// From when on it must not answer; `Some(None)` is never.
    pub expires_at: Option<Option<Timestamp>>,
    /// Switched off, or on.
    pub disabled: Option<bool>,
}

impl Change {
    /// The terms after it.
    ///
    /// # Errors
    /// It is to be switched on and would not answer all the same, since this end has come.
    pub(super) fn apply(&self, before: &Terms, now: Timestamp) -> Result<Terms, Timestamp> {
        let after = Terms {
            label: self.label.clone().unwrap_or_else(|| before.label.clone()),
            expires_at: self.expires_at.unwrap_or(before.expires_at),
            disabled_at: match self.disabled {
                None => before.disabled_at,
                Some(true) => before.disabled_at.or(Some(now)),
                Some(false) => None,
            },
        };
        match after.expires_at {
            Some(end) if self.disabled == Some(false) && end <= now => Err(end),
            _ => Ok(after),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn label(text: &str) -> Option<Label> {
        Some(Label::parse(text).unwrap())
    }

    #[test]
    fn what_is_not_named_stays() {
        let before = Terms {
            label: label("a"),
            expires_at: Some(at(50)),
            disabled_at: Some(at(1)),
        };
        let check = |change: Change, expected: Terms| {
            assert_eq!(change.apply(&before, at(9)), Ok(expected));
        };
        check(Change::default(), before.clone());
        check(
            Change {
                label: Some(None),
                ..Change::default()
            },
            Terms {
                label: None,
                ..before.clone()
            },
        );
        check(
            Change {
                expires_at: Some(Some(at(3))),
                disabled: Some(true),
                ..Change::default()
            },
            Terms {
                expires_at: Some(at(3)),
                ..before.clone()
            },
        );
        check(
            Change {
                disabled: Some(false),
                ..Change::default()
            },
            Terms {
                disabled_at: None,
                ..before.clone()
            },
        );
    }

    #[test]
    fn what_is_switched_off_says_since_when() {
        let off = Change {
            disabled: Some(true),
            ..Change::default()
        };
        let after = off.apply(&Terms::default(), at(9)).unwrap();
        assert_eq!(after.disabled_at, Some(at(9)));
        assert_eq!(off.apply(&after, at(10)), Ok(after));
    }

    #[test]
    fn what_has_expired_is_not_switched_on() {
        let before = Terms {
            expires_at: Some(at(5)),
            disabled_at: Some(at(1)),
            ..Terms::default()
        };
        let on = Change {
            disabled: Some(false),
            ..Change::default()
        };
        assert_eq!(on.apply(&before, at(5)), Err(at(5)));
        assert!(on.apply(&before, at(4)).is_ok());
        let on_and_longer = Change {
            expires_at: Some(None),
            ..on
        };
        assert_eq!(on_and_longer.apply(&before, at(5)), Ok(Terms::default()));
    }
}
