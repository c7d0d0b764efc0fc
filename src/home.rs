//! The state folder, and what lies where in it.
//!
//! [`Home::find`] decides which folder: `MCPM_HOME`, else `PM2_HOME` when the program was called by
//! the name `pm2` or `pm2-runtime`, else `~/.mcpm`. A [`Home`] is absolute, and its socket path fits into a socket
//! address. Nothing is touched before [`Home::create`].

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{self, Path, PathBuf};

/// Longest path a Unix socket address holds: 108 bytes with the final NUL (`unix(7)`).
const SOCKET_PATH_MAX: usize = 107;

/// Why there is no usable state folder.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Neither a variable nor the user's record says where.
    #[error("cannot tell where your home folder is; set MCPM_HOME to the folder mcpm may use")]
    Unknown,
    /// A relative path, and the current folder is gone.
    #[error("`{}` is relative, and the current folder cannot be read", path.display())]
    Relative {
        /// As it was given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Deeper than a socket address allows.
    #[error(
        "the socket path `{}` has {} bytes, and {SOCKET_PATH_MAX} are possible: \
         set MCPM_HOME to a shorter path",
        path.display(),
        path.as_os_str().len()
    )]
    TooLong {
        /// Where the socket would lie.
        path: PathBuf,
    },
    /// Somebody else's.
    #[error(
        "the state folder `{}` belongs to uid {owner}, and you are uid {me}: \
         set MCPM_HOME to a folder of your own",
        path.display()
    )]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who asks.
        me: u32,
    },
    /// Could not be made or read.
    #[error("cannot use the state folder `{}`", path.display())]
    Io {
        /// Which folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// `$MCPM_HOME`: owned by one daemon, mode 0700.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home(PathBuf);

impl Home {
    /// The folder of this program's caller, from its environment and the name it was called by.
    ///
    /// # Errors
    /// When no folder can be told, or its socket path would be too long.
    pub fn find() -> Result<Self, HomeError> {
        let called = env::args_os().next().unwrap_or_default();
        let sources = Sources {
            mcpm_home: env::var_os("MCPM_HOME"),
            pm2_home: env::var_os("PM2_HOME").filter(|_| is_called_pm2(&called)),
            user_home: env::home_dir().map(PathBuf::into_os_string),
        };
        Self::at(&sources.choose().ok_or(HomeError::Unknown)?)
    }

    /// This folder, made absolute.
    ///
    /// # Errors
    /// When its socket path would be too long, or the current folder is gone and the path relative.
    pub fn at(folder: &Path) -> Result<Self, HomeError> {
        let absolute = path::absolute(folder).map_err(|source| HomeError::Relative {
            path: folder.to_owned(),
            source,
        })?;
        let home = Self(absolute);
        let socket = home.socket();
        if socket.as_os_str().len() > SOCKET_PATH_MAX {
            return Err(HomeError::TooLong { path: socket });
        }
        Ok(home)
    }

    /// Makes the folder and those in it, for this user only. One that is too open is closed.
    ///
    /// # Errors
    /// When it belongs to someone else, or cannot be made.
    pub fn create(&self) -> Result<(), HomeError> {
        for folder in [
            self.0.clone(),
            self.logs_dir(),
            self.pids_dir(),
            self.run_dir(),
        ] {
            make_private(&folder)?;
        }
        Ok(())
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where the daemon answers.
    pub fn socket(&self) -> PathBuf {
        self.0.join("mcpm.sock")
    }

    /// The daemon's pid, for people and scripts; evidence of nothing.
    pub fn pid_file(&self) -> PathBuf {
        self.0.join("mcpm.pid")
    }

    /// Held by the one daemon of this folder.
    pub fn lock(&self) -> PathBuf {
        self.0.join("mcpm.lock")
    }

    /// Users, instances, credentials, usage.
    pub fn db(&self) -> PathBuf {
        self.0.join("mcpm.db")
    }

    /// What runs, for adoption.
    pub fn run_db(&self) -> PathBuf {
        self.0.join("run.db")
    }

    /// The daemon's own log.
    pub fn log(&self) -> PathBuf {
        self.0.join("mcpm.log")
    }

    /// What `save` writes and `resurrect` reads, in PM2's own format.
    pub fn dump(&self) -> PathBuf {
        self.0.join("dump.pm2")
    }

    /// Values that `mcpm set` keeps, in PM2's own format.
    pub fn module_conf(&self) -> PathBuf {
        self.0.join("module_conf.json")
    }

    /// The vault's key, when it lies in a file.
    pub fn master_key(&self) -> PathBuf {
        self.0.join("master.key")
    }

    /// Settings of the daemon, when they do not stand in an ecosystem file.
    pub fn settings(&self) -> PathBuf {
        self.0.join("mcpm.json")
    }

    /// `NAME-out.log` and `NAME-error.log` of the apps.
    pub fn logs_dir(&self) -> PathBuf {
        self.0.join("logs")
    }

    /// A line for each request, where that is wanted.
    pub fn access_log(&self) -> PathBuf {
        self.logs_dir().join("access.log")
    }

    /// `NAME-ID.pid` of the apps.
    pub fn pids_dir(&self) -> PathBuf {
        self.0.join("pids")
    }

    /// FIFOs of the apps.
    pub fn run_dir(&self) -> PathBuf {
        self.0.join("run")
    }
}

/// What may name the folder, strongest first. Empty values count as absent.
struct Sources {
    mcpm_home: Option<OsString>,
    pm2_home: Option<OsString>,
    user_home: Option<OsString>,
}

impl Sources {
    fn choose(self) -> Option<PathBuf> {
        let given = |value: Option<OsString>| value.filter(|v| !v.is_empty()).map(PathBuf::from);
        given(self.mcpm_home)
            .or_else(|| given(self.pm2_home))
            .or_else(|| given(self.user_home).map(|home| home.join(".mcpm")))
    }
}

fn is_called_pm2(program: &OsStr) -> bool {
    Path::new(program)
        .file_name()
        .is_some_and(|name| [&b"pm2"[..], b"pm2-runtime", b"pm2-docker"].contains(&name.as_bytes()))
}

fn make_private(folder: &Path) -> Result<(), HomeError> {
    let failed = |source| HomeError::Io {
        path: folder.to_owned(),
        source,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(failed)?;
    let found = fs::metadata(folder).map_err(failed)?;
    let me = rustix::process::geteuid().as_raw();
    if found.uid() != me {
        return Err(HomeError::Foreign {
            path: folder.to_owned(),
            owner: found.uid(),
            me,
        });
    }
    if found.mode() & 0o077 != 0 {
        fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(mcpm: &str, pm2: Option<&str>, user: Option<&str>) -> Option<PathBuf> {
        let sources = Sources {
            mcpm_home: Some(mcpm.into()),
            pm2_home: pm2.map(Into::into),
            user_home: user.map(Into::into),
        };
        sources.choose()
    }

    #[test]
    fn the_strongest_source_wins_and_empty_ones_do_not_count() {
        assert_eq!(choose("/a", Some("/b"), Some("/c")), Some("/a".into()));
        assert_eq!(choose("", Some("/b"), Some("/c")), Some("/b".into()));
        assert_eq!(choose("", None, Some("/c")), Some("/c/.mcpm".into()));
        assert_eq!(choose("", Some(""), Some("")), None);
    }

    #[test]
    fn pm2_home_counts_under_the_name_pm2_only() {
        for yes in ["pm2", "/usr/bin/pm2", "./pm2", "/usr/bin/pm2-runtime"] {
            assert!(is_called_pm2(OsStr::new(yes)), "{yes}");
        }
        for no in ["mcpm", "pm2x", "/pm2/mcpm", ""] {
            assert!(!is_called_pm2(OsStr::new(no)), "{no}");
        }
    }

    #[test]
    fn a_socket_path_of_107_bytes_is_the_longest() {
        let deep =
            |bytes: usize| PathBuf::from(format!("/{}", "x".repeat(bytes - "//mcpm.sock".len())));
        assert_eq!(
            Home::at(&deep(107)).unwrap().socket().as_os_str().len(),
            107
        );
        let refused = Home::at(&deep(108)).unwrap_err().to_string();
        assert!(
            refused.contains("108 bytes") && refused.contains("MCPM_HOME"),
            "{refused}"
        );
    }

    #[test]
    fn a_relative_home_becomes_absolute() {
        assert!(Home::at(Path::new("here")).unwrap().path().is_absolute());
    }

    #[test]
    fn a_home_is_made_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let home = Home::at(folder.path()).unwrap();
        home.create().unwrap();
        home.create().unwrap();
        for dir in [
            home.path(),
            &home.logs_dir(),
            &home.pids_dir(),
            &home.run_dir(),
        ] {
            assert_eq!(
                fs::metadata(dir).unwrap().mode() & 0o777,
                0o700,
                "{}",
                dir.display()
            );
        }
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let refused = Home::at(file.path()).unwrap().create().unwrap_err();
        assert!(
            refused
                .to_string()
                .contains(&*file.path().to_string_lossy())
        );
    }
}
