//! One raw value and its kind → a typed value, or what to write instead. Pure.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::error::{Report, shown};
use super::keys::{self, Kind, Short};
use super::syntax::{Node, Place, Value};
use super::{units, words};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A value of the right type.
#[derive(Clone, Debug)]
pub(crate) enum Typed {
    Text(String),
    Flag(bool),
    Count(i64),
    Duration(Duration),
    Size(u64),
    Texts(Vec<String>),
    Numbers(Vec<i64>),
    /// Checked as far as its kind says, to be read by its own rules.
    Raw(Node),
}

/// A value of another type than its key wants.
pub(crate) struct Wrong {
    at: Place,
    described: String,
    /// What to write instead, when it is plain what was meant.
    instead: Option<String>,
}

impl Wrong {
    pub(crate) fn of(node: &Node) -> Self {
        Self {
            at: node.at,
            described: node.described(),
            instead: None,
        }
    }

    pub(crate) fn report(self, key: &str, kind: Kind, report: &mut Report) {
        let write = self.instead.unwrap_or_else(|| kind.expected());
        // Where a map belongs, people write secrets.
        let block = matches!(
            kind,
            Kind::Env | Kind::Texted | Kind::Block(..) | Kind::Blocks(_) | Kind::Named(_)
        );
        let is_text = self.described.starts_with("`\"");
        let described = if block && is_text {
            "a text"
        } else {
            &self.described
        };
        report.mistake(
            self.at,
            format!("{} is {described}; write {write}", shown(key)),
        );
    }
}

/// Reads one value.
///
/// # Errors
/// The value is not what the kind says.
pub(crate) fn typed(node: &Node, kind: Kind) -> Result<Typed, Wrong> {
    let found = match kind {
        Kind::Text => text(node).map(Typed::Text),
        Kind::UrlPath => text(node).filter(|path| is_url_path(path)).map(Typed::Text),
        Kind::Flag => match &node.value {
            Value::Bool(flag) => Some(Typed::Flag(*flag)),
            _ => return Err(flag_meant(node)),
        },
        Kind::Count { min, max } => whole(node, min, max).map(Typed::Count),
        Kind::Port => whole(node, 1, 65535).map(Typed::Count),
        Kind::Duration => duration(node).map(Typed::Duration),
        Kind::Days => duration(node).and_then(whole_days).map(Typed::Count),
        Kind::Size => match &node.value {
            Value::Number(n) => units::whole(n.value).map(Typed::Size),
            Value::Text(text) => units::size(text).map(Typed::Size),
            _ => None,
        },
        Kind::Words => match &node.value {
            Value::Text(text) => Some(Typed::Texts(words::split(text))),
            _ => return list_of_texts(node),
        },
        Kind::Texts => return list_of_texts(node),
        Kind::FlagOrTexts => match &node.value {
            Value::Bool(flag) => Some(Typed::Flag(*flag)),
            Value::Text(text) => Some(Typed::Text(text.clone())),
            Value::List(_) => return list_of_texts(node),
            _ => None,
        },
        Kind::FlagOrText => match &node.value {
            Value::Bool(flag) => Some(Typed::Flag(*flag)),
            _ => text(node).map(Typed::Text),
        },
        Kind::Numbers { min, max } => return numbers(node, min, max),
        Kind::Instances => instances(node).map(Typed::Count),
        Kind::Signal => signal(node).map(Typed::Count),
        Kind::Word(known) => text(node)
            .filter(|t| known.contains(&t.as_str()))
            .map(Typed::Text),
        Kind::Env | Kind::Texted | Kind::Named(_) => {
            matches!(node.value, Value::Map(_)).then(|| Typed::Raw(node.clone()))
        }
        Kind::Block(_, shorts) => fits_block(node, shorts).then(|| Typed::Raw(node.clone())),
        // One block may stand without its list: PM2 takes `{apps: {…}}`.
        Kind::Blocks(_) => {
            matches!(node.value, Value::List(_) | Value::Map(_)).then(|| Typed::Raw(node.clone()))
        }
        Kind::Any => Some(Typed::Raw(node.clone())),
    };
    found.ok_or_else(|| Wrong::of(node))
}

