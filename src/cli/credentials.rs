//! What a service asks of a user, and how it comes out of stdin. Pure.
//!
//! Secrets never come by argument: those stand in the process list for everyone.

use std::collections::BTreeMap;

use anyhow::bail;

use crate::api::services::{Field, Service};

/// Values by field name.
pub(crate) type Values = BTreeMap<String, String>;

/// The fields of a service. One that asks for a key and names no field has the field `api_key`.
pub(crate) fn fields(service: &Service) -> Vec<Field> {
    if !service.fields.is_empty() || service.auth_type == "none" {
        return service.fields.clone();
    }
    vec![Field {
        name: "api_key".to_owned(),
        secret: true,
        required: true,
        description: None,
    }]
}

/// Reads `NAME=VALUE` arguments.
///
/// # Errors
/// For names the service does not have, and for secrets.
pub(crate) fn from_arguments(arguments: &[String], fields: &[Field]) -> anyhow::Result<Values> {
    let mut values = Values::new();
    for argument in arguments {
        let Some((name, value)) = argument.split_once('=') else {
            bail!("`--field` wants NAME=VALUE");
        };
        if known(name, fields)?.secret {
            bail!(
                "`{name}` is a secret, and arguments can be read by others: \
                 leave it out to be asked, or write it to stdin"
            );
        }
        values.insert(name.to_owned(), value.to_owned());
    }
    Ok(values)
}

/// Required fields that have no value yet.
pub(crate) fn missing<'a>(fields: &'a [Field], values: &Values) -> Vec<&'a Field> {
    fields
        .iter()
        .filter(|f| f.required && !values.contains_key(&f.name))
        .collect()
}

/// Reads what stdin holds: one value, a JSON object, or a line per missing field, in their order.
///
/// # Errors
/// When it is none of these. Messages never repeat what was read.
pub(crate) fn from_input(
    text: &str,
    fields: &[Field],
    missing: &[&Field],
) -> anyhow::Result<Values> {
    let text = text.trim_end_matches(['\n', '\r']);
    if text.is_empty() {
        bail!(
            "stdin is empty; write {} to it",
            names(missing.iter().copied())
        );
    }
    if let Ok(object) = serde_json::from_str::<Values>(text) {
        let unknown = object.keys().find(|name| known(name, fields).is_err());
        match (unknown, missing) {
            (None, _) => return Ok(object),
            // A key that is itself JSON, such as a service account's.
            (Some(_), [_]) => {}
            (Some(name), _) => return Err(known(name, fields).expect_err("found unknown above")),
        }
    }
    if let [field] = missing {
        return Ok(Values::from([(field.name.clone(), text.to_owned())]));
    }
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() != missing.len() {
        bail!(
            "stdin has {} lines, and {} are needed: {}; write one a line in this order, \
             or a JSON object with these names",
            lines.len(),
            missing.len(),
            names(missing.iter().copied())
        );
    }
    Ok(missing
        .iter()
        .zip(lines)
        .map(|(f, line)| (f.name.clone(), line.to_owned()))
        .collect())
}

fn known<'a>(name: &str, fields: &'a [Field]) -> anyhow::Result<&'a Field> {
    match fields.iter().find(|field| field.name == name) {
        Some(field) => Ok(field),
        None if fields.is_empty() => bail!("this service asks for nothing, and not for `{name}`"),
        None => bail!(
            "this service has no field `{name}`; it has {}",
            names(fields)
        ),
    }
}

fn names<'a>(fields: impl IntoIterator<Item = &'a Field>) -> String {
    let names: Vec<String> = fields
        .into_iter()
        .map(|field| format!("`{}`", field.name))
        .collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, secret: bool) -> Field {
        Field {
            name: name.into(),
            secret,
            required: true,
            description: None,
        }
    }

    fn values(pairs: &[(&str, &str)]) -> Values {
        pairs.iter().map(|&(k, v)| (k.into(), v.into())).collect()
    }

    #[test]
    fn one_value_is_taken_whole() {
        let fields = [field("api_key", true)];
        let read = |text| from_input(text, &fields, &missing(&fields, &Values::new())).unwrap();
        assert!(
            from_input("\n", &fields, &[&fields[0]]).is_err(),
            "nothing is no key"
        );
        assert_eq!(read("figd_1=\n"), values(&[("api_key", "figd_1=")]));
        assert_eq!(read("{\"api_key\": \"k\"}"), values(&[("api_key", "k")]));
        let account = "{\"type\": \"service_account\"}";
        assert_eq!(read(account), values(&[("api_key", account)]));
    }

    #[test]
    fn several_values_come_as_an_object_or_as_lines() {
        let fields = [field("user", false), field("password", true)];
        let missing = missing(&fields, &Values::new());
        let both = values(&[("user", "a"), ("password", "b c")]);
        for text in [
            "a\nb c\n",
            "a\r\nb c\r\n",
            "{\"user\":\"a\",\"password\":\"b c\"}",
        ] {
            assert_eq!(
                from_input(text, &fields, &missing).unwrap(),
                both,
                "{text:?}"
            );
        }
        for text in ["hunter2\n", "hunter2\nb\nc\n", "{\"usr\":\"hunter2\"}"] {
            let refused = from_input(text, &fields, &missing).unwrap_err().to_string();
            assert!(refused.contains("`user`, `password`"), "{refused}");
            assert!(!refused.contains("hunter2"), "{refused}");
        }
    }

    #[test]
    fn secrets_are_refused_as_arguments() {
        let fields = [field("site", false), field("token", true)];
        let read = |argument: &str| from_arguments(&[argument.to_owned()], &fields);
        assert_eq!(read("site=a=b").unwrap(), values(&[("site", "a=b")]));
        for refused in ["token=hunter2", "nope=hunter2", "hunter2"] {
            let message = read(refused).unwrap_err().to_string();
            assert!(!message.contains("hunter2"), "{message}");
        }
        let given = values(&[("site", "x")]);
        assert_eq!(names(missing(&fields, &given)), "`token`");
    }
}
