//! `mcpm set`, `get`, `unset`, `multiset` and `conf`: PM2's store of values, `module_conf.json`.
//!
//! mcpm itself reads none of them: it is for scripts that keep values there. Keys are `a`, `a:b` or
//! `a.b`; values are texts. Written whole to a new file that then takes the name.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::{Map, Value, json};

use super::exit::Exit;
use super::render::Output;
use super::session::Session;

/// Arguments of `set`.
#[derive(Debug, clap::Args)]
pub(crate) struct SetArgs {
    /// `a`, `a:b` or `a.b`
    key: String,
    /// A text
    #[arg(allow_hyphen_values = true)]
    value: String,
}

/// Arguments of `get`.
#[derive(Debug, clap::Args)]
pub(crate) struct GetArgs {
    /// `a`, `a:b` or `a.b` [default: list all]
    key: Option<String>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `conf`.
#[derive(Debug, clap::Args)]
pub(crate) struct ConfArgs {
    /// `a`, `a:b` or `a.b`, of `module_conf.json`
    pub(crate) key: Option<String>,
    /// Keep this text there
    #[arg(allow_hyphen_values = true)]
    pub(crate) value: Option<String>,
    /// Print as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `unset`.
#[derive(Debug, clap::Args)]
pub(crate) struct UnsetArgs {
    /// `a`, `a:b`, `a.b`, or `all`
    key: String,
}

/// Arguments of `multiset`.
#[derive(Debug, clap::Args)]
pub(crate) struct MultisetArgs {
    /// `KEY VALUE KEY VALUE …`, in one argument or several
    #[arg(required = true, value_name = "KEY VALUE", allow_hyphen_values = true)]
    pairs: Vec<String>,
}

/// Keeps a value.
pub(crate) fn set(args: &SetArgs, session: &Session) -> anyhow::Result<Exit> {
    put_all(&[(args.key.as_str(), args.value.as_str())], session)
}

/// Keeps several.
pub(crate) fn multiset(args: &MultisetArgs, session: &Session) -> anyhow::Result<Exit> {
    let text = args.pairs.join(" ");
    let words: Vec<&str> = text.split_whitespace().collect();
    if !words.len().is_multiple_of(2) {
        bail!("`{}` has no value: write pairs", words[words.len() - 1]);
    }
    let pairs: Vec<_> = words.chunks(2).map(|pair| (pair[0], pair[1])).collect();
    put_all(&pairs, session)
}

/// Prints a value, or all.
pub(crate) fn get(args: &GetArgs, session: &Session) -> anyhow::Result<Exit> {
    print(args.key.as_deref(), args.json, session)
}

/// Keeps the value that is given, else prints as [`get`].
pub(crate) fn conf(args: &ConfArgs, session: &Session) -> anyhow::Result<Exit> {
    match (&args.key, &args.value) {
        (Some(key), Some(value)) => put_all(&[(key, value)], session),
        (key, _) => print(key.as_deref(), args.json, session),
    }
}

/// A value that is not there is exit 1 without a word, as in PM2.
fn print(key: Option<&str>, json: bool, session: &Session) -> anyhow::Result<Exit> {
    let store = read(&session.home.module_conf())?;
    let Some(key) = key else {
        return print_all(&store, json, &session.output);
    };
    let Some(value) = find(&store, key) else {
        return Ok(Exit::Failed);
    };
    match value {
        value if json => session.output.json(value)?,
        Value::String(text) => session.output.data((text.clone() + "\n").as_bytes())?,
        value => session.output.data(format!("{value}\n").as_bytes())?,
    }
    Ok(Exit::Fine)
}

/// Removes a value; one that is not there is what was wanted.
pub(crate) fn unset(args: &UnsetArgs, session: &Session) -> anyhow::Result<Exit> {
    let path = session.home.module_conf();
    let mut store = read(&path)?;
    if args.key == "all" {
        store.clear();
    } else {
        remove(&mut store, &args.key);
    }
    write(&path, store, session)?;
    session
        .output
        .line(format_args!("✓ removed {}", args.key))?;
    Ok(Exit::Fine)
}

fn put_all(pairs: &[(&str, &str)], session: &Session) -> anyhow::Result<Exit> {
    let path = session.home.module_conf();
    let mut store = read(&path)?;
    for (key, value) in pairs {
        put(&mut store, key, value)?;
    }
    write(&path, store, session)?;
    for (key, value) in pairs {
        session.output.line(format_args!("✓ set {key} {value}"))?;
    }
    Ok(Exit::Fine)
}

fn print_all(store: &Map<String, Value>, json: bool, output: &Output) -> anyhow::Result<Exit> {
    if json {
        output.json(store)?;
        return Ok(Exit::Fine);
    }
    for (key, value) in lines(store) {
        output.line(format_args!("$ mcpm set {key} {value}"))?;
    }
    Ok(Exit::Fine)
}

/// Each value with the key that `set` takes for it.
fn lines(store: &Map<String, Value>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (key, value) in store {
        match value {
            Value::Object(inner) => {
                let inner = lines(inner).into_iter();
                found.extend(inner.map(|(rest, value)| (format!("{key}:{rest}"), value)));
            }
            Value::String(text) => found.push((key.clone(), text.clone())),
            other => found.push((key.clone(), other.to_string())),
        }
    }
    found
}

/// PM2 splits at colons, or at dots when there are none.
fn levels(key: &str) -> Vec<&str> {
    let separator = if key.contains(':') { ':' } else { '.' };
    key.split(separator).collect()
}

fn find<'a>(store: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    let levels = levels(key);
    let (first, rest) = levels.split_first()?;
    let mut at = store.get(*first)?;
    for level in rest {
        at = at.get(*level)?;
    }
    Some(at)
}

fn put(store: &mut Map<String, Value>, key: &str, value: &str) -> anyhow::Result<()> {
    let levels = levels(key);
    if levels.iter().any(|level| level.is_empty()) {
        bail!("`{key}` is no key: write `a`, `a:b` or `a.b`");
    }
    let mut at = store;
    let (last, above) = levels.split_last().context("a key has a level")?;
    for level in above {
        let inner = at.entry(*level).or_insert_with(|| json!({}));
        if !inner.is_object() {
            *inner = json!({});
        }
        at = inner.as_object_mut().context("made an object just now")?;
    }
    at.insert((*last).to_owned(), json!(value));
    Ok(())
}

fn remove(store: &mut Map<String, Value>, key: &str) {
    let levels = levels(key);
    let Some((last, above)) = levels.split_last() else {
        return;
    };
    let mut at = store;
    for level in above {
        match at.get_mut(*level).and_then(Value::as_object_mut) {
            Some(inner) => at = inner,
            None => return,
        }
    }
    at.shift_remove(*last);
}

fn read(path: &Path) -> anyhow::Result<Map<String, Value>> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Map::new()),
        read => read.with_context(|| format!("cannot read `{}`", path.display()))?,
    };
    serde_json::from_str(&text)
        .with_context(|| format!("`{}` is no JSON object; mend or delete it", path.display()))
}

