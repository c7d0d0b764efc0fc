//! CPU and memory of processes, sampled when somebody looks. Limits are `memory_guard.rs`'s.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

/// One sample.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Resident bytes of the root process.
    pub memory: u64,
    /// Percent of one core since the sample before.
    pub cpu: f32,
}

/// Takes samples; keeps the last ones, since CPU use is a difference.
#[derive(Clone)]
pub struct Sampler(Arc<Mutex<Option<System>>>);

impl Default for Sampler {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(System::new().ok())))
    }
}

impl Sampler {
    /// Looks at these processes now.
    pub async fn sample(&self, pids: Vec<u32>) -> HashMap<u32, Usage> {
        let system = self.0.clone();
        let look = move || {
            let mut system = system.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(system) = system.as_mut() else {
                return HashMap::new();
            };
            let wanted: Vec<Pid> = pids.iter().map(|&pid| Pid::from_u32(pid)).collect();
            let kind = ProcessRefreshKind::nothing()
                .with_cpu()
                .with_memory()
                .without_tasks();
            system.refresh_processes_specifics(ProcessesToUpdate::Some(&wanted), true, kind);
            let usage = |pid: Pid| {
                let process = system.process(pid)?;
                let usage = Usage {
                    memory: process.memory(),
                    cpu: process.cpu_usage(),
                };
                Some((pid.as_u32(), usage))
            };
            wanted.into_iter().filter_map(usage).collect()
        };
        tokio::task::spawn_blocking(look).await.unwrap_or_default()
    }
}
