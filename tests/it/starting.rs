//! `start`: from an ecosystem file or a script to processes that are ready.

use serde_json::{Value, json};

use crate::harness::{Mcpm, demo, in_terminal, job, service, sh, wait_for};

const TICK: &str = "while :; do echo tick; sleep 1; done";

#[test]
fn start_waits_until_services_are_ready_and_says_what_to_type_next() {
    let mcpm = Mcpm::new();
    let demo = demo("demo");
    let port = demo.port();
    let file = mcpm.ecosystem([demo, sh("ticker", TICK)]);
    let said = mcpm.ok(&["start", &file]);
    let list = mcpm.list();
    assert!(list["demo"].is_up() && list["ticker"].is_up(), "{list:#?}");

    // In a pipe: one plain line for each when it is there, no colours, nothing redrawn.
    assert!(!said.contains('\x1b'), "{said}");
    let line = |begin: &str| said.lines().find(|line| line.starts_with(begin));
    let ready = line("✓ demo").expect("a line for the service");
    let place = format!("127.0.0.1:{port}");
    assert!(
        ready.contains(&place) && ready.contains("ready in"),
        "{ready}"
    );
    assert!(
        line("✓ ticker").is_some_and(|line| line.contains("online in")),
        "{said}"
    );
    // Then the table of `ls`, the router's address, and the next command.
    assert!(
        line("│ 0  │ demo").is_some_and(|row| row.contains("online")),
        "{said}"
    );
    assert_eq!(
        line("router"),
        Some(format!("router  {}", mcpm.origin()).as_str())
    );
    assert_eq!(said.lines().last(), Some("next    mcpm users add alice"));
}

#[test]
fn the_next_command_leads_to_a_first_instance_and_then_falls_silent() {
    let mcpm = Mcpm::new();
    let file = mcpm.ecosystem([demo("demo")]);
    let next = |said: String| {
        let line = said.lines().last().unwrap_or_default().to_owned();
        line.strip_prefix("next    ").map(str::to_owned)
    };
    assert_eq!(
        next(mcpm.ok(&["start", &file])).unwrap(),
        "mcpm users add alice"
    );
    mcpm.token("alice");
    let second = next(mcpm.ok(&["start", &file])).unwrap();
    assert_eq!(second, "mcpm instances add demo --user alice");
    mcpm.instance("alice", "demo");
    assert_eq!(next(mcpm.ok(&["start", &file])), None);
}

#[test]
fn a_second_start_of_a_file_restarts_its_apps_and_starts_new_ones() {
    let mcpm = Mcpm::start([sh("a", TICK)]);
    let first = mcpm.list()["a"].pid;
    let file = mcpm.ecosystem([sh("a", "exec sleep 1000"), sh("b", TICK)]);
    mcpm.ok(&["start", &file]);
    let list = mcpm.list();
    assert_ne!(list["a"].pid, first);
    assert_eq!((list["a"].id, list["a"].restarts, list["b"].id), (0, 1, 1));
    let args = &list["a"].raw["pm2_env"]["args"];
    assert_eq!(args[1], "exec sleep 1000", "the new arguments count");
}

#[test]
fn a_script_is_started_with_its_options_and_a_second_start_is_refused() {
    let mcpm = Mcpm::new();
    let script = mcpm.write_program("work.sh", "#!/bin/sh\necho \"$1 $MODE\"\nexec sleep 1000\n");
    let interpreter = ["--interpreter", "none"];
    let mut args = vec!["start", &script, "--name", "work"];
    args.extend(interpreter);
    args.extend(["--", "hello"]);
    mcpm.ok(&args);
    wait_for(
        || (mcpm.log("work-out.log") == b"hello \n").then_some(()),
        "the script's output with its argument",
    );
    let refused = mcpm.fails(&args);
    assert!(refused.contains("`work` (0) runs already"), "{refused}");
    assert!(refused.contains("mcpm restart work"), "{refused}");
}

#[test]
fn a_command_line_is_a_script_too() {
    let mcpm = Mcpm::new();
    mcpm.ok(&[
        "start",
        "mcpm bridge demo",
        "--name",
        "sleepy",
        "--no-autorestart",
        "--no-wait",
    ]);
    let list = mcpm.list();
    assert_eq!(
        list["sleepy"].raw["pm2_env"]["args"],
        json!(["bridge", "demo"])
    );
}

