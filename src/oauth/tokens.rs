//! What a provider gives → the fields that are stored, and when they are due. Pure.
//!
//! Beside `access_token`, which templates name, stand fields whose names have a dot: no template can
//! name them, so that a refresh token never goes to a service.

use std::time::Duration;

use crate::config::spec::ACCESS_TOKEN;
use crate::ids::Timestamp;
use crate::secret::Secret;
use crate::vault::Fields;

const REFRESH_TOKEN: &str = "oauth.refresh_token";
const OBTAINED_AT: &str = "oauth.obtained_at";
const EXPIRES_AT: &str = "oauth.expires_at";
const CONSENTED_AT: &str = "oauth.consented_at";

/// Bytes of a token; the longest in use, which are JWTs with many claims, stay below.
const TOKEN_MAX: usize = 16 * 1024;

/// A token is refreshed so long before it expires, while requests still go out with it; one that lives
/// shortly, at half of its life.
const AHEAD: Duration = Duration::from_secs(5 * 60);

/// With so little left, or a quarter of its life, it is not sent any more: a request has its way to go.
const SPARE: Duration = Duration::from_secs(10);

/// What a provider has given.
pub struct Tokens {
    /// Goes to the service.
    pub(super) access: Secret<String>,
    /// Gets the next one. A provider that gives none in a refresh means the old one to go on.
    pub(super) refresh: Option<Secret<String>>,
    /// How long the first one lives; `None`: nobody knows, or for ever.
    pub(super) life: Option<Duration>,
}

/// How a stored access token stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// It is good.
    No,
    /// It is good, and the next one should be got.
    Soon,
    /// It is of no use; another one may be had.
    Now,
    /// It is of no use, and no other one can be had without its user.
    Over,
}

/// Can this be a token, and a part of a header (RFC 6749 §A.12, §A.17)?
pub(super) fn is_token(text: &str) -> bool {
    let visible = |b: u8| (0x20..=0x7e).contains(&b);
    (1..=TOKEN_MAX).contains(&text.len()) && text.bytes().all(visible)
}

/// What is stored when the user has consented: what they gave themselves, and what the provider gave.
pub(super) fn granted(own: &Fields, tokens: &Tokens, now: Timestamp) -> Fields {
    let mut fields = own.clone();
    if let Some(refresh) = &tokens.refresh {
        fields.insert(REFRESH_TOKEN, refresh.expose());
    }
    fields.insert(CONSENTED_AT, now.as_millis().to_string());
    put(&mut fields, tokens, now);
    fields
}

/// What is stored after a refresh.
pub(super) fn renewed(before: &Fields, tokens: &Tokens, now: Timestamp) -> Fields {
    let kept = before.iter();
    let kept = kept.filter(|(name, _)| ![OBTAINED_AT, EXPIRES_AT].contains(name));
    let mut fields: Fields = kept.collect();
    if let Some(refresh) = &tokens.refresh {
        fields.insert(REFRESH_TOKEN, refresh.expose());
    }
    put(&mut fields, tokens, now);
    fields
}

fn put(fields: &mut Fields, tokens: &Tokens, now: Timestamp) {
    fields.insert(ACCESS_TOKEN, tokens.access.expose());
    if let Some(life) = tokens.life {
        let life = i64::try_from(life.as_millis()).unwrap_or(i64::MAX);
        let end = now.as_millis().saturating_add(life);
        fields.insert(OBTAINED_AT, now.as_millis().to_string());
        fields.insert(EXPIRES_AT, end.to_string());
    }
}

/// What gets the next access token.
pub(super) fn refresh_token(fields: &Fields) -> Option<&str> {
    fields.get(REFRESH_TOKEN)
}

/// What stands for the whole consent, for revoking it: the refresh token, or else the other one. The
/// flag says that it is the first.
pub(super) fn to_revoke(fields: &Fields) -> Option<(&str, bool)> {
    let refresh = refresh_token(fields).map(|token| (token, true));
    refresh.or_else(|| Some((fields.get(ACCESS_TOKEN)?, false)))
}

/// What of a credential stays as it is until its user gives another one: all of it, but for what a
/// provider gives anew in a refresh.
pub fn lasting(fields: &Fields) -> Fields {
    let given_anew = [ACCESS_TOKEN, REFRESH_TOKEN, OBTAINED_AT, EXPIRES_AT];
    let is_consent = fields.get(CONSENTED_AT).is_some();
    let all = fields.iter();
    let lasts = all.filter(|(name, _)| !is_consent || !given_anew.contains(name));
    lasts.collect()
}

