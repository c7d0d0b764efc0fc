//! What goes into the store and comes out of it, whole.
//!
//! Inner types: backends map them to columns. Nothing here is secret by itself: ids and tokens are
//! keyed hashes, credentials are sealed.

use std::fmt;
use std::str::FromStr;

use crate::ids::{AppName, GroupName, Label, Port, PublicId, ServiceType, Timestamp, UserId};
use crate::store::terms::Terms;

/// A part of a list, and where it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T, C> {
    /// This part.
    pub items: Vec<T>,
    /// Where the next part begins; `None` when this was the last.
    pub next: Option<C>,
}

/// A user to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewUser {
    /// The operator's own name for them.
    pub id: UserId,
    /// When.
    pub created_at: Timestamp,
    /// Whose limits hold for them.
    pub group: Option<GroupName>,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRow {
    /// The operator's own name for them.
    pub id: UserId,
    /// Since when.
    pub created_at: Timestamp,
    /// How many instances, active or not.
    pub instances: u64,
    /// Since when nothing of theirs opens anything.
    pub disabled_at: Option<Timestamp>,
    /// Whose limits hold for them.
    pub group: Option<GroupName>,
}

/// Who a token speaks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TokenOwner {
    /// One user.
    User(UserId),
    /// The operator.
    Admin,
}

/// A token to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewToken {
    /// Keyed hash of the token.
    pub hash: [u8; 32],
    /// Who it speaks for.
    pub owner: TokenOwner,
    /// For people, to tell tokens apart.
    pub name: Option<String>,
    /// When.
    pub created_at: Timestamp,
    /// From when on it opens nothing.
    pub expires_at: Option<Timestamp>,
}

/// A token, as far as it is known: never itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    /// Its number, for revoking it.
    pub number: i64,
    /// Keyed hash of the token.
    pub hash: [u8; 32],
    /// Who it speaks for.
    pub owner: TokenOwner,
    /// For people.
    pub name: Option<String>,
    /// Since when.
    pub created_at: Timestamp,
    /// From when on it opens nothing.
    pub expires_at: Option<Timestamp>,
    /// Since when it opens nothing.
    pub revoked_at: Option<Timestamp>,
    /// Last use, to the minute, as far as it was written.
    pub last_used_at: Option<Timestamp>,
    /// Is its user switched off?
    pub owner_disabled: bool,
}

impl TokenRow {
    /// Does it open anything at `now`?
    pub fn is_valid(&self, now: Timestamp) -> bool {
        !self.owner_disabled && !self.is_ended(now)
    }

    /// Will it never open anything again?
    pub fn is_ended(&self, now: Timestamp) -> bool {
        self.revoked_at.is_some() || self.expires_at.is_some_and(|end| end <= now)
    }
}

/// Tokens of one owner that open something or may again; a further one is refused.
pub const TOKENS_MAX: u32 = 100;

/// Tokens of one owner that have ended and are still listed; older ones are forgotten.
pub const ENDED_TOKENS_KEPT: u32 = 100;

/// What became of a token that was to be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenAdded {
    /// It is there, and this is its number.
    Done(i64),
    /// Its user does not exist.
    NoUser,
    /// Its owner has [`TOKENS_MAX`] already.
    TooMany,
}

/// Which tokens of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenChoice {
    /// The one of this number.
    One(i64),
    /// All but the one of this number.
    AllBut(i64),
    /// All.
    All,
}

impl TokenChoice {
    /// The number it names.
    pub fn named(self) -> Option<i64> {
        match self {
            Self::One(number) | Self::AllBut(number) => Some(number),
            Self::All => None,
        }
    }

    /// Is this number meant?
    pub fn takes(self, number: i64) -> bool {
        match self {
            Self::One(one) => one == number,
            Self::AllBut(one) => one != number,
            Self::All => true,
        }
    }
}

/// An instance to be added, with its credential.
#[derive(Clone, PartialEq, Eq)]
pub struct NewInstance {
    /// Public number.
    pub public: PublicId,
    /// Owner.
    pub user: UserId,
    /// What it is an instance of.
    pub service: ServiceType,
    /// Keyed hash of the id.
    pub hash: [u8; 32],
    /// The id, sealed.
    pub sealed_id: Vec<u8>,
    /// The credential, sealed.
    pub sealed_credential: Vec<u8>,
    /// When.
    pub created_at: Timestamp,
    /// What people call it.
    pub label: Option<Label>,
    /// From when on it is not active.
    pub expires_at: Option<Timestamp>,
    /// Since when it is switched off.
    pub disabled_at: Option<Timestamp>,
}

