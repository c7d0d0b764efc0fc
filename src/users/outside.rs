//! Users who come with a JWT of an outside identity provider.

use super::live::LiveToken;
use super::tokens::{AuthError, Caller, Shown, Users};
use crate::identity::{Denied, Identified, Identity};
use crate::ids::Timestamp;
use crate::store::NewUser;

/// Does the user of a good JWT come in?
enum Entry {
    Known,
    Added,
    Refused,
}

impl Users {
    /// The providers whose JWTs count; the daemon puts them in force.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Tells whose a JWT is. Never the operator's.
    ///
    /// # Errors
    /// As [`Users::authenticate`]: what is wrong with a token is nobody's business.
    pub(super) async fn authenticate_outside(&self, token: &str) -> Result<Shown, AuthError> {
        let identified = match self.identity.identify(token).await {
            Ok(identified) => identified,
            Err(Denied::NoKeys) => return Err(AuthError::Unchecked),
            Err(why) => {
                tracing::debug!(%why, "a JWT does not count");
                return Err(AuthError::Unknown);
            }
        };
        let is_new = match self.lets_in(&identified).await? {
            Entry::Known => false,
            Entry::Added => true,
            Entry::Refused => return Err(AuthError::Unknown),
        };
        if identified.lacks_scope {
            return Err(AuthError::LacksScope(identified.user));
        }
        Ok(Shown {
            caller: Caller::User(identified.user),
            token: LiveToken::outside(identified.until),
            is_new,
        })
    }

    /// Is the user of a good JWT one of ours? One look-up for each request, so that a user who was
    /// removed is out at once, however long their JWT lasts: what else may keep a user out is to be
    /// read from the same row, here.
    async fn lets_in(&self, identified: &Identified) -> Result<Entry, AuthError> {
        let user = &identified.user;
        if let Some(row) = self.store.user(user).await? {
            return Ok(match row.disabled_at {
                None => Entry::Known,
                Some(_) => Entry::Refused,
            });
        }
        if !identified.creates || identified.lacks_scope {
            return Ok(Entry::Refused);
        }
        let new = NewUser {
            id: user.clone(),
            created_at: Timestamp::now(),
            group: None,
        };
        if self.store.ensure_user(new).await? {
            tracing::info!(%user, "added a user, on their first JWT");
            return Ok(Entry::Added);
        }
        Ok(Entry::Known)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::identity::{Algorithm, KeysFrom, ProviderSpec};
    use crate::ids::UserId;
    use crate::store::{Memory, StoreHandle};
    use crate::vault::{MasterKey, Vault};

    const RS256: &str = include_str!("../../tests/keys/rs256.jwt");

    /// A provider whose keys lie in a file, and the folder that must stay.
    fn users(change: impl FnOnce(&mut ProviderSpec)) -> (Users, StoreHandle, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jwks.json");
        std::fs::write(&path, include_str!("../../tests/keys/jwks.json")).unwrap();
        let store: StoreHandle = Arc::new(Memory::new());
        let vault = Vault::new(&MasterKey::from_bytes([3; 32]));
        let users = Users::new(store.clone(), vault);
        let mut spec = ProviderSpec {
            issuer: "https://id.example.com".into(),
            audiences: vec!["mcpm".into()],
            keys: KeysFrom::File(path),
            algorithms: vec![Algorithm::Rs256],
            user_claim: "sub".into(),
            user_prefix: String::new(),
            create_users: false,
            leeway_ms: 30_000,
            required_scopes: vec![],
            allow_private: false,
        };
        change(&mut spec);
        users.identity().apply(&[spec]);
        (users, store, folder)
    }

    fn alice() -> UserId {
        UserId::parse("alice").unwrap()
    }

    #[tokio::test]
    async fn only_users_who_are_known_come_in_and_as_long_as_they_are() {
        let (users, store, _folder) = users(|_| {});
        let token = RS256.trim();
        let unknown = users.authenticate(token).await;
        assert!(matches!(unknown, Err(AuthError::Unknown)));
        let own = users.add(&alice()).await.unwrap();
        let shown = users.authenticate(token).await.unwrap();
        assert_eq!(shown.caller, Caller::User(alice()));
        let shown = users.authenticate(own.expose()).await.unwrap();
        assert_eq!(shown.caller, Caller::User(alice()));
        store.remove_user(&alice()).await.unwrap();
        let removed = users.authenticate(token).await;
        assert!(matches!(removed, Err(AuthError::Unknown)));
        let forged = format!("{token}A");
        let forged = users.authenticate(&forged).await;
        assert!(matches!(forged, Err(AuthError::Unknown)));
    }

    #[tokio::test]
    async fn users_are_added_on_first_sight_where_that_is_allowed() {
        let (users, store, _folder) = users(|spec| spec.create_users = true);
        let token = RS256.trim();
        let (one, other) = tokio::join!(users.authenticate(token), users.authenticate(token));
        let both = [one.unwrap(), other.unwrap()];
        assert!(both.iter().all(|it| it.caller == Caller::User(alice())));
        let news = both.iter().filter(|shown| shown.is_new).count();
        assert_eq!(news, 1, "one of them has added her");
        assert!(store.user(&alice()).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_missing_scope_is_told_to_users_and_adds_nobody() {
        let (users, store, _folder) = users(|spec| {
            spec.create_users = true;
            spec.required_scopes = vec!["mcp".into()];
        });
        let token = RS256.trim();
        let stranger = users.authenticate(token).await;
        assert!(matches!(stranger, Err(AuthError::Unknown)));
        assert!(store.user(&alice()).await.unwrap().is_none());
        users.add(&alice()).await.unwrap();
        let known = users.authenticate(token).await;
        assert!(matches!(known, Err(AuthError::LacksScope(user)) if user == alice()));
    }

    #[tokio::test]
    async fn without_keys_nothing_is_said_about_a_token() {
        let (users, _, _folder) = users(|spec| spec.keys = KeysFrom::File("/nonexistent".into()));
        let unchecked = users.authenticate(RS256.trim()).await;
        assert!(matches!(unchecked, Err(AuthError::Unchecked)));
    }
}
