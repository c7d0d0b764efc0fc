//! The variables that a child gets from us (pure).
//!
//! Those that PM2's children read, our own `MCPM_…`, nothing else. Ours win
//! over what the app's own environment says under these names.

use std::collections::BTreeMap;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::snapshot::Process;
use crate::config::spec::{Env, ExecMode};
use crate::ids::PmId;

/// Names the process so that a daemon that lost its row finds it: `MCPM_PROCESS`.
pub const PROCESS_VARIABLE: &str = "MCPM_PROCESS";
/// What the router repeats to the service as `X-MCPM-Router-Secret`.
pub const ROUTER_SECRET_VARIABLE: &str = "MCPM_ROUTER_SECRET";
/// Tells our own bridges that private addresses may be called.
pub const ALLOW_PRIVATE_VARIABLE: &str = "MCPM_ALLOW_PRIVATE";

/// The value of [`PROCESS_VARIABLE`] for one run.
pub fn run_name(home_id: &str, id: PmId, generation: u64) -> String {
    format!("{home_id}.{id}.{generation}")
}

/// Process and generation of a run of this home; `None` when the name is not of this home.
pub fn numbers(home_id: &str, run: &str) -> Option<(PmId, u64)> {
    let numbers = run.strip_prefix(home_id)?.strip_prefix('.')?;
    let (id, generation) = numbers.split_once('.')?;
    Some((PmId(id.parse().ok()?), generation.parse().ok()?))
}

/// PM2's `unique_id`, a UUID (version 8 of RFC 9562 §5.8): another one for each run, and the same one
/// under the next daemon.
pub fn unique_id(home_id: &str, id: PmId, generation: u64) -> String {
    let hash = Sha256::digest(run_name(home_id, id, generation));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex = data_encoding::HEXLOWER.encode(&bytes);
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

/// Our own variables of one run.
pub fn own(
    process: &Process,
    home: &Path,
    home_id: &str,
    router_secret: Option<&str>,
) -> BTreeMap<String, String> {
    let spec = &process.spec;
    let mut env = BTreeMap::new();
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mode = match spec.exec_mode {
        ExecMode::ForkMode => "fork_mode",
        ExecMode::ClusterMode => "cluster_mode",
    };
    let mut set = |name: &str, value: String| drop(env.insert(name.to_owned(), value));
    set("pm_id", process.id.to_string());
    set("name", spec.name.to_string());
    set("namespace", spec.namespace.clone());
    set(&spec.instance_var, process.instance.to_string());
    if let Some((name, value)) = spec.incremented(process.instance) {
        set(name, value);
    }
    set("instances", spec.instances.to_string());
    set("exec_mode", mode.to_owned());
    set("PM2_HOME", text(home));
    set("unique_id", process.unique_id.clone());
    set("pm_exec_path", text(&spec.program.script));
    set("pm_cwd", text(&spec.cwd));
    set("pm_pid_path", text(&process.pid_file));
    for (name, path) in [
        ("pm_out_log_path", &process.logs.out),
        ("pm_err_log_path", &process.logs.error),
        ("pm_log_path", &process.logs.combined),
    ] {
        if let Some(path) = path {
            set(name, text(path));
        }
    }
    let run = run_name(home_id, process.id, process.generation);
    set(PROCESS_VARIABLE, run);
    if let Some(secret) = router_secret {
        set(ROUTER_SECRET_VARIABLE, secret.to_owned());
    }
    if spec.mcp.as_ref().is_some_and(|mcp| mcp.allow_private) {
        set(ALLOW_PRIVATE_VARIABLE, "1".to_owned());
    }
    env
}

/// All variables of a run: those of its spec, and ours before them.
pub fn all<'a>(spec: &'a Env, own: &'a BTreeMap<String, String>) -> BTreeMap<&'a str, &'a str> {
    let own = own.iter();
    let own = own.map(|(name, value)| (name.as_str(), value.as_str()));
    // What comes later wins.
    spec.iter().chain(own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::testing;
    use std::sync::Arc;

    #[test]
    fn a_variable_counts_up_from_process_to_process() {
        for (given, instance, expected) in [
            (Some("3000"), 0, "3000"),
            (Some("3000"), 2, "3002"),
            (None, 1, "1"),
            (Some("http"), 1, "1"),
        ] {
            let mut spec = testing::spec("web");
            spec.increment_var = Some("PORT".into());
            spec.env.merge(given.map(|value| ("PORT", value)));
            let process = Process::registered(PmId(0), instance, Arc::new(spec));
            let env = own(&process, Path::new("/h"), "cafe", None);
            assert_eq!(env.get("PORT").map(String::as_str), Some(expected));
        }
    }

    #[test]
    fn a_name_tells_its_numbers_to_its_home() {
        assert_eq!(run_name("cafe", PmId(3), 12), "cafe.3.12");
        assert_eq!(numbers("cafe", "cafe.3.12"), Some((PmId(3), 12)));
        for other in [
            "beef.3.12",
            "cafe3.12",
            "cafe.3",
            "cafe.a.1",
            "cafe.1.2.3",
            "0.1",
            "",
        ] {
            assert_eq!(numbers("cafe", other), None, "{other}");
        }
    }

    #[test]
    fn each_run_has_a_uuid_of_its_own() {
        let id = |generation| unique_id("cafe", PmId(3), generation);
        assert_eq!(id(1), id(1));
        assert_ne!(id(1), id(2));
        let text = id(1);
        let lengths: Vec<usize> = text.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert_eq!(&text[14..15], "8");
    }

    #[test]
    fn ours_win_and_the_apps_own_stay() {
        let mut spec = testing::spec("web");
        spec.env.set("name", "mine");
        spec.env.set("KEPT", "1");
        let mut process = Process::registered(PmId(4), 2, Arc::new(spec));
        process.generation = 9;
        let own = own(&process, Path::new("/h"), "cafe", Some("s"));
        let env = all(&process.spec.env, &own);
        let get = |name: &str| env.get(name).copied();
        assert_eq!(get("name"), Some("web"));
        assert_eq!(get("KEPT"), Some("1"));
        assert_eq!(get("NODE_APP_INSTANCE"), Some("2"));
        assert_eq!(get("MCPM_PROCESS"), Some("cafe.4.9"));
        assert_eq!(get("MCPM_ROUTER_SECRET"), Some("s"));
        assert_eq!(get("pm_exec_path"), Some("/bin/sleep"));
    }
}
