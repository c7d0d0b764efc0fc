//! Processes of this home that no row names: nobody is to start a second copy unknowingly.

use std::collections::BTreeMap;
use std::path::Path;

use super::super::child_env;
use super::super::journal::Row;
use super::super::proc;
use super::super::run_lock::{Locks, RunLock};
use super::holders;

/// A process of this home that no row names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unlisted {
    /// Its number.
    pub pid: u32,
    /// The app it was started as.
    pub app: String,
}

/// Those that are named in one warning.
const UNLISTED_SHOWN: usize = 10;

/// What carries this home in its environment, or holds a lock of it, and has no row: a row was lost,
/// or the process has slipped away from its app. Walks `/proc`: blocks. Call it before anything is
/// started.
pub fn unlisted(rows: &[Row], home: &Path, run_dir: &Path, home_id: &str) -> Vec<Unlisted> {
    let listed = |name: &str| {
        let id = name
            .strip_prefix(home_id)
            .and_then(|rest| rest.strip_prefix('.')?.split('.').next()?.parse().ok());
        id.is_some_and(|id: u32| rows.iter().any(|row| row.id.0 == id))
    };
    let name = format!("{}=", child_env::PROCESS_VARIABLE);
    let mut found = BTreeMap::new();
    for (pid, variable) in proc::by_environment(&name) {
        let name = variable.strip_prefix(&name).unwrap_or_default();
        // The home's own id is lost with the file; its folder is not.
        let ours = name.starts_with(&format!("{home_id}."))
            || proc::variable(pid, "PM2_HOME").is_some_and(|path| Path::new(&path) == home);
        if ours && !listed(name) && pid != std::process::id() {
            let app = proc::variable(pid, "name").unwrap_or_default();
            found.insert(pid, app);
        }
    }
    let locks = RunLock::all(run_dir);
    let without_row = locks.iter().filter(|(run, _)| !listed(run));
    let without_row = Locks::held(without_row.map(|(_, lock)| (lock, ())));
    for pid in holders(&without_row) {
        let app = || proc::command_name(pid).unwrap_or_default();
        found.entry(pid).or_insert_with(app);
    }
    // Children have it from their root, which stands for them as long as it lives.
    let root = |pid: u32| proc::stat(pid).map_or(pid, |stat| stat.session);
    found
        .iter()
        .filter(|&(&pid, _)| root(pid) == pid || !found.contains_key(&root(pid)))
        .map(|(&pid, app)| Unlisted {
            pid,
            app: app.clone(),
        })
        .collect()
}

/// Names them, so that nobody starts a second copy unknowingly; `None` when there are none.
pub fn warning(unlisted: &[Unlisted]) -> Option<String> {
    let one = |Unlisted { pid, app }: &Unlisted| format!("{pid} (`{app}`)");
    let named: Vec<String> = unlisted.iter().take(UNLISTED_SHOWN).map(one).collect();
    let more = match unlisted.len().saturating_sub(UNLISTED_SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!named.is_empty()).then(|| {
        format!(
            "processes of this home run that no list names: pid {}{more}; end them before their \
             apps are started again, or there are two of each",
            named.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_list_names_is_named_by_pid_and_app() {
        assert_eq!(warning(&[]), None);
        let one = |pid| Unlisted {
            pid,
            app: "web".into(),
        };
        let said = warning(&[one(7), one(8)]).unwrap();
        assert!(said.contains("pid 7 (`web`), 8 (`web`); end"), "{said}");
        let many: Vec<Unlisted> = (0..12).map(one).collect();
        assert!(warning(&many).unwrap().contains("9 (`web`) and 2 more"));
    }
}
