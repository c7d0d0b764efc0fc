//! The text that Prometheus reads: exposition format 0.0.4. Pure.

use std::fmt::{Display, Write};

use super::{BOUNDS, Times};

/// What a family of numbers is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Times.
    Histogram,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// The page as far as it is written.
#[derive(Clone, Debug, Default)]
pub struct Page(String);

/// Numbers of one name.
#[derive(Debug)]
pub struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Page {
    /// What it is to a reader.
    pub const CONTENT_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";

    /// Begins a family. All its numbers stand together: each name is begun once.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &'static str) -> Family<'_> {
        let text = &mut self.0;
        put(text, format_args!("# HELP {name} {help}\n"));
        put(text, format_args!("# TYPE {name} {}\n", kind.word()));
        Family { text, name }
    }

    /// The whole of it.
    pub fn text(self) -> String {
        self.0
    }
}

impl Family<'_> {
    /// One number of it.
    pub fn number(&mut self, labels: &[(&str, &str)], number: impl Display) {
        self.line("", labels, None, number);
    }

    /// One histogram of it, in seconds.
    pub fn times(&mut self, labels: &[(&str, &str)], times: &Times) {
        for ((_, bound), within) in BOUNDS.iter().zip(times.within) {
            self.line("_bucket", labels, Some(bound), within);
        }
        self.line("_bucket", labels, Some("+Inf"), times.count);
        let (whole, rest) = (times.micros / 1_000_000, times.micros % 1_000_000);
        self.line("_sum", labels, None, format_args!("{whole}.{rest:06}"));
        self.line("_count", labels, None, times.count);
    }

    fn line(
        &mut self,
        ending: &str,
        labels: &[(&str, &str)],
        bound: Option<&str>,
        number: impl Display,
    ) {
        let (text, name) = (&mut *self.text, self.name);
        put(text, format_args!("{name}{ending}"));
        let bound = bound.map(|bound| ("le", bound));
        let mut before = '{';
        for (label, value) in labels.iter().copied().chain(bound) {
            put(text, format_args!("{before}{label}=\"{}\"", escaped(value)));
            before = ',';
        }
        let end = if before == ',' { "}" } else { "" };
        put(text, format_args!("{end} {number}\n"));
    }
}

fn put(text: &mut String, words: std::fmt::Arguments<'_>) {
    text.write_fmt(words).expect("a text takes all words");
}

/// As the value of a label.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::Latency;
    use super::*;

    #[test]
    fn numbers_stand_in_lines_under_their_family() {
        let mut page = Page::default();
        let mut family = page.family("a_total", Kind::Counter, "What it is.");
        family.number(&[], 3);
        family.number(&[("service", "demo"), ("outcome", "failed")], 4);
        assert_eq!(
            page.text(),
            "# HELP a_total What it is.\n# TYPE a_total counter\na_total 3\n\
             a_total{service=\"demo\",outcome=\"failed\"} 4\n"
        );
    }

    #[test]
    fn times_are_buckets_a_sum_and_a_count() {
        let latency = Latency::default();
        latency.took(Duration::from_micros(1_500));
        latency.took(Duration::from_secs(400));
        let mut page = Page::default();
        let mut family = page.family("t_seconds", Kind::Histogram, "Times.");
        family.times(&[("service", "demo")], &latency.now());
        let text = page.text();
        for line in [
            "t_seconds_bucket{service=\"demo\",le=\"0.001\"} 0",
            "t_seconds_bucket{service=\"demo\",le=\"0.0025\"} 1",
            "t_seconds_bucket{service=\"demo\",le=\"300\"} 1",
            "t_seconds_bucket{service=\"demo\",le=\"+Inf\"} 2",
            "t_seconds_sum{service=\"demo\"} 400.001500",
            "t_seconds_count{service=\"demo\"} 2",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_an_app_is_called_its_number_is_one_line(value in any::<String>()) {
            let mut page = Page::default();
            page.family("a", Kind::Gauge, "A.").number(&[("app", &value)], 1);
            let text = page.text();
            let line = text.strip_prefix("# HELP a A.\n# TYPE a gauge\na{app=\"").unwrap();
            let inside = line.strip_suffix("\"} 1\n").unwrap();
            prop_assert!(!inside.contains('\n'));
            let back = inside.replace("\\\\", "\0").replace("\\\"", "\"").replace("\\n", "\n");
            prop_assert_eq!(back.replace('\0', "\\"), value.replace('\0', "\\"));
        }
    }
}
