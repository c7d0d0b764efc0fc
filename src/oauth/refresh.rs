//! Keeps access tokens fresh, one refresh at a time for each credential, and revokes those of instances
//! that are gone.
//!
//! A refresh is a task of its own: a request that goes away does not end it, since the provider may
//! have forgotten the old refresh token by then. Nor does the end of the daemon, which waits for those
//! under way.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::connect::{Begun, Returned};
use super::flights::{Flights, Step};
use super::pending::Pending;
use super::provider::{self, ProviderError};
use super::tokens::{self, Due};
use crate::audit::Audit;
use crate::config::spec::{OauthSpec, ServiceSpec};
use crate::ids::{PublicId, ServiceType, Timestamp};
use crate::instances::{InstanceEntry, InstanceError, Instances, OwnCredential, Renewed};
use crate::outbound::Outbound;
use crate::problem::chain;
use crate::secret::Secret;
use crate::vault::{Credential, Fields};

/// Jobs that wait to be begun; what does not fit is tried by the next request.
const JOBS_MAX: usize = 256;

/// How long a request waits for a refresh: longer than a call to the provider may take.
const WAIT_MAX: Duration = Duration::from_secs(12);

/// How long the end of the daemon waits for refreshes under way.
const CLOSE_MAX: Duration = Duration::from_secs(15);

/// What could not be written is tried again after pauses that double up to the second one; meanwhile
/// requests wait, or are told to come later. It is all that is left of a consent when the provider
/// rotates refresh tokens.
const WRITE_PAUSE: Duration = Duration::from_millis(250);
const WRITE_PAUSE_MAX: Duration = Duration::from_secs(30);

/// Why a request cannot go on with its credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotReady {
    /// The consent is over: its user must give it again.
    Expired,
    /// A fresh token could not be had; perhaps after this time.
    Later(Duration),
}

/// How a refresh has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Landed {
    /// The entry has a credential that is good.
    Fresh,
    /// The consent is over.
    Expired,
    /// It could not be done; nobody tries for this time.
    Later(Duration),
}

type Told = watch::Receiver<Option<Landed>>;

enum Job {
    Refresh(Box<Refresh>, watch::Sender<Option<Landed>>),
    Revoke(Box<Revoke>),
}

/// Whose credential is to be refreshed.
struct Refresh {
    instance: Arc<InstanceEntry>,
    before: Arc<Credential>,
    spec: OauthSpec,
    allow_private: bool,
}

/// What is to be taken back.
struct Revoke {
    public: PublicId,
    token: Secret<String>,
    is_refresh: bool,
    spec: OauthSpec,
    allow_private: bool,
}

struct Rooms {
    instances: Instances,
    audit: Audit,
    outbound: Outbound,
    outbound_private: Outbound,
    pending: Mutex<Pending<Begun, Returned>>,
    flights: Mutex<Flights<Told>>,
    /// How many jobs were given and are not done.
    open: watch::Sender<usize>,
}

/// OAuth 2 towards external services. Cheap to clone.
#[derive(Clone)]
pub struct OAuth {
    rooms: Arc<Rooms>,
    jobs: mpsc::Sender<Job>,
}

/// The task that does what takes its time.
pub struct Worker {
    rooms: Arc<Rooms>,
    jobs: mpsc::Receiver<Job>,
}

impl OAuth {
    /// A handle, and the task without which nothing is refreshed.
    pub fn new(
        instances: Instances,
        audit: Audit,
        outbound: Outbound,
        outbound_private: Outbound,
    ) -> (Self, Worker) {
        let rooms = Arc::new(Rooms {
            instances,
            audit,
            outbound,
            outbound_private,
            pending: Mutex::default(),
            flights: Mutex::default(),
            open: watch::Sender::new(0),
        });
        let (jobs, inbox) = mpsc::channel(JOBS_MAX);
        let worker = Worker {
            rooms: Arc::clone(&rooms),
            jobs: inbox,
        };
        (Self { rooms, jobs }, worker)
    }

    /// Waits until the credential of an instance can be sent to its service. At once for every kind but
    /// OAuth 2, and for a token that has time left. Cancel-safe.
    ///
    /// # Errors
    /// It is of no use, or could not be refreshed.
    pub async fn ready(
        &self,
        entry: &Arc<InstanceEntry>,
        service: &ServiceSpec,
    ) -> Result<(), NotReady> {
        let Some(spec) = &service.auth.oauth else {
            return Ok(());
        };
        // One that does not open is refused elsewhere.
        let Ok(credential) = entry.credential() else {
            return Ok(());
        };
        match tokens::due(credential.expose(), Timestamp::now()) {
            Due::No => Ok(()),
            Due::Soon => {
                // Whatever becomes of it: this one is good.
                let _ = self.want(entry, credential, spec, service.allow_private);
                Ok(())
            }
            Due::Now | Due::Over => {
                let told = self.want(entry, credential, spec, service.allow_private)?;
                landed(told).await
            }
        }
    }

