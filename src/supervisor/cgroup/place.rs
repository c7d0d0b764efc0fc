//! Where groups of runs may be made, if anywhere (pure).
//!
//! Only where a part of the tree was given to the daemon: its service manager has started it with
//! `Delegate=`, or somebody names the folder. That a folder can be written proves nothing: root may
//! write everywhere, and the group of a login session or a container is not the daemon's to change.
//!
//! Controllers are handed on only when the daemon itself lives in [`DAEMON`], where systemd has put
//! it (`DelegateSubgroup=`, 254 and later): a group with controllers for those below it takes no
//! processes, and an older systemd, which starts the next daemon right in the unit's group, could
//! not start it any more while services live on there.

use std::path::{Path, PathBuf};

/// The group of the daemon itself, below the one that was given to it.
pub(super) const DAEMON: &str = "daemon";

/// What `MCPM_CGROUP` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Wish {
    /// In the daemon's own group, when it was delegated to the daemon.
    #[default]
    Auto,
    /// Nowhere.
    Off,
    /// In this folder.
    At(PathBuf),
}

impl Wish {
    /// Reads the variable's text.
    ///
    /// # Errors
    /// When it is none of these; the text says what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" | "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            path if path.starts_with('/') => Ok(Self::At(PathBuf::from(path))),
            other => Err(format!(
                "MCPM_CGROUP is `{other}` and has no effect; write `auto`, `off`, or the absolute \
                 path of a folder of cgroup v2"
            )),
        }
    }
}

/// Where groups are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The folder above them.
    pub(super) folder: PathBuf,
    /// It may hand controllers to them.
    pub(super) has_controllers: bool,
}

/// Chooses it. `own`: the folder of the daemon's own group. `is_service`: a service manager has
/// started the daemon.
pub(super) fn choose(
    wish: &Wish,
    own: Option<&Path>,
    is_service: bool,
    is_delegated: impl Fn(&Path) -> bool,
) -> Option<Place> {
    let place = |folder: &Path, has_controllers| Place {
        folder: folder.to_owned(),
        has_controllers,
    };
    match wish {
        Wish::Off => None,
        Wish::At(folder) => Some(place(folder, true)),
        Wish::Auto => {
            let own = own.filter(|_| is_service)?;
            let above = own.parent().filter(|_| own.ends_with(DAEMON));
            if let Some(above) = above.filter(|above| is_delegated(above)) {
                return Some(place(above, true));
            }
            is_delegated(own).then(|| place(own, false))
        }
    }
}

/// The folder above the groups of runs, when this one is a run's, or below one.
pub(super) fn above_run(own: &Path) -> Option<&Path> {
    let is_run = |at: &&Path| {
        let name = at.file_name().unwrap_or_default().to_string_lossy();
        let parts: Vec<&str> = name.split('.').collect();
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        match parts[..] {
            [home, id, generation] => {
                let is_home = home.bytes().all(|b| b.is_ascii_hexdigit()) && !home.is_empty();
                is_home && is_number(id) && is_number(generation)
            }
            _ => false,
        }
    };
    own.ancestors().find(is_run)?.parent()
}

/// The folder of a process's group, from its `/proc/PID/cgroup` and `/proc/self/mountinfo`; `None`
/// when it has none in the version 2, or one that can't be seen from here.
pub(super) fn own_folder(cgroups: &str, mounts: &str) -> Option<PathBuf> {
    let own = own_path(cgroups).filter(|own| !own.starts_with("/.."))?;
    let seen_from = |line: &str| {
        let (mount, system) = line.split_once(" - ")?;
        if system.split(' ').next() != Some("cgroup2") {
            return None;
        }
        let mut fields = mount.split(' ').skip(3).map(unescaped);
        let (root, at) = (fields.next()?, fields.next()?);
        let inside = Path::new(own).strip_prefix(root).ok()?;
        Some(Path::new(&at).join(inside))
    };
    mounts.lines().find_map(seen_from)
}

/// The path of the group in the version 2 (cgroups(7)).
pub(super) fn own_path(cgroups: &str) -> Option<&str> {
    cgroups.lines().find_map(|line| line.strip_prefix("0::"))
}

