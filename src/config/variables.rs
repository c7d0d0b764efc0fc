//! The variables of one process, in as little memory as they need: a daemon keeps those of hundreds of
//! apps, most of them with all of a shell's.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Names and values, by name. Prints as names only.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Env {
    /// Name, value, name, value, ….
    text: Box<str>,
    /// Where each name and its value end.
    ends: Box<[(u32, u32)]>,
}

impl Env {
    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut begin = 0;
        self.ends.iter().map(move |&(name, value)| {
            let (name, value) = (name as usize, value as usize);
            let pair = (&self.text[begin..name], &self.text[name..value]);
            begin = value;
            pair
        })
    }

    /// Sets one.
    pub fn set(&mut self, name: &str, value: &str) {
        self.merge([(name, value)]);
    }

    /// Sets all of these; of two of one name the later one.
    pub fn merge<'a>(&mut self, others: impl IntoIterator<Item = (&'a str, &'a str)>) {
        let before = std::mem::take(self);
        let mut all: BTreeMap<&str, &str> = before.iter().collect();
        for (name, value) in others {
            all.insert(name, value);
        }
        *self = all.into_iter().collect();
    }

    /// The same, to work with.
    pub fn to_map(&self) -> BTreeMap<String, String> {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        self.iter().map(owned).collect()
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for Env {
    /// Of two of one name the later one counts.
    ///
    /// # Panics
    /// When they are longer than 4 GiB: what a request or a file may hold is far less.
    fn from_iter<T: IntoIterator<Item = (&'a str, &'a str)>>(pairs: T) -> Self {
        let pairs: BTreeMap<&str, &str> = pairs.into_iter().collect();
        let mut text = String::with_capacity(pairs.iter().map(|(n, v)| n.len() + v.len()).sum());
        let end = |text: &String| u32::try_from(text.len()).expect("less than 4 GiB");
        let ends = pairs.iter().map(|(name, value)| {
            text.push_str(name);
            let name = end(&text);
            text.push_str(value);
            (name, end(&text))
        });
        let ends = ends.collect();
        Self {
            text: text.into(),
            ends,
        }
    }
}

impl From<&BTreeMap<String, String>> for Env {
    fn from(map: &BTreeMap<String, String>) -> Self {
        let pairs = map.iter();
        pairs
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect()
    }
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.iter().map(|(name, _)| name);
        f.debug_set().entries(names).finish()
    }
}

impl Serialize for Env {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Env {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BTreeMap::<String, String>::deserialize(deserializer).map(|map| Self::from(&map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_prints_no_value() {
        let env: Env = [("B", "two"), ("A", "one")].into_iter().collect();
        assert_eq!(format!("{env:?}"), r#"{"A", "B"}"#);
    }

    proptest::proptest! {
        #[test]
        fn it_is_a_map(
            pairs in proptest::collection::vec(("[A-C]{0,2}", ".{0,5}"), 0..12),
            (name, value) in ("[A-C]{0,2}", ".{0,5}"),
        ) {
            let mut map: BTreeMap<String, String> = pairs.iter().cloned().collect();
            let mut env: Env = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            proptest::prop_assert_eq!(env.to_map(), map.clone());
            let json = serde_json::to_string(&env).unwrap();
            proptest::prop_assert_eq!(&json, &serde_json::to_string(&map).unwrap());
            proptest::prop_assert_eq!(&serde_json::from_str::<Env>(&json).unwrap(), &env);
            proptest::prop_assert_eq!(env.get(&name), map.get(&name).map(String::as_str));
            env.set(&name, &value);
            map.insert(name.clone(), value.clone());
            proptest::prop_assert_eq!(env.get(&name), Some(value.as_str()));
            proptest::prop_assert_eq!(env, Env::from(&map));
        }
    }
}