    /// Gets another token in the place of this one, which its service refuses though it has time left; at
    /// once when that has happened meanwhile. `None` when there is no way to another one.
    pub async fn renew(
        &self,
        entry: &Arc<InstanceEntry>,
        service: &ServiceSpec,
        refused: &Arc<Credential>,
    ) -> Option<Result<(), NotReady>> {
        let spec = service.auth.oauth.as_ref()?;
        tokens::refresh_token(refused.expose())?;
        let current = entry.credential().ok()?;
        if !Arc::ptr_eq(&current, refused) {
            return Some(Ok(()));
        }
        match self.want(entry, current, spec, service.allow_private) {
            Ok(told) => Some(landed(told).await),
            Err(why) => Some(Err(why)),
        }
    }

    /// Begins a refresh, or joins the one that is under way.
    fn want(
        &self,
        entry: &Arc<InstanceEntry>,
        before: Arc<Credential>,
        spec: &OauthSpec,
        allow_private: bool,
    ) -> Result<Told, NotReady> {
        let (sender, told) = watch::channel(None);
        let step = self
            .rooms
            .flights()
            .want(&entry.public, told.clone(), Instant::now());
        match step {
            Step::Join(told) => return Ok(told),
            Step::Later(pause) => return Err(NotReady::Later(pause)),
            Step::Ask => {}
        }
        let refresh = Refresh {
            instance: Arc::clone(entry),
            before,
            spec: spec.clone(),
            allow_private,
        };
        if self.give(Job::Refresh(Box::new(refresh), sender)) {
            return Ok(told);
        }
        let pause = self.rooms.flights().failed(&entry.public, Instant::now());
        Err(NotReady::Later(pause))
    }

    /// Takes back what the users of these have consented to, as far as their providers can be told.
    /// Best effort: nobody waits for it.
    pub fn revoke(
        &self,
        gone: impl IntoIterator<Item = OwnCredential>,
        spec: impl Fn(&ServiceType) -> Option<ServiceSpec>,
    ) {
        for OwnCredential {
            public,
            service,
            fields,
        } in gone
        {
            let Some(service) = spec(&service) else {
                continue;
            };
            let Some(spec) = service.auth.oauth.filter(|it| it.revocation_url.is_some()) else {
                continue;
            };
            let Some((token, is_refresh)) = tokens::to_revoke(fields.expose()) else {
                continue;
            };
            let revoke = Revoke {
                token: Secret::new(token.to_owned()),
                is_refresh,
                spec,
                allow_private: service.allow_private,
                public: public.clone(),
            };
            if !self.give(Job::Revoke(Box::new(revoke))) {
                tracing::warn!(instance = %public, "too much is being revoked: not asked for");
            }
        }
    }

    /// Waits for what is under way, for a while: a refresh that is cut off may be the end of a consent.
    pub async fn close(&self) {
        let mut open = self.rooms.open.subscribe();
        if timeout(CLOSE_MAX, open.wait_for(|open| *open == 0))
            .await
            .is_err()
        {
            tracing::warn!("refreshes of OAuth tokens are left undone");
        }
    }

    pub(super) fn pending(&self) -> MutexGuard<'_, Pending<Begun, Returned>> {
        let pending = self.rooms.pending.lock();
        pending.unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn outbound(&self, allow_private: bool) -> &Outbound {
        self.rooms.outbound(allow_private)
    }

    fn give(&self, job: Job) -> bool {
        self.rooms.open.send_modify(|open| *open += 1);
        let given = self.jobs.try_send(job).is_ok();
        if !given {
            self.rooms.close_one();
        }
        given
    }
}

impl Worker {
    /// Does jobs as they come. Ends when all handles are gone.
    pub async fn run(mut self) {
        let mut under_way = JoinSet::new();
        loop {
            tokio::select! {
                job = self.jobs.recv() => match job {
                    Some(job) => {
                        let rooms = Arc::clone(&self.rooms);
                        under_way.spawn(async move { rooms.work(job).await });
                    }
                    None => break,
                },
                Some(ended) = under_way.join_next() => {
                    // A bug of ours is no less one here; the daemon ends with it.
                    if let Err(panic) = ended && let Ok(panic) = panic.try_into_panic() {
                        std::panic::resume_unwind(panic);
                    }
                }
            }
        }
        under_way.join_all().await;
    }
}