/// As proc_pid_mountinfo(5) writes blanks in paths.
fn unescaped(field: &str) -> String {
    let marks = [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ];
    marks
        .into_iter()
        .fold(field.to_owned(), |text, (mark, blank)| {
            text.replace(mark, blank)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: &str = "/sys/fs/cgroup/system.slice/mcpm.service";

    fn delegated(folder: &Path) -> bool {
        folder == Path::new(UNIT)
    }

    fn chosen(wish: &Wish, own: &str, is_service: bool) -> Option<(String, bool)> {
        let place = choose(wish, Some(Path::new(own)), is_service, delegated)?;
        Some((place.folder.display().to_string(), place.has_controllers))
    }

    #[test]
    fn groups_are_made_only_where_the_tree_was_given_to_the_daemon() {
        let auto = |own: &str, is_service| chosen(&Wish::Auto, own, is_service);
        let below = format!("{UNIT}/daemon");
        assert_eq!(auto(&below, true), Some((UNIT.to_owned(), true)));
        assert_eq!(auto(UNIT, true), Some((UNIT.to_owned(), false)));
        assert_eq!(auto(&below, false), None, "a shell in that unit");
        for strange in [
            "/sys/fs/cgroup",
            "/sys/fs/cgroup/user.slice/user-0.slice/session-3.scope",
            "/sys/fs/cgroup/system.slice/mcpm.service/other",
            "/sys/fs/cgroup/system.slice/other.service/daemon",
        ] {
            assert_eq!(auto(strange, true), None, "{strange}");
        }
        assert_eq!(choose(&Wish::Auto, None, true, |_| true), None);
    }

    #[test]
    fn what_somebody_says_counts() {
        assert_eq!(chosen(&Wish::Off, UNIT, true), None);
        let at = Wish::parse("/sys/fs/cgroup/mine").unwrap();
        let expected = Some(("/sys/fs/cgroup/mine".to_owned(), true));
        assert_eq!(chosen(&at, "/sys/fs/cgroup", false), expected);
        assert_eq!(Wish::parse("auto"), Ok(Wish::Auto));
        assert_eq!(Wish::parse(""), Ok(Wish::Auto));
        assert_eq!(Wish::parse("off"), Ok(Wish::Off));
        let said = Wish::parse("on").unwrap_err();
        assert!(said.contains("`on`") && said.contains("`off`"), "{said}");
    }

    #[test]
    fn a_command_of_an_app_knows_that_it_is_in_its_group() {
        let above = |own: &str| above_run(Path::new(own)).map(|at| at.display().to_string());
        let expected = Some(UNIT.to_owned());
        assert_eq!(above(&format!("{UNIT}/c0ffee.0.12")), expected);
        assert_eq!(above(&format!("{UNIT}/c0ffee.0.12/inner/most")), expected);
        for other in [UNIT, "/", "/sys/fs/cgroup/a.0.x", "/sys/fs/cgroup/net.1.2"] {
            assert_eq!(above(other), None, "{other}");
        }
    }

    #[test]
    fn the_own_folder_is_found_whatever_is_mounted_where() {
        let check = |cgroups: &str, mounts: &str, expected: Option<&str>| {
            let found = own_folder(cgroups, mounts);
            assert_eq!(found.as_deref(), expected.map(Path::new), "{mounts}");
        };
        let unified = "24 1 0:22 / / rw - ext4 /dev/vda rw\n\
             30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let own = "0::/system.slice/mcpm.service\n";
        check(own, unified, Some(UNIT));
        check("0::/\n", unified, Some("/sys/fs/cgroup"));
        let hybrid = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
             35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
             41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let both = "4:memory:/elsewhere\n0::/a\n";
        check(both, hybrid, Some("/sys/fs/cgroup/unified/a"));
        let part = "41 31 0:38 /system.slice /my\\040groups rw - cgroup2 cgroup2 rw\n";
        check(own, part, Some("/my groups/mcpm.service"));
        check("0::/user.slice\n", part, None);
        check("0::/../outside\n", unified, None);
        check("4:memory:/elsewhere\n", hybrid, None);
        check(own, "", None);
    }
}
