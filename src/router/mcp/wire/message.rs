//! A body of JSON-RPC, read once on its bytes: where in it stands what the router must know or change.
//! Pure.
//!
//! Strict JSON (RFC 8259) of bounded depth; nothing is copied, and nothing of a message is kept but
//! places. A member that is read here may not stand twice in its object: who reads the first one and who
//! reads the last one would see two messages.

use std::ops::Range;

use memchr::memchr2;

/// Where something stands.
pub type Span = Range<usize>;

/// Objects and arrays in each other; the SDKs' parsers take as many.
const DEPTH_MAX: usize = 128;
/// Messages in one body.
const MESSAGES_MAX: usize = 256;
/// Where 2026-07-28 names the revision of a request.
const META_REVISION: &str = "io.modelcontextprotocol/protocolVersion";

/// Where it names the call that has subscribed.
const META_SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

/// What a body holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// It is an array of messages.
    pub is_batch: bool,
    /// In their order.
    pub messages: Vec<Message>,
}

/// What kind of message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Wants an answer.
    Request,
    /// Wants none.
    Notification,
    /// An answer.
    Result,
    /// An answer that is an error.
    Error,
    /// JSON, and none of these.
    Other,
}

/// One message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// All of it.
    pub span: Span,
    /// `id`, whatever it is.
    pub id: Option<Span>,
    /// `method`, decoded.
    pub method: Option<String>,
    /// `params`.
    pub params: Inner,
    /// `result`.
    pub result: Option<Inner>,
    has_error: bool,
    /// `id` is a text or a number.
    has_id: bool,
}

/// What is read of `params` and of `result`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inner {
    /// `_meta.progressToken`: what progress is told under.
    pub token: Option<Span>,
    /// `_meta`'s subscription: the id of the call that asked to hear of it.
    pub subscription: Option<Span>,
    /// `progressToken`: what progress is told of.
    pub progress: Option<Span>,
    /// `requestId`: what is cancelled.
    pub cancelled: Option<Span>,
    /// `requestState`.
    pub state: Option<Span>,
    /// `_meta`'s revision, or `protocolVersion`.
    pub revision: Option<Span>,
    /// `uri`.
    pub uri: Option<Span>,
    /// `capabilities`.
    pub capabilities: Option<Span>,
}

/// Why a body is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// Not JSON.
    #[error("the body is not JSON: {0} at byte {1}")]
    Json(&'static str, usize),
    /// JSON, and not a message.
    #[error("{why}")]
    Message {
        /// What is wrong.
        why: String,
        /// Of the message.
        id: Option<Span>,
    },
}

impl Bad {
    /// As JSON-RPC numbers it.
    pub fn number(&self) -> i32 {
        match self {
            Self::Json(..) => -32700,
            Self::Message { .. } => -32600,
        }
    }

    /// The id of the message, when it was read.
    pub fn id(&self) -> Option<Span> {
        match self {
            Self::Json(..) => None,
            Self::Message { id, .. } => id.clone(),
        }
    }
}

impl Message {
    /// What it is.
    pub fn kind(&self) -> Kind {
        match (&self.method, self.has_id, &self.result, self.has_error) {
            (Some(_), true, _, _) => Kind::Request,
            (Some(_), false, _, _) => Kind::Notification,
            (None, _, _, true) => Kind::Error,
            (None, true, Some(_), _) => Kind::Result,
            (None, ..) => Kind::Other,
        }
    }

    /// Is it this method?
    pub fn is(&self, method: &str) -> bool {
        self.method.as_deref() == Some(method)
    }
}

/// Reads a body.
///
/// # Errors
/// It is not JSON, or not one that everybody reads alike.
pub fn scan(text: &[u8]) -> Result<Scan, Bad> {
    if let Err(error) = std::str::from_utf8(text) {
        return Err(Bad::Json("it is not UTF-8", error.valid_up_to()));
    }
    let mut reader = Reader {
        text,
        at: 0,
        depth: 0,
    };
    reader.space();
    let is_batch = reader.peek() == Some(b'[');
    let mut messages = Vec::new();
    if is_batch {
        reader.array(|reader| {
            if messages.len() >= MESSAGES_MAX {
                return Err(invalid(format!("more than {MESSAGES_MAX} messages"), None));
            }
            messages.push(message(reader)?);
            Ok(())
        })?;
    } else {
        messages.push(message(&mut reader)?);
    }
    reader.space();
    if reader.at < text.len() {
        return Err(reader.bad("something stands behind its end"));
    }
    Ok(Scan { is_batch, messages })
}

fn invalid(why: String, id: Option<Span>) -> Bad {
    Bad::Message { why, id }
}