/// What became of an instance that was to be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is there.
    Done,
    /// Its user has one of that service already, or its hash or public number is in use.
    Taken,
    /// Its user does not exist.
    NoUser,
    /// Its user is switched off.
    UserDisabled,
}

/// Another id for an instance.
#[derive(Clone, PartialEq, Eq)]
pub struct Rotation {
    /// Which instance.
    pub public: PublicId,
    /// Keyed hash of the id it must still have.
    pub old_hash: [u8; 32],
    /// Keyed hash of the new id.
    pub new_hash: [u8; 32],
    /// The new id, sealed.
    pub sealed_id: Vec<u8>,
    /// When.
    pub at: Timestamp,
}

/// What is known of the credential of an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CredentialState {
    /// Nothing speaks against it.
    #[default]
    Good,
    /// The external service has said that it takes it no longer.
    Expired {
        /// When that was heard first.
        since: Timestamp,
    },
}

impl CredentialState {
    /// Since when it is of no use.
    pub fn expired_at(self) -> Option<Timestamp> {
        match self {
            Self::Good => None,
            Self::Expired { since } => Some(since),
        }
    }
}

impl From<Option<Timestamp>> for CredentialState {
    fn from(expired_at: Option<Timestamp>) -> Self {
        expired_at.map_or(Self::Good, |since| Self::Expired { since })
    }
}

/// An instance without what is sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceRow {
    /// Public number.
    pub public: PublicId,
    /// Owner.
    pub user: UserId,
    /// What it is an instance of.
    pub service: ServiceType,
    /// Keyed hash of the id.
    pub hash: [u8; 32],
    /// Since when.
    pub created_at: Timestamp,
    /// Last request, to the minute, as far as it was written.
    pub last_used_at: Option<Timestamp>,
    /// From when on it is not active.
    pub expires_at: Option<Timestamp>,
    /// Since when it has been switched off.
    pub disabled_at: Option<Timestamp>,
    /// Is its user switched off?
    pub owner_disabled: bool,
    /// What people call it.
    pub label: Option<Label>,
    /// When it got another id last.
    pub rotated_at: Option<Timestamp>,
    /// Does the external service still take what is stored for it?
    pub credential: CredentialState,
    /// When its credential was stored last.
    pub credential_at: Timestamp,
}

impl InstanceRow {
    /// Does it answer at `now`?
    pub fn is_active(&self, now: Timestamp) -> bool {
        let switched_off = self.disabled_at.is_some() || self.owner_disabled;
        !switched_off && self.expires_at.is_none_or(|end| now < end)
    }

    /// What can be changed of it.
    pub fn terms(&self) -> Terms {
        Terms {
            label: self.label.clone(),
            expires_at: self.expires_at,
            disabled_at: self.disabled_at,
        }
    }

    /// Puts other terms in the place of its own.
    pub fn set_terms(&mut self, terms: Terms) {
        self.label = terms.label;
        self.expires_at = terms.expires_at;
        self.disabled_at = terms.disabled_at;
    }
}

/// An instance with what is sealed.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredInstance {
    /// All that is not sealed.
    pub row: InstanceRow,
    /// The id, sealed.
    pub sealed_id: Vec<u8>,
    /// The credential, sealed.
    pub sealed_credential: Vec<u8>,
}

/// As it stands after it was added.
impl From<NewInstance> for StoredInstance {
    fn from(new: NewInstance) -> Self {
        Self {
            row: InstanceRow {
                public: new.public,
                user: new.user,
                service: new.service,
                hash: new.hash,
                created_at: new.created_at,
                last_used_at: None,
                expires_at: new.expires_at,
                disabled_at: new.disabled_at,
                // Nobody who is switched off gets one.
                owner_disabled: false,
                label: new.label,
                rotated_at: None,
                credential: CredentialState::Good,
                credential_at: new.created_at,
            },
            sealed_id: new.sealed_id,
            sealed_credential: new.sealed_credential,
        }
    }
}

/// Prints what is not sealed.
impl fmt::Debug for StoredInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.row.fmt(f)
    }
}

/// Other sealed values for an instance, which mean the same.
#[derive(Clone, PartialEq, Eq)]
pub struct Reseal {
    /// Which instance.
    pub public: PublicId,
    /// Of its id.
    pub id: Option<Swap>,
    /// Of its credential.
    pub credential: Option<Swap>,
}

