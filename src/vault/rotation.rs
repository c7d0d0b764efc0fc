//! What the store knows of a rotation of the master key that is under way. Pure.
//!
//! Each of the two keys lies there sealed with the other. So either of them opens everything, until
//! the rotation is over and the record is removed: whoever follows it half way loses nothing, and a
//! daemon that is killed between two steps is followed by one that has all it needs.

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::ids::Timestamp;
use crate::vault::held::Held;
use crate::vault::master::MasterKey;
use crate::vault::seal::{NONCE, OVERHEAD, SealError};

/// First byte of the stored form.
const VERSION: u8 = 1;

/// Bytes of a sealed master key.
const SEALED: usize = 32 + OVERHEAD;

/// Version, direction, time, check value, two sealed keys.
const STORED: usize = 1 + 1 + 8 + 32 + 2 * SEALED;

/// The names under which the keys are sealed.
const NEXT: &str = "next master key";
const FORMER: &str = "former master key";

/// A rotation that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Since when.
    pub(super) started_at: Timestamp,
    /// It was called off: everything is being sealed with the former key again.
    pub(super) back: bool,
    /// Check value of the next key.
    check: [u8; 32],
    /// The next key, sealed with the former one.
    next: [u8; SEALED],
    /// The former key, sealed with the next one.
    former: [u8; SEALED],
}

impl Record {
    /// A rotation from one key to another. The nonces must be random bytes.
    pub(super) fn new(
        former: &Held,
        next: &Held,
        nonces: [[u8; NONCE]; 2],
        started_at: Timestamp,
    ) -> Self {
        let seal = |with: &Held, name: &str, nonce: [u8; NONCE], key: &Held| -> [u8; SEALED] {
            let sealed = with.sealing.seal_own(name, nonce, key.master.expose());
            sealed.try_into().expect("32 bytes and what sealing adds")
        };
        let [one, two] = nonces;
        Self {
            started_at,
            back: false,
            check: next.check_value(),
            next: seal(former, NEXT, one, next),
            former: seal(next, FORMER, two, former),
        }
    }

    /// Is this the next key?
    pub(super) fn leads_to(&self, held: &Held) -> bool {
        self.check.ct_eq(&held.check_value()).into()
    }

    /// The next key, by the former one.
    pub(super) fn next(&self, former: &Held) -> Result<Held, SealError> {
        let next = key(former.sealing.open_own(NEXT, &self.next)?)?;
        if self.leads_to(&next) {
            Ok(next)
        } else {
            Err(SealError::Broken)
        }
    }

    /// The former key, by the next one.
    pub(super) fn former(&self, next: &Held) -> Result<Held, SealError> {
        key(next.sealing.open_own(FORMER, &self.former)?)
    }

    /// The stored form.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(STORED);
        bytes.extend_from_slice(&[VERSION, u8::from(self.back)]);
        bytes.extend_from_slice(&self.started_at.as_millis().to_le_bytes());
        bytes.extend_from_slice(&self.check);
        bytes.extend_from_slice(&self.next);
        bytes.extend_from_slice(&self.former);
        bytes
    }

    /// Reads the stored form; `None` when it is not one.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[VERSION, back @ (0 | 1)], rest) = bytes.split_first_chunk::<2>()? else {
            return None;
        };
        let (millis, rest) = rest.split_first_chunk::<8>()?;
        let (check, rest) = rest.split_first_chunk::<32>()?;
        let (next, rest) = rest.split_first_chunk::<SEALED>()?;
        Some(Self {
            started_at: Timestamp::from_millis(i64::from_le_bytes(*millis)),
            back: back == 1,
            check: *check,
            next: *next,
            former: rest.try_into().ok()?,
        })
    }
}

fn key(plain: Zeroizing<Vec<u8>>) -> Result<Held, SealError> {
    let bytes = Zeroizing::new(<[u8; 32]>::try_from(&plain[..]).map_err(|_| SealError::Form)?);
    Ok(Held::new(MasterKey::from_bytes(*bytes)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn held(byte: u8) -> Held {
        Held::new(MasterKey::from_bytes([byte; 32]))
    }

    fn record() -> Record {
        let nonces = [[8; NONCE], [9; NONCE]];
        Record::new(&held(1), &held(2), nonces, Timestamp::from_millis(77))
    }

    #[test]
    fn either_key_gives_the_other_one_and_no_third_gives_any() {
        let record = record();
        assert_eq!(record.next(&held(1)).unwrap().number(), held(2).number());
        assert_eq!(record.former(&held(2)).unwrap().number(), held(1).number());
        assert!(record.leads_to(&held(2)) && !record.leads_to(&held(1)));
        for other in [1, 3] {
            assert!(record.former(&held(other)).is_err());
        }
        for other in [2, 3] {
            assert!(record.next(&held(other)).is_err());
        }
    }

    #[test]
    fn no_key_lies_in_it_as_it_is() {
        let bytes = record().encode();
        for key in [[1u8; 32], [2; 32]] {
            assert!(!bytes.windows(8).any(|window| window == &key[..8]));
        }
    }

    #[test]
    fn the_stored_form_comes_back_and_what_was_cut_is_refused() {
        let back = Record {
            back: true,
            ..record()
        };
        for record in [record(), back] {
            let bytes = record.encode();
            assert_eq!(Record::decode(&bytes), Some(record));
            for cut in 0..bytes.len() {
                assert_eq!(Record::decode(&bytes[..cut]), None);
            }
            assert_eq!(Record::decode(&[&bytes[..], &[0]].concat()), None);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = Record::decode(&bytes);
            let _ = Record::decode(&[&[VERSION, 1], &bytes[..]].concat());
        }
    }
}