/// A value that should be a message.
fn message(reader: &mut Reader<'_>) -> Result<Message, Bad> {
    reader.space();
    let from = reader.at;
    let mut message = Message::default();
    if reader.peek() != Some(b'{') {
        reader.value()?;
        message.span = from..reader.at;
        return Ok(message);
    }
    let mut seen = Seen::default();
    let mut doubled = None;
    reader.object(|reader, key| {
        match key {
            "id" => {
                message.has_id = matches!(reader.peek(), Some(b'"' | b'-' | b'0'..=b'9'));
                message.id = Some(reader.value()?);
            }
            "method" => {
                let is_text = reader.peek() == Some(b'"');
                let span = reader.value()?;
                message.method = is_text.then(|| reader.text_of(&span)).flatten();
            }
            "params" => message.params = inner(reader, &mut doubled)?,
            "result" => message.result = Some(inner(reader, &mut doubled)?),
            "error" => {
                message.has_error = true;
                reader.value()?;
            }
            "jsonrpc" => {
                reader.value()?;
            }
            _ => return reader.value().map(drop),
        }
        if seen.again(key) {
            doubled.get_or_insert_with(|| key.to_owned());
        }
        Ok(())
    })?;
    message.span = from..reader.at;
    match doubled {
        Some(key) => Err(invalid(format!("`{key}` stands there twice"), message.id)),
        None => Ok(message),
    }
}

/// `params` or `result`.
fn inner(reader: &mut Reader<'_>, doubled: &mut Option<String>) -> Result<Inner, Bad> {
    let mut found = Inner::default();
    if reader.peek() != Some(b'{') {
        reader.value()?;
        return Ok(found);
    }
    let mut seen = Seen::default();
    reader.object(|reader, key| {
        let place = match key {
            "progressToken" => &mut found.progress,
            "requestId" => &mut found.cancelled,
            "requestState" => &mut found.state,
            "protocolVersion" => &mut found.revision,
            "uri" => &mut found.uri,
            "capabilities" => &mut found.capabilities,
            "_meta" if reader.peek() == Some(b'{') => {
                let mut in_meta = Seen::default();
                reader.object(|reader, key| {
                    let place = match key {
                        "progressToken" => &mut found.token,
                        META_REVISION => &mut found.revision,
                        META_SUBSCRIPTION => &mut found.subscription,
                        _ => return reader.value().map(drop),
                    };
                    *place = Some(reader.value()?);
                    if in_meta.again(key) {
                        doubled.get_or_insert_with(|| key.to_owned());
                    }
                    Ok(())
                })?;
                if seen.again(key) {
                    doubled.get_or_insert_with(|| key.to_owned());
                }
                return Ok(());
            }
            "_meta" => {
                reader.value()?;
                if seen.again(key) {
                    doubled.get_or_insert_with(|| key.to_owned());
                }
                return Ok(());
            }
            _ => return reader.value().map(drop),
        };
        *place = Some(reader.value()?);
        if seen.again(key) {
            doubled.get_or_insert_with(|| key.to_owned());
        }
        Ok(())
    })?;
    Ok(found)
}

/// Members that were read, of the few that are.
#[derive(Default)]
struct Seen(u32);

impl Seen {
    /// Was it seen before?
    fn again(&mut self, key: &str) -> bool {
        const KEYS: [&str; 15] = [
            "jsonrpc",
            "id",
            "method",
            "params",
            "result",
            "error",
            "progressToken",
            "requestId",
            "requestState",
            "protocolVersion",
            "uri",
            "capabilities",
            "_meta",
            META_REVISION,
            META_SUBSCRIPTION,
        ];
        let Some(at) = KEYS.iter().position(|known| *known == key) else {
            return false;
        };
        let (before, bit) = (self.0, 1 << at);
        self.0 |= bit;
        before & bit != 0
    }
}