fn write(path: &Path, store: Map<String, Value>, session: &Session) -> anyhow::Result<()> {
    session.home.create()?;
    let failed = || format!("cannot write `{}`", path.display());
    let new = path.with_extension("json.new");
    let text = serde_json::to_string_pretty(&Value::Object(store))?;
    fs::write(&new, text).with_context(failed)?;
    fs::rename(&new, path).with_context(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_levels_as_in_pm2() {
        let mut store = Map::new();
        for (key, value) in [("a:b", "1"), ("x", "2"), ("p.q.r", "3"), ("a:c.d", "4")] {
            put(&mut store, key, value).unwrap();
        }
        let expected = json!({"a": {"b": "1", "c.d": "4"}, "x": "2", "p": {"q": {"r": "3"}}});
        assert_eq!(Value::Object(store.clone()), expected);
        assert_eq!(find(&store, "a.b"), Some(&json!("1")));
        assert_eq!(find(&store, "a:nope"), None);
        assert_eq!(lines(&store)[3], ("p:q:r".to_owned(), "3".to_owned()));
        remove(&mut store, "a:b");
        remove(&mut store, "nope:b");
        assert_eq!(store["a"], json!({"c.d": "4"}));
        assert!(put(&mut store, "a:", "1").is_err());
        put(&mut store, "x:y", "5").unwrap();
        assert_eq!(store["x"], json!({"y": "5"}));
    }
}
