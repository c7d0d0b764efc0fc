//! Looks at the disk and at the system's users: where a script, a folder, a program is.
//!
//! Nothing here is fatal for a file: what is missing fails one app, with a message that says where
//! it was looked for. Only regular files are opened, and only their first bytes are read, so that
//! no name in a file (a FIFO, a device) can hang the command line.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;

use nix::unistd::{Gid, Group, Uid, User};

use super::error::shown;
use super::interpreter::{self, Choice};
use super::spec::RunAs;

/// Bytes of a script that tell whether it is a text.
const HEAD: u64 = 512;
/// A larger `package.json` is not read for its version.
const PACKAGE_MAX: u64 = 1 << 20;
/// Where programs are when there is no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// What relative paths may be relative to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bases<'a> {
    /// The ecosystem file's folder, absolute; `None` for standard input and command lines.
    pub(crate) file: Option<&'a Path>,
    /// The shell's folder, absolute.
    pub(crate) shell: &'a Path,
    /// For `~`.
    pub(crate) home: Option<&'a str>,
}

impl<'a> Bases<'a> {
    /// The file's folder first: a person who writes `./server` into a file means the one beside it.
    fn in_order(self) -> impl Iterator<Item = &'a Path> {
        self.file.into_iter().chain(Some(self.shell))
    }

    /// `~` and `~/x`, as a shell has them.
    pub(crate) fn expand(self, path: &str) -> PathBuf {
        match (path.strip_prefix('~'), self.home) {
            (Some(""), Some(home)) => PathBuf::from(home),
            (Some(rest), Some(home)) if rest.starts_with('/') => {
                Path::new(home).join(rest.trim_start_matches('/'))
            }
            _ => PathBuf::from(path),
        }
    }
}

/// The working directory that an app names.
///
/// # Errors
/// A half-sentence, when there is no such folder.
pub(crate) fn folder(given: &str, bases: Bases<'_>) -> Result<PathBuf, String> {
    let wanted = bases.expand(given);
    let found = bases
        .in_order()
        .map(|base| tidy(&base.join(&wanted)))
        .find(|path| path.is_dir());
    found.ok_or_else(|| {
        let first = bases
            .in_order()
            .next()
            .map(|base| tidy(&base.join(&wanted)));
        match first {
            Some(path) if path.exists() => {
                format!("`cwd` {} is not a folder", shown(&path.to_string_lossy()))
            }
            _ => format!(
                "`cwd` {} does not exist; {}",
                shown(given),
                looked_in(&wanted, bases)
            ),
        }
    })
}

/// A file by a path that may be relative, and the folder it was found from.
pub(crate) fn file(
    given: &str,
    cwd: Option<&Path>,
    bases: Bases<'_>,
) -> Option<(PathBuf, PathBuf)> {
    let wanted = bases.expand(given);
    let starts = cwd.into_iter().chain(bases.in_order());
    starts
        .map(|base| (tidy(&base.join(&wanted)), base.to_owned()))
        .find(|(path, _)| path.exists())
}

/// Words for "not found".
pub(crate) fn looked_in(wanted: &Path, bases: Bases<'_>) -> String {
    if wanted.is_absolute() {
        return "check the path".to_owned();
    }
    let places: Vec<String> = bases
        .in_order()
        .map(|base| shown(&base.to_string_lossy()))
        .collect();
    match places.as_slice() {
        [first, second] if first != second => format!("looked in {first} and {second}"),
        [first, ..] => format!("looked in {first}"),
        [] => "check the path".to_owned(),
    }
}

/// A program by its name alone, in the folders of a `PATH`.
pub(crate) fn in_path(name: &str, path: Option<&str>) -> Option<PathBuf> {
    if name.is_empty() || name.contains('/') {
        return None;
    }
    let folders = path
        .unwrap_or(DEFAULT_PATH)
        .split(':')
        .filter(|folder| folder.starts_with('/'));
    folders
        .map(|folder| Path::new(folder).join(name))
        .find(|path| is_executable(path))
}

/// A regular file that somebody may execute. Whether the app's user may is seen at the start.
pub(crate) fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// How to run a script whose app names no interpreter.
pub(crate) fn choice(script: &Path) -> Choice {
    let extension = script.extension().and_then(|e| e.to_str());
    match interpreter::by_extension(extension) {
        Choice::ByContent => interpreter::by_content(&head(script), is_executable(script)),
        other => other,
    }
}

/// The first line of a script, as far as it is text; `None` when it can't be read.
pub(crate) fn first_line(path: &Path) -> Option<String> {
    let head = head(path);
    let line = head.split(|&b| b == b'\n').next()?;
    String::from_utf8(line.to_owned()).ok()
}

fn head(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    if path.is_file()
        && let Ok(file) = File::open(path)
    {
        // What can't be read counts as binary or not by what was read so far.
        let _ = file.take(HEAD).read_to_end(&mut bytes);
    } else if is_executable(path) {
        // May be executed but not read: a text could not run.
        bytes.push(0);
    }
    bytes
}

