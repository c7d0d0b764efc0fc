//! [`Users`]: adds users, makes tokens, and tells whose a token is.

use subtle::ConstantTimeEq;

use crate::identity::Identity;
use crate::ids::{Timestamp, UserId};
use crate::secret::Secret;
use crate::store::{NewToken, NewUser, StoreError, StoreHandle, TokenOwner, TokenRow, UserRow};
use crate::vault::{RandomError, Vault, base32, random};

/// Random letters of a token, 5 bits each: 160 bits.
const LETTERS: usize = 32;

/// Who is asking.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Caller {
    /// A user.
    User(UserId),
    /// The operator.
    Admin,
}

/// Why a token tells nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AuthError {
    /// Unknown, revoked or expired: which of them is nobody's business.
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
    pub(super) identity: Identity,
}

impl Users {
    /// A handle to the users of this store.
    pub fn new(store: StoreHandle, vault: Vault) -> Self {
        let identity = Identity::default();
        Self {
            store,
            vault,
            identity,
        }
    }

    /// Adds a user and answers their first token, which is not shown again.
    ///
    /// # Errors
    /// They exist already, or nothing could be written.
    pub async fn add(&self, user: &UserId) -> Result<Secret<String>, UserError> {
        let owner = TokenOwner::User(user.clone());
        let (token, row) = self.make(owner)?;
        let new = NewUser {
            id: user.clone(),
            created_at: row.created_at,
        };
        match self.store.add_user(new, row).await? {
            true => Ok(token),
            false => Err(UserError::Exists(user.clone())),
        }
    }

    /// Makes another token for a user. Their older ones go on working.
    ///
    /// # Errors
    /// There is no such user, or nothing could be written.
    pub async fn add_token(&self, user: &UserId) -> Result<Secret<String>, UserError> {
        let (token, row) = self.make(TokenOwner::User(user.clone()))?;
        match self.store.add_token(row).await? {
            true => Ok(token),
            false => Err(UserError::Unknown(user.clone())),
        }
    }

    /// Makes a token for the operator.
    ///
    /// # Errors
    /// Nothing could be written.
    pub async fn add_admin_token(&self) -> Result<Secret<String>, UserError> {
        let (token, row) = self.make(TokenOwner::Admin)?;
        self.store.add_token(row).await?;
        Ok(token)
    }

    /// Tells whose a token is. Takes the same steps whatever it is given: one hash, one look-up. What
    /// looks like a JWT is checked by `identity`, where there is any provider.
    ///
    /// # Errors
    /// The token is not valid, or could not be looked up.
    pub async fn authenticate(&self, token: &str) -> Result<Caller, AuthError> {
        if self.identity.takes(token) {
            return self.authenticate_outside(token).await;
        }
        let hash = self.vault.token_hash(token);
        let found = self.store.token_by_hash(&hash).await?;
        judge(found, &hash, Timestamp::now()).ok_or(AuthError::Unknown)
    }

    /// All tokens of an owner, as far as they are known.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn tokens(&self, owner: &TokenOwner) -> Result<Vec<TokenRow>, StoreError> {
        self.store.tokens(owner).await
    }

    /// Ends a token by its number; `false` when there is none to end.
    ///
    /// # Errors
    /// Nothing could be written.
    pub async fn revoke(&self, number: i64) -> Result<bool, StoreError> {
        self.store.revoke_token(number, Timestamp::now()).await
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

    fn make(&self, owner: TokenOwner) -> Result<(Secret<String>, NewToken), RandomError> {
        let kind = match owner {
            TokenOwner::User(_) => "u",
            TokenOwner::Admin => "a",
        };
        let letters = Secret::new(base32(&random::<LETTERS>()?));
        let token = Secret::new(format!("mcpm_{kind}_{}", letters.expose()));
        let hash = self.vault.token_hash(token.expose());
        let (name, created_at, expires_at) = (None, Timestamp::now(), None);
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

/// Whose a row is, if it counts for this hash at this time.
fn judge(found: Option<TokenRow>, hash: &[u8; 32], now: Timestamp) -> Option<Caller> {
    let row = found?;
    // The store compared already, but makes no promise about its time.
    let same: bool = row.hash.ct_eq(hash).into();
    if !same || !row.is_valid(now) {
        return None;
    }
    Some(match row.owner {
        TokenOwner::User(user) => Caller::User(user),
        TokenOwner::Admin => Caller::Admin,
    })
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
        users.authenticate(token).await.ok()
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
            users.add_token(&id("bob")).await,
            Err(UserError::Unknown(_))
        ));
        let second = users.add_token(&id("alice")).await.unwrap();
        assert_eq!(
            whose(&users, second.expose()).await,
            Some(Caller::User(id("alice")))
        );
        assert!(users.exists(&id("alice")).await.unwrap());
        assert!(!users.exists(&id("bob")).await.unwrap());
    }

    #[tokio::test]
    async fn a_revoked_or_expired_token_opens_nothing() {
        let users = users();
        let token = users.add(&id("alice")).await.unwrap();
        let row = users
            .tokens(&TokenOwner::User(id("alice")))
            .await
            .unwrap()
            .remove(0);
        let (hash, end) = (row.hash, Timestamp::from_millis(100));
        let dated = TokenRow {
            expires_at: Some(end),
            ..row.clone()
        };
        assert!(judge(Some(dated.clone()), &hash, Timestamp::from_millis(99)).is_some());
        assert_eq!(judge(Some(dated), &hash, end), None);
        assert!(users.revoke(row.number).await.unwrap());
        assert!(!users.revoke(row.number).await.unwrap());
        assert_eq!(whose(&users, token.expose()).await, None);
    }
}
