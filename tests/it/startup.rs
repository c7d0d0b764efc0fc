//! `startup`: the unit that it prints, as systemd itself reads it.

use std::process::Command;

use crate::harness::{Mcpm, PROGRAM, sh};

#[test]
fn the_printed_unit_is_one_for_systemd() {
    let mcpm = Mcpm::new();
    for (name, args) in [
        ("system.service", &["startup", "--no-install"][..]),
        (
            "user.service",
            &["startup", "--no-install", "--user-unit", "--wait-ip"],
        ),
    ] {
        let unit = mcpm.ok(args);
        let program = format!("ExecStart=\"{PROGRAM}\" daemon --resurrect");
        assert!(unit.contains(&program), "{unit}");
        assert!(unit.contains(mcpm.home().to_str().unwrap()), "{unit}");
        let file = mcpm.write(name, &unit);
        let Ok(verdict) = Command::new("systemd-analyze")
            .args(["verify", &file])
            .output()
        else {
            eprintln!("skipped: there is no `systemd-analyze` here");
            return;
        };
        let said = String::from_utf8_lossy(&verdict.stderr);
        // What it says of other units on this machine is not about ours, and before systemd 254 it does
        // not know all that ours says.
        let is_ours = |line: &&str| line.contains(name) && !line.contains("DelegateSubgroup");
        let ours: Vec<&str> = said.lines().filter(is_ours).collect();
        assert!(ours.is_empty(), "{ours:#?}");
    }
}

#[test]
fn other_init_systems_are_told_what_to_run() {
    let mcpm = Mcpm::new();
    let ran = mcpm.run(&["startup", "openrc"]);
    assert_eq!(ran.code, Some(1), "{ran}");
    assert!(
        ran.stdout.contains("daemon --resurrect") && ran.stdout.contains("MCPM_HOME="),
        "{ran}"
    );
    let said = mcpm.fails(&["unstartup", "--service-name", "mcpm-test-nobody-has-this"]);
    assert!(
        said.contains("there is no `/etc/systemd/system/mcpm-test-nobody-has-this.service`"),
        "{said}"
    );
}

#[test]
fn a_daemon_tells_the_service_manager_when_it_is_ready() {
    let mcpm = Mcpm::new();
    let path = mcpm.folder().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    let mut command = mcpm.command(&["daemon"]);
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "200000");
    let mut daemon = command.spawn().unwrap();
    let mut buffer = [0; 100];
    let mut said = |wanted: &[u8]| loop {
        let count = socket.recv(&mut buffer).unwrap();
        if buffer[..count]
            .split(|&byte| byte == b'\n')
            .any(|line| line == wanted)
        {
            return;
        }
    };
    socket
        .set_read_timeout(Some(std::time::Duration::from_secs(20)))
        .unwrap();
    said(b"READY=1");
    said(b"WATCHDOG=1");
    mcpm.ok(&["kill"]);
    daemon.wait().unwrap();
}

#[test]
fn what_the_kernel_grants_the_daemon_is_not_passed_on() {
    const LOWER: &str = "echo -500 > /proc/self/oom_score_adj";
    let may = Command::new("/bin/sh").args(["-c", LOWER]).output();
    if !may.expect("a shell").status.success() {
        eprintln!("skipped: this user may not lower a score for the kernel's choice");
        return;
    }
    let mcpm = Mcpm::new();
    let file = mcpm.ecosystem([sh("web", "exec sleep 1000")]);
    let start = mcpm.command(&["start", &file]);
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", &format!("{LOWER} && exec \"$@\""), "sh"])
        .arg(start.get_program())
        .args(start.get_args())
        .current_dir(mcpm.folder())
        .env_clear()
        .envs(
            start
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
    assert!(shell.status().expect("a shell").success());
    let score = |pid: u32| {
        let file = format!("/proc/{pid}/oom_score_adj");
        std::fs::read_to_string(file)
            .expect("its score")
            .trim()
            .to_owned()
    };
    assert_eq!(score(mcpm.daemon_pid()), "-500");
    assert_eq!(score(mcpm.list()["web"].pid), "0");
}
