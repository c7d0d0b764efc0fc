//! The master key: where it comes from, and who may read it.
//!
//! In this order: `MCPM_MASTER_KEY` (the key itself), `MCPM_MASTER_KEY_FILE` (a path), systemd's
//! `$CREDENTIALS_DIRECTORY/mcpm-master-key`, `$MCPM_HOME/master.key`. Only the last is ever written by
//! us: made at the first start (whether it is one is for `unlock.rs` to know), and replaced when the
//! key is rotated.
//!
//! Written as 64 hex digits and a line end; base64 is read too. Blocking.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use data_encoding::{
    BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE,
};
use zeroize::{Zeroize, Zeroizing};

use crate::secret::Secret;
use crate::vault::random::{RandomError, random};

/// 32 bytes from which all other keys are derived.
pub struct MasterKey(Secret<[u8; 32]>);

/// No file of ours is longer, and a FIFO or a device could go on for ever.
const FILE_MAX: u64 = 1024;

/// Why there is no master key. For an operator to read: the daemon does not start.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Two sources were named.
    #[error("`MCPM_MASTER_KEY` and `MCPM_MASTER_KEY_FILE` are both set: unset one of them")]
    TwoSources,
    /// Not text, so no key.
    #[error("`MCPM_MASTER_KEY` is not a master key: set it to 64 hex digits or 44 of base64")]
    BadValue,
    /// The file cannot be read or made.
    #[error("cannot {doing} the master key `{}`", path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A folder, a FIFO, a device.
    #[error("the master key `{}` is not a regular file", path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// Others than its owner can read it.
    #[error(
        "the master key `{}` can be read by others (mode {mode:04o}): run `chmod 600 {}`",
        path.display(), path.display()
    )]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file holds something else.
    #[error(
        "the master key `{}` does not hold 32 bytes as 64 hex digits or 44 of base64: put the \
         right file there, from a backup if need be",
        path.display()
    )]
    BadContent {
        /// The file.
        path: PathBuf,
    },
    /// No random numbers to make a key of.
    #[error("cannot make a master key")]
    Random(#[from] RandomError),
}

impl MasterKey {
    /// A key of these bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Secret::new(bytes))
    }

    /// A key that nobody knows yet.
    pub(super) fn generate() -> Result<Self, RandomError> {
        let mut bytes = random::<32>()?;
        let key = Self::from_bytes(bytes);
        bytes.zeroize();
        Ok(key)
    }

    pub(super) fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }

    pub(super) fn duplicate(&self) -> Self {
        Self(self.0.duplicate())
    }

    /// What is written into our own file.
    fn text(&self) -> Zeroizing<String> {
        // As large as it gets: one that grew would leave a copy behind.
        let mut text = Zeroizing::new(String::with_capacity(65));
        HEXLOWER.encode_append(self.expose(), &mut text);
        text.push('\n');
        text
    }

    /// Reads hex or base64, with white space around it.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let text = text.trim_ascii();
        let encodings = match text.len() {
            64 => &[HEXLOWER_PERMISSIVE][..],
            44 => &[BASE64, BASE64URL],
            43 => &[BASE64_NOPAD, BASE64URL_NOPAD],
            _ => return None,
        };
        let mut decoded = encodings
            .iter()
            .filter_map(|encoding| encoding.decode(text).ok());
        let bytes = Zeroizing::new(decoded.next()?);
        Some(Self::from_bytes(<[u8; 32]>::try_from(&bytes[..]).ok()?))
    }
}

/// Where the master key is looked for.
#[derive(Debug)]
pub enum KeySource {
    /// The key itself, from `MCPM_MASTER_KEY`.
    Value(Secret<String>),
    /// A file that somebody else made and named.
    File(PathBuf),
    /// A file that systemd put there for us.
    Systemd(PathBuf),
    /// Our own file, made at the first start.
    Home(PathBuf),
}

