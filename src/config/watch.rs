//! Which changed files count for a `watch` (pure).
//!
//! Never: anything below a name that begins with a dot, and `node_modules`. Beside these what
//! `ignore_watch` says, each pattern in one of three forms:
//!
//! | it holds | it is | it means |
//! | --- | --- | --- |
//! | `\`, `^`, `$`, `(`, <code>&#124;</code> or `.*` | a regular expression | found anywhere in the path from `cwd` |
//! | `*`, `?`, `[` or `{` | a glob | the whole path from `cwd`; `**` is any number of folders |
//! | none of these | a path | that file, or that folder |
//!
//! What is ignored is so with all that lies below it.

use std::path::{Component, Path, PathBuf};

use regex_lite::Regex;

use super::spec::WatchSpec;

/// Compiled patterns of one app.
#[derive(Debug)]
pub struct Rules {
    base: PathBuf,
    paths: Vec<PathBuf>,
    ignore: Vec<Pattern>,
    extensions: Vec<String>,
}

#[derive(Debug)]
enum Pattern {
    /// Relative to the base, or absolute.
    Path(PathBuf),
    /// Must fit the whole path, which begins with a slash when the glob does.
    Glob(Regex),
    /// Found anywhere in the path, with and without a slash before it.
    Regex(Regex),
}

impl Rules {
    /// Why a pattern means nothing, as a half-sentence.
    ///
    /// # Errors
    /// When it does.
    pub fn check(pattern: &str) -> Result<(), String> {
        Pattern::parse(pattern).map(drop)
    }

    /// The rules of an app. A pattern that means nothing, which no file brings here, is left out.
    pub fn of(spec: &WatchSpec) -> Self {
        let pattern = |text: &String| Pattern::parse(text).ok();
        Self {
            base: spec.base.clone(),
            paths: spec.paths.clone(),
            ignore: spec.ignore.iter().filter_map(pattern).collect(),
            extensions: spec.extensions.clone(),
        }
    }

    /// Does a change of it count?
    pub fn counts(&self, path: &Path) -> bool {
        self.paths
            .iter()
            .any(|root| path.strip_prefix(root).is_ok_and(|below| !is_hidden(below)))
            && self.has_extension(path)
            && !self.is_ignored(path)
    }

    fn has_extension(&self, path: &Path) -> bool {
        let own = path.extension().and_then(|own| own.to_str());
        self.extensions.is_empty()
            || own.is_some_and(|own| self.extensions.iter().any(|e| e == own))
    }

    /// The path as a person sees it: from the working directory, if it lies there.
    pub fn shown<'a>(&self, path: &'a Path) -> &'a Path {
        match path.strip_prefix(&self.base) {
            Ok(below) if below != Path::new("") => below,
            _ => path,
        }
    }

    /// It, or a folder above it, fits a pattern.
    fn is_ignored(&self, path: &Path) -> bool {
        if self.ignore.is_empty() {
            return false;
        }
        path.ancestors().any(|part| {
            let below = part.strip_prefix(&self.base);
            let below = below.ok().filter(|below| *below != Path::new(""));
            self.ignore.iter().any(|pattern| pattern.fits(part, below))
        })
    }
}

