//! When a log file is put aside, under which name, and which of those put aside go (pure).
//!
//! A file is put aside by a new name, between two lines; what was written stays where it is. Only a
//! line that alone is larger than `max_size` may be cut, so that a service which never ends a line
//! does not fill the disk. Names are those of pm2-logrotate, `NAME__2026-11-25_14-03-59.log`, and
//! sort by time: what was put aside later has the greater name, whatever the clock does.

use std::time::Duration;

use crate::config::spec::RotateSpec;
use crate::ids::Timestamp;

/// `log_date_format` of the time in a name.
pub const NAME_FORMAT: &str = "YYYY-MM-DD_HH-mm-ss";
/// Size of a log file when nobody says.
const MAX_SIZE: u64 = 10 * 1024 * 1024;
/// Files that are kept when nobody says.
const RETAIN: u32 = 30;
/// Between a log's name and the time.
const MARK: &str = "__";
/// Digits and separators of the time.
const TIME_PATTERN: &str = "dddd-dd-dd_dd-dd-dd";

/// What holds for one log file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Bytes, above which it is put aside.
    pub max_size: Option<u64>,
    /// Time since it was begun, after which it is put aside.
    pub max_age: Option<Duration>,
    /// How many that were put aside are kept; `None` keeps all.
    pub retain: Option<usize>,
    /// Those that were put aside are compressed.
    pub compress: bool,
}

impl Policy {
    /// What the app says, or else the daemon's settings, or else the defaults: 10 MiB, 30 files,
    /// compressed. 0 is no limit.
    pub fn of(app: RotateSpec, daemon: RotateSpec) -> Self {
        let size = app.max_size.or(daemon.max_size).unwrap_or(MAX_SIZE);
        let age = app.max_age.or(daemon.max_age).unwrap_or_default();
        let retain = app.retain.or(daemon.retain).unwrap_or(RETAIN);
        Self {
            max_size: (size > 0).then_some(size),
            max_age: (!age.is_zero()).then_some(age),
            retain: usize::try_from(retain).ok().filter(|&count| count > 0),
            compress: app.compress.or(daemon.compress).unwrap_or(true),
        }
    }

    /// Nothing is ever put aside.
    pub fn is_off(&self) -> bool {
        self.max_size.is_none() && self.max_age.is_none()
    }
}

/// A log file as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Bytes.
    pub size: u64,
    /// It is empty, or its last byte is a line end.
    pub between_lines: bool,
    /// When it was begun.
    pub begun: Timestamp,
}

/// How many bytes of `piece` are appended before the file is put aside; all of them when it need
/// not be. 0 only for a file that is not empty, so that each round gets on.
pub fn room(policy: &Policy, facts: Facts, piece: &[u8], now: Timestamp) -> usize {
    if facts.size == 0 {
        return fitting(policy, facts, piece).unwrap_or_else(|| first_line(piece));
    }
    let age = now.as_millis().saturating_sub(facts.begun.as_millis());
    let is_old =
        |max: Duration| i128::from(age) >= i128::try_from(max.as_millis()).unwrap_or(i128::MAX);
    if facts.between_lines && policy.max_age.is_some_and(is_old) {
        return 0;
    }
    if let Some(count) = fitting(policy, facts, piece) {
        return count;
    }
    let endless = policy
        .max_size
        .is_some_and(|max| facts.size >= max.saturating_mul(2));
    if facts.between_lines || endless {
        0
    } else {
        first_line(piece)
    }
}

/// Whole lines of the piece, as many as the file has room for; `None` when not one fits.
fn fitting(policy: &Policy, facts: Facts, piece: &[u8]) -> Option<usize> {
    let left = policy
        .max_size
        .map_or(u64::MAX, |max| max.saturating_sub(facts.size));
    let left = usize::try_from(left).unwrap_or(usize::MAX);
    if piece.len() <= left {
        return Some(piece.len());
    }
    piece[..left]
        .iter()
        .rposition(|&b| b == b'\n')
        .map(|at| at + 1)
}

fn first_line(piece: &[u8]) -> usize {
    piece
        .iter()
        .position(|&b| b == b'\n')
        .map_or(piece.len(), |at| at + 1)
}

/// The time in the name of a file that was put aside, and its number among those of one second.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    time: String,
    number: u32,
}

impl Mark {
    /// The mark after `last`, at this time (in [`NAME_FORMAT`]).
    pub fn next(last: Option<&Self>, time: &str) -> Self {
        match last {
            Some(last) if last.time.as_str() >= time => Self {
                time: last.time.clone(),
                number: last.number.saturating_add(1),
            },
            _ => Self {
                time: time.to_owned(),
                number: 1,
            },
        }
    }
}

/// How a file that was put aside stands on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// As it was written.
    Plain,
    /// Compressed, whole.
    Compressed,
    /// Being compressed, or left so by a daemon that died.
    Unfinished,
}

