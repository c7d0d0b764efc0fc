//! The variables of an app: the shell's, then `env`, then `env_<x>` with `--env x`; later wins.
//!
//! What the shell holds for somebody else is never passed on, and `filter_env`
//! takes away more. Values that are no texts are JSON, as in PM2. Values appear in no message.

use std::collections::BTreeMap;

use super::error::{Report, shown};
use super::fields::{Field, Fields};
use super::syntax::{Entry, Node, Place, Value};
use super::typed::Typed;

/// Of the shell's environment: secrets of the daemon, and what belongs to one process only.
const NEVER_PASSED: &[&str] = &[
    "CREDENTIALS_DIRECTORY",
    "NOTIFY_SOCKET",
    "FDSTORE",
    "NODE_CHANNEL_FD",
    "NODE_CHANNEL_SERIALIZATION_MODE",
    "MCPM_PROCESS",
    "MCPM_ROUTER_SECRET",
    "MCPM_FAILPOINT",
];
const NEVER_PASSED_PREFIXES: &[&str] = &[
    "MCPM_MASTER_KEY",
    SECRET_PREFIX,
    CLIENT_SECRET_PREFIX,
    "WATCHDOG_",
    "LISTEN_",
];
/// Variables of the operator that hold a secret of an identity provider begin so.
pub(super) const SECRET_PREFIX: &str = "MCPM_JWT_";
/// Of variables that hold the secrets of OAuth clients.
pub(super) const CLIENT_SECRET_PREFIX: &str = "MCPM_OAUTH_";

/// What a manager gives its children. In a shell that is itself such a child they would name the
/// wrong process.
const OF_A_CHILD: &[&str] = &[
    "name",
    "namespace",
    "status",
    "instances",
    "exec_mode",
    "exec_interpreter",
    "unique_id",
    "NODE_APP_INSTANCE",
    "restart_time",
    "unstable_restarts",
    "created_at",
    "version",
    "node_version",
    "username",
    "merge_logs",
    "vizion",
    "autostart",
    "autorestart",
    "treekill",
    "pmx",
    "automation",
    "windowsHide",
    "kill_retry_time",
    "instance_var",
    "km_link",
    "vizion_running",
    "watch",
];

/// What the file itself says, with places: `env`, and over it `env_<x>`.
pub(crate) struct Declared<'a> {
    pub(crate) variables: BTreeMap<&'a str, &'a Node>,
}

/// Reads `env` and, when it is asked for and there, `env_<x>`.
pub(crate) fn declared<'a>(
    fields: &'a Fields,
    env_name: Option<&str>,
    report: &mut Report,
) -> Declared<'a> {
    let mut variables = BTreeMap::new();
    add(&mut variables, fields.entries("env"), report);
    for (name, entries) in &fields.env_blocks {
        if Some(name.as_str()) == env_name {
            add(&mut variables, entries, report);
        } else {
            // Checked all the same: the next start may ask for it.
            add(&mut BTreeMap::new(), entries, report);
        }
    }
    Declared { variables }
}

fn add<'a>(into: &mut BTreeMap<&'a str, &'a Node>, entries: &'a [Entry], report: &mut Report) {
    for entry in entries {
        let Entry { key, at, node } = entry;
        if !is_name(key) {
            let message = format!("{} can't be a variable's name; leave out `=`", shown(key));
            report.mistake(*at, message);
        } else if matches!(&node.value, Value::Text(text) if text.contains('\0')) {
            let message = format!("the value of {} holds a NUL character", shown(key));
            report.mistake(node.at, message);
        } else {
            into.insert(key, node);
        }
    }
}

/// Whether the system takes it for a variable's name.
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.contains(['=', '\0'])
}

impl Declared<'_> {
    /// A variable's text and place, when the file sets it.
    pub(crate) fn get(&self, name: &str) -> Option<(String, Place)> {
        let node = self.variables.get(name)?;
        Some((value(node), node.at))
    }
}

/// As the child finds it.
fn value(node: &Node) -> String {
    match &node.value {
        Value::Text(text) => text.clone(),
        Value::Number(number) => number.to_text(),
        _ => node.to_json().to_string(),
    }
}

