//! `mcpm.pid`: which process the daemon is, for scripts.

use std::path::Path;

/// Whole from the moment it is there: scripts wait for it and read it at once. A disk without room for
/// it is no reason to leave services without a daemon.
pub(super) fn write(path: &Path) {
    let new = path.with_extension("pid.new");
    let written = || {
        std::fs::write(&new, std::process::id().to_string())?;
        std::fs::rename(&new, path)
    };
    // The old one has the room that the new one needs.
    let again = |_| {
        let _ = std::fs::remove_file(path);
        written()
    };
    if let Err(error) = written().or_else(again) {
        tracing::error!(file = %path.display(), %error, "cannot write the daemon's pid file");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_this_process_or_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mcpm.pid");
        std::fs::write(&path, "1").unwrap();
        write(&path);
        let own = std::process::id().to_string();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), own);
        // It cannot be written beside it.
        std::fs::create_dir(path.with_extension("pid.new")).unwrap();
        write(&path);
        assert!(!path.exists(), "a number of another process is worse");
    }
}
