//! Words as shells have them: what a person has typed → its text, and back. Pure.

/// The text behind a word that may be quoted, in part, and whose last quote may be open.
pub(super) fn unquoted(word: &str) -> String {
    let mut text = String::with_capacity(word.len());
    let mut quote = None;
    let mut rest = word.chars().peekable();
    while let Some(c) = rest.next() {
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), _) if open == c => quote = None,
            (None, '\\') => text.extend(rest.next()),
            // Between double quotes few characters need it, and before others it stands for itself.
            (Some('"'), '\\') => {
                let escaped = rest.next_if(|next| ESCAPED_IN_QUOTES.contains(next));
                text.push(escaped.unwrap_or(c));
            }
            _ => text.push(c),
        }
    }
    text
}

/// What needs a backslash between double quotes.
const ESCAPED_IN_QUOTES: [char; 4] = ['"', '\\', '$', '`'];

/// The text as a word of bash, behind the quote that is open, if one is: bash puts what it gets as it
/// is, and closes the quote itself.
pub(super) fn for_bash(text: &str, quote: Option<char>) -> String {
    match quote {
        Some('\'') => text.replace('\'', r"'\''"),
        Some(_) => escaped(text, |c| ESCAPED_IN_QUOTES.contains(&c)),
        None => {
            // `~` stays, since it may be a home folder.
            let is_plain =
                |c: char| c.is_ascii_alphanumeric() || !c.is_ascii() || "_./,+%@:=^~-".contains(c);
            escaped(text, |c| !is_plain(c))
        }
    }
}

fn escaped(text: &str, needs: impl Fn(char) -> bool) -> String {
    let mut word = String::with_capacity(text.len());
    for c in text.chars() {
        if needs(c) {
            word.push('\\');
        }
        word.push(c);
    }
    word
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_typed_has_a_text() {
        for (word, text) in [
            ("web", "web"),
            (r"my\ app", "my app"),
            ("'my app'", "my app"),
            ("\"my a", "my a"),
            ("'my a", "my a"),
            (r#""a\$b\c"#, r"a$b\c"),
            (r"it\'s", "it's"),
            (r"tail\", "tail"),
            ("", ""),
        ] {
            assert_eq!(unquoted(word), text, "{word}");
        }
    }

    #[test]
    fn bash_gets_words_that_are_one_word() {
        for (text, plain, double, single) in [
            ("my app", r"my\ app", "my app", "my app"),
            ("$HOME", r"\$HOME", r"\$HOME", "$HOME"),
            ("it's", r"it\'s", "it's", r"it'\''s"),
            (r#"a"b"#, r#"a\"b"#, r#"a\"b"#, r#"a"b"#),
            ("🚀 go", r"🚀\ go", "🚀 go", "🚀 go"),
            ("web-1.2:3@x", "web-1.2:3@x", "web-1.2:3@x", "web-1.2:3@x"),
            ("*", r"\*", "*", "*"),
        ] {
            assert_eq!(for_bash(text, None), plain);
            assert_eq!(for_bash(text, Some('"')), double);
            assert_eq!(for_bash(text, Some('\'')), single);
        }
    }

    proptest! {
        #[test]
        fn a_quoted_text_is_the_text_again(text in "\\PC*", open in "['\"]?") {
            let quote = open.chars().next();
            let word = open.clone() + &for_bash(&text, quote);
            prop_assert_eq!(unquoted(&word), text);
        }
    }
}
