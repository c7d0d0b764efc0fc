//! Cells of CSV that a spreadsheet would take for formulas. Pure.
//!
//! A user id and a label are anybody's text, and `=HYPERLINK(…)` is run by whoever opens the export. An
//! apostrophe before it makes it text, as spreadsheets themselves have it; one more before what begins
//! with an apostrophe, so that [`undone`] gives back exactly what was there.

use std::borrow::Cow;

/// What begins so is one, or is one once white space is cut off; and what tells that it was none.
const FIRST: [char; 8] = ['=', '+', '-', '@', '\t', '\r', '\n', QUOTE];
const QUOTE: char = '\'';

/// The text as a cell that is no formula.
pub(super) fn escaped(text: &str) -> Cow<'_, str> {
    if text.starts_with(FIRST) {
        Cow::Owned(format!("{QUOTE}{text}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// The text of which [`escaped`] has made this cell.
pub(super) fn undone(cell: &str) -> &str {
    match cell.strip_prefix(QUOTE) {
        Some(text) if text.starts_with(FIRST) => text,
        _ => cell,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_formula_becomes_text_and_other_text_stays() {
        for (text, cell) in [
            ("=1+1", "'=1+1"),
            ("+49 30", "'+49 30"),
            ("-x", "'-x"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "'\t=1"),
            ("\r=1", "'\r=1"),
            ("'=1", "''=1"),
            ("a=1", "a=1"),
            ("o'neil", "o'neil"),
            ("", ""),
        ] {
            assert_eq!(escaped(text), cell);
            assert_eq!(undone(cell), text);
        }
        // Of another program, which escapes nothing.
        assert_eq!(undone("'tis"), "'tis");
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_nothing_is_a_formula(text in "[=+@'\t\r a-]{0,6}") {
            let cell = escaped(&text);
            prop_assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r']));
            prop_assert_eq!(undone(&cell), text.as_str());
        }
    }
}
