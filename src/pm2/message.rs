//! Messages on PM2's socket. Pure.
//!
//! A byte with the version (1) above and the number of parts below, then each part: its length in
//! four bytes, the greatest first, and so many bytes. A part that begins with `j:` is JSON, with
//! `s:` text. A call is `{"type":"call","method":…,"args":[…]}` and a text that its answer repeats;
//! an answer is `{"args":[…]}`, or `{"error":"…"}`.

use serde_json::{Value, json};

/// Longest message that is read. A list of 10,000 processes with an environment of 4 KiB each.
pub const MESSAGE_MAX: usize = 128 << 20;
/// Bytes of a part's length.
const LENGTH: usize = 4;
/// The high half of the first byte.
const VERSION: u8 = 1;

/// Why bytes are no messages.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The first byte is another protocol's.
    #[error("it speaks version {0} of the protocol, and version {VERSION} is known")]
    Version(u8),
    /// More than [`MESSAGE_MAX`].
    #[error("a message is longer than {} MiB", MESSAGE_MAX >> 20)]
    TooLong,
    /// Not an answer to a call.
    #[error("a message is no answer to a call")]
    NoAnswer,
}

/// What a call came to.
#[derive(Debug, PartialEq)]
pub struct Answer {
    /// The text that the call had.
    pub to: String,
    /// What it gave, or what it says was wrong.
    pub outcome: Result<Vec<Value>, String>,
}

/// The bytes of a call.
pub fn call(method: &str, args: &[Value], id: &str) -> Vec<u8> {
    let call = json!({ "type": "call", "method": method, "args": args });
    let parts = [format!("j:{call}"), format!("s:{id}")];
    let mut bytes = vec![VERSION << 4 | 2];
    for part in parts {
        // What we send is far below four gigabytes.
        let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes
}

/// Bytes as they arrive → answers.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    /// Where the next message begins.
    at: usize,
    /// How long it is at least; a look before that is in vain.
    needed: usize,
}

impl Decoder {
    /// Takes what has arrived.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.drain(..std::mem::take(&mut self.at));
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole answer; `None` when more must arrive first.
    ///
    /// # Errors
    /// When these are no answers: nothing that follows can be understood either.
    pub fn take(&mut self) -> Result<Option<Answer>, MessageError> {
        let bytes = &self.bytes[self.at..];
        if bytes.is_empty() || bytes.len() < self.needed {
            return Ok(None);
        }
        let (version, count) = (bytes[0] >> 4, bytes[0] & 0x0f);
        if version != VERSION {
            return Err(MessageError::Version(version));
        }
        let mut parts = Vec::new();
        let mut end = 1;
        for _ in 0..count {
            let Some(length) = bytes.get(end..end + LENGTH) else {
                self.needed = end + LENGTH;
                return Ok(None);
            };
            let length = length
                .iter()
                .fold(0, |sum: usize, &byte| sum << 8 | usize::from(byte));
            let begin = end + LENGTH;
            end = begin.saturating_add(length);
            if end > MESSAGE_MAX {
                return Err(MessageError::TooLong);
            }
            let Some(part) = bytes.get(begin..end) else {
                self.needed = end;
                return Ok(None);
            };
            parts.push(part);
        }
        let answer = answer(&parts)?;
        self.at += end;
        self.needed = 0;
        Ok(Some(answer))
    }
}