fn duration(node: &Node) -> Option<Duration> {
    match &node.value {
        Value::Number(n) => units::millis_to_duration(n.value),
        Value::Text(text) => units::duration(text),
        _ => None,
    }
}

fn whole_days(duration: Duration) -> Option<i64> {
    let days = u32::try_from(duration.as_secs() / DAY.as_secs()).ok()?;
    (DAY * days == duration).then(|| days.into())
}

/// A text, or the digits of a number: `name: 1` is plain enough.
fn text(node: &Node) -> Option<String> {
    match &node.value {
        Value::Text(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_text()),
        _ => None,
    }
}

fn flag_meant(node: &Node) -> Wrong {
    let meant = match &node.value {
        Value::Text(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "1" => Some("`true`, without quotes"),
            "false" | "0" => Some("`false`, without quotes"),
            // YAML 1.1 had these words, and many files still do.
            "yes" | "on" => Some("`true`, since `yes` and `on` are only texts"),
            "no" | "off" => Some("`false`, since `no` and `off` are only texts"),
            _ => None,
        },
        Value::Number(n) if n.value == 0.0 => Some("`false`"),
        Value::Number(n) if n.value == 1.0 => Some("`true`"),
        _ => None,
    };
    Wrong {
        instead: meant.map(str::to_owned),
        ..Wrong::of(node)
    }
}

/// A whole number, or its digits in quotes.
pub(crate) fn whole(node: &Node, min: i64, max: i64) -> Option<i64> {
    let number = match &node.value {
        Value::Number(number) => number.whole()?,
        Value::Text(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    (min..=max).contains(&number).then_some(number)
}

fn list_of_texts(node: &Node) -> Result<Typed, Wrong> {
    let Value::List(items) = &node.value else {
        return text(node)
            .map(|text| Typed::Texts(vec![text]))
            .ok_or_else(|| Wrong::of(node));
    };
    let each = |item: &Node| {
        // In a list of arguments `true` can only be the word.
        let word = match item.value {
            Value::Bool(flag) => Some(flag.to_string()),
            _ => text(item),
        };
        word.ok_or_else(|| Wrong {
            instead: Some("a text".to_owned()),
            ..Wrong::of(item)
        })
    };
    Ok(Typed::Texts(
        items.iter().map(each).collect::<Result<_, _>>()?,
    ))
}

fn numbers(node: &Node, min: i64, max: i64) -> Result<Typed, Wrong> {
    let items = match &node.value {
        Value::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let each = |item: &Node| whole(item, min, max).ok_or_else(|| Wrong::of(item));
    Ok(Typed::Numbers(
        items.iter().map(each).collect::<Result<_, _>>()?,
    ))
}

/// 0 stands for `max`.
fn instances(node: &Node) -> Option<i64> {
    if matches!(&node.value, Value::Text(text) if text == "max") {
        return Some(0);
    }
    whole(node, *keys::instances().start(), *keys::instances().end())
}

fn signal(node: &Node) -> Option<i64> {
    if let Some(number) = whole(node, 1, 64) {
        return Some(number);
    }
    let Value::Text(name) = &node.value else {
        return None;
    };
    let name = name.to_ascii_uppercase();
    let name = if name.starts_with("SIG") {
        name
    } else {
        format!("SIG{name}")
    };
    name.parse::<Signal>()
        .ok()
        .map(|signal| i64::from(signal as i32))
}

fn fits_block(node: &Node, shorts: &[Short]) -> bool {
    match &node.value {
        Value::Map(_) => true,
        Value::Bool(true) => shorts.contains(&Short::True),
        Value::Bool(false) => shorts.contains(&Short::False),
        Value::Text(_) => shorts.contains(&Short::Text),
        Value::Number(_) => shorts.contains(&Short::Number),
        Value::Null | Value::List(_) => false,
    }
}

/// The path of a request line (RFC 9112 §3.2.1): begins with a slash, no spaces, no fragment.
pub(crate) fn is_url_path(path: &str) -> bool {
    path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic() && b != b'#')
}
