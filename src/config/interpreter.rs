//! Which program runs a script, by the script's extension and first bytes. Pure.
//!
//! PM2's table, with one difference: PM2 never reads a `#!` line and gives every unknown text to
//! node; here an executable text with a `#!` line runs itself.

/// How a script is to be run when its app names no interpreter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Execute it.
    Itself,
    /// The first of these programs that is in `PATH`, with these arguments before the script.
    Program(&'static [(&'static str, &'static [&'static str])]),
    /// Read the first bytes, then ask [`by_content`].
    ByContent,
}

const NODE: Choice = Choice::Program(&[("node", &[])]);

/// What makes node run TypeScript.
pub(crate) const STRIP_TYPES: &str = "--experimental-strip-types";

/// The extension without its dot.
pub(crate) fn by_extension(extension: Option<&str>) -> Choice {
    Choice::Program(match extension {
        Some("js" | "cjs" | "mjs") => return NODE,
        Some("sh") => &[("bash", &[]), ("sh", &[])],
        Some("py") => &[("python", &[]), ("python3", &[])],
        Some("rb") => &[("ruby", &[])],
        Some("php") => &[("php", &[])],
        Some("pl") => &[("perl", &[])],
        Some("coffee") => &[("coffee", &[])],
        Some("ls") => &[("lsc", &[])],
        // Node reads types by itself from 22.18 on and takes the flag all the same.
        Some("ts") => &[("bun", &[]), ("node", &[STRIP_TYPES])],
        Some("tsx") => &[("bun", &[])],
        _ => return Choice::ByContent,
    })
}

/// From the first bytes of a file (512 in PM2), and whether it may be executed.
pub(crate) fn by_content(head: &[u8], executable: bool) -> Choice {
    if is_binary(head) || (executable && head.starts_with(b"#!")) {
        Choice::Itself
    } else {
        NODE
    }
}

/// PM2's rule: a NUL byte, or more than a tenth that is not text.
fn is_binary(head: &[u8]) -> bool {
    let text = |b: u8| matches!(b, 7..=13 | 27 | 32..=126 | 128..);
    let odd = head.iter().filter(|&&b| !text(b)).count();
    head.contains(&0) || odd * 10 > head.len()
}

/// Whether its output must be told not to wait in a buffer.
pub(crate) fn is_python(interpreter: &str) -> bool {
    base_name(interpreter).contains("python")
}

/// Node and bun: the two that PM2 runs as a cluster.
pub(crate) fn is_node(interpreter: &str) -> bool {
    let name = base_name(interpreter);
    name.ends_with("node") || name.ends_with("bun")
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_decides_where_the_extension_says_nothing() {
        assert_eq!(by_extension(None), Choice::ByContent);
        assert_eq!(by_extension(Some("bin")), Choice::ByContent);
        assert_eq!(by_content(b"\x7fELF\0\0", true), Choice::Itself);
        assert_eq!(by_content(b"#!/bin/sh\necho", true), Choice::Itself);
        assert_eq!(by_content(b"#!/bin/sh\necho", false), NODE);
        assert_eq!(by_content("console.log('ä')".as_bytes(), true), NODE);
        assert_eq!(by_content(b"", false), NODE);
    }

    #[test]
    fn interpreters_are_known_by_their_last_part() {
        assert!(is_node("/usr/bin/node") && is_node("bun") && !is_node("/node/python3"));
        assert!(is_python("/usr/bin/python3.12") && !is_python("/python/ruby"));
    }
}