/// One sealed value in the place of another.
#[derive(Clone, PartialEq, Eq)]
pub struct Swap {
    /// What must still be there.
    pub old: Vec<u8>,
    /// What takes its place.
    pub new: Vec<u8>,
}

/// A named value of the daemon's own.
#[derive(Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// Its value; `None`: it is not there.
    pub value: Option<Vec<u8>>,
}

/// A place in the list of all instances. Opaque to callers; parsed at the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InstanceCursor(pub(super) i64);

impl fmt::Display for InstanceCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for InstanceCursor {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// A service, as it was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRow {
    /// Its type.
    pub service: ServiceType,
    /// The app that serves it.
    pub app: AppName,
    /// Its fixed port.
    pub port: Port,
    /// For people.
    pub display_name: String,
    /// For people.
    pub category: Option<String>,
    /// The whole `mcp` block as JSON (`config::spec::ServiceSpec`).
    pub spec: String,
}

/// What the checks of a service have said so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthRow {
    /// Which service.
    pub service: ServiceType,
    /// When it was asked last.
    pub last_check: Option<Timestamp>,
    /// How long its last answer took, in microseconds.
    pub response_us: Option<u64>,
    /// Failed checks in a row.
    pub consecutive_failures: u32,
    /// Good checks since it was first started.
    pub good_checks: u64,
    /// All checks since it was first started.
    pub total_checks: u64,
    /// What the last failed check said.
    pub last_failure: Option<String>,
}

/// Something that is worth remembering. Never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// Who did it: `admin` (by command), `admin:7` (with the admin token of that number),
    /// `user:alice`, `url` (whoever has the instance's URL), `nobody` (who is not known), `system`.
    pub actor: String,
    /// What was done: a stable word such as `instance.rotate`.
    pub action: String,
    /// Whose matter it was.
    pub user: Option<UserId>,
    /// Which service.
    pub service: Option<ServiceType>,
    /// Which instance.
    pub public: Option<PublicId>,
    /// From where: an address, the network of an IPv6 one, or `socket`.
    pub address: Option<String>,
    /// Under which request it stands in the log.
    pub request_id: Option<String>,
    /// More, for people.
    pub detail: Option<String>,
}

impl AuditEntry {
    /// It is about this user.
    #[must_use]
    pub fn with_user(mut self, user: &UserId) -> Self {
        self.user = Some(user.clone());
        self
    }

    /// It is about this service.
    #[must_use]
    pub fn with_service(mut self, service: &ServiceType) -> Self {
        self.service = Some(service.clone());
        self
    }

    /// It is about this instance.
    #[must_use]
    pub fn with_instance(mut self, public: &PublicId) -> Self {
        self.public = Some(public.clone());
        self
    }

    /// Says more.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }
}

/// Which entries of the audit log are asked for: those that are all of this.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Who did it, as it stands there: `admin:7`, `user:alice`.
    pub actor: Option<String>,
    /// Whose matter it was.
    pub user: Option<UserId>,
    /// Of this service.
    pub service: Option<ServiceType>,
    /// Of this instance.
    pub public: Option<PublicId>,
    /// What was done begins so: `instance.rotate`, or `isolation.` for all of a kind.
    pub action: Option<String>,
    /// Not earlier.
    pub since: Option<Timestamp>,
    /// Earlier.
    pub until: Option<Timestamp>,
}

impl AuditFilter {
    /// Does it let this entry through?
    pub fn admits(&self, entry: &AuditEntry) -> bool {
        fn is<T: PartialEq>(wanted: Option<&T>, found: Option<&T>) -> bool {
            wanted.is_none() || wanted == found
        }
        is(self.actor.as_ref(), Some(&entry.actor))
            && is(self.user.as_ref(), entry.user.as_ref())
            && is(self.service.as_ref(), entry.service.as_ref())
            && is(self.public.as_ref(), entry.public.as_ref())
            && self
                .action
                .as_ref()
                .is_none_or(|action| entry.action.starts_with(action.as_str()))
            && self.since.is_none_or(|since| since <= entry.at)
            && self.until.is_none_or(|until| entry.at < until)
    }
}

/// An entry of the audit log and its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    /// Counts up.
    pub number: i64,
    /// What was written.
    pub entry: AuditEntry,
}
