//! How long books are kept. Pure.

use super::error::Report;
use super::fields::{self, Fields};
use super::keys::RETENTION;
use super::settings::RetentionSpec;
use super::syntax::Value;

/// Reads `retention`; `None` when it is not there.
pub(crate) fn read(fields: &Fields, report: &mut Report) -> Option<RetentionSpec> {
    let node = fields.raw("retention")?;
    let Value::Map(entries) = &node.value else {
        return None;
    };
    let inner = fields::read(entries, node.at, &RETENTION, report);
    // 0 is for ever.
    let days = |name| u32::try_from(inner.count(name)?).ok();
    Some(RetentionSpec {
        usage_days: days("usage"),
        audit_days: days("audit"),
    })
}

#[cfg(test)]
mod tests {
    use super::super::keys::DAEMON;
    use super::super::syntax::{Place, json};
    use super::*;

    fn retention(text: &str) -> (Option<RetentionSpec>, Report) {
        let mut report = Report::new(Some("f"));
        let Value::Map(entries) = json::parse(text).unwrap().value else {
            panic!("a map")
        };
        let fields = fields::read(&entries, Place::default(), &DAEMON, &mut report);
        let found = read(&fields, &mut report);
        (found, report)
    }

    #[test]
    fn days_are_read_and_what_is_not_said_stays_open() {
        for (text, usage_days, audit_days) in [
            (
                "{retention: {usage: '30d', audit: '365d'}}",
                Some(30),
                Some(365),
            ),
            ("{retention: {usage: '48h'}}", Some(2), None),
            ("{retention: {usage: 0, audit: '0'}}", Some(0), Some(0)),
            ("{retention: {audit: 86400000}}", None, Some(1)),
            ("{retention: {}}", None, None),
        ] {
            let (found, report) = retention(text);
            let expected = RetentionSpec {
                usage_days,
                audit_days,
            };
            assert_eq!(found, Some(expected), "{text}");
            assert!(report.finish().unwrap().is_empty(), "{text}");
        }
        assert_eq!(retention("{}").0, None);
    }

    #[test]
    fn parts_of_days_and_texts_are_mistakes() {
        let said = |text: &str| retention(text).1.finish().unwrap_err().to_string();
        for (given, shown) in [
            ("'12h'", "`\"12h\"`"),
            ("'a year'", "`\"a year\"`"),
            ("30", "`30`"),
            ("true", "`true`"),
        ] {
            assert_eq!(
                said(&format!("{{retention: {{usage: {given}}}}}")),
                format!(
                    "f:1:21: `usage` is {shown}; write whole days such as `\"180d\"`, or `0` for ever"
                )
            );
        }
        assert!(said("{retention: '180d'}").contains("write a map"));
    }
}
