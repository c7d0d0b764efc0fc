//! PM2's command lines → ours. Pure.
//!
//! PM2 takes every option with every command, before or after it. Here each command has its own, so
//! options that stand before the command are moved behind it, and those of PM2 that mean nothing to
//! the command are left out and named. What PM2 does not know either is left for clap to refuse.

use std::ffi::{OsStr, OsString};

use clap::{Arg, Command};

/// PM2's options that no command here has, and whether a value follows.
const WITHOUT_EFFECT: [(&str, bool); 24] = [
    ("--no-vizion", false),
    ("--no-pmx", false),
    ("--no-automation", false),
    ("--trace", false),
    ("--disable-trace", false),
    ("--v8", false),
    ("--event-loop-inspector", false),
    ("--deep-monitoring", false),
    ("--source-map-support", false),
    ("--disable-source-map-support", false),
    ("--parallel", true),
    ("--ext", true),
    ("--force", false),
    ("-f", false),
    ("--write", false),
    ("-w", false),
    ("--attach", false),
    ("--mini-list", false),
    ("-m", false),
    ("--sort", true),
    ("--no-treekill", false),
    ("--no-daemon", false),
    ("--format", false),
    (WEB, false),
];

/// Of `pm2-runtime`: a port may follow, or the file.
const WEB: &str = "--web";

/// The option of every command whose answer a program may read.
const JSON: &str = "--json";

/// The one option of PM2 that takes several words.
const EXIT_CODES: &str = "--stop-exit-codes";

/// A line that clap can read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// All of it, the program's name first.
    pub(crate) args: Vec<OsString>,
    /// Options of PM2 that were left out.
    pub(crate) ignored: Vec<String>,
    /// There is no command on it.
    pub(crate) is_without_command: bool,
    /// A program reads the answer, whether or not the command has one for it.
    pub(crate) asks_for_json: bool,
}

/// Puts options where the grammar wants them.
pub(crate) fn arrange(args: Vec<OsString>, grammar: &Command) -> Line {
    let end = args
        .iter()
        .position(|arg| arg == "--")
        .unwrap_or(args.len());
    let (before, after) = args.split_at(end);
    let mut words = gathered(before);
    if words.first().is_some_and(|program| is_runtime(program)) {
        words.insert(1, "runtime".into());
    }
    let asks_for_json = words.iter().any(|word| word == JSON);
    let unchanged = |words: Vec<OsString>| Line {
        args: [words.as_slice(), after].concat(),
        ignored: Vec::new(),
        is_without_command: false,
        asks_for_json,
    };
    let Some(at) = command_at(&words, grammar) else {
        return Line {
            is_without_command: true,
            ..unchanged(words)
        };
    };
    let Some(command) = words[at].to_str().and_then(|w| grammar.find_subcommand(w)) else {
        return unchanged(words);
    };
    if command.has_subcommands() {
        // Its own commands have the options, and some of these refuse any before them.
        return unchanged(words);
    }
    let mut front = vec![words[0].clone()];
    let mut behind = vec![words[at].clone()];
    let mut ignored = Vec::new();
    // A dash may begin a value.
    let is_plain = !command
        .get_positionals()
        .any(Arg::is_allow_hyphen_values_set);
    let mut rest = words[1..at].iter().chain(&words[at + 1..]).peekable();
    while let Some(word) = rest.next() {
        let Some(option) = Known::read(word, command, grammar) else {
            behind.push(word.clone());
            continue;
        };
        let value = if word == WEB {
            rest.next_if(|word| is_number(word))
        } else {
            option.takes_next.then(|| rest.next()).flatten()
        };
        let place = match option.whose {
            Whose::Command | Whose::Nobody => &mut behind,
            Whose::Root => &mut front,
            Whose::Pm2 if is_plain => {
                ignored.push(name(word));
                continue;
            }
            Whose::Pm2 => &mut behind,
        };
        place.push(word.clone());
        place.extend(value.cloned());
    }
    Line {
        args: [front.as_slice(), &behind, after].concat(),
        ignored,
        is_without_command: false,
        asks_for_json: asks_for_json && is_plain,
    }
}

/// Several exit codes are one value: `--stop-exit-codes 0 1`, and not a target called 1.
fn gathered(words: &[OsString]) -> Vec<OsString> {
    let mut gathered: Vec<OsString> = Vec::with_capacity(words.len());
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        gathered.push(word.clone());
        let codes = words.next_if(|_| word == EXIT_CODES);
        let Some(mut codes) = codes.cloned() else {
            continue;
        };
        while let Some(code) = words.next_if(|word| is_number(word)) {
            codes.push(",");
            codes.push(code);
        }
        gathered.push(codes);
    }
    gathered
}

