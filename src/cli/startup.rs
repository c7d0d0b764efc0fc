//! `mcpm startup` and `unstartup`: the daemon at boot, as a unit of systemd.
//!
//! The unit is made by [`unit`], which is pure; the rest writes it and asks `systemctl`. Other init
//! systems are told what to run.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use nix::unistd::{User, geteuid};

use crate::control::descriptor_store;
use crate::home::Home;

use super::exit::Exit;
use super::render::Output;

const SYSTEM_UNITS: &str = "/etc/systemd/system";
/// As PM2 spells them; all mean systemd.
const SYSTEMD: [&str; 5] = ["systemd", "ubuntu", "centos", "arch", "oracle"];

/// Arguments of both commands.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Init system [default: systemd]
    platform: Option<String>,
    /// Whose apps: the unit runs as this user [default: you]
    #[arg(short, long)]
    user: Option<String>,
    /// Home folder of that user; the state lies in its `.mcpm` [default: MCPM_HOME, or the user's own]
    #[arg(long, value_name = "FOLDER")]
    hp: Option<PathBuf>,
    /// Name of the unit [default: mcpm-USER]
    #[arg(long, value_name = "NAME")]
    service_name: Option<String>,
    /// Start only when the network is up
    #[arg(long)]
    wait_ip: bool,
    /// A unit of your own systemd (`systemctl --user`), which needs no root
    #[arg(long)]
    user_unit: bool,
    /// Print the unit, install nothing
    #[arg(long)]
    no_install: bool,
}

/// What a unit is made of.
#[derive(Debug)]
struct Unit {
    program: PathBuf,
    home: PathBuf,
    path: String,
    /// `None` in a unit of a user's own systemd.
    user: Option<String>,
    wait_ip: bool,
}

/// Installs the unit, or prints it.
pub(crate) fn startup(args: &Args, output: &Output) -> anyhow::Result<Exit> {
    let place = Place::of(args)?;
    let unit = Unit {
        program: std::env::current_exe().context("cannot find this program's own file")?,
        home: place.home.clone(),
        path: std::env::var("PATH").unwrap_or_default(),
        user: (!args.user_unit).then(|| place.user.clone()),
        wait_ip: args.wait_ip,
    };
    let text = unit.text()?;
    let is_named = args.platform.is_some();
    if !is_systemd(args) && (is_named || !args.no_install) {
        output.text(&unit.other_init())?;
        return Ok(Exit::fine_if(args.no_install));
    }
    if args.no_install {
        output.text(&text)?;
        return Ok(Exit::Fine);
    }
    if !args.user_unit && !geteuid().is_root() {
        output.line("a unit of the system needs root; run this:")?;
        output.line("")?;
        output.line(format_args!("    {}", sudo("startup", args, &place, &unit)))?;
        output.line("")?;
        output.line("or, for a unit of your own: mcpm startup --user-unit")?;
        return Ok(Exit::Failed);
    }
    let file = place.file();
    write(&file, &text)?;
    let scope = place.scope();
    systemctl(scope, &["daemon-reload"])?;
    systemctl(scope, &["enable", &place.name])?;
    let systemctl = ["systemctl"]
        .iter()
        .chain(scope)
        .copied()
        .collect::<Vec<_>>()
        .join(" ");
    output.line(format_args!("✓ {} is there and enabled", file.display()))?;
    output.line("next    mcpm save                     what runs now is started at boot")?;
    output.line(
        "        mcpm kill --keep              a daemon that runs hands its processes over to",
    )?;
    output.line(format_args!(
        "        {systemctl} start {}   the one of the unit",
        place.name
    ))?;
    if args.user_unit {
        output.line("        loginctl enable-linger        or your units start when you log in")?;
    } else {
        output.line("        sysctl -w net.ipv4.ip_local_reserved_ports=49160-49999   keeps connections off service ports")?;
    }
    Ok(Exit::Fine)
}

/// Disables and removes the unit. What runs goes on.
pub(crate) fn unstartup(args: &Args, output: &Output) -> anyhow::Result<Exit> {
    let place = Place::of(args)?;
    let file = place.file();
    if !file.exists() {
        bail!("there is no `{}`", file.display());
    }
    if !args.user_unit && !geteuid().is_root() {
        output.line("a unit of the system needs root; run this:")?;
        output.line("")?;
        let program = std::env::current_exe()?;
        output.line(format_args!(
            "    sudo {} unstartup -u {}",
            shell_word(&program.to_string_lossy()),
            shell_word(&place.user)
        ))?;
        return Ok(Exit::Failed);
    }
    systemctl(place.scope(), &["disable", &place.name])?;
    fs::remove_file(&file).with_context(|| format!("cannot remove `{}`", file.display()))?;
    systemctl(place.scope(), &["daemon-reload"])?;
    output.line(format_args!(
        "✓ {} is gone; what runs goes on",
        file.display()
    ))?;
    Ok(Exit::Fine)
}

