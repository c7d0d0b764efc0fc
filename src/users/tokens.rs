//! [`Users`]: adds users, makes and ends tokens, and tells whose a token is.

use std::sync::Arc;

use subtle::ConstantTimeEq;
use tokio::sync::broadcast;

use crate::identity::Identity;
use crate::ids::{GroupName, Timestamp, UserId};
use crate::secret::Secret;
use crate::store::{
    NewToken, NewUser, StoreError, StoreHandle, TOKENS_MAX, TokenAdded, TokenChoice, TokenOwner,
    TokenRow, UserRow,
};
use crate::users::groups::Groups;
use crate::users::live::{Live, LiveToken};
use crate::users::suspects::Suspects;
use crate::users::wanted::{Unfit, Wanted};
use crate::vault::{RandomError, Vault, base32, random};

/// Random letters of a token, 5 bits each: 160 bits.
const LETTERS: usize = 32;

/// Last uses that are written at once.
const FLUSH_BATCH: usize = 1000;

/// Who is asking.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Caller {
    /// A user.
    User(UserId),
    /// The operator.
    Admin,
}

/// Who is asking, and by which token.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Who.
    pub caller: Caller,
    /// What goes on in its name ends with it.
    pub token: Arc<LiveToken>,
    /// They were added just now, since they came with it.
    pub is_new: bool,
}

/// A token that was made.
#[derive(Debug)]
pub struct Made {
    /// Shown this once.
    pub token: Secret<String>,
    /// Its number, for revoking it.
    pub number: i64,
    /// For people.
    pub name: Option<String>,
    /// From when on it opens nothing.
    pub expires_at: Option<Timestamp>,
}

/// Why a token tells nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AuthError {
    /// Unknown, revoked, expired, or of a user who is switched off: which of them is nobody's
    /// business.
    #[error("the token is not valid")]
    Unknown,
    /// It could not be looked up.
    #[error("the token could not be looked up")]
    Store(#[from] StoreError),
    /// The keys of the identity provider that it is of cannot be had just now.
    #[error("the token could not be checked")]
    Unchecked,
    /// It is this user's, and not good for what it would have to be.
    #[error("the token lacks a scope")]
    LacksScope(UserId),
}