impl Form {
    fn ending(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Compressed => ".gz",
            Self::Unfinished => ".gz.part",
        }
    }
}

/// The name of what was put aside of the log `file`.
pub fn name(file: &str, mark: &Mark, form: Form) -> String {
    let (stem, ending) = parts(file);
    let number = match mark.number {
        1 => String::new(),
        number => format!("_{number}"),
    };
    format!("{stem}{MARK}{}{number}{ending}{}", mark.time, form.ending())
}

/// Reads a name that [`name`] made for the log `file`.
pub fn parse(file: &str, name: &str) -> Option<(Mark, Form)> {
    let (stem, ending) = parts(file);
    let rest = name.strip_prefix(stem)?.strip_prefix(MARK)?;
    let (rest, form) = [Form::Unfinished, Form::Compressed, Form::Plain]
        .into_iter()
        .find_map(|form| Some((rest.strip_suffix(form.ending())?, form)))?;
    let rest = rest.strip_suffix(ending)?;
    let (time, number) = rest.split_at_checked(TIME_PATTERN.len())?;
    let fits = |(pattern, byte): (u8, u8)| match pattern {
        b'd' => byte.is_ascii_digit(),
        separator => byte == separator,
    };
    let is_time = TIME_PATTERN.bytes().zip(time.bytes()).all(fits);
    let number = match number.strip_prefix('_') {
        Some(digits) => digits.parse().ok()?,
        None if number.is_empty() => 1,
        None => return None,
    };
    is_time.then(|| {
        let time = time.to_owned();
        (Mark { time, number }, form)
    })
}

/// `web-out.log` → `web-out` and `.log`.
fn parts(file: &str) -> (&str, &str) {
    match file.rfind('.') {
        Some(at) if at > 0 => file.split_at(at),
        _ => (file, ""),
    }
}

/// What is to be done with the files that were put aside of one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tidying {
    /// To be deleted.
    pub delete: Vec<(Mark, Form)>,
    /// To be compressed, newest last.
    pub compress: Vec<Mark>,
}

