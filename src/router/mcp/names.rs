//! Under which names a service knows what its clients call their requests. Pure.
//!
//! Ids of different clients may be equal, and a service that mixes up its callers answers the wrong
//! one then (CVE-2026-25536). So a service sees ids that no two clients share and none can guess: the
//! client's own behind a tag of its session. Whoever knows the tag finds the client's id in what comes
//! back, so that nothing need be remembered: an answer may come on a later stream, and under the next
//! daemon.
//!
//! The other way round, what a service gives to one instance (ids of its own requests, of its events,
//! `requestState`) comes back from that instance or from nobody: it passes behind a seal.

use std::fmt;

use data_encoding::BASE32_NOPAD;

use crate::ids::PublicId;
use crate::vault::Vault;

/// Characters of a tag: 65 bits, if it is random.
const TAG: usize = 13;
/// Between the tag and an id that is a number.
const NUMBER: char = '#';
/// Between the tag and an id that is a text.
const TEXT: char = '$';
/// Characters of a seal: 80 bits.
const SEAL: usize = 16;
/// Behind the seal.
const SEALED: char = '.';

/// Names of one session's requests, or of one request's outside of sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Names {
    tag: Box<str>,
}

impl Names {
    /// With this tag; `None` unless it is one.
    pub(super) fn new(tag: &str) -> Option<Self> {
        let is_tag = tag.len() == TAG && tag.bytes().all(|b| b.is_ascii_alphanumeric());
        is_tag.then(|| Self { tag: tag.into() })
    }

    /// With the beginning of what nobody can guess.
    pub(super) fn of(bytes: [u8; 10]) -> Self {
        let mut text = letters(&bytes);
        text.truncate(TAG);
        Self { tag: text.into() }
    }

    /// The tag, to be kept.
    pub(super) fn tag(&self) -> &str {
        &self.tag
    }

    /// What the service sees in the place of a client's id or progress token. Both are JSON; what is
    /// neither a number nor a text has no name.
    pub(super) fn given(&self, id: &[u8]) -> Option<String> {
        let id = std::str::from_utf8(id).ok()?;
        match id.bytes().next()? {
            // Escapes stay as they are: they mean the same in the longer text.
            b'"' => Some(format!("\"{}{TEXT}{}", self.tag, &id[1..])),
            b'-' | b'0'..=b'9' => Some(format!("\"{}{NUMBER}{id}\"", self.tag)),
            _ => None,
        }
    }

    /// The client's id for what the service calls so. `None` for what is not of this session.
    pub(super) fn meant(&self, id: &[u8]) -> Option<String> {
        let name: String = serde_json::from_slice(id).ok()?;
        let own = name.strip_prefix(&*self.tag)?;
        if let Some(number) = own.strip_prefix(NUMBER) {
            let is_number = serde_json::from_str::<serde_json::Number>(number).is_ok();
            return is_number.then(|| number.to_owned());
        }
        let text = own.strip_prefix(TEXT)?;
        Some(serde_json::Value::from(text).to_string())
    }
}

/// Has it the shape of a name, whosever? Services have ids of their own for what answers nobody.
pub(super) fn is_name(id: &[u8]) -> bool {
    let name: Option<String> = serde_json::from_slice(id).ok();
    let behind = name.as_ref().and_then(|name| name.get(TAG..));
    behind.is_some_and(|behind| behind.starts_with([NUMBER, TEXT]))
}

/// What passes through one instance only.
pub(super) struct Seals<'a> {
    vault: &'a Vault,
    instance: &'a PublicId,
}

/// What kind of thing is sealed: none counts as another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The id of an event of a stream.
    Event,
    /// The id of a request of the service.
    Request,
    /// `requestState`.
    State,
    /// The session of a client of the older transport.
    Session,
}

impl Kind {
    fn letter(self) -> u8 {
        match self {
            Self::Event => b'e',
            Self::Request => b'r',
            Self::State => b's',
            Self::Session => b'l',
        }
    }
}

impl<'a> Seals<'a> {
    /// Of this instance.
    pub(super) fn new(vault: &'a Vault, instance: &'a PublicId) -> Self {
        Self { vault, instance }
    }

    /// The text behind a seal.
    pub(super) fn seal(&self, kind: Kind, text: &str) -> String {
        format!("{}{SEALED}{text}", self.seal_of(kind, text))
    }

    /// The text, if this instance got it. Takes the same time for every wrong seal.
    pub(super) fn open<'t>(&self, kind: Kind, sealed: &'t str) -> Option<&'t str> {
        let text = sealed.get(SEAL..)?.strip_prefix(SEALED)?;
        let shown = sealed[..SEAL].to_ascii_uppercase();
        let shown = BASE32_NOPAD.decode(shown.as_bytes()).ok()?;
        let input = tagged(kind.letter(), text);
        let is_right = self.vault.is_stream_tag(self.instance, &input, &shown);
        is_right.then_some(text)
    }

    /// A service's own id as the client sees it. Both are JSON.
    pub(super) fn seal_id(&self, id: &[u8]) -> Option<String> {
        let id = std::str::from_utf8(id).ok()?;
        Some(serde_json::Value::from(self.seal(Kind::Request, id)).to_string())
    }

    /// The service's own id, as it has spelt it.
    pub(super) fn open_id(&self, id: &[u8]) -> Option<String> {
        let sealed: String = serde_json::from_slice(id).ok()?;
        let id = self.open(Kind::Request, &sealed)?;
        serde_json::from_str::<&serde_json::value::RawValue>(id).ok()?;
        Some(id.to_owned())
    }

    /// The names of a session of the older transport: it is known by the id that its service gave it.
    pub(super) fn names(&self, session: &str) -> Names {
        Names::of(self.tag_of(b'n', session))
    }

    fn seal_of(&self, kind: Kind, text: &str) -> String {
        letters(&self.tag_of(kind.letter(), text))
    }

    fn tag_of(&self, letter: u8, text: &str) -> [u8; 10] {
        self.vault.stream_tag(self.instance, &tagged(letter, text))
    }
}

