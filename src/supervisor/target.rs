//! Which processes a word means (pure). PM2's order (`reference/pm2.md` §1.2), first match wins.

use std::path::Path;

use super::snapshot::Snapshot;
use crate::ids::PmId;

/// The processes that `word` means, by pm_id; empty when it means none.
pub fn select(snapshot: &Snapshot, word: &str) -> Vec<PmId> {
    let processes = || snapshot.processes.iter();
    if word == "all" {
        return processes().map(|process| process.id).collect();
    }
    let by = |matches: &dyn Fn(&super::snapshot::Process) -> bool| -> Vec<PmId> {
        processes()
            .filter(|process| matches(process))
            .map(|process| process.id)
            .collect()
    };
    let named = by(&|process| process.spec.name.as_str() == word);
    if !named.is_empty() {
        return named;
    }
    if let Ok(number) = word.parse() {
        let grouped = by(&|process| process.spec.namespace == word);
        return if grouped.is_empty() {
            by(&|process| process.id == PmId(number))
        } else {
            grouped
        };
    }
    let scripted = by(&|process| process.spec.program.script == Path::new(word));
    if !scripted.is_empty() {
        return scripted;
    }
    by(&|process| process.spec.namespace == word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::snapshot::Process;
    use crate::supervisor::testing;
    use std::sync::Arc;

    fn check(word: &str, expected: &[u32]) {
        let process = |id: u32, name: &str, namespace: &str| {
            let mut spec = testing::spec(name);
            spec.namespace = namespace.into();
            Arc::new(Process::registered(PmId(id), 0, Arc::new(spec)))
        };
        let snapshot = Snapshot {
            processes: vec![
                process(0, "web", "default"),
                process(1, "web", "default"),
                process(2, "api", "web"),
                process(3, "0", "default"),
                process(4, "b", "7"),
            ],
        };
        let ids: Vec<_> = select(&snapshot, word).iter().map(|id| id.0).collect();
        assert_eq!(ids, expected, "{word}");
    }

    #[test]
    fn names_come_before_namespaces_and_both_before_ids() {
        check("all", &[0, 1, 2, 3, 4]);
        check("web", &[0, 1]);
        check("default", &[0, 1, 3]);
        check("0", &[3]);
        check("2", &[2]);
        check("7", &[4]);
        check("9", &[]);
        check("nobody", &[]);
        check("/bin/sleep", &[0, 1, 2, 3, 4]);
    }
}
