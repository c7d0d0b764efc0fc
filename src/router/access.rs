//! This instance, this service, this caller: yes, or which refusal. Pure.

use crate::ids::{ServiceType, UserId};

/// Whose token a caller showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// None.
    Nothing,
    /// One that is not valid, or an operator's.
    Invalid,
    /// This user's.
    User(UserId),
    /// This user's, and it lacks a scope that is needed.
    LacksScope(UserId),
    /// One that nothing can be said about just now.
    Unchecked,
}

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access<'a> {
    /// Go on.
    Allowed,
    /// Nothing, and hear no more than somebody who made the URL up.
    Unknown,
    /// The same, and it is told to the operator: this user has shown a token at the URL of another
    /// one's instance.
    Foreign(&'a UserId),
    /// Come again with a token; `shown` says that the one shown is not valid.
    Token {
        /// One was shown.
        shown: bool,
    },
    /// Come again with a token that is good for more.
    Scope,
    /// Come again later.
    Later,
}

/// Decides. `owner` and `service` are the instance's; `asked` is the service of the URL.
pub(super) fn decide<'a>(
    owner: &UserId,
    service: &ServiceType,
    asked: &str,
    require_auth: bool,
    shown: &'a Shown,
) -> Access<'a> {
    if service.as_str() != asked {
        return Access::Unknown;
    }
    if !require_auth {
        return Access::Allowed;
    }
    match shown {
        Shown::Nothing => Access::Token { shown: false },
        Shown::Invalid => Access::Token { shown: true },
        Shown::User(user) if user == owner => Access::Allowed,
        Shown::LacksScope(user) if user == owner => Access::Scope,
        Shown::User(other) | Shown::LacksScope(other) => Access::Foreign(other),
        Shown::Unchecked => Access::Later,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_passes_where_a_token_is_needed() {
        let alice = UserId::parse("alice").unwrap();
        let bob = UserId::parse("bob").unwrap();
        let demo = ServiceType::parse("demo").unwrap();
        let check = |asked: &str, require, shown: Shown, expected| {
            assert_eq!(
                decide(&alice, &demo, asked, require, &shown),
                expected,
                "{asked} {shown:?}"
            );
        };
        let user = |user: &UserId| Shown::User(user.clone());
        let less = |user: &UserId| Shown::LacksScope(user.clone());
        for shown in [
            Shown::Nothing,
            Shown::Invalid,
            Shown::Unchecked,
            user(&alice),
            user(&bob),
            less(&alice),
        ] {
            check("demo", false, shown.clone(), Access::Allowed);
            check("other", false, shown.clone(), Access::Unknown);
            check("other", true, shown.clone(), Access::Unknown);
            check("", true, shown, Access::Unknown);
        }
        check("demo", true, Shown::Nothing, Access::Token { shown: false });
        check("demo", true, Shown::Invalid, Access::Token { shown: true });
        check("demo", true, user(&alice), Access::Allowed);
        check("demo", true, user(&bob), Access::Foreign(&bob));
        check("demo", true, less(&alice), Access::Scope);
        check("demo", true, less(&bob), Access::Foreign(&bob));
        check("demo", true, Shown::Unchecked, Access::Later);
    }
}