fn is_number(word: &OsStr) -> bool {
    let bytes = word.as_encoded_bytes();
    !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit)
}

/// The name that containers use, which takes no command.
pub(crate) fn is_runtime(program: &OsStr) -> bool {
    is_called(program, "pm2-runtime") || is_called(program, "pm2-docker")
}

/// The name that fingers and scripts know.
pub(crate) fn is_pm2(program: &OsStr) -> bool {
    is_called(program, "pm2")
}

fn is_called(program: &OsStr, wanted: &str) -> bool {
    let name = std::path::Path::new(program).file_name();
    name.is_some_and(|name| name == wanted)
}

/// Where the command stands: the first word that is no option and no option's value.
fn command_at(words: &[OsString], grammar: &Command) -> Option<usize> {
    let mut at = 1;
    while let Some(word) = words.get(at) {
        match Known::read(word, grammar, grammar) {
            None => return Some(at),
            Some(option) if option.takes_next => at += 2,
            Some(_) => at += 1,
        }
    }
    None
}

enum Whose {
    /// The command has it.
    Command,
    /// It stands before the command: `--version`.
    Root,
    /// PM2 has it, and the command not.
    Pm2,
    /// Not known at all.
    Nobody,
}

struct Known {
    whose: Whose,
    /// The next word is its value.
    takes_next: bool,
}

impl Known {
    /// `None` for a word that is no option.
    fn read(word: &OsStr, command: &Command, grammar: &Command) -> Option<Self> {
        let word = word
            .to_str()
            .filter(|w| w.len() > 1 && w.starts_with('-'))?;
        let holds_value = word.contains('=') || (!word.starts_with("--") && word.len() > 2);
        let found = |command: &Command| command.get_arguments().find(|arg| has(arg, word)).cloned();
        let (whose, takes) = if let Some(arg) = found(command) {
            let is_root = command.get_name() == grammar.get_name() && !arg.is_global_set();
            (
                if is_root { Whose::Root } else { Whose::Command },
                takes_value(&arg),
            )
        } else if let Some(arg) = found(grammar) {
            let whose = if arg.is_global_set() {
                Whose::Command
            } else {
                Whose::Root
            };
            (whose, takes_value(&arg))
        } else if let Some((_, takes)) = WITHOUT_EFFECT.iter().find(|(name, _)| name_is(word, name))
        {
            (Whose::Pm2, *takes)
        } else if let Some(arg) = grammar.get_subcommands().find_map(found) {
            (Whose::Pm2, takes_value(&arg))
        } else {
            (Whose::Nobody, false)
        };
        Some(Self {
            whose,
            takes_next: takes && !holds_value,
        })
    }
}

fn has(arg: &Arg, word: &str) -> bool {
    let longs = arg
        .get_long()
        .into_iter()
        .chain(arg.get_all_aliases().into_iter().flatten());
    let shorts = arg
        .get_short()
        .into_iter()
        .chain(arg.get_all_short_aliases().into_iter().flatten());
    match word.strip_prefix("--") {
        Some(long) => longs
            .into_iter()
            .any(|name| name == long.split('=').next().unwrap_or(long)),
        None => shorts.into_iter().any(|name| word[1..].starts_with(name)),
    }
}

fn takes_value(arg: &Arg) -> bool {
    let needed = arg
        .get_num_args()
        .is_none_or(|count| count.min_values() > 0);
    arg.get_action().takes_values() && needed
}

fn name(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    word.split('=').next().unwrap_or_default().to_owned()
}