/// Whose unit, and where it lies.
struct Place {
    user: String,
    home: PathBuf,
    name: String,
    units: PathBuf,
    user_unit: bool,
}

impl Place {
    fn of(args: &Args) -> anyhow::Result<Self> {
        let me = User::from_uid(geteuid())?.context("your user has no name")?;
        let user = match &args.user {
            Some(name) => {
                User::from_name(name)?.with_context(|| format!("there is no user `{name}`"))?
            }
            None => me.clone(),
        };
        let home = match &args.hp {
            Some(folder) => Home::at(&folder.join(".mcpm"))?,
            None if user.uid == me.uid => Home::find()?,
            None => Home::at(&user.dir.join(".mcpm"))?,
        };
        let name = args.service_name.clone();
        let name = name.unwrap_or_else(|| format!("mcpm-{}", user.name));
        let known = |c: char| c.is_ascii_alphanumeric() || ":-_.@".contains(c);
        if name.is_empty() || !name.chars().all(known) {
            bail!("`{name}` cannot be the name of a unit; use letters, digits and `:-_.@`");
        }
        let units = if args.user_unit {
            let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
            config
                .unwrap_or_else(|| me.dir.join(".config"))
                .join("systemd/user")
        } else {
            PathBuf::from(SYSTEM_UNITS)
        };
        Ok(Self {
            user: user.name,
            home: home.path().to_owned(),
            name,
            units,
            user_unit: args.user_unit,
        })
    }

    fn file(&self) -> PathBuf {
        self.units.join(format!("{}.service", self.name))
    }

    fn scope(&self) -> &'static [&'static str] {
        if self.user_unit { &["--user"] } else { &[] }
    }
}

fn is_systemd(args: &Args) -> bool {
    match &args.platform {
        Some(platform) => SYSTEMD.contains(&platform.as_str()),
        // sd_booted(3)
        None => Path::new("/run/systemd/system").is_dir(),
    }
}

fn sudo(command: &str, args: &Args, place: &Place, unit: &Unit) -> String {
    let mut line = format!(
        "sudo env PATH=\"$PATH\" MCPM_HOME={} {} {command} systemd -u {}",
        shell_word(&place.home.to_string_lossy()),
        shell_word(&unit.program.to_string_lossy()),
        shell_word(&place.user),
    );
    if let Some(parent) = place
        .home
        .parent()
        .filter(|_| place.home.ends_with(".mcpm"))
    {
        // `-u` of another user than root's own would mean that user's home folder.
        let _ = write!(line, " --hp {}", shell_word(&parent.to_string_lossy()));
    }
    if args.wait_ip {
        line.push_str(" --wait-ip");
    }
    if let Some(name) = &args.service_name {
        let _ = write!(line, " --service-name {}", shell_word(name));
    }
    line
}

fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-@:+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    let put = || -> io::Result<()> {
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(file, text)
    };
    put().with_context(|| format!("cannot write `{}`", file.display()))
}

fn systemctl(scope: &[&str], args: &[&str]) -> anyhow::Result<()> {
    let line = || {
        ["systemctl"]
            .iter()
            .chain(scope)
            .chain(args)
            .copied()
            .collect::<Vec<_>>()
            .join(" ")
    };
    let ran = Command::new("systemctl").args(scope).args(args).output();
    let ran = ran.with_context(|| format!("cannot run `{}`", line()))?;
    if !ran.status.success() {
        let said = String::from_utf8_lossy(&ran.stderr);
        bail!("`{}` failed: {}", line(), said.trim());
    }
    Ok(())
}

