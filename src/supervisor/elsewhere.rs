//! What runs of this home although no row names it: an app is not started beside its own lost copy.

use std::collections::BTreeSet;

use super::adopt::{self, Unlisted};
use super::journal::{Left, Row};
use super::kill::Handle;
use super::proc;
use crate::home::Home;
use crate::ids::{AppName, PmId};

/// Processes that an earlier daemon has started, and of which nobody knows more. Mostly there are none.
#[derive(Debug, Default)]
pub struct Elsewhere {
    lost: Vec<(String, Handle)>,
    /// Those that rows name are told from others by better signs.
    listed: BTreeSet<PmId>,
}

impl Elsewhere {
    /// Of these only those count that say themselves which app they are.
    pub fn new(rows: &[Row], unlisted: &[Unlisted]) -> Self {
        let lost = |Unlisted { pid, app }: &Unlisted| {
            let handle = Handle::open(*pid, None).ok()?;
            let is_named = proc::variable(*pid, "name").is_some_and(|name| name == *app);
            is_named.then(|| (app.clone(), handle))
        };
        Self {
            lost: unlisted.iter().filter_map(lost).collect(),
            listed: rows.iter().map(|row| row.id).collect(),
        }
    }

    /// The pid of a copy that lives of what is to be started under a new number.
    pub fn copy_of(&self, id: PmId, name: &AppName) -> Option<u32> {
        if self.listed.contains(&id) {
            return None;
        }
        let is_copy =
            |(app, handle): &&(String, Handle)| app == name.as_str() && !handle.life().has_ended();
        self.lost
            .iter()
            .find(is_copy)
            .map(|(_, handle)| handle.pid())
    }
}

/// Looks for what an earlier daemon left running and no row names; says so in the log, and to whom it
/// may concern. `None` when the search itself has failed, which is a bug.
pub async fn look(left: Left, home: &Home) -> Option<(Left, Elsewhere, Option<String>)> {
    let (path, run_dir) = (home.path().to_owned(), home.run_dir());
    let look = move || {
        let found = adopt::unlisted(&left.rows, &path, &run_dir, &left.home_id);
        let elsewhere = Elsewhere::new(&left.rows, &found);
        (left, elsewhere, adopt::warning(&found))
    };
    let found = tokio::task::spawn_blocking(look).await.ok()?;
    if let (_, _, Some(warning)) = &found {
        tracing::warn!("{warning}");
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_copy_counts_while_it_lives_and_says_what_it_is() {
        let mut child = Command::new("/bin/sleep");
        let mut child = child.arg("1000").env("name", "web").spawn().unwrap();
        let pid = child.id();
        let unlisted = |app: &str| Unlisted {
            pid,
            app: app.to_owned(),
        };
        let elsewhere = Elsewhere::new(&[], &[unlisted("web"), unlisted("sleep")]);
        let name = |text: &str| AppName::parse(text).unwrap();
        assert_eq!(elsewhere.copy_of(PmId(0), &name("web")), Some(pid));
        assert_eq!(elsewhere.copy_of(PmId(0), &name("sleep")), None);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(elsewhere.copy_of(PmId(0), &name("web")), None);
    }
}
