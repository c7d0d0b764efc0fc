//! Log files that were put aside: found, compressed, deleted, off the thread that captures.
//!
//! One thread at low priority for the whole daemon. What is to be done is decided anew each time
//! from what is in the folder (`rotate.rs`), so nothing has to be remembered: an order that was
//! dropped, or work that a dead daemon left half done, is done with the next one. A compressed file
//! takes its name when it is whole and on the disk; only then the first one goes.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::rotate::{self, Form, Mark, Policy};
use crate::failpoint;

/// Orders that may wait: one for each log that is put aside while another one is compressed.
const ORDERS: usize = 1024;
/// Lowers the thread's priority: services and requests come first.
const NICE: i32 = 10;

/// Handle to the thread.
#[derive(Clone, Debug)]
pub struct Tidier(SyncSender<(PathBuf, Policy)>);

impl Tidier {
    /// Starts the thread; it ends with the last handle.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start() -> io::Result<Self> {
        let (sender, orders) = sync_channel(ORDERS);
        std::thread::Builder::new()
            .name("mcpm-tidy".into())
            .spawn(move || serve(&orders))?;
        Ok(Self(sender))
    }

    /// Has what was put aside of this log looked after. Never waits.
    pub fn tidy(&self, log: PathBuf, policy: Policy) {
        // When too many wait, this one is done the next time that its log is put aside.
        let _ = self.0.try_send((log, policy));
    }
}

fn serve(orders: &Receiver<(PathBuf, Policy)>) {
    // Of this thread alone, on Linux (nice(2)). At usual priority it works, too.
    let _ = rustix::process::nice(NICE);
    while let Ok(first) = orders.recv() {
        // A log that floods is looked after once for all its orders.
        let mut wanted = HashMap::from([first]);
        wanted.extend(orders.try_iter());
        for (log, policy) in wanted {
            if let Err(error) = tidy(&log, &policy) {
                tracing::warn!(
                    file = %log.display(), %error,
                    "cannot compress or delete what was put aside of a log"
                );
            }
        }
    }
}

fn tidy(log: &Path, policy: &Policy) -> io::Result<()> {
    loop {
        let tidying = rotate::tidy(policy, found(log)?);
        for (mark, form) in &tidying.delete {
            std::fs::remove_file(path(log, mark, *form))?;
        }
        // One at a time: meanwhile more may have come, and the oldest have to go.
        let Some(mark) = tidying.compress.first() else {
            return Ok(());
        };
        compress(log, mark)?;
    }
}

fn compress(log: &Path, mark: &Mark) -> io::Result<()> {
    let plain = path(log, mark, Form::Plain);
    let unfinished = path(log, mark, Form::Unfinished);
    let from = File::open(&plain)?;
    let meta = from.metadata()?;
    let into = File::options()
        .write(true)
        .create_new(true)
        .mode(meta.permissions().mode() & 0o777)
        .open(&unfinished)?;
    let mut encoder = GzEncoder::new(into, Compression::new(4));
    io::copy(&mut BufReader::with_capacity(64 * 1024, from), &mut encoder)?;
    failpoint::reach("rotate.compressing");
    let mut into = encoder.finish()?;
    into.flush()?;
    // For people, who look for a time; not worth failing for.
    let _ = into.set_modified(meta.modified()?);
    into.sync_all()?;
    std::fs::rename(&unfinished, path(log, mark, Form::Compressed))?;
    failpoint::reach("rotate.compressed");
    std::fs::remove_file(plain)
}

/// What is there of a log that was put aside, in no order.
///
/// # Errors
/// When the folder can't be read.
pub fn found(log: &Path) -> io::Result<Vec<(Mark, Form)>> {
    let (folder, file) = parts(log);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        found.extend(rotate::parse(&file, &name.to_string_lossy()));
    }
    Ok(found)
}

/// Where a file that was put aside of this log is.
pub fn path(log: &Path, mark: &Mark, form: Form) -> PathBuf {
    let (folder, file) = parts(log);
    folder.join(rotate::name(&file, mark, form))
}

fn parts(log: &Path) -> (&Path, String) {
    let folder = log.parent().unwrap_or(Path::new("/"));
    let file = log.file_name().unwrap_or_default();
    (folder, file.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::config::spec::RotateSpec;

    #[test]
    fn what_was_put_aside_is_compressed_and_the_oldest_go() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("a.log");
        let mut marks = Vec::new();
        for content in ["one", "two", "three"] {
            let mark = Mark::next(marks.last(), "2026-11-25_14-03-59");
            std::fs::write(path(&log, &mark, Form::Plain), content).unwrap();
            marks.push(mark);
        }
        // Left by a daemon that died.
        std::fs::write(path(&log, &marks[1], Form::Unfinished), "half").unwrap();
        let app = RotateSpec {
            retain: Some(2),
            ..RotateSpec::default()
        };
        tidy(&log, &Policy::of(app, RotateSpec::default())).unwrap();
        let mut left = found(&log).unwrap();
        left.sort();
        let compressed = |mark: &Mark| (mark.clone(), Form::Compressed);
        assert_eq!(left, [compressed(&marks[1]), compressed(&marks[2])]);
        let file = File::open(path(&log, &marks[2], Form::Compressed)).unwrap();
        let mut text = String::new();
        flate2::read::GzDecoder::new(file)
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "three");
    }
}
