//! Wanted specs and the running table → steps (pure). Planning chooses; `actor.rs` obeys.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::snapshot::{Process, Snapshot, Status};
use crate::config::AppSpec;
use crate::ids::{AppName, PmId};

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
    /// It is what was wanted, unless its next run is to be made from something else.
    Keep {
        /// Which.
        id: PmId,
        /// What it is made from.
        spec: Arc<AppSpec>,
        /// Which of the app's processes.
        instance: u32,
    },
    /// Leave this process stopped (`autostart: false`); a later start makes it from this.
    Leave {
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
    /// A second process of a service.
    #[error("`{0}` is a service: one process serves all users on its fixed port")]
    OneOnly(String),
    /// Fewer than one.
    #[error("`{name}` has {now}: `-{fewer}` leaves none; `mcpm delete {name}` forgets it")]
    NoneLeft {
        /// The app.
        name: String,
        /// How many it has.
        now: u32,
        /// How many fewer it was to have.
        fewer: u32,
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
/// ones are removed (as in PM2; `instances` follows the file). What has `autostart: false` and is
/// stopped stays so. What runs already is spared when it is made from the same spec and that is wished.
///
/// # Errors
/// When a wanted service has the type or the port of a running app of another name.
pub fn start(
    snapshot: &Snapshot,
    wanted: Vec<Arc<AppSpec>>,
    spares: bool,
) -> Result<Vec<Step>, PlanError> {
    clash(snapshot, &wanted)?;
    let names: BTreeSet<_> = wanted.iter().map(|spec| spec.name.clone()).collect();
    let mut known: BTreeMap<_, VecDeque<&Arc<Process>>> = BTreeMap::new();
    for process in &snapshot.processes {
        if names.contains(&process.spec.name) {
            known
                .entry(process.spec.name.clone())
                .or_default()
                .push_back(process);
        }
    }
    let mut steps = Vec::new();
    // Apps of one name count on, as in PM2.
    let mut counts: BTreeMap<AppName, u32> = BTreeMap::new();
    for spec in wanted {
        let existing = known.entry(spec.name.clone()).or_default();
        let count = counts.entry(spec.name.clone()).or_default();
        let first = *count;
        *count = count.saturating_add(spec.instances);
        for instance in first..*count {
            let spec = spec.clone();
            steps.push(match existing.pop_front() {
                None => Step::Start { spec, instance },
                Some(process) if process.status == Status::Stopped && !spec.autostart => {
                    Step::Leave {
                        id: process.id,
                        spec,
                        instance,
                    }
                }
                Some(process) if spares && is_there(process, &spec, instance) => Step::Keep {
                    id: process.id,
                    spec,
                    instance,
                },
                Some(process) => Step::Restart {
                    id: process.id,
                    spec,
                    instance,
                },
            });
        }
    }
    let surplus = known.into_values().flatten();
    steps.extend(surplus.map(|process| Step::Remove { id: process.id }));
    Ok(steps)
}

/// It runs, or is being started, and a new start would make the same of it.
fn is_there(process: &Process, spec: &AppSpec, instance: u32) -> bool {
    matches!(process.status, Status::Online | Status::Launching)
        && process.instance == instance
        && *process.spec == *spec
}

/// What to do so that the wanted apps run beside processes of the same names, which are left alone.
/// Instance numbers are the lowest that are free.
///
/// # Errors
/// As [`start`], and when it would make a second process of a service.
pub fn start_beside(
    snapshot: &Snapshot,
    wanted: Vec<Arc<AppSpec>>,
) -> Result<Vec<Step>, PlanError> {
    clash(snapshot, &wanted)?;
    let mut taken: BTreeMap<AppName, BTreeSet<u32>> = BTreeMap::new();
    for process in &snapshot.processes {
        let name = process.spec.name.clone();
        taken.entry(name).or_default().insert(process.instance);
    }
    let mut steps = Vec::new();
    for spec in wanted {
        let taken = taken.entry(spec.name.clone()).or_default();
        if spec.mcp.is_some() && !taken.is_empty() {
            return Err(PlanError::OneOnly(spec.name.to_string()));
        }
        for _ in 0..spec.instances {
            let instance = (0..).find(|n| !taken.contains(n)).unwrap_or(u32::MAX);
            taken.insert(instance);
            let spec = spec.clone();
            steps.push(Step::Start { spec, instance });
        }
    }
    Ok(steps)
}

/// Refuses services with the type or the port of a running app of another name.
///
/// # Errors
/// What clashes with what.
pub fn clash(snapshot: &Snapshot, wanted: &[Arc<AppSpec>]) -> Result<(), PlanError> {
    let names: BTreeSet<_> = wanted.iter().map(|spec| spec.name.clone()).collect();
    for spec in wanted {
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
    Ok(())
}

/// How many processes an app is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// So many.
    Exactly(u32),
    /// So many more.
    More(u32),
    /// So many fewer; one must be left.
    Fewer(u32),
}

impl Count {
    /// Reads `3`, `+3` or `-3`.
    pub fn parse(text: &str) -> Option<Self> {
        let number = |digits: &str| {
            let plain = digits.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| digits.parse().ok()).flatten()
        };
        match text.as_bytes().first()? {
            b'+' => number(&text[1..]).map(Self::More),
            b'-' => number(&text[1..]).map(Self::Fewer),
            _ => number(text).map(Self::Exactly),
        }
    }

    fn of(self, now: u32) -> u32 {
        match self {
            Self::Exactly(count) => count,
            Self::More(count) => now.saturating_add(count),
            Self::Fewer(count) => now.saturating_sub(count),
        }
    }
}

/// What to do so that each app among these processes has so many.
///
/// New ones are made from the newest's spec and take the lowest free instance numbers; surplus
/// ones go newest first, so that the numbers that are left stay whole (PM2 removes the oldest); before
/// them those that are stopped since a sibling has their port.
///
/// # Errors
/// When it would make a second process of a service, whose port is one, or leave none of an app by
/// a number that is not 0.
pub fn scale(
    snapshot: &Snapshot,
    processes: &[PmId],
    count: Count,
) -> Result<Vec<Step>, PlanError> {
    let mut apps: BTreeMap<_, Vec<&Arc<Process>>> = BTreeMap::new();
    for process in processes.iter().filter_map(|&id| snapshot.get(id)) {
        apps.entry(&process.spec.name).or_default().push(process);
    }
    let mut steps = Vec::new();
    for (name, processes) in apps {
        let now = u32::try_from(processes.len()).unwrap_or(u32::MAX);
        let wanted = count.of(now);
        if let Count::Fewer(fewer) = count
            && wanted == 0
        {
            let name = name.to_string();
            return Err(PlanError::NoneLeft { name, now, fewer });
        }
        let Some(newest) = processes.last() else {
            continue;
        };
        if wanted > now.max(1) && newest.spec.mcp.is_some() {
            return Err(PlanError::OneOnly(name.to_string()));
        }
        let taken: BTreeSet<u32> = processes.iter().map(|process| process.instance).collect();
        let free = (0..).filter(|instance| !taken.contains(instance));
        let missing = usize::try_from(wanted.saturating_sub(now)).unwrap_or(usize::MAX);
        steps.extend(free.take(missing).map(|instance| Step::Start {
            spec: newest.spec.clone(),
            instance,
        }));
        let surplus = usize::try_from(now.saturating_sub(wanted)).unwrap_or(usize::MAX);
        // What has no port of its own does nothing anyway.
        let mut newest_first: Vec<_> = processes.iter().rev().collect();
        newest_first.sort_by_key(|process| process.unshared.is_none());
        let surplus = newest_first.into_iter().take(surplus);
        steps.extend(surplus.map(|process| Step::Remove { id: process.id }));
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;
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
            Step::Keep { id, instance, .. } => format!("keep {id} {instance}"),
            Step::Leave { id, instance, .. } => format!("leave {id} {instance}"),
            Step::Remove { id } => format!("remove {id}"),
        };
        let steps = start(snapshot, specs, false).unwrap();
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
    fn what_is_not_to_start_by_itself_is_restarted_only_when_it_runs() {
        let mut snapshot = running(&["a", "a"]);
        Arc::make_mut(&mut snapshot.processes[0]).status = Status::Online;
        let mut spec = AppSpec::clone(&wanted("a", 2));
        spec.autostart = false;
        check(&snapshot, vec![spec.into()], &["restart 0 0", "leave 1 1"]);
    }

    #[test]
    fn two_entries_of_one_name_make_two_processes() {
        check(
            &running(&[]),
            vec![wanted("a", 1), wanted("a", 1)],
            &["start a 0", "start a 1"],
        );
    }

    #[test]
    fn what_runs_from_the_same_spec_is_spared_when_that_is_wished() {
        let mut snapshot = running(&["up", "coming", "changed", "down", "other"]);
        for (at, status) in [Status::Online, Status::Launching, Status::Online]
            .into_iter()
            .enumerate()
        {
            Arc::make_mut(&mut snapshot.processes[at]).status = status;
        }
        let specs = || {
            let mut specs: Vec<_> = snapshot.processes[..4]
                .iter()
                .map(|process| process.spec.clone())
                .collect();
            let changed = Arc::make_mut(&mut specs[2]);
            changed.env.merge([("PORT", "1")]);
            specs
        };
        let word = |step: Step| match step {
            Step::Keep { id, .. } => format!("keep {id}"),
            Step::Restart { id, .. } => format!("restart {id}"),
            other => panic!("{other:?}"),
        };
        let steps = |spares| start(&snapshot, specs(), spares).unwrap().into_iter();
        let spared: Vec<_> = steps(true).map(word).collect();
        assert_eq!(spared, ["keep 0", "keep 1", "restart 2", "restart 3"]);
        assert!(
            steps(false)
                .map(word)
                .all(|step| step.starts_with("restart"))
        );
    }

    #[test]
    fn by_force_a_second_one_takes_the_next_number() {
        let steps = start_beside(&running(&["a", "b"]), vec![wanted("a", 2), wanted("c", 1)]);
        let steps: Vec<_> = steps
            .unwrap()
            .into_iter()
            .map(|step| match step {
                Step::Start { spec, instance } => format!("{} {instance}", spec.name),
                other => panic!("{other:?} touches what runs"),
            })
            .collect();
        assert_eq!(steps, ["a 1", "a 2", "c 0"]);
    }

    #[track_caller]
    fn check_scale(instances: &[u32], count: &str, expected: &[&str]) {
        let spec = wanted("a", 1);
        let process = |(id, &instance): (usize, &u32)| {
            let id = PmId(u32::try_from(id).unwrap());
            Arc::new(Process::registered(id, instance, spec.clone()))
        };
        let snapshot = Snapshot {
            processes: instances.iter().enumerate().map(process).collect(),
        };
        let ids: Vec<_> = snapshot.processes.iter().map(|p| p.id).collect();
        let steps = scale(&snapshot, &ids, Count::parse(count).unwrap()).unwrap();
        let word = |step: &Step| match step {
            Step::Start { instance, .. } => format!("start {instance}"),
            Step::Remove { id } => format!("remove {id}"),
            Step::Restart { .. } | Step::Keep { .. } | Step::Leave { .. } => {
                unreachable!("scaling restarts nothing")
            }
        };
        assert_eq!(steps.iter().map(word).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn scaling_clones_up_and_removes_the_newest_first() {
        check_scale(&[0], "3", &["start 1", "start 2"]);
        check_scale(&[0, 1], "+1", &["start 2"]);
        check_scale(&[0, 2], "+2", &["start 1", "start 3"]);
        check_scale(&[0, 1, 2], "1", &["remove 2", "remove 1"]);
        check_scale(&[0, 1], "-1", &["remove 1"]);
        check_scale(&[0, 1], "0", &["remove 1", "remove 0"]);
        check_scale(&[0, 1], "2", &[]);
        check_scale(&[], "2", &[]);
    }

    #[test]
    fn scaling_down_leaves_the_one_that_has_the_port() {
        let mut snapshot = running(&["a", "a", "a"]);
        for at in [0, 1] {
            Arc::make_mut(&mut snapshot.processes[at]).unshared = crate::ids::Port::new(3000);
        }
        let ids: Vec<_> = snapshot.processes.iter().map(|p| p.id).collect();
        let steps = scale(&snapshot, &ids, Count::Exactly(1)).unwrap();
        let removed = |id| Step::Remove { id: PmId(id) };
        assert_eq!(steps, [removed(1), removed(0)]);
    }

    #[test]
    fn scaling_down_leaves_one() {
        let snapshot = running(&["a"]);
        let ids = [snapshot.processes[0].id];
        for count in ["-1", "-9"] {
            let refused = scale(&snapshot, &ids, Count::parse(count).unwrap()).unwrap_err();
            assert!(refused.to_string().contains("leaves none"), "{refused}");
        }
    }

    #[test]
    fn counts_are_read_strictly() {
        for text in ["", "+", "x", "1.5", "--1", "+-1", "99999999999"] {
            assert_eq!(Count::parse(text), None, "{text}");
        }
    }
}
