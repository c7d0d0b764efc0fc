//! [`Identity`]: all providers that are in force, and what was found good lately.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use ring::digest::{SHA256, digest};
use tokio::task::JoinSet;

use super::cache::{Cache, Known, TokenHash};
use super::claims::Identified;
use super::denied::Denied;
use super::provider::Provider;
use super::token::Unverified;
use super::verify::before_keys;
use crate::config::identity::{ProviderSpec, is_web_address};
use crate::ids::Timestamp;

/// How tokens of our own begin; none of them is ever taken for a JWT.
const OWN: &str = "mcpm_";

/// Identity providers, as tokens are checked against them. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Identity(Arc<ArcSwap<Providers>>);

/// Those that are in force. Their tasks end with them.
#[derive(Default)]
struct Providers {
    all: Vec<Provider>,
    resource: Option<Arc<Resource>>,
    cache: Mutex<Cache>,
    _tasks: JoinSet<()>,
}

/// What a client has to know who is to get a token (RFC 9728).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Who gives tokens out: the issuers that are addresses. Never empty.
    pub authorization_servers: Vec<String>,
    /// What a token must be good for, in the order of the settings.
    pub scopes: Vec<String>,
}

impl Identity {
    /// Puts these providers in force. Those that are already stay as they are, with their keys. Must be
    /// called inside the runtime.
    pub fn apply(&self, specs: &[ProviderSpec]) {
        let now = self.0.load();
        if now.all.iter().map(|provider| &provider.spec).eq(specs) {
            return;
        }
        let mut tasks = JoinSet::new();
        let mut all = Vec::new();
        for spec in specs {
            let (provider, life) = Provider::new(spec.clone());
            tasks.spawn(life);
            all.push(provider);
        }
        self.0.store(Arc::new(Providers {
            all,
            resource: resource(specs).map(Arc::new),
            cache: Mutex::default(),
            _tasks: tasks,
        }));
    }

    /// Has this token the form of a JWT, and is there anybody whose it could be?
    pub fn takes(&self, token: &str) -> bool {
        let is_jwt = !token.starts_with(OWN) && token.bytes().filter(|&b| b == b'.').count() == 2;
        is_jwt && !self.0.load().all.is_empty()
    }

    /// Whose token this is. Waits for a provider's keys at most a few seconds, and only where they may
    /// be asked for.
    ///
    /// # Errors
    /// It does not count, or nothing can be said about it.
    pub async fn identify(&self, token: &str) -> Result<Identified, Denied> {
        let providers = self.0.load_full();
        providers.identify(token, Timestamp::now()).await
    }

    /// What clients are told; `None` when no provider has an address.
    pub fn resource(&self) -> Option<Arc<Resource>> {
        self.0.load().resource.clone()
    }

    /// What an operator should act on.
    pub fn troubles(&self) -> Vec<String> {
        let providers = self.0.load();
        providers.all.iter().filter_map(Provider::trouble).collect()
    }
}

impl Providers {
    async fn identify(&self, token: &str, now: Timestamp) -> Result<Identified, Denied> {
        let digest = digest(&SHA256, token.as_bytes());
        let bytes: &[u8] = digest.as_ref();
        let hash = TokenHash::try_from(bytes).expect("SHA-256 has 32 bytes");
        if let Some(identified) = self.known(&hash, now).await {
            return Ok(identified);
        }
        let token = Unverified::read(token)?;
        let issuer = token.claims.optional_text("iss")?.unwrap_or_default();
        let named = |provider: &Provider| provider.spec.issuer == issuer;
        let index = self.all.iter().position(named).ok_or(Denied::Issuer)?;
        let provider = &self.all[index];
        let identified = before_keys(&token, &provider.spec, now)?;
        let generation = provider.verify(&token).await?;
        let known = Known {
            identified: identified.clone(),
            provider: index,
            generation,
        };
        self.cache().put(hash, known);
        Ok(identified)
    }

    /// What was found of this very token, if its provider still has the keys that it was checked with.
    async fn known(&self, hash: &TokenHash, now: Timestamp) -> Option<Identified> {
        let known = self.cache().get(hash, now)?;
        let provider = &self.all[known.provider];
        provider.look().await;
        (provider.generation() == Some(known.generation)).then_some(known.identified)
    }

    /// Held for one look-up at a time.
    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn resource(specs: &[ProviderSpec]) -> Option<Resource> {
    let has_address = |spec: &&ProviderSpec| is_web_address(&spec.issuer, spec.allow_private);
    let servers: Vec<String> = specs
        .iter()
        .filter(has_address)
        .map(|spec| spec.issuer.clone())
        .collect();
    let mut scopes: Vec<String> = Vec::new();
    for scope in specs.iter().flat_map(|spec| &spec.required_scopes) {
        if !scopes.contains(scope) {
            scopes.push(scope.clone());
        }
    }
    (!servers.is_empty()).then_some(Resource {
        authorization_servers: servers,
        scopes,
    })
}
