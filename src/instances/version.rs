//! Tells one state of an instance from the next, so that of two editors the later one learns that
//! there was an earlier one. Pure.
//!
//! Made of what can be changed of the instance and of nothing else: a request, which moves the time
//! of last use, makes no new version.

use std::fmt;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use crate::ids::Label;
use crate::store::InstanceRow;

/// Bytes of the digest that are kept: it tells states of one instance apart, and proves nothing.
const BYTES: usize = 8;

/// The state of an instance, as its readers can compare it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version([u8; BYTES]);

impl Version {
    /// That of this row.
    pub fn of(row: &InstanceRow) -> Self {
        let mut hash = Sha256::new();
        hash.update(row.public.as_str().as_bytes());
        for time in [row.rotated_at, row.expires_at, row.disabled_at] {
            match time {
                None => hash.update([0_u8]),
                Some(at) => {
                    hash.update([1_u8]);
                    hash.update(at.as_millis().to_le_bytes());
                }
            }
        }
        // No label is empty.
        hash.update(row.label.as_ref().map_or("", Label::as_str).as_bytes());
        let digest: [u8; 32] = hash.finalize().into();
        let mut kept = [0; BYTES];
        kept.copy_from_slice(&digest[..BYTES]);
        Self(kept)
    }

    /// Reads what [`fmt::Display`] wrote; `None` for every other text.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = HEXLOWER.decode(text.as_bytes()).ok()?;
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{PublicId, ServiceType, Timestamp, UserId};
    use crate::store::CredentialState;

    fn row() -> InstanceRow {
        InstanceRow {
            public: PublicId::parse("ins_aaaabbbbcccc").unwrap(),
            user: UserId::parse("alice").unwrap(),
            service: ServiceType::parse("figma").unwrap(),
            hash: [1; 32],
            created_at: Timestamp::from_millis(1),
            last_used_at: None,
            expires_at: None,
            disabled_at: None,
            owner_disabled: false,
            label: None,
            rotated_at: None,
            credential: CredentialState::Good,
        }
    }

    #[test]
    fn each_change_makes_another_version_and_a_use_does_not() {
        let at = Some(Timestamp::from_millis(7));
        let mut seen = vec![Version::of(&row())];
        let changes: [fn(&mut InstanceRow, Option<Timestamp>); 4] = [
            |row, _| row.label = Some(Label::parse("x").unwrap()),
            |row, at| row.expires_at = at,
            |row, at| row.disabled_at = at,
            |row, at| row.rotated_at = at,
        ];
        for change in changes {
            let mut changed = row();
            change(&mut changed, at);
            let version = Version::of(&changed);
            assert!(!seen.contains(&version));
            seen.push(version);
        }
        let mut used = row();
        used.last_used_at = at;
        assert_eq!(Version::of(&used), seen[0]);
    }

    #[test]
    fn it_is_read_as_it_is_written_and_nothing_else_is() {
        let version = Version::of(&row());
        assert_eq!(Version::parse(&version.to_string()), Some(version));
        for other in ["", "*", "00", "0123456789ABCDEF", "0123456789abcdef00"] {
            assert_eq!(Version::parse(other), None, "{other}");
        }
    }
}