/// `version` of the nearest `package.json` above a script.
pub(crate) fn version(script: &Path) -> Option<String> {
    let package = script
        .ancestors()
        .skip(1)
        .map(|dir| dir.join("package.json"));
    let package = package.into_iter().find(|path| path.is_file())?;
    let mut text = String::new();
    File::open(package)
        .ok()?
        .take(PACKAGE_MAX)
        .read_to_string(&mut text)
        .ok()?;
    let json: serde_json::Value = serde_json::from_str(&text).ok()?;
    let version = json.get("version")?.as_str()?;
    (version.len() <= 64 && !version.chars().any(char::is_control)).then(|| version.to_owned())
}

/// CPUs that this program may use.
pub(crate) fn cpus() -> i64 {
    static CPUS: OnceLock<i64> = OnceLock::new();
    *CPUS.get_or_init(|| {
        let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        i64::try_from(count).unwrap_or(1)
    })
}

/// The user and group that an app names, and that user's home.
///
/// # Errors
/// A half-sentence, when one is unknown, or when we may not become them.
pub(crate) fn run_as(
    user: Option<&str>,
    group: Option<&str>,
) -> Result<Option<(RunAs, Option<PathBuf>)>, String> {
    if user.is_none() && group.is_none() {
        return Ok(None);
    }
    let me = nix::unistd::geteuid();
    let user = user
        .map(|name| find_user(name).ok_or(("user", name)))
        .transpose();
    let group = group
        .map(|name| find_group(name).ok_or(("group", name)))
        .transpose();
    let unknown = |(what, name): (&str, &str)| format!("there is no {what} {}", shown(name));
    let (user, group) = (user.map_err(unknown)?, group.map_err(unknown)?);
    let uid = user.as_ref().map_or(me, |user| user.uid);
    let gid = group
        .or(user.as_ref().map(|user| user.gid))
        .unwrap_or_else(nix::unistd::getegid);
    if uid == me && gid == nix::unistd::getegid() {
        return Ok(None);
    }
    if !me.is_root() {
        return Err("`uid` and `gid` need root; start mcpm as root, or leave them out".to_owned());
    }
    let run_as = RunAs {
        uid: uid.as_raw(),
        gid: gid.as_raw(),
    };
    Ok(Some((run_as, user.map(|user| user.dir))))
}

fn find_user(name: &str) -> Option<User> {
    if name.contains('\0') {
        return None;
    }
    let by_name = User::from_name(name).ok().flatten();
    by_name.or_else(|| {
        User::from_uid(Uid::from_raw(name.parse().ok()?))
            .ok()
            .flatten()
    })
}

fn find_group(name: &str) -> Option<Gid> {
    if name.contains('\0') {
        return None;
    }
    let by_name = Group::from_name(name).ok().flatten();
    let found = by_name.or_else(|| {
        Group::from_gid(Gid::from_raw(name.parse().ok()?))
            .ok()
            .flatten()
    });
    found.map(|group| group.gid)
}

/// Takes `.` and `a/..` out of an absolute path, without following links.
pub(crate) fn tidy(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    clean
}

/// Looks a variable up that may be missing.
pub(crate) fn variable<'a>(env: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    env.get(name)
        .map(String::as_str)
        .filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_folder_wins_over_the_shells() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(b.path().join("x"), "").unwrap();
        let bases = Bases {
            file: Some(a.path()),
            shell: b.path(),
            home: Some("/home/u"),
        };
        assert_eq!(file("./x", None, bases).unwrap().1, b.path());
        fs::write(a.path().join("x"), "").unwrap();
        assert_eq!(file("./x", None, bases).unwrap().0, a.path().join("x"));
        assert_eq!(bases.expand("~/x"), Path::new("/home/u/x"));
        assert_eq!(bases.expand("~x"), Path::new("~x"));
    }

    #[test]
    fn programs_are_found_in_path_only_when_executable() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("tool"), "#!/bin/sh\n").unwrap();
        let path = format!("relative:{}", dir.path().display());
        assert_eq!(in_path("tool", Some(&path)), None);
        fs::set_permissions(dir.path().join("tool"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(in_path("tool", Some(&path)), Some(dir.path().join("tool")));
        assert_eq!(choice(&dir.path().join("tool")), Choice::Itself);
    }

    #[test]
    fn paths_are_tidied_without_following_links() {
        assert_eq!(tidy(Path::new("/a/./b/../c")), Path::new("/a/c"));
        assert_eq!(tidy(Path::new("/../a")), Path::new("/a"));
    }

    #[test]
    fn the_version_comes_from_the_nearest_package() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("src")).unwrap();
        fs::write(dir.path().join("package.json"), "{\"version\": \"1.2.3\"}").unwrap();
        assert_eq!(
            version(&dir.path().join("src/app.js")).as_deref(),
            Some("1.2.3")
        );
    }

    #[test]
    fn unknown_users_are_named() {
        let error = run_as(Some("no such user"), None).unwrap_err();
        assert_eq!(error, "there is no user `no such user`");
    }
}
