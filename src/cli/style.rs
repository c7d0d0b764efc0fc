//! Colours, and texts made safe and short enough for a terminal. Pure.

use std::borrow::Cow;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// What a colour says here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paint {
    /// Runs, done.
    Good,
    /// Failed, down.
    Bad,
    /// Under way.
    Busy,
    /// Worth a look.
    Warn,
    /// Headings.
    Head,
    /// Less important.
    Dim,
    /// Looked for.
    Mark,
}

/// Puts colours in, or leaves them out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Palette {
    /// `false`: every text stays as it is.
    pub(crate) on: bool,
}

impl Palette {
    /// No colours.
    #[cfg(test)]
    pub(crate) const PLAIN: Self = Self { on: false };

    /// The text in that colour.
    pub(crate) fn paint(self, paint: Paint, text: &str) -> String {
        let mut painted = String::new();
        self.painted(Some(paint), &mut painted, |painted| *painted += text);
        painted
    }

    /// Puts what is written between the signs of a colour.
    pub(crate) fn painted(
        self,
        paint: Option<Paint>,
        to: &mut String,
        write: impl FnOnce(&mut String),
    ) {
        let code = match paint.filter(|_| self.on) {
            None => return write(to),
            Some(Paint::Good) => "32",
            Some(Paint::Bad) => "31",
            Some(Paint::Busy) => "34",
            Some(Paint::Warn) => "33",
            Some(Paint::Head) => "1;36",
            Some(Paint::Dim) => "2",
            Some(Paint::Mark) => "30;43",
        };
        to.push_str("\x1b[");
        to.push_str(code);
        to.push('m');
        write(to);
        to.push_str("\x1b[0m");
    }
}

/// Columns that a text takes.
pub(crate) fn width(text: &str) -> usize {
    match is_plain(text) {
        true => text.len(),
        false => text.width(),
    }
}

/// Printable ASCII: a column for each byte. Most texts are.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// The text in at most so many columns; what is cut off shows as `…`.
pub(crate) fn cut(text: &str, columns: usize) -> Cow<'_, str> {
    if width(text) <= columns {
        return Cow::Borrowed(text);
    }
    let mut room = columns.saturating_sub(1);
    let mut kept = String::new();
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if wide > room {
            break;
        }
        room -= wide;
        kept.push(c);
    }
    if columns > 0 {
        kept.push('…');
    }
    Cow::Owned(kept)
}

/// The text in lines of at most so many columns (one, when that is less), broken at spaces where that
/// leaves no line half empty.
pub(crate) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rest = text;
    while width(rest) > columns {
        let end = fitting(rest, columns);
        let space = rest[..end].rfind(' ').filter(|&at| at >= end / 2);
        let end = match space {
            Some(_) if rest[end..].starts_with(' ') => end,
            Some(at) => at,
            None => end,
        };
        lines.push(rest[..end].to_owned());
        rest = rest[end..].trim_start_matches(' ');
    }
    if !rest.is_empty() || lines.is_empty() {
        lines.push(rest.to_owned());
    }
    lines
}

/// How many bytes of a text fit into so many columns; at least one character.
fn fitting(text: &str, columns: usize) -> usize {
    let mut room = columns;
    for (at, c) in text.char_indices() {
        let wide = c.width().unwrap_or(0);
        if wide > room && at > 0 {
            return at;
        }
        room = room.saturating_sub(wide);
    }
    text.len()
}

/// The text filled up with spaces to so many columns.
pub(crate) fn pad(text: &str, columns: usize) -> String {
    let mut padded = String::new();
    push_padded(&mut padded, text, columns);
    padded
}

/// Writes what [`pad`] returns.
pub(crate) fn push_padded(to: &mut String, text: &str, columns: usize) {
    to.push_str(text);
    to.extend(std::iter::repeat_n(
        ' ',
        columns.saturating_sub(width(text)),
    ));
}

/// The text on one line and without control characters: what services and people chose must not
/// steer the terminal.
pub(crate) fn tame(text: &str) -> String {
    match is_plain(text) {
        true => text.to_owned(),
        false => text.replace(char::is_control, " "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_counts_columns_not_characters() {
        assert_eq!(cut("waiting restart", 9), "waiting …");
        assert_eq!(cut("online", 6), "online");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!(cut("abc", 0), "");
    }

    #[test]
    fn wrapped_text_loses_nothing_and_breaks_at_spaces_where_it_can() {
        assert_eq!(wrap("abc", 3), ["abc"]);
        assert_eq!(wrap("", 3), [""]);
        assert_eq!(wrap("abcdefg", 3), ["abc", "def", "g"]);
        assert_eq!(wrap("ab cd ef", 5), ["ab cd", "ef"]);
        assert_eq!(wrap("abc def", 5), ["abc", "def"]);
        assert_eq!(wrap("日本語", 3), ["日", "本", "語"]);
        assert_eq!(wrap("日本", 0), ["日", "本"]);
    }

    #[test]
    fn nothing_a_service_says_steers_the_terminal() {
        assert_eq!(tame("a\x1b[2Jb\nc"), "a [2Jb c");
    }

    #[test]
    fn colours_can_be_left_out() {
        assert_eq!(Palette::PLAIN.paint(Paint::Bad, "x"), "x");
        assert_eq!(
            Palette { on: true }.paint(Paint::Bad, "x"),
            "\x1b[31mx\x1b[0m"
        );
    }
}
