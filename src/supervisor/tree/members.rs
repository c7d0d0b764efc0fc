//! Which process is of which run (pure): what `/proc` has shown goes in, and who says or holds what.

use std::collections::HashMap;

use super::super::proc::Stat;

/// A run that is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run<'a> {
    pub(super) root: u32,
    pub(super) start_time: u64,
    pub(super) name: &'a str,
    pub(super) is_whole: bool,
}

/// What was started before the first of these runs has no lock of theirs.
pub(super) fn since(runs: &[Run<'_>]) -> u64 {
    let started = runs.iter().map(|run| run.start_time);
    started.min().unwrap_or(u64::MAX)
}

/// The root has ended.
pub(super) fn is_over(table: &HashMap<u32, Stat>, run: &Run<'_>) -> bool {
    let stat = table.get(&run.root);
    stat.is_none_or(|stat| stat.start_time != run.start_time || stat.state == b'Z')
}

/// Who is whose: the members of each run, by the run's root, without the root. `in_groups`: the
/// roots of what is in the control groups of whole runs; `name`: the run that a process says it is of;
/// `holds`: the root of the run whose lock it has.
pub(super) fn members(
    table: &HashMap<u32, Stat>,
    runs: &[Run<'_>],
    in_groups: &HashMap<u32, u32>,
    own: u32,
    name: impl Fn(u32) -> Option<String>,
    holds: impl Fn(u32, &Stat) -> Option<u32>,
) -> HashMap<u32, Vec<u32>> {
    // A number that has a new owner was given up by the group and the session of the old one.
    let is_others = |run: &Run<'_>| {
        let stat = table.get(&run.root);
        stat.is_some_and(|stat| stat.start_time != run.start_time)
    };
    let by_root: HashMap<u32, Run<'_>> = runs
        .iter()
        .filter(|run| !is_others(run))
        .map(|run| (run.root, *run))
        .collect();
    let by_name: HashMap<&str, u32> = runs
        .iter()
        .filter(|run| run.is_whole)
        .map(|run| (run.name, run.root))
        .collect();
    let says = |pid: u32, stat: &Stat| match by_root.get(&stat.session) {
        _ if pid == own => Some(Whose::Nobodys),
        _ if in_groups.contains_key(&pid) => in_groups.get(&pid).copied().map(Whose::Of),
        Some(run) if run.is_whole || stat.group == run.root => Some(Whose::Of(run.root)),
        _ if by_name.is_empty() => Some(Whose::Nobodys),
        // The name of a run that nobody asks for is an answer, too.
        _ => {
            let root = |name: String| by_name.get(name.as_str()).copied();
            name(pid).map(|name| root(name).map_or(Whose::Others, Whose::Of))
        }
    };
    let locked = |pid: u32, stat: &Stat| {
        if pid == own {
            return Some(Whose::Nobodys);
        }
        holds(pid, stat).map(Whose::Of)
    };
    let (mut known, mut held) = (HashMap::new(), HashMap::new());
    let mut found: HashMap<u32, Vec<u32>> = HashMap::new();
    for (&pid, stat) in table {
        let whose = match whose(pid, table, &mut known, says) {
            Whose::Nobodys if !by_name.is_empty() => whose(pid, table, &mut held, locked),
            said => said,
        };
        if let Whose::Of(root) = whose
            && root != pid
            && stat.state != b'Z'
        {
            found.entry(root).or_default().push(pid);
        }
    }
    found
}

#[derive(Clone, Copy)]
enum Whose {
    /// Of the run with this root.
    Of(u32),
    /// Of a run that is not asked for.
    Others,
    /// Nothing says whose.
    Nobodys,
}

/// The first of a process and its ancestors that says whose it is decides for it.
fn whose(
    pid: u32,
    table: &HashMap<u32, Stat>,
    known: &mut HashMap<u32, Whose>,
    says: impl Fn(u32, &Stat) -> Option<Whose>,
) -> Whose {
    let mut path = Vec::new();
    let mut at = pid;
    let whose = loop {
        if let Some(&whose) = known.get(&at) {
            break whose;
        }
        let Some(stat) = table.get(&at) else {
            break Whose::Nobodys;
        };
        path.push(at);
        if let Some(whose) = says(at, stat) {
            break whose;
        }
        // A circle cannot be, but what was read was not read at one moment.
        if path.contains(&stat.parent) {
            break Whose::Nobodys;
        }
        at = stat.parent;
    };
    known.extend(path.into_iter().map(|pid| (pid, whose)));
    whose
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAEMON: u32 = 2;

    fn stat(parent: u32, group: u32, session: u32) -> Stat {
        Stat {
            state: b'S',
            parent,
            group,
            session,
            start_time: 100,
            resident_pages: 0,
            exit_status: 0,
        }
    }

    fn run(root: u32, name: &str) -> Run<'_> {
        Run {
            root,
            start_time: 100,
            name,
            is_whole: true,
        }
    }

    /// A service 10 with a child 11 in its group, 12 in a group and 13 in a session of its own, 14
    /// as a child of that one, 15 that has left all parents, 16 that has cleared its environment,
    /// too; another service 20 with a child 21; and a shell 30.
    fn table() -> HashMap<u32, Stat> {
        HashMap::from([
            (DAEMON, stat(1, 2, 2)),
            (10, stat(DAEMON, 10, 10)),
            (11, stat(10, 10, 10)),
            (12, stat(11, 12, 10)),
            (13, stat(10, 13, 13)),
            (14, stat(13, 14, 14)),
            (15, stat(DAEMON, 15, 15)),
            (16, stat(DAEMON, 16, 16)),
            (20, stat(DAEMON, 20, 20)),
            (21, stat(20, 21, 21)),
            (30, stat(1, 30, 30)),
        ])
    }

    fn name(pid: u32) -> Option<String> {
        let name = match pid {
            10..=13 | 15 => "cafe.0.1",
            20 => "cafe.1.1",
            _ => return None,
        };
        Some(name.to_owned())
    }

    fn no_lock(_: u32, _: &Stat) -> Option<u32> {
        None
    }

    fn of(root: u32, table: &HashMap<u32, Stat>, runs: &[Run<'_>]) -> Vec<u32> {
        let mut found = members(table, runs, &HashMap::new(), DAEMON, name, no_lock);
        let mut found = found.remove(&root).unwrap_or_default();
        found.sort_unstable();
        found
    }

    #[test]
    fn what_has_left_the_group_is_found_by_session_parent_and_name() {
        let runs = [run(10, "cafe.0.1"), run(20, "cafe.1.1")];
        assert_eq!(of(10, &table(), &runs), [11, 12, 13, 14, 15]);
        assert_eq!(of(20, &table(), &runs), [21]);
        let mut dead = table();
        dead.remove(&10);
        dead.insert(13, stat(DAEMON, 13, 13));
        assert_eq!(of(10, &dead, &runs[..1]), [11, 12, 13, 14, 15]);
    }

    #[test]
    fn the_group_alone_is_what_its_number_says() {
        let group = Run {
            is_whole: false,
            ..run(10, "cafe.0.1")
        };
        assert_eq!(of(10, &table(), &[group]), [11]);
        let runs = [group, run(20, "cafe.1.1")];
        assert_eq!(of(10, &table(), &runs), [11]);
        assert_eq!(of(20, &table(), &runs), [21]);
    }

    #[test]
    fn another_run_or_a_new_owner_of_the_number_is_left_alone() {
        assert_eq!(of(10, &table(), &[run(10, "cafe.0.2")]), [11, 12]);
        let mut reused = table();
        reused.insert(
            10,
            Stat {
                start_time: 101,
                ..stat(1, 10, 10)
            },
        );
        assert_eq!(
            of(10, &reused, &[run(10, "cafe.0.1")]),
            [11, 12, 13, 14, 15]
        );
        let strangers = |_: u32| None;
        let (runs, nothing) = ([run(10, "cafe.0.1")], HashMap::new());
        let found = members(&reused, &runs, &nothing, DAEMON, strangers, no_lock);
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn what_nothing_else_tells_of_is_known_by_the_lock() {
        let mut table = table();
        // A child of 16 that has closed its descriptors; what is of another home, and a child of
        // that with a clear environment.
        table.insert(17, stat(16, 17, 17));
        table.insert(50, stat(DAEMON, 50, 50));
        table.insert(51, stat(50, 51, 51));
        let name = |pid| match pid {
            50 => Some("beef.0.1".to_owned()),
            _ => name(pid),
        };
        let holds = |pid: u32, _: &Stat| [DAEMON, 10, 16, 50, 51].contains(&pid).then_some(10);
        let of = |runs: &[Run<'_>]| {
            let mut found = members(&table, runs, &HashMap::new(), DAEMON, name, holds);
            let mut found = found.remove(&10).unwrap_or_default();
            found.sort_unstable();
            found
        };
        let whole = run(10, "cafe.0.1");
        assert_eq!(of(&[whole]), [11, 12, 13, 14, 15, 16, 17]);
        assert_eq!(of(&[whole, run(20, "cafe.1.1")]).len(), 7);
        let group = Run {
            is_whole: false,
            ..whole
        };
        assert_eq!(of(&[group]), [11]);
    }

    #[test]
    fn a_run_is_over_when_its_root_is() {
        let it = run(10, "cafe.0.1");
        let with = |state, start_time| {
            let stat = Stat {
                state,
                start_time,
                ..stat(DAEMON, 10, 10)
            };
            is_over(&HashMap::from([(10, stat)]), &it)
        };
        assert!(!with(b'S', 100));
        assert!(with(b'Z', 100) && with(b'S', 101));
        assert!(is_over(&HashMap::new(), &it));
    }

    #[test]
    fn a_control_group_knows_what_nothing_else_shows() {
        let runs = [run(10, "cafe.0.1"), run(20, "cafe.1.1")];
        // 16 has cleared its environment, 21 is a child of the other service, and has moved.
        let in_groups = HashMap::from([(10, 10), (16, 10), (21, 10), (DAEMON, 10)]);
        let mut found = members(&table(), &runs, &in_groups, DAEMON, name, no_lock);
        let mut first = found.remove(&10).unwrap();
        first.sort_unstable();
        assert_eq!(first, [11, 12, 13, 14, 15, 16, 21]);
        assert_eq!(found.remove(&20), None);
    }

    #[test]
    fn zombies_and_circles_are_nobodys() {
        let mut table = table();
        table.insert(
            11,
            Stat {
                state: b'Z',
                ..stat(10, 10, 10)
            },
        );
        table.insert(40, stat(41, 40, 40));
        table.insert(41, stat(40, 41, 41));
        assert_eq!(of(10, &table, &[run(10, "cafe.0.1")]), [12, 13, 14, 15]);
    }
}
