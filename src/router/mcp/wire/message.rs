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
    /// `protocolVersion`.
    pub revision: Option<Span>,
    /// `_meta`'s revision, which each request names where there are no sessions.
    pub own_revision: Option<Span>,
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

    /// What is wrong with it, though it is JSON.
    pub fn fault(&self) -> Option<&'static str> {
        let is_answer = self.result.is_some() || self.has_error;
        if self.method.is_some() && is_answer {
            return Some("a message is a call or an answer, and not both");
        }
        if self.result.is_some() && self.has_error {
            return Some("an answer is a result or an error, and not both");
        }
        let is_call = self.method.is_some() && self.id.is_some();
        (is_call && !self.has_id).then_some("the `id` of a request is a text or a number")
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
                        META_REVISION => &mut found.own_revision,
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
            // Services and firewalls look at these.
            "_meta" | "name" | "arguments" => {
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
        const KEYS: [&str; 17] = [
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
            "name",
            "arguments",
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
mod tests;