/// The whole environment of an app.
pub(crate) fn merged(
    shell: &BTreeMap<String, String>,
    filter: Option<&Field>,
    declared: &Declared<'_>,
) -> BTreeMap<String, String> {
    let mut all = of_shell(shell);
    all.retain(|name, _| !filtered(name, filter));
    let own = declared
        .variables
        .iter()
        .map(|(name, node)| ((*name).to_owned(), value(node)));
    all.extend(own);
    all
}

/// The shell's environment without what is never passed on. A `.config.js` sees no more either,
/// since many write `env: { ...process.env }`.
pub(crate) fn of_shell(shell: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let kept = shell.iter().filter(|(name, _)| passed(name, shell));
    kept.map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn passed(name: &str, shell: &BTreeMap<String, String>) -> bool {
    let never = NEVER_PASSED.contains(&name)
        || NEVER_PASSED_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix));
    let in_child = shell.contains_key("pm_id");
    let of_child = name.starts_with("pm_") || OF_A_CHILD.contains(&name);
    !(never || in_child && of_child)
}

/// PM2's three forms: a text drops that name, a list drops every name that contains an entry,
/// `true` drops all (in PM2 it is meant to, and does nothing).
fn filtered(name: &str, filter: Option<&Field>) -> bool {
    match filter.map(|field| &field.value) {
        Some(Typed::Flag(all)) => *all,
        Some(Typed::Text(exact)) => name == exact,
        Some(Typed::Texts(parts)) => parts.iter().any(|part| name.contains(part.as_str())),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::APP;
    use super::super::syntax::json;
    use super::super::{fields, syntax};
    use super::*;

    fn merge(app: &str, env_name: Option<&str>) -> (Vec<String>, Report) {
        let shell = [
            ("PATH", "/bin"),
            ("HOME", "/home/u"),
            ("AWS_KEY", "k"),
            ("MCPM_MASTER_KEY_FILE", "secret"),
            ("MCPM_FAILPOINT", "spawn.forked"),
            ("LISTEN_FDS", "1"),
            ("WATCHDOG_USEC", "1"),
            ("NOTIFY_SOCKET", "/x"),
            ("FDSTORE", "1"),
            ("MCPM_HOME", "/h"),
        ];
        let shell = shell.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let mut report = Report::new(Some("f"));
        let syntax::Value::Map(entries) = json::parse(app).unwrap().value else {
            panic!("a map")
        };
        let fields = fields::read(&entries, Place::default(), &APP, &mut report);
        let declared = declared(&fields, env_name, &mut report);
        let env = merged(&shell, fields.get("filter_env"), &declared);
        (
            env.iter().map(|(k, v)| format!("{k}={v}")).collect(),
            report,
        )
    }

    #[test]
    fn later_wins_and_values_become_texts() {
        let app =
            "{env: {PORT: 1, HOME: '/srv', L: [1, 'a'], N: null, B: true}, env_p: {PORT: 2.50}}";
        let (env, report) = merge(app, Some("p"));
        assert!(report.finish().unwrap().is_empty());
        assert_eq!(
            env,
            [
                "AWS_KEY=k",
                "B=true",
                "HOME=/srv",
                "L=[1,\"a\"]",
                "MCPM_HOME=/h",
                "N=null",
                "PATH=/bin",
                "PORT=2.5",
            ]
        );
    }

    #[test]
    fn filters_take_the_shells_variables_away() {
        assert_eq!(
            merge("{filter_env: ['PA', 'AWS']}", None).0,
            ["HOME=/home/u", "MCPM_HOME=/h"]
        );
        assert_eq!(merge("{filter_env: 'AWS_KEY'}", None).0.len(), 3);
        assert_eq!(merge("{filter_env: true, env: {A: 1}}", None).0, ["A=1"]);
    }

    #[test]
    fn a_bad_name_is_a_mistake() {
        let error = merge("{env: {'A=B': 1}, env_x: {C: 'a\\0'}}", None)
            .1
            .finish()
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("`A=B` can't be") && text.contains("`C` holds a NUL"),
            "{text}"
        );
    }
}
