//! Files that lie beneath a folder, and no others.
//!
//! The kernel holds that line (`openat2(2)`, `RESOLVE_BENEATH`): no `..`, absolute path or symbolic
//! link leads out, however it is spelled and whenever it is put there. Names with a dot in front
//! (`.env`, `.git`) are kept back too, but for `.well-known` (RFC 8615), and so is what is neither
//! a file nor a folder.

use std::fs::Metadata;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};
use tower_http::services::fs::{Backend, File};

/// A folder, opened once: it may be renamed while it is served.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    descriptor: Arc<OwnedFd>,
}

impl Folder {
    /// # Errors
    /// When it is not there, or no folder.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptor = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
        Ok(Self {
            descriptor: Arc::new(descriptor),
        })
    }

    /// Blocks, on the disk alone: a FIFO is not waited for.
    fn file(&self, path: &Path) -> io::Result<std::fs::File> {
        if !is_shown(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let opened = rustix::fs::openat2(&self.descriptor, path, flags, Mode::empty(), resolve);
        let opened = opened.map_err(|error| match error {
            // It leads out, in a circle, or is a socket: for the outside it is not there.
            rustix::io::Errno::XDEV | rustix::io::Errno::LOOP | rustix::io::Errno::NXIO => {
                io::ErrorKind::NotFound.into()
            }
            other => io::Error::from(other),
        })?;
        let file = std::fs::File::from(opened);
        let kind = file.metadata()?.file_type();
        if kind.is_file() || kind.is_dir() {
            Ok(file)
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }
}

/// No part of it begins with a dot, but for `.` and `.well-known`.
fn is_shown(path: &Path) -> bool {
    path.components().all(|part| match part {
        Component::Normal(name) => {
            name == ".well-known" || !name.as_encoded_bytes().starts_with(b".")
        }
        Component::CurDir => true,
        Component::ParentDir | Component::RootDir | Component::Prefix(_) => false,
    })
}

type Later<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

impl Backend for Folder {
    type File = OpenFile;
    type Metadata = Metadata;
    type OpenFuture = Later<'static, OpenFile>;
    type MetadataFuture = Later<'static, Metadata>;

    fn open(&self, path: PathBuf) -> Self::OpenFuture {
        let folder = self.clone();
        Box::pin(async move {
            let file = tokio::task::spawn_blocking(move || folder.file(&path)).await??;
            Ok(OpenFile(tokio::fs::File::from_std(file)))
        })
    }

    fn metadata(&self, path: PathBuf) -> Self::MetadataFuture {
        let folder = self.clone();
        Box::pin(async move {
            tokio::task::spawn_blocking(move || folder.file(&path)?.metadata()).await?
        })
    }
}

/// A file that is being read.
#[derive(Debug)]
pub(super) struct OpenFile(tokio::fs::File);

impl File for OpenFile {
    type Metadata = Metadata;
    type MetadataFuture<'a> = Later<'a, Metadata>;

    fn metadata(&self) -> Self::MetadataFuture<'_> {
        Box::pin(self.0.metadata())
    }
}

impl AsyncRead for OpenFile {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncSeek for OpenFile {
    fn start_seek(mut self: Pin<&mut Self>, position: io::SeekFrom) -> io::Result<()> {
        Pin::new(&mut self.0).start_seek(position)
    }

    fn poll_complete(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Pin::new(&mut self.0).poll_complete(context)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_outside_is_opened_however_it_is_spelled() {
        let outside = tempfile::tempdir().unwrap();
        let inside = outside.path().join("www");
        std::fs::create_dir_all(inside.join("sub")).unwrap();
        std::fs::write(outside.path().join("secret"), "s").unwrap();
        std::fs::write(inside.join("page"), "p").unwrap();
        std::fs::write(inside.join(".env"), "e").unwrap();
        symlink("../secret", inside.join("out")).unwrap();
        symlink(outside.path(), inside.join("away")).unwrap();
        symlink("../page", inside.join("sub/in")).unwrap();
        symlink("circle", inside.join("circle")).unwrap();
        rustix::fs::mkfifoat(CWD, inside.join("fifo"), Mode::RUSR | Mode::WUSR).unwrap();
        let folder = Folder::open(&inside).unwrap();
        for there in ["page", "./page", "sub/in", "sub", "."] {
            assert!(folder.file(Path::new(there)).is_ok(), "{there}");
        }
        for hidden in [
            "out",
            "away/secret",
            "../secret",
            "sub/../../secret",
            "/etc/passwd",
            "circle",
            "fifo",
            ".env",
            "nothing",
        ] {
            let error = folder.file(Path::new(hidden)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound, "{hidden}");
        }
        assert!(Folder::open(&inside.join("page")).is_err());
    }

    #[test]
    fn dotfiles_are_kept_back_but_for_the_well_known() {
        assert!(is_shown(Path::new("./.well-known/acme-challenge/x")));
        for hidden in [".git/config", "a/.htpasswd", "..", "/a"] {
            assert!(!is_shown(Path::new(hidden)), "{hidden}");
        }
    }
}
