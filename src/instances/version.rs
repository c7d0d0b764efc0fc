//! Tells one state of an instance, or of a user, from the next, so that of two editors the later one
//! learns that there was an earlier one. Pure.
//!
//! Made of what can be changed of it and of nothing else: a request, which moves the time of last use,
//! makes no new version. Another credential does, also one that a provider has given in the place of
//! one that ended.

use std::fmt;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::error::InstanceError;
use crate::ids::{GroupName, Label, Timestamp};
use crate::store::{InstanceRow, UserRow};

/// Bytes of the digest that are kept: it tells states of one instance apart, and proves nothing.
const BYTES: usize = 8;

/// The state of an instance or a user, as its readers can compare it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version([u8; BYTES]);

impl Version {
    /// That of this row.
    pub fn of(row: &InstanceRow) -> Self {
        let times = [
            row.rotated_at,
            row.expires_at,
            row.disabled_at,
            row.credential.expired_at(),
            Some(row.credential_at),
        ];
        // No label is empty.
        let label = row.label.as_ref().map_or("", Label::as_str);
        Self::made_of(row.public.as_str(), &times, label)
    }

    /// That of a user. What they own and show has states of its own.
    pub fn of_user(row: &UserRow) -> Self {
        let times = [Some(row.created_at), row.disabled_at];
        // No group is without a name.
        let group = row.group.as_ref().map_or("", GroupName::as_str);
        Self::made_of(row.id.as_str(), &times, group)
    }

    fn made_of(name: &str, times: &[Option<Timestamp>], word: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(name.as_bytes());
        for time in times {
            match time {
                None => hash.update([0_u8]),
                Some(at) => {
                    hash.update([1_u8]);
                    hash.update(at.as_millis().to_le_bytes());
                }
            }
        }
        hash.update(word.as_bytes());
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

/// Is the instance in one of the states that were seen, if that matters?
///
/// # Errors
/// It is not.
pub(super) fn admits(seen: Option<&[Version]>, row: &InstanceRow) -> Result<(), InstanceError> {
    let version = Version::of(row);
    match seen {
        Some(seen) if !seen.contains(&version) => Err(InstanceError::Changed),
        _ => Ok(()),
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
            credential_at: Timestamp::from_millis(1),
        }
    }

    #[test]
    fn each_change_makes_another_version_and_a_use_does_not() {
        let at = Some(Timestamp::from_millis(7));
        let mut seen = vec![Version::of(&row())];
        let changes: [fn(&mut InstanceRow, Option<Timestamp>); 6] = [
            |row, _| row.label = Some(Label::parse("x").unwrap()),
            |row, at| row.expires_at = at,
            |row, at| row.disabled_at = at,
            |row, at| row.rotated_at = at,
            |row, at| row.credential = at.into(),
            |row, at| row.credential_at = at.unwrap(),
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
    fn each_change_of_a_user_makes_another_version_and_an_instance_more_does_not() {
        let user = UserRow {
            id: UserId::parse("alice").unwrap(),
            created_at: Timestamp::from_millis(1),
            instances: 0,
            disabled_at: None,
            group: None,
        };
        let first = Version::of_user(&user);
        let off = UserRow {
            disabled_at: Some(Timestamp::from_millis(7)),
            ..user.clone()
        };
        let grouped = UserRow {
            group: Some(GroupName::parse("pro").unwrap()),
            ..user.clone()
        };
        let again = UserRow {
            created_at: Timestamp::from_millis(2),
            ..user.clone()
        };
        for changed in [off, grouped, again] {
            assert_ne!(Version::of_user(&changed), first);
        }
        let owns = UserRow {
            instances: 1,
            ..user
        };
        assert_eq!(Version::of_user(&owns), first);
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
