//! A value that cannot be printed.
//!
//! Credentials, tokens, instance ids and keys travel in a [`Secret`]: it has no `Display`, no
//! `Serialize` and no `Clone`, its `Debug` says nothing, and its memory is wiped when it is
//! dropped. [`Secret::expose`] is the one way out, so that every place where a secret leaves can
//! be found by searching for one word.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// A value which must never reach a log or an answer by accident.
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Takes a value into custody.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself. Whoever calls this answers for where it goes.
    pub fn expose(&self) -> &T {
        &self.0
    }

    /// A second copy, for the rare owner that must hold one of its own.
    pub fn duplicate(&self) -> Self
    where
        T: Clone,
    {
        Self(self.0.clone())
    }
}

impl Secret<String> {
    /// Compares in a time that depends on the lengths only.
    pub fn equals(&self, other: &str) -> bool {
        self.0.as_bytes().ct_eq(other.as_bytes()).into()
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_says_nothing() {
        let secret = Secret::new("hunter2".to_owned());
        assert_eq!(format!("{secret:?}"), "Secret(…)");
    }

    #[test]
    fn equality_looks_at_every_byte() {
        let secret = Secret::new("abc".to_owned());
        assert!(secret.equals("abc"));
        assert!(!secret.equals("abd"));
        assert!(!secret.equals("ab"));
    }
}