/// Decides by what is there.
pub fn tidy(policy: &Policy, mut found: Vec<(Mark, Form)>) -> Tidying {
    let mut tidying = Tidying::default();
    found.sort();
    let mut marks: Vec<Mark> = found.iter().map(|(mark, _)| mark.clone()).collect();
    marks.dedup();
    let surplus = marks
        .len()
        .saturating_sub(policy.retain.unwrap_or(usize::MAX));
    let first_kept = marks.get(surplus);
    for (mark, form) in &found {
        let is_surplus = first_kept.is_none_or(|first| mark < first);
        let is_compressed = found
            .binary_search(&(mark.clone(), Form::Compressed))
            .is_ok();
        match form {
            _ if is_surplus => tidying.delete.push((mark.clone(), *form)),
            Form::Compressed => {}
            // Whole twice: its daemon died before it deleted the first.
            Form::Plain if is_compressed => tidying.delete.push((mark.clone(), *form)),
            Form::Plain if policy.compress => tidying.compress.push(mark.clone()),
            Form::Plain => {}
            Form::Unfinished => tidying.delete.push((mark.clone(), *form)),
        }
    }
    tidying
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NEVER: Timestamp = Timestamp::from_millis(0);

    fn policy(max_size: u64) -> Policy {
        let app = RotateSpec {
            max_size: Some(max_size),
            ..RotateSpec::default()
        };
        Policy::of(app, RotateSpec::default())
    }

    #[test]
    fn the_app_wins_over_the_daemon_and_zero_is_no_limit() {
        let daemon = RotateSpec {
            max_size: Some(5),
            retain: Some(0),
            ..RotateSpec::default()
        };
        let both = Policy::of(RotateSpec::OFF, daemon);
        assert!(both.is_off() && both.retain.is_none());
        assert_eq!(Policy::of(RotateSpec::default(), daemon).max_size, Some(5));
        let usual = Policy::of(RotateSpec::default(), RotateSpec::default());
        assert_eq!(
            (usual.max_size, usual.retain, usual.compress),
            (Some(10 << 20), Some(30), true)
        );
    }

    #[test]
    fn an_old_file_is_put_aside_between_lines_and_an_empty_one_is_not() {
        let policy = Policy {
            max_age: Some(Duration::from_secs(1)),
            max_size: None,
            ..policy(1)
        };
        let facts = Facts {
            size: 5,
            between_lines: true,
            begun: NEVER,
        };
        let room = |facts, at| room(&policy, facts, b"abc\n", Timestamp::from_millis(at));
        assert_eq!(room(facts, 999), 4);
        assert_eq!(room(facts, 1000), 0);
        assert_eq!(room(Facts { size: 0, ..facts }, 1000), 4);
        let inside = Facts {
            between_lines: false,
            ..facts
        };
        assert_eq!(room(inside, 1000), 4);
    }

    #[test]
    fn names_are_those_of_pm2_logrotate_and_come_back() {
        let first = Mark::next(None, "2026-11-25_14-03-59");
        let second = Mark::next(Some(&first), "2026-11-25_14-03-59");
        for (file, mark, form, expected) in [
            (
                "a-out.log",
                &first,
                Form::Plain,
                "a-out__2026-11-25_14-03-59.log",
            ),
            (
                "a.log",
                &second,
                Form::Compressed,
                "a__2026-11-25_14-03-59_2.log.gz",
            ),
            (
                "plain",
                &first,
                Form::Unfinished,
                "plain__2026-11-25_14-03-59.gz.part",
            ),
        ] {
            assert_eq!(name(file, mark, form), expected);
            assert_eq!(parse(file, expected), Some((mark.clone(), form)));
        }
        for other in [
            "a-out.log",
            "a-out__2026.log",
            "a-out__2026-11-25_14-03-59.txt",
            "a-out__2026-11-25_14-03-59x.log",
            "a-out-1__2026-11-25_14-03-59.log",
            "a-out__2026-11-25 14-03-59.log",
        ] {
            assert_eq!(parse("a-out.log", other), None, "{other}");
        }
    }

    #[test]
    fn the_oldest_go_and_the_rest_is_compressed() {
        let mark = |n: u32| Mark {
            time: format!("2026-11-25_14-03-{n:02}"),
            number: 1,
        };
        let policy = Policy {
            retain: Some(3),
            ..policy(1)
        };
        let found = vec![
            (mark(5), Form::Plain),
            (mark(2), Form::Compressed),
            (mark(1), Form::Plain),
            (mark(3), Form::Plain),
            (mark(3), Form::Compressed),
            (mark(4), Form::Plain),
            (mark(4), Form::Unfinished),
        ];
        assert_eq!(
            tidy(&policy, found.clone()),
            Tidying {
                delete: vec![
                    (mark(1), Form::Plain),
                    (mark(2), Form::Compressed),
                    (mark(3), Form::Plain),
                    (mark(4), Form::Unfinished),
                ],
                compress: vec![mark(4), mark(5)],
            }
        );
        let all = Policy {
            retain: None,
            compress: false,
            ..policy
        };
        let left = tidy(&all, found);
        assert!(
            left.compress.is_empty() && left.delete.len() == 2,
            "{left:?}"
        );
    }

    /// Appends the pieces as `append.rs` does; every file, the present one last.
    fn append(policy: &Policy, pieces: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut files = vec![Vec::new()];
        for piece in pieces {
            let mut rest = piece.as_slice();
            while !rest.is_empty() {
                let file = files.last_mut().unwrap();
                let facts = Facts {
                    size: file.len() as u64,
                    between_lines: file.last().is_none_or(|&b| b == b'\n'),
                    begun: NEVER,
                };
                let (now, later) = rest.split_at(room(policy, facts, rest, NEVER));
                assert!(!now.is_empty() || !file.is_empty(), "it gets on");
                file.extend_from_slice(now);
                rest = later;
                if !rest.is_empty() {
                    files.push(Vec::new());
                }
            }
        }
        files
    }

    proptest! {
        #[test]
        fn a_rotation_never_splits_or_loses_a_line(
            max in 1_u64..60,
            // Of every ten bytes one ends a line; pieces may end anywhere.
            pieces in proptest::collection::vec(
                proptest::collection::vec(prop_oneof![9 => Just(b'x'), 1 => Just(b'\n')], 0..80),
                0..20,
            ),
        ) {
            let all = pieces.concat();
            let files = append(&policy(max), &pieces);
            prop_assert_eq!(files.concat(), all.clone());
            let longest = all.split(|&b| b == b'\n').map(<[u8]>::len).max().unwrap_or(0) as u64 + 1;
            for file in &files[..files.len() - 1] {
                prop_assert!(longest > max || file.ends_with(b"\n"), "{:?}", files);
            }
            for file in &files {
                // A piece may end within a line, whose end then goes into the same file.
                prop_assert!(longest > max || file.len() as u64 <= max + longest, "{:?}", files);
            }
        }

        #[test]
        fn later_marks_are_greater_whatever_the_clock_does(times in proptest::collection::vec(0_u32..60, 1..30)) {
            let mut last: Option<Mark> = None;
            for second in times {
                let next = Mark::next(last.as_ref(), &format!("2026-11-25_14-03-{second:02}"));
                prop_assert!(last.is_none_or(|last| last < next));
                last = Some(next);
            }
        }

        #[test]
        fn no_name_panics(file in "\\PC*", name in "\\PC*") {
            let _ = parse(&file, &name);
        }
    }
}