/// Dotfiles and `node_modules`, at any depth below what is watched.
fn is_hidden(below: &Path) -> bool {
    below.components().any(|part| match part {
        Component::Normal(name) => {
            name.as_encoded_bytes().starts_with(b".") || name == "node_modules"
        }
        _ => false,
    })
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, String> {
        let plain = text.strip_prefix("./").unwrap_or(text);
        if plain.is_empty() {
            return Err("write a path, a glob or a regular expression".to_owned());
        }
        if text.starts_with('!') {
            return Err("a pattern cannot begin with `!`; name what is to be ignored".to_owned());
        }
        let has = |marks: &[char]| plain.contains(marks);
        if has(&['\\', '^', '$', '(', '|']) || plain.contains(".*") {
            // `*.js` with another dot before the star would not be one: `a.*` is a usual glob.
            if !is_glob_with_dot(plain) {
                return regex(plain).map(Self::Regex);
            }
        }
        if has(&['*', '?', '[', '{']) {
            return regex(&translate(plain)?).map(Self::Glob);
        }
        Ok(Self::Path(PathBuf::from(plain.trim_end_matches('/'))))
    }

    /// `below` is the path from the base, when it lies there.
    fn fits(&self, path: &Path, below: Option<&Path>) -> bool {
        match self {
            Self::Path(own) if own.is_absolute() => path == own,
            Self::Path(own) => below == Some(own),
            Self::Glob(glob) => {
                glob.is_match(&path.to_string_lossy())
                    || below.is_some_and(|below| glob.is_match(&below.to_string_lossy()))
            }
            Self::Regex(regex) => below.is_some_and(|below| {
                let text = format!("/{}", below.to_string_lossy());
                regex.is_match(&text) || regex.is_match(&text[1..])
            }),
        }
    }
}

/// `config.*` and `dist/**/a.*`: a star after a dot, and nothing else that only a regular
/// expression has.
fn is_glob_with_dot(text: &str) -> bool {
    !text.contains(['\\', '^', '$', '(', '|', '+']) && text.ends_with(".*") && text != ".*"
}

fn regex(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|error| format!("it is not a regular expression: {error}"))
}