impl KeySource {
    /// Chooses by the environment, read through `variable`.
    ///
    /// # Errors
    /// The environment says two things, or something that is not text.
    pub fn choose(
        home: &Path,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, KeyError> {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        match (set("MCPM_MASTER_KEY"), set("MCPM_MASTER_KEY_FILE")) {
            (Some(_), Some(_)) => return Err(KeyError::TwoSources),
            (Some(value), None) => {
                let text = value.into_string().map_err(|_| KeyError::BadValue)?;
                return Ok(Self::Value(Secret::new(text)));
            }
            (None, Some(path)) => return Ok(Self::File(path.into())),
            (None, None) => {}
        }
        if let Some(folder) = set("CREDENTIALS_DIRECTORY") {
            let path = Path::new(&folder).join("mcpm-master-key");
            if path.exists() {
                return Ok(Self::Systemd(path));
            }
        }
        Ok(Self::Home(home.join("master.key")))
    }

    /// What kind it is, in one stable word.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Value(_) => "environment",
            Self::File(_) => "file",
            Self::Systemd(_) => "systemd",
            Self::Home(_) => "home",
        }
    }

    /// Where its file lies, if it has one.
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::Value(_) => None,
            Self::File(path) | Self::Systemd(path) | Self::Home(path) => Some(path),
        }
    }

    /// For messages: where the key is.
    pub(super) fn place(&self) -> String {
        match self {
            Self::Value(_) => "`MCPM_MASTER_KEY`".to_owned(),
            Self::File(path) | Self::Systemd(path) | Self::Home(path) => {
                format!("`{}`", path.display())
            }
        }
    }

    /// Reads the key; `None` when it is our own file and that is not there.
    pub(super) fn read(&self) -> Result<Option<MasterKey>, KeyError> {
        match self {
            Self::Value(text) => {
                let key = MasterKey::parse(text.expose().as_bytes());
                key.map(Some).ok_or(KeyError::BadValue)
            }
            Self::File(path) => read_file(path, 0o077).map(Some),
            // Systemd lets our user read through an ACL, whose mask shows as the group's bits.
            Self::Systemd(path) => read_file(path, 0o007).map(Some),
            Self::Home(path) => match read_file(path, 0o077) {
                Err(KeyError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    Ok(None)
                }
                other => other.map(Some),
            },
        }
    }
}

fn read_file(path: &Path, forbidden: u32) -> Result<MasterKey, KeyError> {
    let failed = |source| KeyError::File {
        doing: "read",
        path: path.into(),
        source,
    };
    // Without O_NONBLOCK a FIFO in the key's place would hold the start for ever.
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .custom_flags(nonblock)
        .open(path)
        .map_err(failed)?;
    let facts = file.metadata().map_err(failed)?;
    if !facts.is_file() {
        return Err(KeyError::NotAFile { path: path.into() });
    }
    let mode = facts.mode() & 0o7777;
    if mode & forbidden != 0 {
        return Err(KeyError::TooOpen {
            path: path.into(),
            mode,
        });
    }
    let mut text = Zeroizing::new(Vec::with_capacity(FILE_MAX as usize));
    file.take(FILE_MAX).read_to_end(&mut text).map_err(failed)?;
    MasterKey::parse(&text).ok_or_else(|| KeyError::BadContent { path: path.into() })
}

/// Makes a key and its file, mode 0600. After a crash the file is whole or not there; a file that
/// is there already is never touched.
pub(super) fn create(path: &Path) -> Result<MasterKey, KeyError> {
    let key = MasterKey::generate()?;
    // A link, because a rename would replace a key that appeared meanwhile.
    let linked = |draft: &Path| -> io::Result<()> {
        let linked = fs::hard_link(draft, path);
        fs::remove_file(draft)?;
        linked
    };
    write(path, &key, linked).map_err(|source| KeyError::File {
        doing: "make",
        path: path.into(),
        source,
    })?;
    Ok(key)
}

/// Puts another key into our file. After a crash it holds the one or the other, whole.
pub(super) fn replace(path: &Path, key: &MasterKey) -> Result<(), KeyError> {
    let renamed = |draft: &Path| fs::rename(draft, path);
    write(path, key, renamed).map_err(|source| KeyError::File {
        doing: "replace",
        path: path.into(),
        source,
    })
}

