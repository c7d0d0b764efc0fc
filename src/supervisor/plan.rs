//! Wanted specs and the running table → steps (pure). Planning chooses; `actor.rs` obeys.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::snapshot::Snapshot;
use crate::config::AppSpec;
use crate::ids::PmId;

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Start a process of this app which does not exist yet.
    Start {
        /// What it is made from.
        spec: Arc<AppSpec>,
        /// Which of the app's processes.
        instance: u32,
    },
    /// Restart this process with what may be a new spec.
    Restart {
        /// Which.
        id: PmId,
        /// What it is made from now.
        spec: Arc<AppSpec>,
        /// Which of the app's processes.
        instance: u32,
    },
    /// End this process: its app wants fewer.
    Remove {
        /// Which.
        id: PmId,
    },
}

/// Why nothing of what was wanted is done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Two services of one type.
    #[error("`{wanted}` and the running app `{running}` both serve `{what}`")]
    Type {
        /// The new app.
        wanted: String,
        /// The one that runs.
        running: String,
        /// Their service type.
        what: String,
    },
    /// Two services on one port.
    #[error("`{wanted}` and the running app `{running}` both want port {port}")]
    Port {
        /// The new app.
        wanted: String,
        /// The one that runs.
        running: String,
        /// Their port.
        port: u16,
    },
}

/// What to do so that the wanted apps run; apps that are not named are left alone.
///
/// Processes of a known name are restarted with the new spec, missing ones are started, surplus
/// ones are removed (`reference/pm2.md` §2.5; `instances` follows the file).
///
/// # Errors
/// When a wanted service has the type or the port of a running app of another name.
pub fn start(snapshot: &Snapshot, wanted: Vec<Arc<AppSpec>>) -> Result<Vec<Step>, PlanError> {
    let names: BTreeSet<_> = wanted.iter().map(|spec| spec.name.clone()).collect();
    for spec in &wanted {
        let Some(mcp) = &spec.mcp else { continue };
        for process in &snapshot.processes {
            let Some(theirs) = &process.spec.mcp else {
                continue;
            };
            if names.contains(&process.spec.name) {
                continue;
            }
            let (wanted, running) = (spec.name.to_string(), process.spec.name.to_string());
            if theirs.service == mcp.service {
                return Err(PlanError::Type {
                    wanted,
                    running,
                    what: mcp.service.to_string(),
                });
            }
            if theirs.port == mcp.port {
                return Err(PlanError::Port {
                    wanted,
                    running,
                    port: mcp.port.get(),
                });
            }
        }
    }
    let mut known: BTreeMap<_, Vec<PmId>> = BTreeMap::new();
    for process in &snapshot.processes {
        if names.contains(&process.spec.name) {
            known
                .entry(process.spec.name.clone())
                .or_default()
                .push(process.id);
        }
    }
    let mut steps = Vec::new();
    for spec in wanted {
        let existing = known.entry(spec.name.clone()).or_default();
        for instance in 0..spec.instances {
            let spec = spec.clone();
            steps.push(if existing.is_empty() {
                Step::Start { spec, instance }
            } else {
                Step::Restart {
                    id: existing.remove(0),
                    spec,
                    instance,
                }
            });
        }
    }
    steps.extend(known.into_values().flatten().map(|id| Step::Remove { id }));
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::snapshot::Process;
    use crate::supervisor::testing;

    fn running(names: &[&str]) -> Snapshot {
        let process = |(id, name): (usize, &&str)| {
            let id = PmId(u32::try_from(id).unwrap());
            Arc::new(Process::registered(id, 0, Arc::new(testing::spec(name))))
        };
        Snapshot {
            processes: names.iter().enumerate().map(process).collect(),
        }
    }

    fn wanted(name: &str, instances: u32) -> Arc<AppSpec> {
        Arc::new(AppSpec {
            instances,
            ..testing::spec(name)
        })
    }

    fn check(snapshot: &Snapshot, specs: Vec<Arc<AppSpec>>, expected: &[&str]) {
        let word = |step: &Step| match step {
            Step::Start { spec, instance } => format!("start {} {instance}", spec.name),
            Step::Restart { id, instance, .. } => format!("restart {id} {instance}"),
            Step::Remove { id } => format!("remove {id}"),
        };
        let steps = start(snapshot, specs).unwrap();
        assert_eq!(steps.iter().map(word).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn known_names_are_restarted_and_missing_ones_started() {
        check(
            &running(&["a", "b"]),
            vec![wanted("b", 1), wanted("c", 1)],
            &["restart 1 0", "start c 0"],
        );
    }

    #[test]
    fn instances_follow_the_file() {
        check(
            &running(&["a"]),
            vec![wanted("a", 2)],
            &["restart 0 0", "start a 1"],
        );
        check(
            &running(&["a", "a"]),
            vec![wanted("a", 1)],
            &["restart 0 0", "remove 1"],
        );
    }

    #[test]
    fn two_entries_of_one_name_make_two_processes() {
        check(
            &running(&[]),
            vec![wanted("a", 1), wanted("a", 1)],
            &["start a 0", "start a 0"],
        );
    }
}