/// Why a user or a token was not made.
#[derive(Clone, Debug, thiserror::Error)]
pub enum UserError {
    /// A user of that name is there.
    #[error("user `{0}` exists already")]
    Exists(UserId),
    /// No user of that name is there.
    #[error("there is no user `{0}`; add them with `mcpm users add`")]
    Unknown(UserId),
    /// Such a token is not made.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// Its owner has enough of them.
    #[error("there are {TOKENS_MAX} tokens of this owner already: revoke one that is not used")]
    TooMany,
    /// Not written.
    #[error("the user could not be written")]
    Store(#[from] StoreError),
    /// No token could be made.
    #[error("no token could be made")]
    Random(#[from] RandomError),
}

/// Users and their tokens. Cheap to clone.
#[derive(Clone)]
pub struct Users {
    pub(super) store: StoreHandle,
    vault: Vault,
    live: Arc<Live>,
    suspects: Arc<Suspects>,
    groups: Groups,
    pub(super) identity: Identity,
}

impl Users {
    /// A handle to the users of this store.
    pub fn new(store: StoreHandle, vault: Vault) -> Self {
        Self {
            groups: Groups::new(store.clone()),
            store,
            vault,
            live: Arc::new(Live::new()),
            suspects: Arc::new(Suspects::new()),
            identity: Identity::default(),
        }
    }

    /// Who guesses tokens and URLs.
    pub fn suspects(&self) -> &Suspects {
        &self.suspects
    }

    /// In which group each user is.
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// News of tokens that were revoked: their numbers.
    pub fn endings(&self) -> broadcast::Receiver<Vec<i64>> {
        self.live.endings()
    }

    /// Another daemon has revoked these: what goes on in their names is told to end.
    pub fn follow(&self, ended: &[i64]) {
        self.live.end(ended);
    }

    /// Adds a user and answers their first token, which is not shown again.
    ///
    /// # Errors
    /// They exist already, or nothing could be written.
    pub async fn add(&self, user: &UserId) -> Result<Secret<String>, UserError> {
        self.add_to(user, None).await
    }

    /// As [`Users::add`], in this group.
    ///
    /// # Errors
    /// They exist already, or nothing could be written.
    pub async fn add_to(
        &self,
        user: &UserId,
        group: Option<GroupName>,
    ) -> Result<Secret<String>, UserError> {
        let owner = TokenOwner::User(user.clone());
        let (token, row) = self.make(owner, Wanted::default())?;
        let new = NewUser {
            id: user.clone(),
            created_at: row.created_at,
            group,
        };
        let is_grouped = new.group.is_some();
        if !self.store.add_user(new, row).await? {
            return Err(UserError::Exists(user.clone()));
        }
        // They are there, and their token is told: a group that could not be read holds from the next
        // start of the daemon on.
        if is_grouped && let Err(error) = self.groups.refresh(user).await {
            tracing::warn!(%user, %error, "the limits of their group do not hold yet");
        }
        Ok(token)
    }

    /// Makes another token for a user or for the operator. Older ones go on working.
    ///
    /// # Errors
    /// There is no such user, they have enough tokens, such a token is not made, or nothing could
    /// be written.
    pub async fn add_token(&self, owner: &TokenOwner, wanted: Wanted) -> Result<Made, UserError> {
        wanted.check(Timestamp::now())?;
        let (name, expires_at) = (wanted.name.clone(), wanted.expires_at);
        let (token, row) = self.make(owner.clone(), wanted)?;
        match (self.store.add_token(row).await?, owner) {
            (TokenAdded::Done(number), _) => Ok(Made {
                token,
                number,
                name,
                expires_at,
            }),
            (TokenAdded::NoUser, TokenOwner::User(user)) => Err(UserError::Unknown(user.clone())),
            (TokenAdded::NoUser, TokenOwner::Admin) => unreachable!("the operator is no user"),
            (TokenAdded::TooMany, _) => Err(UserError::TooMany),
        }
    }

    /// Makes a token for the operator.
    ///
    /// # Errors
    /// Nothing could be written.
    pub async fn add_admin_token(&self) -> Result<Secret<String>, UserError> {
        let made = self.add_token(&TokenOwner::Admin, Wanted::default()).await;
        Ok(made?.token)
    }

    /// Tells whose a token is, and notes its use. Takes the same steps whatever it is given: one
    /// hash, one look-up; another one when tokens were revoked meanwhile. What looks like a JWT is
    /// checked by `identity`, where there is any provider.
    ///
    /// # Errors
    /// The token is not valid, or could not be looked up.
    pub async fn authenticate(&self, token: &str) -> Result<Shown, AuthError> {
        if self.identity.takes(token) {
            return self.authenticate_outside(token).await;
        }
        let hash = self.vault.token_hash(token);
        loop {
            let epoch = self.live.epoch();
            let found = self.store.token_by_hash(&hash).await?;
            let now = Timestamp::now();
            let row = judge(found, &hash, now).ok_or(AuthError::Unknown)?;
            if let Some(token) = self.live.enter(&row, epoch, now) {
                let caller = match row.owner {
                    TokenOwner::User(user) => Caller::User(user),
                    TokenOwner::Admin => Caller::Admin,
                };
                return Ok(Shown {
                    caller,
                    token,
                    is_new: false,
                });
            }
        }
    }

    /// All tokens of an owner, as far as they are known.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn tokens(&self, owner: &TokenOwner) -> Result<Vec<TokenRow>, StoreError> {
        let mut all = self.store.tokens(owner).await?;
        for token in &mut all {
            token.last_used_at = token.last_used_at.max(self.live.last_use(token.number));
        }
        Ok(all)
    }

    /// Ends tokens of an owner: when this answers, they open nothing, and what went on in their
    /// names is told to end. Answers the numbers of those that had not ended before; `None` when
    /// the one that is named is none of the owner's.
    ///
    /// # Errors
    /// Nothing could be written; all of them work on.
    pub async fn revoke(
        &self,
        owner: &TokenOwner,
        which: TokenChoice,
    ) -> Result<Option<Vec<i64>>, StoreError> {
        let (users, owner) = (self.clone(), owner.clone());
        // A caller that goes away does not keep those who hold them from hearing it.
        let ending = tokio::spawn(async move {
            let revoking = users.store.revoke_tokens(&owner, which, Timestamp::now());
            let ended = revoking.await?;
            users.live.end(ended.as_deref().unwrap_or_default());
            Ok::<_, StoreError>(ended)
        });
        ending.await.unwrap_or(Err(StoreError::Stopped))
    }

    /// Writes the last uses that the store has not got yet. A crash loses those since the last
    /// call.
    ///
    /// # Errors
    /// Not all could be written; the next call tries again.
    pub async fn flush_last_used(&self) -> Result<(), StoreError> {
        let fresh = self.live.unflushed();
        for batch in fresh.chunks(FLUSH_BATCH) {
            self.store.touch_tokens(batch.to_vec()).await?;
        }
        self.live.flushed(&fresh);
        Ok(())
    }

    /// Up to `limit` users in the order of their ids, those after `after`.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn list(
        &self,
        after: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<UserRow>, StoreError> {
        self.store.users(after, limit).await
    }

    /// One user.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn get(&self, user: &UserId) -> Result<Option<UserRow>, StoreError> {
        self.store.user(user).await
    }