impl Rooms {
    fn flights(&self) -> MutexGuard<'_, Flights<Told>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn outbound(&self, allow_private: bool) -> &Outbound {
        if allow_private {
            &self.outbound_private
        } else {
            &self.outbound
        }
    }

    fn close_one(&self) {
        self.open.send_modify(|open| *open = open.saturating_sub(1));
    }

    async fn work(&self, job: Job) {
        match job {
            Job::Refresh(refresh, told) => {
                let landed = self.refresh(&refresh).await;
                let landed = self.land(&refresh, landed);
                // Those who waited may have gone away.
                told.send_replace(Some(landed));
            }
            Job::Revoke(revoke) => {
                let outbound = self.outbound(revoke.allow_private);
                let token = (revoke.token.expose().as_str(), revoke.is_refresh);
                if let Err(error) = provider::revoke(&revoke.spec, outbound, token).await {
                    let instance = &revoke.public;
                    tracing::warn!(%instance, error = %chain(&error), "a token was not revoked");
                }
            }
        }
        self.close_one();
    }

    /// Says what is true from now on, before those who wait are told.
    fn land(&self, job: &Refresh, landed: Result<Landed, Failed>) -> Landed {
        match landed {
            Ok(landed) => {
                self.flights().done(&job.instance.public);
                landed
            }
            Err(failed) => {
                let (instance, service) = (&job.instance.public, &job.instance.service);
                let pause = self.flights().failed(instance, Instant::now());
                tracing::warn!(
                    %instance, %service, error = %chain(&failed), again_in = ?pause,
                    "an OAuth token could not be refreshed"
                );
                Landed::Later(pause)
            }
        }
    }

    async fn refresh(&self, job: &Refresh) -> Result<Landed, Failed> {
        // Another daemon on the same database may have been here: its refresh token counts.
        if self.renew(job, None).await? != Renewed::Same {
            return Ok(Landed::Fresh);
        }
        let before = job.before.expose();
        let Some(token) = tokens::refresh_token(before) else {
            return self
                .expire(job, "it has expired, and cannot be refreshed")
                .await;
        };
        let outbound = self.outbound(job.allow_private);
        match provider::refresh(&job.spec, outbound, token).await {
            Ok(given) => {
                let after = tokens::renewed(before, &given, Timestamp::now());
                self.keep(job, &after).await?;
                Ok(Landed::Fresh)
            }
            Err(ProviderError::Over(code)) => {
                let why = format!("its provider says `{code}`");
                self.expire(job, &why).await
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Has it written, and tries again for as long as that fails: nobody else has it.
    async fn keep(&self, job: &Refresh, after: &Fields) -> Result<(), Failed> {
        let mut pause = WRITE_PAUSE;
        loop {
            match self.renew(job, Some(after)).await {
                Ok(_) => return Ok(()),
                Err(error @ InstanceError::Stopped) => return Err(error.into()),
                Err(error) => {
                    let instance = &job.instance.public;
                    tracing::error!(
                        %instance, error = %chain(&error),
                        "a fresh OAuth token could not be stored; trying again"
                    );
                    sleep(pause).await;
                    pause = (pause * 2).min(WRITE_PAUSE_MAX);
                }
            }
        }
    }

    async fn renew(&self, job: &Refresh, after: Option<&Fields>) -> Result<Renewed, InstanceError> {
        let after = after.cloned().map(Secret::new);
        let of = &job.instance;
        self.instances
            .renew(&of.user, &of.service, &of.public, &job.before, after)
            .await
    }

    /// The user must consent again. Durable before anybody is told.
    async fn expire(&self, job: &Refresh, why: &str) -> Result<Landed, Failed> {
        let expired =
            self.instances
                .expire_credential(&job.instance, &job.before, Timestamp::now());
        if !expired.await? {
            // Meanwhile they have.
            return Ok(Landed::Fresh);
        }
        let (instance, service) = (&job.instance.public, &job.instance.service);
        tracing::info!(%instance, %service, why, "a credential has expired");
        let why = format!("the consent is over: {why}");
        self.audit.credential_expired(&job.instance, &why);
        Ok(Landed::Expired)
    }
}

/// Waits for the end of a refresh, as long as a request does.
async fn landed(mut told: Told) -> Result<(), NotReady> {
    let landed = timeout(WAIT_MAX, told.wait_for(Option::is_some)).await;
    match landed.ok().and_then(|told| *told.ok()?) {
        Some(Landed::Fresh) => Ok(()),
        Some(Landed::Expired) => Err(NotReady::Expired),
        Some(Landed::Later(pause)) => Err(NotReady::Later(pause)),
        None => Err(NotReady::Later(Duration::from_secs(1))),
    }
}

/// Why a refresh could not be done.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Provider(#[from] ProviderError),
    #[error(transparent)]
    Instance(#[from] InstanceError),
}