#[test]
fn a_job_that_ends_well_is_no_failure_and_one_that_ends_badly_is() {
    let mcpm = Mcpm::new();
    let file = mcpm.ecosystem([job("good", "exit 0")]);
    mcpm.ok(&["start", &file]);
    let file = mcpm.ecosystem([job("bad", "echo too bad >&2; exit 7")]);
    let ran = mcpm.run(&["start", &file]);
    // It may have been seen running before it ended; what the list says then is final.
    if ran.code == Some(1) {
        assert!(ran.stdout.contains("ended with code 7"), "{ran}");
    }
    mcpm.wait_until(|list| list["bad"].status == "stopped");
    let shown = mcpm.ok(&["describe", "bad"]);
    assert!(
        shown.contains("exited with code 7") && shown.contains("too bad"),
        "{shown}"
    );
}

#[test]
fn an_app_that_crashes_at_once_is_never_called_online() {
    let mcpm = Mcpm::new();
    let file = mcpm.ecosystem([sh("bad", "echo too bad >&2; exit 3"), sh("good", TICK)]);
    let ran = mcpm.run(&["start", &file]);
    // What runs for so long counts as there; a shell that only ends takes a few milliseconds.
    let told: Value = serde_json::from_str(&mcpm.ok(&["why", "bad", "--json"])).unwrap();
    let exits = told["items"][0]["exits"].as_array().into_iter().flatten();
    let slowest = exits.filter_map(|exit| exit["uptimeMs"].as_u64()).max();
    if ran.code == Some(0) && slowest >= Some(150) {
        eprintln!("skipped: on this machine it takes {slowest:?} ms to end");
        return;
    }
    assert_eq!(ran.code, Some(1), "{ran}");
    let line = |begin: &str| ran.stdout.lines().find(|line| line.starts_with(begin));
    assert_eq!(line("✓ bad"), None, "{ran}");
    assert!(
        line("✗ bad").is_some_and(|line| line.contains("exited with code 3")),
        "{ran}"
    );
    assert!(line("✓ good").is_some(), "{ran}");
    assert_eq!(mcpm.list()["bad"].status, "errored");
}

#[test]
fn a_service_that_crashes_again_and_again_is_one_line_with_the_true_reason() {
    let mcpm = Mcpm::new();
    let crash = service("crash")
        .with("/script", "/bin/sh")
        .with("/args", json!(["-c", "exit 4"]));
    let file = mcpm.ecosystem([crash]);
    let ran = mcpm.run(&["start", &file, "--timeout", "2"]);
    assert_eq!(ran.code, Some(1), "{ran}");
    let lines = |begin: &str| {
        let found = ran.stdout.lines().filter(|line| line.starts_with(begin));
        found.collect::<Vec<_>>()
    };
    assert!(lines("… crash").len() <= 1, "{ran}");
    let verdict = lines("✗ crash");
    assert_eq!(verdict.len(), 1, "{ran}");
    assert!(verdict[0].contains("exited with code 4"), "{ran}");
}

#[test]
fn apps_with_autostart_off_are_registered_only() {
    let mcpm = Mcpm::new();
    let file = mcpm.ecosystem([sh("later", TICK).with("/autostart", false)]);
    let said = mcpm.ok(&["start", &file]);
    assert!(
        said.contains("✓ registered later (0), not started\n"),
        "{said}"
    );
    assert_eq!(mcpm.list()["later"].status, "stopped");
    mcpm.ok(&["start", "later"]);
    assert_eq!(mcpm.list()["later"].status, "online");
    mcpm.ok(&["restart", &file]);
    assert_eq!(mcpm.list()["later"].status, "online", "it ran");
    mcpm.ok(&["stop", "later"]);
    let changed = mcpm.ecosystem([
        sh("later", TICK)
            .with("/autostart", false)
            .with("/env", json!({ "NEW": "1" })),
        sh("web", TICK),
    ]);
    for verb in ["start", "restart", "reload", "startOrReload"] {
        let said = mcpm.ok(&[verb, &changed]);
        assert!(
            said.contains("✓ registered later (0), not started\n"),
            "{said}"
        );
        assert_eq!(mcpm.list()["later"].status, "stopped", "after {verb}");
        assert_eq!(mcpm.list()["web"].status, "online", "after {verb}");
    }
    mcpm.ok(&["start", "later"]);
    assert!(
        mcpm.ok(&["env", "later"]).contains("NEW"),
        "made from the new file"
    );
}

#[test]
fn an_app_that_dies_before_it_is_ready_holds_up_nobody() {
    let mcpm = Mcpm::new();
    let dies = sh("dies", "sleep 1.2; exit 4")
        .with("/wait_ready", true)
        .with("/listen_timeout", 600_000);
    let file = mcpm.ecosystem([dies, sh("fine", TICK)]);
    mcpm.ok(&["start", &file, "--no-wait"]);
    let ran = mcpm.run(&["restart", "dies"]);
    assert_eq!(ran.code, Some(1), "{ran}");
    assert!(ran.stderr.contains("dies (0): exited with code 4"), "{ran}");
    let ran = mcpm.run(&["start", &file, "--timeout", "3"]);
    assert_eq!(ran.code, Some(1), "{ran}");
    assert!(
        ran.stdout.contains("✓ fine") && ran.stdout.contains("✗ dies"),
        "{ran}"
    );
}