    /// Is there such a user?
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn exists(&self, user: &UserId) -> Result<bool, StoreError> {
        Ok(self.get(user).await?.is_some())
    }

    fn make(
        &self,
        owner: TokenOwner,
        wanted: Wanted,
    ) -> Result<(Secret<String>, NewToken), RandomError> {
        let kind = match owner {
            TokenOwner::User(_) => "u",
            TokenOwner::Admin => "a",
        };
        let letters = Secret::new(base32(&random::<LETTERS>()?));
        let token = Secret::new(format!("mcpm_{kind}_{}", letters.expose()));
        let hash = self.vault.token_hash(token.expose());
        let Wanted { name, expires_at } = wanted;
        let created_at = Timestamp::now();
        Ok((
            token,
            NewToken {
                hash,
                owner,
                name,
                created_at,
                expires_at,
            },
        ))
    }
}

/// The row, if it counts for this hash at this time.
fn judge(found: Option<TokenRow>, hash: &[u8; 32], now: Timestamp) -> Option<TokenRow> {
    let row = found?;
    // The store compared already, but makes no promise about its time.
    let same: bool = row.hash.ct_eq(hash).into();
    (same && row.is_valid(now)).then_some(row)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::Memory;
    use crate::vault::MasterKey;

    fn users() -> Users {
        Users::new(
            Arc::new(Memory::new()),
            Vault::new(&MasterKey::from_bytes([3; 32])),
        )
    }

    fn id(text: &str) -> UserId {
        UserId::parse(text).unwrap()
    }

    async fn whose(users: &Users, token: &str) -> Option<Caller> {
        users
            .authenticate(token)
            .await
            .ok()
            .map(|shown| shown.caller)
    }

    fn of(user: &str) -> TokenOwner {
        TokenOwner::User(id(user))
    }

    #[tokio::test]
    async fn a_token_tells_whose_it_is_and_nothing_else_does() {
        let users = users();
        let alice = users.add(&id("alice")).await.unwrap();
        let bob = users.add(&id("bob")).await.unwrap();
        let admin = users.add_admin_token().await.unwrap();
        assert_eq!(
            whose(&users, alice.expose()).await,
            Some(Caller::User(id("alice")))
        );
        assert_eq!(
            whose(&users, bob.expose()).await,
            Some(Caller::User(id("bob")))
        );
        assert_eq!(whose(&users, admin.expose()).await, Some(Caller::Admin));
        let swapped = alice.expose().replacen("mcpm_u_", "mcpm_a_", 1);
        for wrong in [
            "",
            "alice",
            "mcpm_u_",
            &alice.expose()[1..],
            &swapped,
            "\u{0}é",
        ] {
            assert_eq!(whose(&users, wrong).await, None, "{wrong}");
        }
    }

    #[tokio::test]
    async fn tokens_look_as_promised_and_are_stored_as_hashes() {
        let users = users();
        let token = users.add(&id("alice")).await.unwrap();
        let letters = token.expose().strip_prefix("mcpm_u_").unwrap();
        assert_eq!(letters.len(), LETTERS);
        assert!(
            letters
                .bytes()
                .all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7'))
        );
        assert!(
            users
                .add_admin_token()
                .await
                .unwrap()
                .expose()
                .starts_with("mcpm_a_")
        );
        let rows = users.tokens(&TokenOwner::User(id("alice"))).await.unwrap();
        assert_eq!(rows[0].hash, users.vault.token_hash(token.expose()));
    }

    #[tokio::test]
    async fn users_are_added_once_and_tokens_only_for_those_that_exist() {
        let users = users();
        users.add(&id("alice")).await.unwrap();
        assert!(matches!(
            users.add(&id("alice")).await,
            Err(UserError::Exists(_))
        ));
        assert!(matches!(
            users.add_token(&of("bob"), Wanted::default()).await,
            Err(UserError::Unknown(_))
        ));
        let second = users.add_token(&of("alice"), Wanted::default()).await;
        assert_eq!(
            whose(&users, second.unwrap().token.expose()).await,
            Some(Caller::User(id("alice")))
        );
        assert!(users.exists(&id("alice")).await.unwrap());
        assert!(!users.exists(&id("bob")).await.unwrap());
    }

    #[tokio::test]
    async fn a_revoked_or_expired_token_opens_nothing() {
        let users = users();
        let token = users.add(&id("alice")).await.unwrap();
        let row = users.tokens(&of("alice")).await.unwrap().remove(0);
        let (hash, end) = (row.hash, Timestamp::from_millis(100));
        let dated = TokenRow {
            expires_at: Some(end),
            ..row.clone()
        };
        assert!(judge(Some(dated.clone()), &hash, Timestamp::from_millis(99)).is_some());
        assert_eq!(judge(Some(dated), &hash, end), None);
        let one = TokenChoice::One(row.number);
        let revoke = async || users.revoke(&of("alice"), one).await.unwrap();
        let held = users.authenticate(token.expose()).await.unwrap();
        let held = held.token;
        assert!(!held.is_over());
        assert_eq!(revoke().await, Some(vec![row.number]));
        assert!(held.is_over(), "who holds it lets go");
        assert_eq!(revoke().await, Some(vec![]));
        assert_eq!(whose(&users, token.expose()).await, None);
    }

    #[tokio::test]
    async fn of_a_user_who_is_switched_off_nothing_opens() {
        let users = users();
        let token = users.add(&id("alice")).await.unwrap();
        let now = Timestamp::now();
        users
            .store
            .switch_user(&id("alice"), Some(now))
            .await
            .unwrap();
        assert_eq!(whose(&users, token.expose()).await, None);
        users.store.switch_user(&id("alice"), None).await.unwrap();
        assert!(whose(&users, token.expose()).await.is_some());
    }

    #[tokio::test]
    async fn the_last_use_is_known_at_once_and_written_later() {
        let users = users();
        let token = users.add(&id("alice")).await.unwrap();
        let listed = async || users.tokens(&of("alice")).await.unwrap().remove(0);
        let stored = async || users.store.tokens(&of("alice")).await.unwrap().remove(0);
        assert_eq!(listed().await.last_used_at, None);
        whose(&users, token.expose()).await.unwrap();
        let used = listed().await.last_used_at;
        assert!(used.is_some());
        assert_eq!(stored().await.last_used_at, None);
        users.flush_last_used().await.unwrap();
        assert_eq!(stored().await.last_used_at, used);
        assert_eq!(listed().await.last_used_at, used);
    }

    #[tokio::test]
    async fn a_token_has_a_name_and_an_end() {
        let users = users();
        let end = Timestamp::from_millis(Timestamp::now().as_millis() + 60_000);
        let wanted = Wanted {
            name: Some("laptop".into()),
            expires_at: Some(end),
        };
        let made = users.add_token(&TokenOwner::Admin, wanted).await.unwrap();
        let row = users.tokens(&TokenOwner::Admin).await.unwrap().remove(0);
        assert_eq!((row.number, row.expires_at), (made.number, Some(end)));
        assert_eq!(row.name.as_deref(), Some("laptop"));
        let past = Wanted {
            name: None,
            expires_at: Some(Timestamp::now()),
        };
        let refused = users.add_token(&TokenOwner::Admin, past).await;
        assert!(matches!(refused, Err(UserError::Unfit(_))), "{refused:?}");
    }
}