/// A text with its kind before it.
fn tagged(letter: u8, text: &str) -> Vec<u8> {
    let mut input = Vec::with_capacity(text.len() + 1);
    input.push(letter);
    input.extend_from_slice(text.as_bytes());
    input
}

/// An event of a stream, so that it is told from those of an earlier run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EventId<'a> {
    /// Of the session when it came; 0 outside of sessions.
    pub(super) epoch: u32,
    /// What the service calls it.
    pub(super) own: &'a str,
}

impl<'a> EventId<'a> {
    /// What was sealed.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (epoch, own) = text.split_once('.')?;
        let epoch = epoch.parse().ok()?;
        Some(Self { epoch, own })
    }
}

impl fmt::Display for EventId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.own)
    }
}

/// 16 letters and digits.
fn letters(bytes: &[u8; 10]) -> String {
    BASE32_NOPAD.encode(bytes).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::vault::MasterKey;

    fn vault() -> Vault {
        Vault::new(&MasterKey::from_bytes([7; 32]))
    }

    fn public(text: &str) -> PublicId {
        PublicId::parse(text).unwrap()
    }

    #[test]
    fn ids_come_back_with_their_type_and_spelling() {
        let names = Names::new("abcdefghijklm").unwrap();
        for id in [
            "1",
            "-7",
            "1.0",
            "12345678901234567890123",
            "\"1\"",
            "\"\"",
            "\"a b\"",
        ] {
            let given = names.given(id.as_bytes()).unwrap();
            assert_eq!(
                names.meant(given.as_bytes()).as_deref(),
                Some(id),
                "{given}"
            );
        }
        assert_eq!(names.given(b"1").unwrap(), "\"abcdefghijklm#1\"");
        for none in ["null", "{}", "[1]", "true", ""] {
            assert_eq!(names.given(none.as_bytes()), None, "{none}");
        }
        let other = Names::new("nopqrstuvwxyz").unwrap();
        for foreign in [
            "1",
            "\"1\"",
            "\"abcdefghijklm\"",
            "\"abcdefghijklm#x\"",
            "null",
        ] {
            assert_eq!(names.meant(foreign.as_bytes()), None, "{foreign}");
        }
        assert!(is_name(&names.given(b"1").unwrap().into_bytes()));
        assert!(!is_name(b"\"server-error\"") && !is_name(b"1") && !is_name(b"null"));
        assert_eq!(other.meant(names.given(b"1").unwrap().as_bytes()), None);
    }

    #[test]
    fn what_one_instance_got_opens_nowhere_else() {
        let vault = vault();
        let (a, b) = (public("ins_aaaabbbbcccc"), public("ins_aaaabbbbcccd"));
        let (a, b) = (Seals::new(&vault, &a), Seals::new(&vault, &b));
        let sealed = a.seal(Kind::Event, "stream_7");
        assert_eq!(a.open(Kind::Event, &sealed), Some("stream_7"));
        assert_eq!(b.open(Kind::Event, &sealed), None);
        assert_eq!(a.open(Kind::State, &sealed), None);
        for wrong in ["", "stream_7", "é", &sealed[1..], &format!("{sealed}8")] {
            assert_eq!(a.open(Kind::Event, wrong), None, "{wrong}");
        }
        for id in ["0", "\"x\\n\""] {
            let sealed = a.seal_id(id.as_bytes()).unwrap();
            assert_eq!(a.open_id(sealed.as_bytes()).as_deref(), Some(id));
            assert_eq!(b.open_id(sealed.as_bytes()), None);
        }
    }

    #[test]
    fn an_event_is_told_from_those_of_an_earlier_run() {
        let event = EventId {
            epoch: 7,
            own: "a.b_1",
        };
        assert_eq!(event.to_string(), "7.a.b_1");
        assert_eq!(EventId::parse("7.a.b_1"), Some(event));
        for none in ["", "7", "x.1", "-1.x"] {
            assert_eq!(EventId::parse(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text: String, number: i64) {
            let names = Names::new("abcdefghijklm").unwrap();
            for id in [serde_json::Value::from(text).to_string(), number.to_string()] {
                let given = names.given(id.as_bytes()).unwrap();
                // A service may write the same text with other escapes.
                let again: serde_json::Value = serde_json::from_str(&given).unwrap();
                prop_assert_eq!(names.meant(again.to_string().as_bytes()), Some(id));
            }
        }

        #[test]
        fn no_bytes_panic(id: Vec<u8>, text: String) {
            let names = Names::new("abcdefghijklm").unwrap();
            let (vault, public) = (vault(), public("ins_aaaabbbbcccc"));
            let seals = Seals::new(&vault, &public);
            let _ = (names.given(&id), names.meant(&id), seals.open_id(&id));
            let _ = seals.open(Kind::Event, &text);
        }
    }
}
