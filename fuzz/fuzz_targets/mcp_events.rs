//! However a stream of events is cut, the same events come out of it, and all of its bytes; and what is
//! changed of an event is what a client reads there.
//!
//! Input: lengths of pieces, a NUL byte, the stream.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcpm::router::mcp::wire::events::{Event, Reader};

fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Event>, Vec<u8>) {
    let mut reader = Reader::default();
    let mut events = Vec::new();
    for piece in pieces {
        reader.push(piece);
        while let Some(event) = reader.event() {
            events.push(event.expect("it is short"));
        }
    }
    (events, reader.rest().to_vec())
}

fuzz_target!(|data: &[u8]| {
    let cut = data.iter().position(|&b| b == 0).unwrap_or(0);
    let (lengths, stream) = data.split_at(cut);
    let mut rest = stream;
    let mut lengths = lengths.iter();
    let pieces = std::iter::from_fn(|| {
        let length = lengths.next().map_or(rest.len(), |&it| usize::from(it));
        let (piece, behind) = rest.split_at(length.min(rest.len()));
        rest = behind;
        (!piece.is_empty()).then_some(piece)
    });
    let (events, tail) = read(pieces);
    let mut whole: Vec<u8> = events.iter().flat_map(|it| it.raw().to_vec()).collect();
    whole.extend_from_slice(&tail);
    assert_eq!(whole, stream);

    let (at_once, _) = read(std::iter::once(stream));
    let data = |events: &[Event]| -> Vec<Vec<u8>> {
        let data = events.iter().filter_map(Event::data);
        data.map(std::borrow::Cow::into_owned).collect()
    };
    assert_eq!(data(&events), data(&at_once));
    for event in &events {
        if event.data().is_none() {
            continue;
        }
        let changed = event.with(Some(b"ours"), Some("id"));
        let (changed, tail) = read(std::iter::once(&*changed));
        let changed = changed.iter().find(|it| it.data().is_some());
        let changed = changed.expect("it has data");
        assert_eq!(changed.data().as_deref(), Some(&b"ours"[..]));
        assert_eq!(changed.name(), event.name());
        assert!(tail.is_empty());
    }
});
