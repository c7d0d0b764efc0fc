//! Completion scripts, and the manual pages.

use std::process::Command;

use crate::harness::{Mcpm, PROGRAM, run, sh, wait_for};

/// What a shell offers after this line, as its script asks for it.
fn offered(mcpm: &Mcpm, shell: &str, line: &[&str]) -> String {
    let mut command = mcpm.command(&["--"]);
    let last = (line.len() - 1).to_string();
    command
        .args(line)
        .env("MCPM_COMPLETE", shell)
        .env("_CLAP_COMPLETE_INDEX", last)
        .env("_CLAP_IFS", "\n");
    let ran = run(command, "");
    assert_eq!(ran.code, Some(0), "{ran}");
    ran.stdout
}

#[test]
fn names_of_what_runs_are_offered_where_a_process_is_meant() {
    let mcpm = Mcpm::start([
        sh("web-front", "exec sleep 1000"),
        sh("api", "exec sleep 1000"),
    ]);
    // A shell is not kept waiting for names: on a machine that is busy they may be missing once.
    let names = |verb: &str, begun: &str| {
        let named = || {
            let all = offered(&mcpm, "bash", &["mcpm", verb, begun]);
            all.contains("web-front").then_some(all)
        };
        wait_for(named, &format!("names after {verb}"))
    };
    for verb in ["stop", "logs", "describe", "why", "attach", "restart"] {
        let all = names(verb, "");
        assert!(all.contains("api") && all.contains("all"), "{verb}: {all}");
        let begun = names(verb, "we");
        assert!(!begun.contains("api"), "{verb}: {begun}");
    }
    let verbs = offered(&mcpm, "bash", &["mcpm", "sta"]);
    assert!(
        verbs.contains("start") && verbs.contains("startup"),
        "{verbs}"
    );
}

#[test]
fn no_daemon_is_started_to_complete_a_word() {
    let mcpm = Mcpm::new();
    assert!(offered(&mcpm, "bash", &["mcpm", "stop", "a"]).contains("all"));
    assert!(!mcpm.home().join("mcpm.sock").exists());
}

#[test]
fn shells_take_their_scripts() {
    let mcpm = Mcpm::start([sh("web-front", "exec sleep 1000")]);
    for shell in ["bash", "zsh", "fish"] {
        let script = mcpm.write(&format!("mcpm.{shell}"), &mcpm.ok(&["completions", shell]));
        let mut check = Command::new(shell);
        check.args(["-n", &script]);
        match check.output() {
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(output.status.success(), "{shell}: {said}");
            }
            Err(_) => eprintln!("skipped: there is no `{shell}` here"),
        }
    }
    let put = || Some(put_by_bash(&mcpm, "web", "web")).filter(|put| !put.is_empty());
    assert_eq!(wait_for(put, "a name for web"), "web-front\n");
}

/// What Tab puts after `mcpm stop`, one word after the other as bash then reads it. `typed` is the whole
/// word, `given` what of it stands behind an open quote.
fn put_by_bash(mcpm: &Mcpm, typed: &str, given: &str) -> String {
    let folder = PROGRAM.rsplit_once('/').unwrap().0;
    let quote = typed.strip_suffix(given).unwrap();
    let line = format!(
        "PATH={folder}:$PATH; source <(mcpm completions bash); COMP_WORDS=(mcpm stop \"$1\"); COMP_CWORD=2; \
         COMP_TYPE=9; f=$(complete -p mcpm | sed 's/.*-F //; s/ .*//'); $f mcpm \"$2\" stop; \
         for word in \"${{COMPREPLY[@]}}\"; do eval \"printf '%s\\n' $3$word$3\"; done"
    );
    let ours = mcpm.command(&[]);
    let mut command = Command::new("bash");
    command
        .args(["-c", &line, "bash", typed, given, quote])
        .current_dir(mcpm.folder())
        .env_clear();
    command.envs(
        ours.get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    let ran = run(command, "");
    assert_eq!(ran.code, Some(0), "{ran}");
    ran.stdout
}

#[test]
fn names_that_need_quotes_are_one_word_in_every_shell() {
    let names = ["my app", "it's $HOME", "say \"hi\"", "🚀 go", "a*b"];
    let mcpm = Mcpm::start(names.map(|name| sh(name, "exec sleep 1000")));
    for (typed, given, name) in [
        ("my", "my", "my app"),
        ("my\\ a", "my\\ a", "my app"),
        ("\"my a", "my a", "my app"),
        ("it", "it", "it's $HOME"),
        ("\"it", "it", "it's $HOME"),
        ("'it", "it", "it's $HOME"),
        ("say", "say", "say \"hi\""),
        ("🚀", "🚀", "🚀 go"),
        ("a\\*", "a\\*", "a*b"),
    ] {
        // Nothing is put when the names come too late.
        let put = || Some(put_by_bash(&mcpm, typed, given)).filter(|put| !put.is_empty());
        let put = wait_for(put, &format!("a name for {typed}"));
        assert_eq!(put, format!("{name}\n"), "{typed}");
    }
    // These quote by themselves; what they hand over is the word as it was typed.
    for (shell, typed) in [("zsh", "my\\ a"), ("zsh", "'my a"), ("fish", "\"my a")] {
        let found = || {
            let found = offered(&mcpm, shell, &["mcpm", "stop", typed]);
            Some(found).filter(|found| !found.trim().is_empty())
        };
        let found = wait_for(found, &format!("a name for {typed} in {shell}"));
        assert_eq!(found.trim_end(), "my app", "{shell} {typed}");
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let mcpm = Mcpm::new();
    let folder = mcpm.folder().join("man1");
    mcpm.ok(&["man", folder.to_str().unwrap()]);
    for page in [
        "mcpm.1",
        "mcpm-start.1",
        "mcpm-import-pm2.1",
        "mcpm-users-add.1",
    ] {
        let text = std::fs::read_to_string(folder.join(page)).unwrap();
        assert!(text.contains(".SH NAME"), "{page}: {text}");
    }
    assert!(mcpm.ok(&["man"]).contains(".TH mcpm 1"));
}