fn answer(parts: &[&[u8]]) -> Result<Answer, MessageError> {
    let [body, .., to] = parts else {
        return Err(MessageError::NoAnswer);
    };
    let body = body.strip_prefix(b"j:").ok_or(MessageError::NoAnswer)?;
    let to = to.strip_prefix(b"s:").ok_or(MessageError::NoAnswer)?;
    let Ok(Value::Object(mut body)) = serde_json::from_slice(body) else {
        return Err(MessageError::NoAnswer);
    };
    let outcome = match (body.remove("error"), body.remove("args")) {
        (Some(Value::String(error)), _) => Err(error),
        (Some(error), _) => Err(error.to_string()),
        (None, Some(Value::Array(args))) => Ok(args),
        (None, _) => return Err(MessageError::NoAnswer),
    };
    Ok(Answer {
        to: String::from_utf8_lossy(to).into_owned(),
        outcome,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As PM2 7.0.4 answered to `getVersion`, to an unknown method and to a process that it does not have.
    const RECORDED: &[u8] = b"\x12\0\0\0\x14j:{\"args\":[\"7.0.4\"]}\0\0\0\x05s:1:0\
        \x12\0\0\0\x2cj:{\"error\":\"method \\\"nope\\\" does not exist\"}\0\0\0\x05s:1:1\
        \x12\0\0\0\x30j:{\"error\":\"99 : id unknown\",\"stack\":\"Error: x\"}\0\0\0\x05s:1:2";

    fn decoded(pieces: &[&[u8]]) -> Vec<Answer> {
        let mut decoder = Decoder::default();
        let mut answers = Vec::new();
        for piece in pieces {
            decoder.feed(piece);
            while let Some(answer) = decoder.take().unwrap() {
                answers.push(answer);
            }
        }
        answers
    }

    #[test]
    fn what_pm2_answered_is_understood() {
        let expected = [
            ("1:0", Ok(vec![json!("7.0.4")])),
            ("1:1", Err("method \"nope\" does not exist".to_owned())),
            ("1:2", Err("99 : id unknown".to_owned())),
        ];
        let expected = expected.map(|(to, outcome)| Answer {
            to: to.to_owned(),
            outcome,
        });
        assert_eq!(decoded(&[RECORDED]), expected);
    }

    #[test]
    fn a_call_is_written_as_pm2s_own_command_line_writes_it() {
        let bytes = call("getMonitorData", &[json!({})], "10332:1");
        let expected = b"\x12\0\0\x007j:{\"type\":\"call\",\"method\":\"getMonitorData\",\"args\":[{}]}\0\0\0\ts:10332:1";
        assert_eq!(bytes, expected);
    }

    #[test]
    fn other_protocols_and_endless_messages_are_refused() {
        let refused = |bytes: &[u8]| {
            let mut decoder = Decoder::default();
            decoder.feed(bytes);
            decoder.take().unwrap_err()
        };
        assert_eq!(refused(b"HTTP/1.1 200"), MessageError::Version(4));
        assert_eq!(refused(b"\x12\xff\xff\xff\xff"), MessageError::TooLong);
        assert_eq!(refused(b"\x10"), MessageError::NoAnswer);
        for parts in [
            "x y",
            "j:{} s:1",
            "j:[] s:1",
            "j:3 s:1",
            "j:{\"args\":[]} 1",
        ] {
            let mut bytes = vec![0x12];
            for part in parts.split(' ') {
                bytes.extend([0, 0, 0, u8::try_from(part.len()).unwrap()]);
                bytes.extend(part.as_bytes());
            }
            assert_eq!(refused(&bytes), MessageError::NoAnswer, "{parts}");
        }
    }

    proptest! {
        #[test]
        fn cut_anywhere_the_answers_are_the_same(cuts in proptest::collection::vec(0..RECORDED.len(), 0..6)) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut begin = 0;
            for cut in cuts {
                pieces.push(&RECORDED[begin..cut]);
                begin = cut;
            }
            pieces.push(&RECORDED[begin..]);
            prop_assert_eq!(decoded(&pieces), decoded(&[RECORDED]));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), body in ".{0,30}") {
            let mut decoder = Decoder::default();
            decoder.feed(&[0x12, 0, 0, 0, u8::try_from(body.len() + 2).unwrap_or(0)]);
            decoder.feed(format!("j:{body}\0\0\0\x02s:").as_bytes());
            decoder.feed(&bytes);
            while let Ok(Some(_)) = decoder.take() {}
        }
    }
}
