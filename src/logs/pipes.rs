//! The FIFOs that stand between a service and the daemon.
//!
//! Named by pm_id (app names may hold slashes and emoji), mode 0600, owned by the app's user.
//! Whoever opens one opens it read-write: then the pipe always has a reader and a writer, nobody
//! gets SIGPIPE or end-of-file when the other side dies, and an open never blocks.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::config::spec::RunAs;
use crate::ids::PmId;

/// The three FIFOs of one process.
#[derive(Clone, Debug)]
pub struct Pipes {
    stdin: PathBuf,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// The service's own descriptors.
#[derive(Debug)]
pub struct ChildEnds {
    /// Never says end-of-file.
    pub stdin: OwnedFd,
    /// Standard output.
    pub stdout: OwnedFd,
    /// Standard error.
    pub stderr: OwnedFd,
}

impl Pipes {
    /// Names them; nothing is made yet.
    pub fn of(run_dir: &Path, id: PmId) -> Self {
        let path = |end: &str| run_dir.join(format!("{id}.{end}"));
        Self {
            stdin: path("in"),
            stdout: path("out"),
            stderr: path("err"),
        }
    }

    /// Where to find those that a living process writes to: by its own descriptors, when the files that
    /// they had were removed. `false` beside it when they are where they belong, or cannot be found.
    pub fn of_process(mut self, pid: u32) -> (Self, bool) {
        let mut was_removed = false;
        for (number, path) in [(1, &mut self.stdout), (2, &mut self.stderr)] {
            let own = PathBuf::from(format!("/proc/{pid}/fd/{number}"));
            let is_removed = std::fs::read_link(&own).is_ok_and(|link| is_removed(&link, path));
            if is_removed {
                *path = own;
                was_removed = true;
            }
        }
        (self, was_removed)
    }

    /// Makes those that are not there, and their folder when somebody has removed it.
    ///
    /// # Errors
    /// When the folder can't be written, or something else has the name. They name the path.
    pub fn make(&self, owner: Option<RunAs>) -> io::Result<()> {
        for path in [&self.stdin, &self.stdout, &self.stderr] {
            make(path, owner).map_err(naming(path))?;
        }
        Ok(())
    }

    /// Opens the service's side, blocking, close-on-exec. Makes those that are not there.
    ///
    /// # Errors
    /// As [`Pipes::make`], and when descriptors have run out. They name the path.
    pub fn child_ends(&self, owner: Option<RunAs>) -> io::Result<ChildEnds> {
        let open = |path: &Path| -> io::Result<OwnedFd> {
            let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let open = || rustix::fs::open(path, flags, Mode::empty());
            // Mostly it is there and ours.
            if owner.is_none()
                && let Ok(opened) = open()
                && is_fifo(&opened)
            {
                return Ok(opened);
            }
            make(path, owner).map_err(naming(path))?;
            open().map_err(|error| naming(path)(error.into()))
        };
        Ok(ChildEnds {
            stdin: open(&self.stdin)?,
            stdout: open(&self.stdout)?,
            stderr: open(&self.stderr)?,
        })
    }

    /// Opens our side of standard output or error, non-blocking.
    ///
    /// # Errors
    /// As [`Pipes::child_ends`].
    pub fn reader(&self, stream: super::Stream) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::open(self.path(stream), flags, Mode::empty())?;
        Ok(File::from(opened))
    }

    /// Which pipe our side of a stream would be: device and inode. `None` when it is not there.
    pub fn identity(&self, stream: super::Stream) -> Option<(u64, u64)> {
        let stat = rustix::fs::stat(self.path(stream)).ok()?;
        Some((stat.st_dev, stat.st_ino))
    }

    fn path(&self, stream: super::Stream) -> &Path {
        match stream {
            super::Stream::Out => &self.stdout,
            super::Stream::Error => &self.stderr,
        }
    }

