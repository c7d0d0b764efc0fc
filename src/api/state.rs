//! What the handlers work with: handles to the rooms, and the settings in force.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::StatusCode;
use tokio::sync::{mpsc, oneshot};

use crate::api::daemon::{Setting, Updated};
use crate::api::error::{Answer, ApiError};
use crate::audit::Audit;
use crate::config::Settings;
use crate::home::Home;
use crate::ids::{ServiceType, Timestamp};
use crate::instances::{Checker, Instances};
use crate::limits::Limits;
use crate::logs::Logs;
use crate::oauth::OAuth;
use crate::router::Figures;
use crate::supervisor::usage::Sampler;
use crate::supervisor::{Process, Supervisor};
use crate::usage::Ledger;
use crate::users::Users;
use crate::vault::MasterKeys;

/// Everything a handler may need. Cheap to clone.
#[derive(Clone)]
pub struct Api(Arc<Rooms>);

/// The rooms behind the doors.
pub struct Rooms {
    /// State folder.
    pub home: Home,
    /// All that it has started ends with it.
    pub is_container: bool,
    /// Since when the daemon runs.
    pub started_at: Timestamp,
    /// Owner of the processes.
    pub supervisor: Supervisor,
    /// CPU and memory.
    pub sampler: Sampler,
    /// Output of services.
    pub logs: Logs,
    /// Who is asking.
    pub users: Users,
    /// How much may pass.
    pub limits: Limits,
    /// Owner of the instances.
    pub instances: Instances,
    /// The master keys.
    pub keys: MasterKeys,
    /// How much users have used.
    pub ledger: Ledger,
    /// What was done by whom.
    pub audit: Audit,
    /// What the router has counted.
    pub figures: Figures,
    /// Tokens of external providers.
    pub oauth: OAuth,
    /// Whether a credential is right.
    pub checker: Checker,
    /// What is in force now.
    pub in_force: Arc<ArcSwap<InForce>>,
    /// Orders to the daemon itself.
    pub orders: mpsc::Sender<DaemonOrder>,
}

/// Settings as they are, and what an operator should know.
#[derive(Clone, Debug, Default)]
pub struct InForce {
    /// Address of the router; `None` while it can't be had.
    pub listen: Option<SocketAddr>,
    /// Origin of handed-out URLs, without a final slash.
    pub public_url: String,
    /// Origins of pages that may call, and to which browsers may be sent back.
    pub pages: Vec<String>,
    /// Each setting and where it comes from.
    pub settings: Vec<Setting>,
    /// What an operator should act on.
    pub warnings: Vec<String>,
}

/// Why the daemon has not obeyed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotDone {
    /// Another daemon is to be asked, or it will be clear in a moment which one.
    HandedOver,
    /// For people.
    Why(String),
}

/// Where an order is answered.
pub type Done<T> = oneshot::Sender<Result<T, NotDone>>;

/// What only the daemon itself can do.
pub enum DaemonOrder {
    /// End; the answer says that services have ended (or, with `keep`, are left alone).
    Stop {
        /// Leave the services running.
        keep: bool,
        /// Answered when only the daemon itself is left to end.
        done: Done<()>,
    },
    /// Hand over to another program of mcpm.
    Update {
        /// Where that lies.
        program: PathBuf,
        /// How long this daemon then finishes what its clients have begun.
        drain: Duration,
        /// Who has taken over, or why nobody has.
        done: Done<Updated>,
    },
    /// Open all log files anew, the daemon's own too.
    ReopenLogs {
        /// Answered when that is done.
        done: Done<()>,
    },
    /// Take the settings of a start: of its ecosystem file, and of its shell.
    Apply {
        /// What the file says.
        settings: Box<Settings>,
        /// Where it says so.
        file: Option<PathBuf>,
        /// `MCPM_LISTEN` and its kin, as the shell has them.
        environment: BTreeMap<String, String>,
        /// Answered when they are in force.
        done: Done<()>,
    },
}

impl DaemonOrder {
    /// Answers that another daemon is to be asked.
    pub fn handed_over(self) {
        match self {
            Self::Stop { done, .. } | Self::ReopenLogs { done } | Self::Apply { done, .. } => {
                let _ = done.send(Err(NotDone::HandedOver));
            }
            Self::Update { done, .. } => {
                let _ = done.send(Err(NotDone::HandedOver));
            }
        }
    }
}

impl Api {
    /// Puts the rooms behind the doors.
    pub fn new(rooms: Rooms) -> Self {
        Self(Arc::new(rooms))
    }

    /// Gives the daemon an order and waits until it is obeyed; `code` names its refusal.
    pub(super) async fn order<T>(
        &self,
        order: impl FnOnce(Done<T>) -> DaemonOrder,
        code: &'static str,
    ) -> Answer<T> {
        let (done, answer) = oneshot::channel();
        // One that is not taken is dropped, and that is the answer.
        let _ = self.orders.send(order(done)).await;
        match answer.await {
            Ok(Ok(obeyed)) => Ok(obeyed),
            Ok(Err(NotDone::HandedOver)) => Err(ApiError::handed_over()),
            Ok(Err(NotDone::Why(why))) => Err(ApiError::new(StatusCode::CONFLICT, code, why)),
            Err(_) => Err(ApiError::stopping()),
        }
    }

    /// The process that serves this type, preferring one that runs.
    pub fn service(&self, service: &ServiceType) -> Option<Arc<Process>> {
        let snapshot = self.supervisor.snapshot();
        let serves = |process: &&Arc<Process>| {
            process
                .spec
                .mcp
                .as_ref()
                .is_some_and(|mcp| mcp.service == *service)
        };
        let mut all = snapshot.processes.iter().filter(serves);
        let first = all.next()?;
        let running = std::iter::once(first)
            .chain(all)
            .find(|process| process.pid.is_some());
        Some(running.unwrap_or(first).clone())
    }
}

impl std::ops::Deref for Api {
    type Target = Rooms;
    fn deref(&self) -> &Rooms {
        &self.0
    }
}