/// Goes over the bytes once.
struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn bad(&self, why: &'static str) -> Bad {
        Bad::Json(why, self.at)
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// A text that was read.
    fn text_of(&self, span: &Span) -> Option<String> {
        serde_json::from_slice(&self.text[span.clone()]).ok()
    }

    /// Over a value, whatever it is; where it stands.
    fn value(&mut self) -> Result<Span, Bad> {
        let from = self.at;
        match self.peek() {
            Some(b'"') => self.text()?,
            Some(b'{') => self.object(|reader, _| reader.value().map(drop))?,
            Some(b'[') => self.array(|reader| reader.value().map(drop))?,
            Some(b't') => self.word(b"true")?,
            Some(b'f') => self.word(b"false")?,
            Some(b'n') => self.word(b"null")?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ => return Err(self.bad("a value is missing")),
        }
        Ok(from..self.at)
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Bad> {
        if self.text[self.at..].starts_with(word) {
            self.at += word.len();
            return Ok(());
        }
        Err(self.bad("a value is missing"))
    }

    fn digits(&mut self) -> Result<(), Bad> {
        let from = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == from {
            return Err(self.bad("a digit is missing"));
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), Bad> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn text(&mut self) -> Result<(), Bad> {
        self.at += 1;
        loop {
            let rest = &self.text[self.at..];
            let Some(end) = memchr2(b'"', b'\\', rest) else {
                return Err(self.bad("a text does not end"));
            };
            if let Some(control) = rest[..end].iter().position(|&b| b < b' ') {
                self.at += control;
                return Err(self.bad("a text holds a control character"));
            }
            self.at += end + 1;
            if rest[end] == b'"' {
                return Ok(());
            }
            match self.peek() {
                Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
                Some(b'u') => {
                    let digits = self.text.get(self.at + 1..self.at + 5);
                    if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                        return Err(self.bad("an escape is broken"));
                    }
                    self.at += 5;
                }
                _ => return Err(self.bad("an escape is broken")),
            }
        }
    }

    fn deeper(&mut self) -> Result<(), Bad> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.bad("it is nested too deeply"));
        }
        self.at += 1;
        self.space();
        Ok(())
    }

    /// Over an array whose first byte is there; `each` takes one value.
    fn array(&mut self, mut each: impl FnMut(&mut Self) -> Result<(), Bad>) -> Result<(), Bad> {
        self.deeper()?;
        if self.peek() == Some(b']') {
            self.at += 1;
            self.depth -= 1;
            return Ok(());
        }
        loop {
            self.space();
            each(self)?;
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    self.depth -= 1;
                    return Ok(());
                }
                _ => return Err(self.bad("`,` or `]` is missing")),
            }
        }
    }

    /// Over an object whose first byte is there; `each` takes the value of one key.
    fn object(
        &mut self,
        mut each: impl FnMut(&mut Self, &str) -> Result<(), Bad>,
    ) -> Result<(), Bad> {
        self.deeper()?;
        if self.peek() == Some(b'}') {
            self.at += 1;
            self.depth -= 1;
            return Ok(());
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return Err(self.bad("a key is missing"));
            }
            let from = self.at;
            self.text()?;
            let key = self.text.get(from + 1..self.at - 1).unwrap_or_default();
            let decoded;
            let key: &str = if key.contains(&b'\\') {
                decoded = self.text_of(&(from..self.at)).unwrap_or_default();
                &decoded
            } else {
                std::str::from_utf8(key).unwrap_or_default()
            };
            self.space();
            if self.peek() != Some(b':') {
                return Err(self.bad("`:` is missing"));
            }
            self.at += 1;
            self.space();
            each(self, key)?;
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    self.depth -= 1;
                    return Ok(());
                }
                _ => return Err(self.bad("`,` or `}` is missing")),
            }
        }
    }
}

