//! Colours, and texts made safe and short enough for a terminal. Pure.

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
        if !self.on {
            return text.to_owned();
        }
        let code = match paint {
            Paint::Good => "32",
            Paint::Bad => "31",
            Paint::Busy => "34",
            Paint::Warn => "33",
            Paint::Head => "1;36",
            Paint::Dim => "2",
            Paint::Mark => "30;43",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Columns that a text takes.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// The text in at most so many columns; what is cut off shows as `…`.
pub(crate) fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
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
    kept
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
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

/// The text on one line and without control characters: what services and people chose must not
/// steer the terminal.
pub(crate) fn tame(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
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