/// A glob as a regular expression over a whole path.
fn translate(glob: &str) -> Result<String, String> {
    let mut out = String::from("^");
    let mut chars = glob.chars().peekable();
    let mut depth = 0;
    while let Some(c) = chars.next() {
        match c {
            '*' if chars.peek() == Some(&'*') => {
                chars.next();
                let whole = out == "^" || out.ends_with('/');
                match chars.peek() {
                    Some('/') if whole => {
                        chars.next();
                        out.push_str("(?:[^/]+/)*");
                    }
                    _ => out.push_str(".*"),
                }
            }
            '*' => out.push_str("[^/]*"),
            '?' => out.push_str("[^/]"),
            '[' => {
                out.push('[');
                if matches!(chars.peek(), Some('!' | '^')) {
                    chars.next();
                    out.push('^');
                }
                let mut closed = false;
                for c in chars.by_ref() {
                    if c == ']' {
                        closed = true;
                        break;
                    }
                    if matches!(c, '[' | '&' | '~') {
                        out.push('\\');
                    }
                    out.push(c);
                }
                if !closed {
                    return Err("its `[` has no `]`".to_owned());
                }
                out.push(']');
            }
            '{' => {
                depth += 1;
                out.push_str("(?:");
            }
            '}' if depth > 0 => {
                depth -= 1;
                out.push(')');
            }
            ',' if depth > 0 => out.push('|'),
            c => out.push_str(&regex_lite::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    if depth > 0 {
        return Err("its `{` has no `}`".to_owned());
    }
    out.push('$');
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn rules(paths: &[&str], ignore: &[&str]) -> Rules {
        Rules::of(&WatchSpec {
            base: "/app".into(),
            paths: paths
                .iter()
                .map(|path| Path::new("/app").join(path))
                .collect(),
            ignore: ignore.iter().map(|text| (*text).to_owned()).collect(),
            extensions: Vec::new(),
            delay: Duration::ZERO,
        })
    }

    #[track_caller]
    fn check(ignore: &str, ignored: &[&str], counted: &[&str]) {
        let rules = rules(&[""], &[ignore]);
        for path in ignored {
            assert!(
                !rules.counts(&Path::new("/app").join(path)),
                "{ignore} and {path}"
            );
        }
        for path in counted {
            assert!(
                rules.counts(&Path::new("/app").join(path)),
                "{ignore} and {path}"
            );
        }
    }

    #[test]
    fn dotfiles_and_node_modules_never_count_and_stay_so_beside_own_patterns() {
        check(
            "tmp",
            &[
                ".git/HEAD",
                "a/.env",
                "node_modules/x/i.js",
                "a/node_modules/i.js",
                "tmp/x",
                "tmp",
            ],
            &["a.js", "a/b.js", "a/tmp", "a/node_modules.js"],
        );
        // The watched folder's own path may hold a dot.
        let rules = Rules::of(&WatchSpec {
            base: "/home/u/.apps/x".into(),
            paths: vec!["/home/u/.apps/x".into()],
            ignore: Vec::new(),
            extensions: Vec::new(),
            delay: Duration::ZERO,
        });
        assert!(rules.counts(Path::new("/home/u/.apps/x/a.js")));
        assert!(!rules.counts(Path::new("/home/u/.apps/y/a.js")));
    }

    #[test]
    fn globs_are_over_the_whole_path() {
        check("*.log", &["a.log"], &["d/a.log", "a.log.js"]);
        check("**/*.log", &["a.log", "d/e/a.log"], &["a.logs"]);
        check("logs/**", &["logs/a", "logs/b/c"], &["logs.js", "x/logs/a"]);
        check("**/cache", &["cache/x", "a/cache/x/y"], &["caches/x"]);
        check("*.{log,tmp}", &["a.log", "a.tmp"], &["a.js"]);
        check(
            "data[0-9]/?.js",
            &["data1/a.js"],
            &["data/a.js", "data1/ab.js"],
        );
        check("/app/out/*", &["out/x"], &["in/x"]);
        check("./build", &["build/x"], &["builds"]);
        check("config.*", &["config.json"], &["my.config.json"]);
    }

    #[test]
    fn regular_expressions_are_found_anywhere() {
        check(r"\.log$", &["a.log", "d/a.log"], &["a.log.js"]);
        check(r"[\/\\]\.", &[".x"], &["a.js"]);
        check(r"^public/", &["public/a.css"], &["x/public/a.css"]);
        check(r"/generated.*\.ts", &["src/generated/a.ts"], &["src/a.ts"]);
    }

    #[test]
    fn what_means_nothing_is_refused() {
        let refused = |text: &str| Rules::check(text).unwrap_err();
        assert!(refused("(a").contains("not a regular expression"));
        assert_eq!(refused("a[b"), "its `[` has no `]`");
        assert_eq!(refused("{a"), "its `{` has no `}`");
        assert!(refused("!a").contains("cannot begin"));
        assert!(refused("").contains("write a path"));
    }

    #[test]
    fn extensions_leave_everything_else_out() {
        let rules = Rules {
            extensions: vec!["js".to_owned(), "json".to_owned()],
            ..rules(&[""], &["tmp"])
        };
        for counted in ["a.js", "d/e.json", "x.min.js"] {
            assert!(rules.counts(&Path::new("/app").join(counted)), "{counted}");
        }
        for ignored in ["a.ts", "js", "d", "tmp/a.js", ".js", "a.jsx"] {
            assert!(!rules.counts(&Path::new("/app").join(ignored)), "{ignored}");
        }
    }

    #[test]
    fn one_file_can_be_watched() {
        let rules = rules(&["server.js", "lib"], &[]);
        assert!(rules.counts(Path::new("/app/server.js")));
        assert!(rules.counts(Path::new("/app/lib/x/y.js")));
        assert!(!rules.counts(Path::new("/app/server.js.bak")));
        assert_eq!(
            rules.shown(Path::new("/app/lib/y.js")),
            Path::new("lib/y.js")
        );
    }

    proptest! {
        #[test]
        fn no_pattern_panics(text in ".{0,20}", path in "[a-z./*]{0,20}") {
            if Rules::check(&text).is_ok() {
                rules(&[""], &[&text]).counts(&Path::new("/app").join(path));
            }
        }
    }
}
