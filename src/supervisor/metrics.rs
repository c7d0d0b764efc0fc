//! What an app says about itself: messages of the type `axm:monitor` on Node's channel, as PM2's
//! libraries send them, by name the value and its unit.
//!
//! Written by the listener of one run, read by whoever looks at that moment: an app may speak as
//! often as it likes without anything being published.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value};

/// Names that are kept; more are an app's mistake.
const NAMES_MAX: usize = 64;
/// Bytes of a name, and of each text beneath it.
const TEXT_MAX: usize = 128;
/// What is kept of a metric.
const FIELDS: [&str; 4] = ["value", "unit", "type", "historic"];

/// The metrics of one run.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Mutex<Map<String, Value>>>);

impl Metrics {
    /// Those that are known now, in the order in which they were first heard of.
    pub fn now(&self) -> Map<String, Value> {
        self.lock().clone()
    }

    /// Takes a message, when it is one of these.
    pub(super) fn hear(&self, line: &[u8]) {
        let Some(told) = told(line) else { return };
        let mut known = self.lock();
        for (name, metric) in told {
            let is_new = !known.contains_key(&name);
            if name.len() <= TEXT_MAX && !(is_new && known.len() >= NAMES_MAX) {
                known.insert(name, Value::Object(metric));
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Map<String, Value>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Metrics({})", self.lock().len())
    }
}

/// The metrics in a message; `None` for any other message.
fn told(line: &[u8]) -> Option<Vec<(String, Map<String, Value>)>> {
    // Most messages are something else; few of them hold the word.
    memchr::memmem::find(line, b"axm:monitor")?;
    let Ok(Value::Object(mut message)) = serde_json::from_slice(line) else {
        return None;
    };
    if message.get("type")? != "axm:monitor" {
        return None;
    }
    let Some(Value::Object(data)) = message.remove("data") else {
        return None;
    };
    let metric = |(name, value): (String, Value)| match value {
        Value::Object(fields) => Some((name, fields.into_iter().filter(is_kept).collect())),
        _ => None,
    };
    Some(data.into_iter().filter_map(metric).collect())
}

fn is_kept((name, value): &(String, Value)) -> bool {
    FIELDS.contains(&name.as_str())
        && match value {
            Value::String(text) => text.len() <= TEXT_MAX,
            other => !other.is_array() && !other.is_object(),
        }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn metrics_are_kept_by_name_and_the_last_word_counts() {
        let metrics = Metrics::default();
        for line in [
            r#"{"type":"axm:monitor","data":{"Users":{"value":1,"unit":"","historic":true,"agg_type":"avg"}}}"#,
            r#"{"type":"axm:monitor","data":{"Heap":{"value":"7.2","unit":"MiB"},"broken":3}}"#,
            r#"{"type":"axm:monitor","data":{"Users":{"value":2}}}"#,
            r#"{"type":"process:msg","data":{"axm:monitor":{"value":9}}}"#,
            r#""axm:monitor""#,
            "axm:monitor",
            "\"ready\"",
        ] {
            metrics.hear(line.as_bytes());
        }
        let expected =
            json!({ "Users": { "value": 2 }, "Heap": { "value": "7.2", "unit": "MiB" } });
        assert_eq!(Value::Object(metrics.now()), expected);
    }

    #[test]
    fn no_app_fills_our_memory() {
        let metrics = Metrics::default();
        for number in 0..1000 {
            let name = format!("m{number}{}", "x".repeat(number));
            let value = json!({ "value": "y".repeat(number), "type": vec![0; 100] });
            let message = json!({ "type": "axm:monitor", "data": { name: value } });
            metrics.hear(message.to_string().as_bytes());
        }
        let kept = Value::Object(metrics.now()).to_string();
        assert!(
            metrics.now().len() == NAMES_MAX && kept.len() < 64 * 400,
            "{}",
            kept.len()
        );
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in "\\{?\"?(type|axm:monitor|data|[:{}\",\\[\\]0-9])*") {
            Metrics::default().hear(line.as_bytes());
        }
    }
}