fn name_is(word: &str, name: &str) -> bool {
    word.split('=').next() == Some(name)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use proptest::prelude::*;

    use super::*;
    use crate::cli::args::Cli;

    fn arranged(line: &str) -> Line {
        arrange(
            line.split(' ').map(OsString::from).collect(),
            &Cli::command(),
        )
    }

    #[track_caller]
    fn check(line: &str, expected: &str, ignored: &[&str]) {
        let line = arranged(line);
        let words: Vec<_> = line.args.iter().map(|arg| arg.to_str().unwrap()).collect();
        assert_eq!(words.join(" "), expected);
        assert_eq!(line.ignored, ignored);
    }

    #[test]
    fn options_may_stand_before_the_command() {
        check(
            "mcpm --name web start app.js",
            "mcpm start --name web app.js",
            &[],
        );
        check(
            "mcpm -i 4 -n web start a.js -- -x",
            "mcpm start -i 4 -n web a.js -- -x",
            &[],
        );
        check(
            "mcpm --lines=5 logs web --raw",
            "mcpm logs --lines=5 web --raw",
            &[],
        );
        check("mcpm -s ls", "mcpm ls -s", &[]);
        check("mcpm --version", "mcpm --version", &[]);
        check("mcpm -v ls", "mcpm -v ls", &[]);
        check("mcpm", "mcpm", &[]);
    }

    #[test]
    fn what_has_no_effect_is_left_out_and_named() {
        check(
            "pm2 start app.js --no-pmx --no-vizion --name web",
            "pm2 start app.js --name web",
            &["--no-pmx", "--no-vizion"],
        );
        check("pm2 delete all --force", "pm2 delete all", &["--force"]);
        check("pm2 save --force", "pm2 save --force", &[]);
        check("pm2 --name x stop web", "pm2 stop web", &["--name"]);
        check(
            "pm2 start app.js --no-vizion -m",
            "pm2 start app.js",
            &["--no-vizion", "-m"],
        );
        check(
            "pm2 restart web --parallel 4 -a",
            "pm2 restart web -a",
            &["--parallel"],
        );
    }

    #[test]
    fn exit_codes_are_one_value() {
        check(
            "pm2 start app.js --stop-exit-codes 0 1 143 --time",
            "pm2 start app.js --stop-exit-codes 0,1,143 --time",
            &[],
        );
        check(
            "pm2 start --stop-exit-codes 3 app.js",
            "pm2 start --stop-exit-codes 3 app.js",
            &[],
        );
        check(
            "pm2 start a.js -- --stop-exit-codes 0 1",
            "pm2 start a.js -- --stop-exit-codes 0 1",
            &[],
        );
    }

    #[test]
    fn what_is_not_an_option_of_pm2_stays() {
        check("mcpm stop web --nope", "mcpm stop web --nope", &[]);
        check("mcpm nope --name x", "mcpm nope --name x", &[]);
        check("mcpm scale web -1", "mcpm scale web -1", &[]);
        check("mcpm send 0 --force", "mcpm send 0 --force", &[]);
        check(
            "mcpm start a.js -- --no-pmx",
            "mcpm start a.js -- --no-pmx",
            &[],
        );
        check("mcpm -s users add alice", "mcpm -s users add alice", &[]);
        check("mcpm users add --force", "mcpm users add --force", &[]);
    }

    #[test]
    fn a_line_without_a_command_is_known() {
        for line in ["mcpm --name x", "mcpm -s", "mcpm -i 4 --name x", "mcpm"] {
            assert!(arranged(line).is_without_command, "{line}");
        }
        for line in [
            "mcpm -s ls",
            "mcpm nope",
            "pm2-runtime --json",
            "mcpm users",
        ] {
            assert!(!arranged(line).is_without_command, "{line}");
        }
    }

    #[test]
    fn who_asks_for_json_is_known_whatever_the_command() {
        for line in [
            "mcpm update --json",
            "mcpm --json ls",
            "mcpm users list --json",
            "mcpm stop web --json",
        ] {
            assert!(arranged(line).asks_for_json, "{line}");
        }
        for line in [
            "mcpm start a.js -- --json",
            "mcpm send 0 --json",
            "mcpm ls --sort name",
        ] {
            assert!(!arranged(line).asks_for_json, "{line}");
        }
    }

    #[test]
    fn a_port_may_follow_and_a_file_is_none() {
        let wanted = "pm2-runtime runtime app.js";
        check("pm2-runtime app.js --web 9615", wanted, &["--web"]);
        check("pm2-runtime --web app.js", wanted, &["--web"]);
    }

    #[test]
    fn the_name_of_containers_is_a_command() {
        check(
            "/bin/pm2-runtime app.js",
            "/bin/pm2-runtime runtime app.js",
            &[],
        );
        check(
            "pm2-runtime --json app.js",
            "pm2-runtime runtime --json app.js",
            &[],
        );
    }

    proptest! {
        #[test]
        fn no_word_is_lost_and_arranging_again_changes_nothing(
            words in proptest::collection::vec("(start|stop|web|-i|4|--name|--force|--x=1|--|-s)", 0..8)
        ) {
            let line: Vec<OsString> =
                std::iter::once("mcpm".into()).chain(words.into_iter().map(Into::into)).collect();
            let once = arrange(line.clone(), &Cli::command());
            prop_assert!(once.args.len() + 2 * once.ignored.len() >= line.len());
            let twice = arrange(once.args.clone(), &Cli::command());
            prop_assert_eq!(twice.args, once.args);
        }
    }
}