impl Unit {
    /// The unit's file (systemd.service(5)).
    fn text(&self) -> anyhow::Result<String> {
        let shown = [self.program.to_string_lossy(), self.home.to_string_lossy()];
        if let Some(bad) = shown.iter().find(|text| text.contains(char::is_control)) {
            bail!("`{}` cannot stand in a unit", bad.escape_debug());
        }
        let network = if self.wait_ip {
            "network-online.target"
        } else {
            "network.target"
        };
        let mut text =
            format!("[Unit]\nDescription=mcpm keeps services running\nAfter={network}\n");
        if self.wait_ip {
            text.push_str("Wants=network-online.target\n");
        }
        text.push_str(
            "# However often it fails: services need their daemon.\nStartLimitIntervalSec=0\n\n[Service]\nType=notify\nNotifyAccess=all\n",
        );
        if let Some(user) = &self.user {
            let _ = writeln!(text, "User={}", user.replace('%', "%%"));
        }
        let variable = |name: &str, value: &str| quoted(&format!("{name}={value}"));
        let _ = writeln!(text, "Environment={}", variable("PATH", &self.path));
        let _ = writeln!(text, "Environment={}", variable("MCPM_HOME", &shown[1]));
        // `$` begins a variable here, and only here.
        let program = quoted(&shown[0]).replace('$', "$$");
        let _ = writeln!(text, "ExecStart={program} daemon --resurrect");
        text.push_str(
            "# A new version takes over while everything goes on; a restart would stop all apps.\n",
        );
        let _ = writeln!(text, "ExecReload={program} update");
        text.push_str(
            "Restart=always\n\
             # Services are not the daemon: one that ends leaves them running, the next one adopts them.\n\
             KillMode=process\n\
             # A control group for each service, and one for the daemon (systemd 254).\n\
             Delegate=yes\n\
             DelegateSubgroup=daemon\n\
             WatchdogSec=60\n\
             # Hundreds of services need descriptors.\n\
             LimitNOFILE=65536\n\
             # Time for adoption, and for all apps to stop.\n\
             TimeoutStartSec=120\n\
             TimeoutStopSec=120\n",
        );
        // `FileDescriptorStorePreserve=` (version 254) is left out: by default the store lasts over
        // restarts and ends with a stop, after which there is nothing to read and nobody to answer.
        let (store, room) = (descriptor_store::SIZE, descriptor_store::MAX);
        let _ = writeln!(
            text,
            "# While no daemon lives, systemd keeps the pipes of four thousand services and the router's\n\
             # listener open. More could not be passed on: their names have to fit into one variable.\n\
             FileDescriptorStoreMax={room}\n\
             # For versions before 254, which do not say that themselves.\n\
             Environment={store}={room}"
        );
        if self.user.is_some() {
            text.push_str(
                "# When memory is short, the kernel ends services first: they are started again.\n\
                 OOMScoreAdjust=-900\n",
            );
        }
        let target = match self.user {
            Some(_) => "multi-user.target",
            None => "default.target",
        };
        let _ = writeln!(text, "\n[Install]\nWantedBy={target}");
        Ok(text)
    }

    /// What to do where there is no systemd.
    fn other_init(&self) -> String {
        let user = self.user.as_deref().unwrap_or("you");
        format!(
            "mcpm makes units for systemd only.\n\
             Have your init system (OpenRC, runit, s6, supervisord, …) run this at boot, as the user `{user}`,\n\
             in the foreground, and again whenever it ends:\n\n\
             \x20   env MCPM_HOME={} {} daemon --resurrect\n\n\
             It must end that process only, not its children (SIGTERM stops the apps in order).\n\
             `mcpm save` says what is started.\n",
            shell_word(&self.home.to_string_lossy()),
            shell_word(&self.program.to_string_lossy()),
        )
    }
}

/// In double quotes, as systemd reads them: `%` begins a specifier.
fn quoted(text: &str) -> String {
    let escaped = text
        .replace('\\', r"\\")
        .replace('"', "\\\"")
        .replace('%', "%%");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit() -> Unit {
        Unit {
            program: "/opt/my tools/mcpm$1".into(),
            home: "/home/u/100%/.mcpm".into(),
            path: "/usr/bin:/bin".into(),
            user: Some("u".into()),
            wait_ip: false,
        }
    }

    #[test]
    fn what_the_rest_hangs_on_is_there() {
        let text = unit().text().unwrap();
        for line in [
            "Type=notify",
            "User=u",
            "KillMode=process",
            "Restart=always",
            "Delegate=yes",
            "DelegateSubgroup=daemon",
            "OOMScoreAdjust=-900",
            "FileDescriptorStoreMax=8192",
            "Environment=FDSTORE=8192",
            "ExecStart=\"/opt/my tools/mcpm$$1\" daemon --resurrect",
            "ExecReload=\"/opt/my tools/mcpm$$1\" update",
            "Environment=\"MCPM_HOME=/home/u/100%%/.mcpm\"",
            "WantedBy=multi-user.target",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn a_users_own_unit_names_no_user() {
        let own = Unit {
            user: None,
            wait_ip: true,
            ..unit()
        };
        let text = own.text().unwrap();
        assert!(!text.contains("User=") && !text.contains("OOMScoreAdjust"));
        assert!(text.contains("WantedBy=default.target"));
        assert!(text.contains("After=network-online.target"));
    }

    #[test]
    fn a_line_end_in_a_path_makes_no_line() {
        let bad = Unit {
            home: "/a\nExecStartPre=/bin/x".into(),
            ..unit()
        };
        assert!(bad.text().is_err());
    }

    #[test]
    fn words_are_quoted_for_the_shell() {
        assert_eq!(shell_word("/a/b-c"), "/a/b-c");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
    }
}