/// The bytes with other ones at these places, which stand in their order and do not overlap.
pub fn splice(text: &[u8], changes: &[(Span, String)]) -> Vec<u8> {
    let more: usize = changes.iter().map(|(_, new)| new.len()).sum();
    let mut spliced = Vec::with_capacity(text.len() + more);
    let mut at = 0;
    for (span, new) in changes {
        spliced.extend_from_slice(&text[at..span.start]);
        spliced.extend_from_slice(new.as_bytes());
        at = span.end;
    }
    spliced.extend_from_slice(&text[at..]);
    spliced
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn one(text: &str) -> Message {
        let scan = scan(text.as_bytes()).unwrap();
        assert!(!scan.is_batch);
        scan.messages.into_iter().next().unwrap()
    }

    #[track_caller]
    fn check(text: &str, span: Option<&Span>, expected: &str) {
        assert_eq!(
            span.map(|span| &text[span.clone()]),
            Some(expected),
            "{text}"
        );
    }

    #[test]
    fn what_is_read_stands_where_it_is_said() {
        let text = r#" {"jsonrpc": "2.0", "id" : 1.0 , "method":"tools/call",
            "params":{"name":"x","_meta":{"progressToken":"t\"","io.modelcontextprotocol/protocolVersion":"2026-07-28"},
            "arguments":{"id":7,"requestId":9},"requestState":"s"}} "#;
        let message = one(text);
        assert_eq!(message.kind(), Kind::Request);
        assert!(message.is("tools/call"));
        check(text, message.id.as_ref(), "1.0");
        check(text, message.params.token.as_ref(), r#""t\"""#);
        check(text, message.params.revision.as_ref(), r#""2026-07-28""#);
        check(text, message.params.state.as_ref(), r#""s""#);
        assert_eq!(message.params.cancelled, None);
        assert_eq!(&text[message.span.clone()], text.trim());
    }

    #[test]
    fn kinds_are_told_apart() {
        let kind = |text: &str| one(text).kind();
        assert_eq!(kind(r#"{"id":"a","method":"x"}"#), Kind::Request);
        assert_eq!(kind(r#"{"method":"x"}"#), Kind::Notification);
        assert_eq!(kind(r#"{"id":null,"method":"x"}"#), Kind::Notification);
        assert_eq!(kind(r#"{"id":1,"result":{}}"#), Kind::Result);
        assert_eq!(kind(r#"{"id":1,"result":null}"#), Kind::Result);
        assert_eq!(kind(r#"{"id":null,"error":{}}"#), Kind::Error);
        for other in ["{}", r#"{"id":1}"#, "7", "null", r#""x""#] {
            assert_eq!(kind(other), Kind::Other, "{other}");
        }
    }

    #[test]
    fn a_member_may_not_stand_there_twice_in_any_spelling() {
        for text in [
            r#"{"id":1,"method":"x","id":2}"#,
            r#"{"id":1,"method":"x","\u0069d":2}"#,
            r#"{"id":1,"method":"x","method":"y"}"#,
            r#"{"id":1,"method":"x","params":{"requestState":"a","requestState":"b"}}"#,
            r#"{"id":1,"method":"x","params":{"_meta":{"progressToken":1,"progressToken":2}}}"#,
            r#"{"id":1,"method":"x","params":{"_meta":{},"_meta":{"progressToken":2}}}"#,
        ] {
            let bad = scan(text.as_bytes()).unwrap_err();
            assert_eq!(bad.number(), -32600, "{text}");
            assert!(bad.id().is_some(), "{text}");
        }
        assert!(scan(br#"{"id":1,"method":"x","params":{"a":1,"a":2}}"#).is_ok());
    }

    #[test]
    fn what_is_no_json_is_refused_with_its_place() {
        let said = |text: &[u8]| scan(text).unwrap_err().to_string();
        assert_eq!(
            said(b"{\"id\":}"),
            "the body is not JSON: a value is missing at byte 6"
        );
        assert_eq!(
            said(b"{} x"),
            "the body is not JSON: something stands behind its end at byte 3"
        );
        assert_eq!(
            said(b"{\"a\":\"\xff\"}"),
            "the body is not JSON: it is not UTF-8 at byte 6"
        );
        let deep = ["[".repeat(200), "]".repeat(200)].concat();
        assert!(said(deep.as_bytes()).contains("too deeply"));
        let many = format!("[{}]", vec!["{}"; 300].join(","));
        assert_eq!(said(many.as_bytes()), "more than 256 messages");
    }

    #[test]
    fn a_batch_has_all_its_messages() {
        let text = r#"[{"id":1,"method":"a"}, {"method":"b"}]"#;
        let scan = scan(text.as_bytes()).unwrap();
        assert!(scan.is_batch);
        let texts: Vec<&str> = scan
            .messages
            .iter()
            .map(|one| &text[one.span.clone()])
            .collect();
        assert_eq!(texts, [r#"{"id":1,"method":"a"}"#, r#"{"method":"b"}"#]);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>()
                .prop_filter("finite", |n| n.is_finite())
                .prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            let key = prop_oneof![
                Just("id".to_owned()),
                Just("method".to_owned()),
                Just("params".to_owned()),
                Just("_meta".to_owned()),
                Just("progressToken".to_owned()),
                any::<String>(),
            ];
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::vec((key, inner), 0..6)
                    .prop_map(|pairs| { Value::Object(pairs.into_iter().collect()) }),
            ]
        })
    }

    proptest! {
        #[test]
        fn json_is_what_others_take_for_json(value in any_json(), pretty: bool, cut in any::<prop::sample::Index>(), byte: u8) {
            let mut text = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap();
            prop_assert!(scan(&text).is_ok());
            if !text.is_empty() {
                let at = cut.index(text.len());
                text[at] = byte;
            }
            let theirs = serde_json::from_slice::<&serde_json::value::RawValue>(&text).is_ok();
            match scan(&text) {
                Ok(_) => prop_assert!(theirs, "{:?}", String::from_utf8_lossy(&text)),
                Err(Bad::Json(..)) => prop_assert!(!theirs, "{:?}", String::from_utf8_lossy(&text)),
                Err(Bad::Message { .. }) => {}
            }
        }

        #[test]
        fn what_is_put_in_the_place_of_an_id_is_read_there(id: i64, new: String, rest in any_json()) {
            let text = format!(r#"{{"a":{rest},"id":{id},"method":"x"}}"#);
            let span = one(&text).id.unwrap();
            let new = Value::from(new).to_string();
            let spliced = String::from_utf8(splice(text.as_bytes(), &[(span, new.clone())])).unwrap();
            let again = one(&spliced).id.unwrap();
            prop_assert_eq!(&spliced[again], &new);
        }

        #[test]
        fn no_bytes_panic(text: Vec<u8>) {
            let _ = scan(&text);
        }
    }
}
