//! `dump.pm2`: the saved list, in PM2's own format, so that either program brings back what the
//! other saved.
//!
//! `pm2::dump` knows the file; this side knows what its entries mean here.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::handle::Saved;
use super::snapshot::{Process, Snapshot, Status};
use crate::config::pm2_env;
use crate::pm2::dump;
pub use crate::pm2::dump::DumpError;

/// A saved list.
#[derive(Debug)]
pub struct Read {
    /// What was saved.
    pub saved: Vec<Saved>,
    /// That it is an older one, and why.
    pub warning: Option<String>,
    /// Which entries could not be read, and why.
    pub unreadable: Vec<String>,
}

/// Saves the list.
///
/// # Errors
/// When the folder can't be written; the old list is then still there.
pub fn write(path: &Path, snapshot: &Snapshot) -> io::Result<()> {
    let entries: Vec<Value> = snapshot
        .processes
        .iter()
        .map(|process| entry(process))
        .collect();
    dump::write(path, &entries)
}

fn entry(process: &Process) -> Value {
    let mut fields = pm2_env::fields(&process.spec);
    pm2_env::add_own(&mut fields, &process.spec);
    let null = PathBuf::from("/dev/null");
    let stopped = matches!(process.status, Status::Stopped);
    fields.insert(
        "status".into(),
        json!(if stopped { "stopped" } else { "online" }),
    );
    fields.insert("NODE_APP_INSTANCE".into(), json!(process.instance));
    fields.insert(
        "pm_out_log_path".into(),
        json!(process.logs.out.as_ref().unwrap_or(&null)),
    );
    fields.insert(
        "pm_err_log_path".into(),
        json!(process.logs.error.as_ref().unwrap_or(&null)),
    );
    if let Some(path) = &process.logs.combined {
        fields.insert("pm_log_path".into(), json!(path));
    }
    fields.insert("pm_pid_path".into(), json!(process.pid_file));
    fields.insert("restart_time".into(), json!(process.history.restarts));
    fields.insert("created_at".into(), json!(process.created_at.as_millis()));
    Value::Object(fields)
}

/// Reads a list, ours or PM2's; one that is broken gives way to the one before it. Entries that
/// are no apps are left out with a warning.
///
/// # Errors
/// When there is none, or neither can be read. Nothing is changed then.
pub fn read(path: &Path) -> Result<Read, DumpError> {
    let dump::Entries { entries, warning } = dump::read(path)?;
    let (mut saved, mut unreadable) = (Vec::new(), Vec::new());
    let mut leave_out = |number: usize, why: String| {
        let file = path.display();
        tracing::warn!(%file, entry = number, "an entry is not an app; left out: {why}");
        unreadable.push(format!("entry {number} of `{file}`: {why}"));
    };
    for (number, entry) in entries.iter().enumerate() {
        let Value::Object(fields) = entry else {
            leave_out(number, "it is no app".to_owned());
            continue;
        };
        if fields.get("pmx_module") == Some(&Value::Bool(true)) {
            continue;
        }
        match pm2_env::spec(fields) {
            Ok(spec) => saved.push(Saved {
                spec: Arc::new(spec),
                instance: instance(fields),
                stopped: fields.get("status").and_then(Value::as_str) == Some("stopped"),
            }),
            Err(error) => leave_out(number, error.to_string()),
        }
    }
    Ok(Read {
        saved,
        warning,
        unreadable,
    })
}

fn instance(fields: &Map<String, Value>) -> u32 {
    let number = fields.get("NODE_APP_INSTANCE").and_then(Value::as_u64);
    number
        .and_then(|number| u32::try_from(number).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::PmId;
    use crate::supervisor::testing;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_was_saved_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dump.pm2");
        let mut spec = testing::spec("a");
        spec.env.set("SECRET_KEY", "s");
        let process = Process::registered(PmId(3), 1, Arc::new(spec.clone()));
        write(
            &path,
            &Snapshot {
                processes: vec![Arc::new(process)],
            },
        )
        .unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let Read { saved, warning, .. } = read(&path).unwrap();
        assert_eq!(warning, None);
        assert_eq!((saved[0].instance, saved[0].stopped), (1, true));
        assert_eq!(*saved[0].spec, spec);
    }

    #[test]
    fn a_broken_list_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dump.pm2");
        assert!(matches!(read(&path), Err(DumpError::Missing(_))));
        std::fs::write(&path, "[{").unwrap();
        assert!(matches!(read(&path), Err(DumpError::Broken { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"[{");
    }

    #[test]
    fn a_broken_list_gives_way_to_the_one_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dump.pm2");
        let process = Process::registered(PmId(3), 1, Arc::new(testing::spec("a")));
        let snapshot = Snapshot {
            processes: vec![Arc::new(process)],
        };
        write(&path, &snapshot).unwrap();
        write(&path, &snapshot).unwrap();
        for (text, why) in [
            ("", "it is cut off"),
            ("[{", "it is cut off"),
            ("[1 2]", "it is no JSON at line 1, column 4"),
            (
                "{\"apps\": []}",
                "it holds an object in place of a list of apps",
            ),
            ("3", "it holds a single value in place of a list of apps"),
        ] {
            std::fs::write(&path, text).unwrap();
            let Read { saved, warning, .. } = read(&path).unwrap();
            assert_eq!(saved.len(), 1);
            let warning = warning.unwrap();
            assert!(
                warning.contains(why) && warning.contains("dump.pm2.bak"),
                "{warning}"
            );
        }
    }
}
