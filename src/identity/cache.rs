//! Tokens that were found good, by their hash, so that a signature is computed once. Pure.
//!
//! Bounded: when the younger half is full the older one is forgotten. What was found good counts as
//! long as its token does, and as long as its provider has the very keys it was checked with.

use std::collections::HashMap;

use super::claims::Identified;
use crate::ids::Timestamp;

/// Tokens in each half: some megabytes when all are taken.
const HALF: usize = 8192;

/// SHA-256 of a token.
pub(super) type TokenHash = [u8; 32];

/// What was found.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// Whose it is, and until when.
    pub(super) identified: Identified,
    /// Which of the providers has made it.
    pub(super) provider: usize,
    /// Of the keys with which it was checked.
    pub(super) generation: u64,
}

/// What is remembered.
#[derive(Debug)]
pub(super) struct Cache {
    younger: HashMap<TokenHash, Known>,
    older: HashMap<TokenHash, Known>,
    half: usize,
}

impl Default for Cache {
    fn default() -> Self {
        Self::of(HALF)
    }
}

impl Cache {
    fn of(half: usize) -> Self {
        Self {
            younger: HashMap::new(),
            older: HashMap::new(),
            half,
        }
    }

    /// What is known of a token that has not expired. Whether its provider still has those keys is the
    /// caller's to see.
    pub(super) fn get(&mut self, hash: &TokenHash, now: Timestamp) -> Option<Known> {
        if let Some(old) = self.older.remove(hash) {
            self.put(*hash, old);
        }
        let known = self.younger.get(hash)?;
        (now < known.identified.until).then(|| known.clone())
    }

    /// Remembers it.
    pub(super) fn put(&mut self, hash: TokenHash, known: Known) {
        if self.younger.len() >= self.half && !self.younger.contains_key(&hash) {
            self.older = std::mem::take(&mut self.younger);
        }
        self.younger.insert(hash, known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::UserId;

    fn known(generation: u64) -> Known {
        Known {
            identified: Identified {
                user: UserId::parse("alice").unwrap(),
                until: Timestamp::from_millis(1000),
                lacks_scope: false,
                creates: false,
            },
            provider: 0,
            generation,
        }
    }

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn a_token_is_known_until_it_expires() {
        let mut cache = Cache::of(4);
        cache.put([1; 32], known(7));
        assert_eq!(cache.get(&[1; 32], at(999)).unwrap().generation, 7);
        assert!(cache.get(&[1; 32], at(1000)).is_none());
        assert!(cache.get(&[2; 32], at(0)).is_none());
        cache.put([1; 32], known(8));
        assert_eq!(cache.get(&[1; 32], at(0)).unwrap().generation, 8);
    }

    #[test]
    fn it_never_grows_and_keeps_what_is_used() {
        let mut cache = Cache::of(4);
        cache.put([0; 32], known(0));
        for number in 1..200 {
            cache.put([number; 32], known(0));
            assert!(cache.younger.len() + cache.older.len() <= 8);
            assert!(cache.get(&[0; 32], at(0)).is_some(), "{number}");
        }
        assert!(cache.get(&[1; 32], at(0)).is_none());
        assert!(cache.get(&[199; 32], at(0)).is_some());
    }
}