    /// Writes to the service's standard input, and waits so long for it to read what is there
    /// already. Blocks. Up to 4,096 bytes arrive whole (`PIPE_BUF`, `pipe(7)`).
    ///
    /// # Errors
    /// When there is no such FIFO, or nobody reads.
    pub fn write_stdin(&self, bytes: &[u8], patience: Duration) -> io::Result<()> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let pipe = rustix::fs::open(&self.stdin, flags, Mode::empty())?;
        let patience = Timespec::try_from(patience).map_err(io::Error::other)?;
        let mut left = bytes;
        while !left.is_empty() {
            match rustix::io::write(&pipe, left) {
                Ok(written) => left = &left[written..],
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    let mut wait = [PollFd::new(&pipe, PollFlags::OUT)];
                    if rustix::event::poll(&mut wait, Some(&patience))? == 0 {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Removes them; what is open stays open.
    pub fn remove(&self) {
        for path in [&self.stdin, &self.stdout, &self.stderr] {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// This is how `/proc` names a file that had this path, and has none any more (`proc_pid_fd(5)`; pure).
fn is_removed(link: &Path, path: &Path) -> bool {
    let named = link.as_os_str().as_bytes();
    named.strip_suffix(b" (deleted)") == Some(path.as_os_str().as_bytes())
}

fn is_fifo(file: &OwnedFd) -> bool {
    let stat = rustix::fs::fstat(file);
    stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo)
}

fn make(path: &Path, owner: Option<RunAs>) -> io::Result<()> {
    let fifo = || rustix::fs::mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR);
    match fifo() {
        Ok(()) => {}
        Err(Errno::EXIST) => {
            use std::os::unix::fs::FileTypeExt;
            if !path.symlink_metadata()?.file_type().is_fifo() {
                std::fs::remove_file(path)?;
                fifo()?;
            }
        }
        Err(Errno::NOENT) => {
            use std::os::unix::fs::DirBuilderExt;
            if let Some(folder) = path.parent() {
                let mut builder = std::fs::DirBuilder::new();
                builder.recursive(true).mode(0o700).create(folder)?;
            }
            fifo()?;
        }
        Err(error) => return Err(error.into()),
    }
    if let Some(owner) = owner {
        // Else the service could not open its own `/dev/stdout`.
        std::os::unix::fs::chown(path, Some(owner.uid), Some(owner.gid))?;
    }
    Ok(())
}

/// Says of what it is told.
fn naming(path: &Path) -> impl Fn(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("`{}`: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_that_was_removed_is_found_by_who_writes_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = dir.path().canonicalize().unwrap();
        let pipes = Pipes::of(&run_dir, PmId(3));
        let ends = pipes.child_ends(None).unwrap();
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .stdout(ends.stdout)
            .spawn()
            .unwrap();
        let (same, was_removed) = pipes.clone().of_process(child.id());
        assert!(!was_removed && same.stdout == pipes.stdout);
        std::fs::remove_file(&pipes.stdout).unwrap();
        pipes.make(None).unwrap();
        let (found, was_removed) = pipes.of_process(child.id());
        let mut reader = found.reader(crate::logs::Stream::Out).unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"said").unwrap();
        child.wait().unwrap();
        let mut said = [0; 4];
        std::io::Read::read_exact(&mut reader, &mut said).unwrap();
        assert!(was_removed && said == *b"said");
    }

    #[test]
    fn a_folder_that_was_removed_is_made_again_and_what_cannot_be_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = dir.path().join("run");
        let pipes = Pipes::of(&run_dir, PmId(3));
        pipes.child_ends(None).unwrap();
        std::fs::remove_dir_all(&run_dir).unwrap();
        pipes.make(None).unwrap();
        // What else has the name is no pipe.
        std::fs::remove_file(run_dir.join("3.out")).unwrap();
        std::fs::write(run_dir.join("3.out"), "").unwrap();
        assert!(is_fifo(&pipes.child_ends(None).unwrap().stdout));
        std::fs::remove_dir_all(&run_dir).unwrap();
        std::fs::write(&run_dir, "").unwrap();
        let refused = pipes.make(None).unwrap_err().to_string();
        assert!(refused.contains("run/3.in`: Not a directory"), "{refused}");
    }
}
