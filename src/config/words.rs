//! A string of arguments → a list, as PM2 splits it: on white space, quotes group.
//!
//! Unlike PM2, quotes go away wherever they stand (`a='b c'` is `a=b c`, as in a shell), and a
//! backslash keeps a quote or a space. An open quote goes on to the end.

/// Splits; never fails.
pub(crate) fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None | Some('"'), '\\') => {
                let escaped = chars.next_if(|next| matches!(next, '"' | '\'' | '\\' | ' '));
                word.get_or_insert_default().push(escaped.unwrap_or('\\'));
            }
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_group_and_go_away() {
        let check = |text: &str, expected: &[&str]| assert_eq!(split(text), expected, "{text}");
        check("", &[]);
        check("  a  b ", &["a", "b"]);
        check("--port 1 'b c' \"d e\"", &["--port", "1", "b c", "d e"]);
        check("d='e f' ''", &["d=e f", ""]);
        check(
            r#"a\ b "q\"r" 'x\y' C:\dir"#,
            &["a b", "q\"r", r"x\y", r"C:\dir"],
        );
        check("'open to the end", &["open to the end"]);
    }
}