/// How it stands now.
pub(super) fn due(fields: &Fields, now: Timestamp) -> Due {
    let time = |name: &str| fields.get(name)?.parse::<i64>().ok();
    let Some(end) = time(EXPIRES_AT) else {
        return Due::No;
    };
    let life = end.saturating_sub(time(OBTAINED_AT).unwrap_or(end)).max(0);
    let left = end.saturating_sub(now.as_millis());
    let within = |most: Duration, share: i64| {
        let most = i64::try_from(most.as_millis()).unwrap_or(i64::MAX);
        left <= most.min(life / share)
    };
    match refresh_token(fields) {
        None if left <= 0 => Due::Over,
        None => Due::No,
        Some(_) if left <= 0 || within(SPARE, 4) => Due::Now,
        Some(_) if within(AHEAD, 2) => Due::Soon,
        Some(_) => Due::No,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tokens(access: &str, refresh: Option<&str>, life: Option<u64>) -> Tokens {
        Tokens {
            access: Secret::new(access.to_owned()),
            refresh: refresh.map(|text| Secret::new(text.to_owned())),
            life: life.map(Duration::from_secs),
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[track_caller]
    fn check(life: u64, refresh: Option<&str>, seconds: i64, expected: Due) {
        let own = Fields::new();
        let fields = granted(&own, &tokens("a", refresh, Some(life)), at(0));
        assert_eq!(due(&fields, at(seconds)), expected, "{life} s, {seconds} s");
    }

    #[test]
    fn a_token_is_refreshed_before_it_expires() {
        let refresh = Some("r");
        check(3600, refresh, 0, Due::No);
        check(3600, refresh, 3299, Due::No);
        check(3600, refresh, 3300, Due::Soon);
        check(3600, refresh, 3589, Due::Soon);
        check(3600, refresh, 3590, Due::Now);
        check(3600, refresh, 9999, Due::Now);
        check(60, refresh, 29, Due::No);
        check(60, refresh, 30, Due::Soon);
        check(60, refresh, 50, Due::Now);
        check(4, refresh, 1, Due::No);
        check(4, refresh, 2, Due::Soon);
        check(4, refresh, 3, Due::Now);
        check(0, refresh, 0, Due::Now);
        check(3600, None, 3599, Due::No);
        check(3600, None, 3600, Due::Over);
    }

    #[test]
    fn one_without_an_end_is_never_due() {
        let fields = granted(&Fields::new(), &tokens("a", Some("r"), None), at(0));
        assert_eq!(due(&fields, at(1 << 40)), Due::No);
    }

    #[test]
    fn a_refresh_keeps_what_it_does_not_replace() {
        let own: Fields = [("site", "acme")].into_iter().collect();
        let first = granted(&own, &tokens("a1", Some("r1"), Some(60)), at(0));
        let second = renewed(&first, &tokens("a2", None, None), at(50));
        assert_eq!(second.get("site"), Some("acme"));
        assert_eq!(second.get(ACCESS_TOKEN), Some("a2"));
        assert_eq!(refresh_token(&second), Some("r1"));
        assert_eq!(due(&second, at(99)), Due::No, "an end is not carried over");
        let third = renewed(&second, &tokens("a3", Some("r3"), Some(60)), at(50));
        assert_eq!(to_revoke(&third), Some(("r3", true)));
        let bare = granted(&Fields::new(), &tokens("a", None, None), at(0));
        assert_eq!(to_revoke(&bare), Some(("a", false)));
        assert_eq!(to_revoke(&Fields::new()), None);
    }

    #[test]
    fn a_refresh_changes_nothing_that_lasts_and_another_consent_does() {
        let own: Fields = [("site", "acme")].into_iter().collect();
        let first = granted(&own, &tokens("a1", Some("r1"), Some(60)), at(0));
        let second = renewed(&first, &tokens("a2", Some("r2"), Some(60)), at(50));
        assert!(lasting(&first) == lasting(&second));
        assert_eq!(lasting(&second).get("site"), Some("acme"));
        let other = granted(&own, &tokens("a1", Some("r1"), Some(60)), at(1));
        assert!(lasting(&first) != lasting(&other));
        // What is no consent lasts whole, whatever its fields are called.
        let key: Fields = [(ACCESS_TOKEN, "key")].into_iter().collect();
        assert!(lasting(&key) == key);
    }

    #[test]
    fn what_is_no_token_is_told() {
        assert!(is_token("ya29.a0/-_+=") && is_token("two words"));
        for bad in ["", "a\nb", "a\u{7f}", "ä", &"x".repeat(TOKEN_MAX + 1)] {
            assert!(!is_token(bad), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn as_time_goes_by_it_only_becomes_more_urgent(
            life in 0u64..100_000, refresh: bool, steps in proptest::collection::vec(0i64..5_000, 1..40),
        ) {
            let refresh = refresh.then_some("r");
            let fields = granted(&Fields::new(), &tokens("a", refresh, Some(life)), at(0));
            let rank = |due: Due| match due {
                Due::No => 0,
                Due::Soon => 1,
                Due::Now | Due::Over => 2,
            };
            let (mut now, mut before) = (0, 0);
            for step in steps {
                now += step;
                let rank = rank(due(&fields, at(now)));
                prop_assert!(rank >= before);
                prop_assert!(rank == 2 || now < i64::try_from(life).unwrap());
                before = rank;
            }
        }
    }
}
