//! What a process says of a port that it could not have (pure).
//!
//! The words of the system's error, as every language prints them, and its name.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::lines;

/// Its name, and its text without the first letter, which is large or small.
static TAKEN: LazyLock<[Finder<'static>; 2]> =
    LazyLock::new(|| ["EADDRINUSE", "ddress already in use"].map(Finder::new));

/// The first of these lines that tells of a port which somebody else has.
pub fn of_a_taken_port(piece: &[u8]) -> Option<&[u8]> {
    let tells = |text: &[u8]| TAKEN.iter().any(|words| words.find(text).is_some());
    // Most have none, and are looked through once.
    tells(piece)
        .then(|| lines::split(piece).find(|line| tells(line)))
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_says_it_in_the_systems_words() {
        for said in [
            "Error: listen EADDRINUSE: address already in use :::3000",
            "OSError: [Errno 98] Address already in use",
            "listen tcp :3000: bind: address already in use",
            "nginx: [emerg] bind() to 0.0.0.0:80 failed (98: Address already in use)",
            "Error: Os { code: 98, kind: AddrInUse, message: \"Address already in use\" }",
        ] {
            let piece = format!("starting\n{said}\n    at Server.setupListenHandle\n");
            assert_eq!(of_a_taken_port(piece.as_bytes()), Some(said.as_bytes()));
        }
        assert_eq!(
            of_a_taken_port(b"connection refused\nport 3000 in use\n"),
            None
        );
    }
}
