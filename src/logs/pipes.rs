//! The FIFOs that stand between a service and the daemon.
//!
//! Named by pm_id (app names may hold slashes and emoji), mode 0600, owned by the app's user.
//! Whoever opens one opens it read-write: then the pipe always has a reader and a writer, nobody
//! gets SIGPIPE or end-of-file when the other side dies, and an open never blocks.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{CWD, Mode, OFlags};

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

    /// Makes those that are not there.
    ///
    /// # Errors
    /// When the folder can't be written, or something else has the name.
    pub fn make(&self, owner: Option<RunAs>) -> io::Result<()> {
        for path in [&self.stdin, &self.stdout, &self.stderr] {
            match rustix::fs::mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR) {
                Ok(()) => {}
                Err(rustix::io::Errno::EXIST) => {
                    use std::os::unix::fs::FileTypeExt;
                    if !path.symlink_metadata()?.file_type().is_fifo() {
                        std::fs::remove_file(path)?;
                        rustix::fs::mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR)?;
                    }
                }
                Err(error) => return Err(error.into()),
            }
            if let Some(owner) = owner {
                // Else the service could not open its own `/dev/stdout`.
                std::os::unix::fs::chown(path, Some(owner.uid), Some(owner.gid))?;
            }
        }
        Ok(())
    }

    /// Opens the service's side, blocking, close-on-exec.
    ///
    /// # Errors
    /// When a FIFO is gone or descriptors have run out.
    pub fn child_ends(&self) -> io::Result<ChildEnds> {
        let open = |path: &Path| -> io::Result<OwnedFd> {
            Ok(rustix::fs::open(
                path,
                OFlags::RDWR | OFlags::CLOEXEC,
                Mode::empty(),
            )?)
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
        let path = match stream {
            super::Stream::Out => &self.stdout,
            super::Stream::Error => &self.stderr,
        };
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
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
