//! A small HTTP client that keeps a streaming body apart from its head.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// Nothing a test waits for takes longer.
const LIMIT: Duration = Duration::from_secs(20);

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// An answer whose head has been read and whose body has not.
pub(crate) struct Body {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    stream: BufReader<TcpStream>,
    frame: Frame,
}

/// How the body's end is known (RFC 9112 §6.3).
enum Frame {
    Length(u64),
    /// So many bytes of the current chunk are left; `None` before its head.
    Chunked(Option<u64>),
    UntilClosed,
    Over,
}

/// Sends a request on a connection of its own and reads the answer's head.
#[track_caller]
pub(crate) fn request(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Body {
    let rest = url.strip_prefix("http://").expect("a plain http URL");
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let path = if path.is_empty() { "/" } else { path };
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() || method == "POST" {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    head += "\r\n";
    raw(host, &[head.as_bytes(), body].concat())
}

/// Sends these bytes, whatever they are, and reads the answer's head.
#[track_caller]
pub(crate) fn raw(host: &str, bytes: &[u8]) -> Body {
    let mut stream = TcpStream::connect(host).unwrap_or_else(|error| panic!("{host}: {error}"));
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    // One that refuses a large body may answer and close before it has all.
    let _ = stream.write_all(bytes);
    let mut stream = BufReader::new(stream);
    let status_line = line(&mut stream);
    let status = status_line
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no HTTP answer: {status_line:?}"));
    let mut headers = Vec::new();
    loop {
        let line = line(&mut stream);
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let frame = match (
        find(&headers, "transfer-encoding"),
        find(&headers, "content-length"),
    ) {
        (Some(_), _) => Frame::Chunked(None),
        (None, Some(length)) => Frame::Length(length.parse().expect("a length")),
        (None, None) => Frame::UntilClosed,
    };
    Body {
        status,
        headers,
        stream,
        frame,
    }
}

impl Body {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// Reads to the end.
    #[track_caller]
    pub(crate) fn read(mut self) -> Answer {
        let mut body = Vec::new();
        while let Some(piece) = self.piece() {
            body.extend(piece);
        }
        Answer {
            status: self.status,
            headers: self.headers,
            body,
        }
    }

    /// The next line, as soon as it has arrived; `None` at the end. Reads one byte at a time, so
    /// that it never waits for what comes after the line.
    #[track_caller]
    pub(crate) fn line(&mut self) -> Option<String> {
        let mut bytes = Vec::new();
        loop {
            match self.byte() {
                None if bytes.is_empty() => return None,
                None | Some(b'\n') => break,
                Some(byte) => bytes.push(byte),
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        Some(text.trim_end_matches('\r').to_owned())
    }

    /// The next event of an SSE stream: its `data`, lines joined by line ends.
    #[track_caller]
    pub(crate) fn event(&mut self) -> Option<String> {
        let mut data: Vec<String> = Vec::new();
        loop {
            let line = self.line()?;
            if let Some(text) = line.strip_prefix("data:") {
                data.push(text.trim_start().to_owned());
            } else if line.is_empty() && !data.is_empty() {
                return Some(data.join("\n"));
            }
        }
    }

    fn byte(&mut self) -> Option<u8> {
        self.up_to(1).map(|bytes| bytes[0])
    }

    fn piece(&mut self) -> Option<Vec<u8>> {
        self.up_to(64 * 1024)
    }

    /// Some of what is left of the body, at most so many bytes; `None` at its end.
    #[track_caller]
    fn up_to(&mut self, most: u64) -> Option<Vec<u8>> {
        let left = match &mut self.frame {
            Frame::Over => return None,
            Frame::UntilClosed => most,
            Frame::Length(left) => *left,
            Frame::Chunked(Some(left)) => *left,
            Frame::Chunked(size @ None) => {
                let head = line(&mut self.stream);
                let digits = head.split(';').next().unwrap_or_default().trim();
                let left = u64::from_str_radix(digits, 16)
                    .unwrap_or_else(|_| panic!("not the head of a chunk: {head:?}"));
                *size = Some(left);
                left
            }
        };
        let mut bytes = vec![0; usize::try_from(left.min(most)).unwrap()];
        let count = if bytes.is_empty() {
            0
        } else {
            self.stream.read(&mut bytes).expect("the body goes on")
        };
        bytes.truncate(count);
        let rest = left - count as u64;
        match &mut self.frame {
            Frame::Length(left) | Frame::Chunked(Some(left)) => *left = rest,
            _ => {}
        }
        let chunk_over = matches!(self.frame, Frame::Chunked(Some(0))) && count > 0;
        if chunk_over {
            assert_eq!(line(&mut self.stream), "", "a chunk ends with a line end");
            self.frame = Frame::Chunked(None);
        }
        if count == 0 {
            let whole = matches!(self.frame, Frame::UntilClosed) || left == 0;
            assert!(
                whole,
                "the connection was cut with {left} bytes of a body to come"
            );
            self.frame = Frame::Over;
            return None;
        }
        Some(bytes)
    }
}

fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers
        .iter()
        .find(|header| header.0 == name)
        .map(|header| header.1.as_str())
}

#[track_caller]
fn line(stream: &mut BufReader<TcpStream>) -> String {
    let mut line = Vec::new();
    stream.read_until(b'\n', &mut line).expect("an answer");
    String::from_utf8_lossy(&line)
        .trim_end_matches(['\r', '\n'])
        .to_owned()
}
