//! Who does something, from where, and under which request.

use std::fmt;
use std::net::IpAddr;

use super::refusals::Known;
use crate::ids::{ServiceType, Timestamp, UserId};
use crate::store::AuditEntry;
use crate::users::Peer;

/// Who does something. Its text is what stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// The operator, by a command on the machine.
    Operator,
    /// The operator, with the admin token of this number.
    AdminToken(Option<i64>),
    /// A user, with a token.
    User(UserId),
    /// Whoever has the URL of an instance.
    Url,
    /// Somebody who is not known.
    Nobody,
    /// The daemon itself.
    System,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator => f.write_str("admin"),
            Self::AdminToken(Some(number)) => write!(f, "admin:{number}"),
            Self::AdminToken(None) => f.write_str("admin:?"),
            Self::User(user) => write!(f, "user:{user}"),
            Self::Url => f.write_str("url"),
            Self::Nobody => f.write_str("nobody"),
            Self::System => f.write_str("system"),
        }
    }
}

/// A request, as far as it is told of.
#[derive(Clone, Copy, Debug)]
pub struct Visit<'a> {
    /// Address of the client that is connected to us, or for whom a trusted proxy speaks; what others
    /// write into `X-Forwarded-For` is not believed.
    pub address: IpAddr,
    /// Under which it stands in the log.
    pub request_id: &'a str,
}

/// Who does something, from where, and under which request.
#[derive(Clone, Debug)]
pub struct By {
    actor: Actor,
    address: Option<String>,
    request_id: Option<String>,
}

impl By {
    /// The daemon, by itself.
    pub fn system() -> Self {
        Self {
            actor: Actor::System,
            address: None,
            request_id: None,
        }
    }

    /// A caller at the router's address, or at the socket of commands, where there is none.
    pub fn caller(actor: Actor, peer: Option<Peer>, request_id: Option<String>) -> Self {
        let address = match peer {
            Some(Peer(address)) => address.to_canonical().to_string(),
            None => "socket".to_owned(),
        };
        Self {
            actor,
            address: Some(address),
            request_id,
        }
    }

    /// The same, and it is this user who does it: a browser that shows no token, on a way that they
    /// have begun.
    #[must_use]
    pub fn on_behalf_of(mut self, user: &UserId) -> Self {
        self.actor = Actor::User(user.clone());
        self
    }

    /// A user whose request this is.
    pub fn user(user: &UserId, visit: Visit<'_>) -> Self {
        Self::visitor(Actor::User(user.clone()), visit)
    }

    /// Somebody whose request this is.
    pub(super) fn visitor(actor: Actor, visit: Visit<'_>) -> Self {
        let Visit {
            address,
            request_id,
        } = visit;
        Self::caller(actor, Some(Peer(address)), Some(request_id.to_owned()))
    }

    /// That they were refused something, and about what, if that is a user's.
    pub(super) fn refused(&self, about: Option<(&UserId, &ServiceType)>) -> Known {
        Known {
            actor: self.actor.to_string(),
            address: self.address.clone(),
            user: about.map(|(user, _)| user.clone()),
            service: about.map(|(_, service)| service.clone()),
        }
    }

    /// Under which request it stands in the log.
    pub(super) fn request_id(&self) -> &str {
        self.request_id.as_deref().unwrap_or_default()
    }

    /// That they have done this now, with nothing else told yet.
    pub fn entry(&self, action: &str) -> AuditEntry {
        AuditEntry {
            at: Timestamp::now(),
            actor: self.actor.to_string(),
            action: action.to_owned(),
            user: None,
            service: None,
            public: None,
            address: self.address.clone(),
            request_id: self.request_id.clone(),
            detail: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_caller_has_a_word() {
        let alice = UserId::parse("alice").unwrap();
        for (actor, word) in [
            (Actor::Operator, "admin"),
            (Actor::AdminToken(Some(7)), "admin:7"),
            (Actor::AdminToken(None), "admin:?"),
            (Actor::User(alice), "user:alice"),
            (Actor::Url, "url"),
            (Actor::Nobody, "nobody"),
            (Actor::System, "system"),
        ] {
            assert_eq!(actor.to_string(), word);
        }
    }

    #[test]
    fn an_entry_says_from_where() {
        let command = By::caller(Actor::Operator, None, Some("r".to_owned()));
        let command = command.entry("user.add");
        assert_eq!(command.address.as_deref(), Some("socket"));
        assert_eq!(command.request_id.as_deref(), Some("r"));
        let visit = Visit {
            address: "::ffff:192.0.2.7".parse().unwrap(),
            request_id: "q",
        };
        let visitor = By::visitor(Actor::Url, visit).entry("router.first_use");
        assert_eq!(visitor.address.as_deref(), Some("192.0.2.7"));
        assert_eq!(visitor.actor, "url");
        assert_eq!(By::system().entry("daemon.stop").address, None);
    }
}
