//! A master key with what is derived from it for sealing.

use std::fmt;

use data_encoding::HEXLOWER;
use hkdf::Hkdf;
use sha2::Sha256;

use crate::vault::hashes::{hash, subkey};
use crate::vault::master::MasterKey;
use crate::vault::seal::SealingKey;

/// Tells master keys apart, also for people; says nothing about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyNumber(pub(super) [u8; 4]);

/// Eight hex digits.
impl fmt::Display for KeyNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

/// A master key that the daemon works with.
pub(super) struct Held {
    /// Itself, for the day on which another one follows.
    pub(super) master: MasterKey,
    /// Seals and opens.
    pub(super) sealing: SealingKey,
}

impl Held {
    /// Derives what is needed.
    pub(super) fn new(master: MasterKey) -> Self {
        let root = Hkdf::<Sha256>::new(Some(b"mcpm vault 1"), master.expose());
        let mut number = [0; 4];
        root.expand(b"key number", &mut number)
            .expect("4 bytes are within what HKDF gives");
        Self {
            master,
            sealing: SealingKey { number, root },
        }
    }

    /// Which one it is.
    pub(super) fn number(&self) -> KeyNumber {
        KeyNumber(self.sealing.number)
    }

    /// A value that only this master key gives: tells a later daemon whether it has the same one.
    pub(super) fn check_value(&self) -> [u8; 32] {
        hash(&subkey(&self.sealing.root, "check value"), "mcpm.db")
    }
}