/// Writes a key beside its place, and has it `put` there when it is on disk.
fn write(
    path: &Path,
    key: &MasterKey,
    put: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    // What a crash left behind. The home has one daemon, so it is nobody else's.
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    let written = file
        .write_all(key.text().as_bytes())
        .and_then(|()| file.sync_all());
    if let Err(error) = written {
        // A full disk, most likely: half a key is no use to anybody.
        let _ = fs::remove_file(&draft);
        return Err(error);
    }
    put(&draft)?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn choose(home: &Path, set: &[(&str, &str)]) -> Result<KeySource, KeyError> {
        KeySource::choose(home, |name| {
            set.iter()
                .find(|(n, _)| *n == name)
                .map(|(_, value)| value.into())
        })
    }

    fn write(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_key_is_made_once_closed_and_read_back() {
        let home = tempfile::tempdir().unwrap();
        let source = choose(home.path(), &[]).unwrap();
        assert!(source.read().unwrap().is_none());
        let path = home.path().join("master.key");
        fs::write(home.path().join("master.key.new"), "left by a crash").unwrap();
        let made = create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(!home.path().join("master.key.new").exists());
        let read = source.read().unwrap().unwrap();
        assert_eq!(made.expose(), read.expose());
        assert!(create(&path).is_err(), "never replaced");
        assert_eq!(source.read().unwrap().unwrap().expose(), made.expose());
    }

    #[test]
    fn a_key_is_replaced_whole_and_stays_closed() {
        let home = tempfile::tempdir().unwrap();
        let source = choose(home.path(), &[]).unwrap();
        let path = home.path().join("master.key");
        create(&path).unwrap();
        fs::write(home.path().join("master.key.new"), "left by a crash").unwrap();
        replace(&path, &MasterKey::from_bytes([5; 32])).unwrap();
        assert_eq!(*source.read().unwrap().unwrap().expose(), [5; 32]);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[test]
    fn hex_and_base64_are_read_and_nothing_else() {
        let bytes = [0xfb; 32];
        let hex = HEXLOWER.encode(&bytes);
        let good = [
            format!(" {hex}\n"),
            hex.to_uppercase(),
            BASE64.encode(&bytes),
            BASE64URL.encode(&bytes),
            BASE64URL_NOPAD.encode(&bytes),
        ];
        for text in good {
            assert_eq!(
                *MasterKey::parse(text.as_bytes()).unwrap().expose(),
                bytes,
                "{text}"
            );
        }
        for text in [
            "",
            "0",
            &hex[1..],
            &format!("{hex}00"),
            &"g".repeat(64),
            &"=".repeat(44),
        ] {
            assert!(MasterKey::parse(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_with_the_remedy() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("master.key");
        let source = choose(home.path(), &[]).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o666] {
            write(&path, &"00".repeat(32), mode);
            let said = source.read().err().unwrap().to_string();
            assert!(
                said.contains(&format!("chmod 600 {}", path.display())),
                "{said}"
            );
            assert!(said.contains(&format!("{mode:04o}")), "{said}");
        }
        write(&path, &"00".repeat(32), 0o400);
        assert!(source.read().unwrap().is_some());
    }

    #[test]
    fn what_is_not_a_key_file_is_refused_and_not_repeated() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("master.key");
        let source = choose(home.path(), &[]).unwrap();
        write(&path, "hunter2", 0o600);
        let said = source.read().err().unwrap().to_string();
        assert!(
            said.contains("64 hex digits") && !said.contains("hunter2"),
            "{said}"
        );
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(matches!(source.read(), Err(KeyError::NotAFile { .. })));
        fs::remove_dir(&path).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        assert!(matches!(source.read(), Err(KeyError::NotAFile { .. })));
    }

    #[test]
    fn the_environment_names_one_source() {
        let home = tempfile::tempdir().unwrap();
        let (key, file) = ("MCPM_MASTER_KEY", "MCPM_MASTER_KEY_FILE");
        let hex = "ab".repeat(32);
        let value = choose(home.path(), &[(key, &hex)]).unwrap();
        assert_eq!(*value.read().unwrap().unwrap().expose(), [0xab; 32]);
        assert!(!format!("{value:?}").contains("abab"));
        assert!(matches!(
            choose(home.path(), &[(key, "a"), (file, "b")]),
            Err(KeyError::TwoSources)
        ));
        let bad = choose(home.path(), &[(key, "hunter2")])
            .unwrap()
            .read()
            .err()
            .unwrap();
        assert!(!bad.to_string().contains("hunter2"));

        let missing = home.path().join("no.key");
        let named = choose(home.path(), &[(file, missing.to_str().unwrap())]).unwrap();
        let said = named.read().err().unwrap();
        assert!(
            matches!(said, KeyError::File { .. }),
            "a named file is never made: {said}"
        );

        let folder = home.path().to_str().unwrap();
        let credentials = [("CREDENTIALS_DIRECTORY", folder)];
        assert!(matches!(
            choose(home.path(), &credentials).unwrap(),
            KeySource::Home(_)
        ));
        write(&home.path().join("mcpm-master-key"), &hex, 0o440);
        let systemd = choose(home.path(), &credentials).unwrap();
        assert_eq!(*systemd.read().unwrap().unwrap().expose(), [0xab; 32]);
    }
}
