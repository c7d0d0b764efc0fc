//! `jlist`, as tests read it.

use std::ops::Index;

use serde_json::Value;

/// The processes, by name.
#[derive(Debug)]
pub(crate) struct List(Vec<Process>);

/// One process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) name: String,
    pub(crate) id: u64,
    pub(crate) pid: u32,
    pub(crate) status: String,
    pub(crate) restarts: u64,
    /// Of services only.
    pub(crate) readiness: Option<String>,
    /// The whole entry.
    pub(crate) raw: Value,
}

impl List {
    /// Reads what `jlist` printed.
    #[track_caller]
    pub(crate) fn parse(text: &str) -> Self {
        let entries: Vec<Value> = serde_json::from_str(text).expect("`jlist` prints a JSON array");
        Self(entries.into_iter().map(Process::read).collect())
    }

    /// The only process of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&Process> {
        self.0.iter().find(|process| process.name == name)
    }

    /// All of them, by pm_id.
    pub(crate) fn all(&self) -> &[Process] {
        &self.0
    }
}

impl Index<&str> for List {
    type Output = Process;

    #[track_caller]
    fn index(&self, name: &str) -> &Process {
        self.get(name)
            .unwrap_or_else(|| panic!("no process is called {name}: {self:#?}"))
    }
}

impl Process {
    fn read(raw: Value) -> Self {
        let text = |at: &str| raw.pointer(at).and_then(Value::as_str).map(str::to_owned);
        let number = |at: &str| raw.pointer(at).and_then(Value::as_u64).unwrap_or(0);
        Self {
            name: text("/name").unwrap_or_default(),
            id: number("/pm_id"),
            pid: u32::try_from(number("/pid")).unwrap_or(0),
            status: text("/pm2_env/status").unwrap_or_default(),
            restarts: number("/pm2_env/restart_time"),
            readiness: text("/mcpm/health/readiness"),
            raw,
        }
    }

    /// Runs, and if it is a service, answers.
    pub(crate) fn is_up(&self) -> bool {
        self.status == "online"
            && self
                .readiness
                .as_deref()
                .is_none_or(|readiness| readiness == "ready")
    }
}