#[test]
fn a_service_that_never_answers_is_given_up_on_and_goes_on_trying() {
    let mcpm = Mcpm::new();
    let deaf = service("deaf")
        .with("/script", "/bin/sh")
        .with("/args", json!(["-c", "exec sleep 1000"]));
    let file = mcpm.ecosystem([deaf, demo("demo")]);
    let ran = mcpm.run(&["start", &file, "--timeout", "1"]);
    assert_eq!(ran.code, Some(1), "{ran}");
    let line = ran
        .stdout
        .lines()
        .find(|line| line.starts_with("✗ deaf"))
        .expect("its line");
    assert!(line.contains("not ready after 1.0 s"), "{line}");
    assert!(line.contains("nobody listens on its port"), "{line}");
    assert!(mcpm.list()["demo"].is_up(), "the other one is ready");
}

#[test]
fn services_get_their_port_and_what_pm2s_children_get() {
    let service = service("mirror");
    let port = service.port().to_string();
    let mcpm = Mcpm::start([
        service,
        sh("env", "env; exec sleep 1000").with("/env/COLOUR", "red"),
    ]);
    let list = mcpm.list();
    assert_eq!(list["mirror"].raw["pm2_env"]["PORT"], json!(port));
    let env = wait_for(
        || {
            let text = String::from_utf8_lossy(&mcpm.log("env-out.log")).into_owned();
            text.contains("pm_id=1").then_some(text)
        },
        "the app's environment",
    );
    for line in [
        "COLOUR=red",
        "name=env",
        "NODE_APP_INSTANCE=0",
        "namespace=default",
    ] {
        assert!(env.lines().any(|found| found == line), "{line} in {env}");
    }
    for name in ["MCPM_ROUTER_SECRET=", "MCPM_READY"] {
        assert!(!env.contains(name), "{name} is not for plain apps: {env}");
    }
}

#[test]
fn a_terminal_sees_lines_that_are_redrawn() {
    let mcpm = Mcpm::new();
    let file = mcpm.ecosystem([demo("demo")]);
    let command = mcpm.command(&["start", &file]);
    let Some(said) = in_terminal(&command) else {
        eprintln!("skipped: there is no `script` program here to make a terminal with");
        return;
    };
    assert!(
        said.contains("\x1b["),
        "colours and cursor movements: {said:?}"
    );
    assert!(
        said.contains("ready in") && said.contains("router"),
        "{said:?}"
    );
}

#[test]
fn what_is_the_daemons_own_is_not_passed_on_to_apps() {
    let mcpm = Mcpm::new();
    let file = mcpm.ecosystem([sh("env", "env; echo end; exec sleep 1000")]);
    let own = [
        "CREDENTIALS_DIRECTORY",
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "LISTEN_FDS",
        "FDSTORE",
    ];
    let mut command = mcpm.command(&["start", &file]);
    command
        .envs(own.map(|name| (name, "/nowhere")))
        .env("MINE", "yes");
    assert!(command.output().unwrap().status.success());
    let env = wait_for(
        || Some(mcpm.log("env-out.log")).filter(|log| log.ends_with(b"end\n")),
        "the app's environment",
    );
    let env = String::from_utf8_lossy(&env);
    assert!(
        env.contains("MINE=yes"),
        "the shell's own variables are passed on: {env}"
    );
    for name in own {
        assert!(!env.contains(name), "{name} in {env}");
    }
}

#[test]
fn when_memory_is_short_a_daemon_of_root_goes_after_its_processes() {
    let score = |pid: u32| -> Option<i32> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).ok()?;
        text.trim().parse().ok()
    };
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let rights = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let rights = u64::from_str_radix(rights.unwrap().trim(), 16).unwrap();
    // CAP_SYS_RESOURCE (linux/capability.h)
    if rights & (1 << 24) == 0 || score(std::process::id()) != Some(0) {
        eprintln!("skipped: nobody here may choose who goes first when memory is short");
        return;
    }
    let mcpm = Mcpm::start([sh("app", "exec sleep 1000")]);
    let check = || {
        let scores = (score(mcpm.daemon_pid()), score(mcpm.list()["app"].pid));
        assert_eq!(scores, (Some(-500), Some(0)));
    };
    check();
    mcpm.ok(&["update"]);
    check();
    mcpm.kill_daemon();
    mcpm.ok(&["restart", "app"]);
    check();
}
