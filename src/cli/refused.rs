//! PM2's verbs that mcpm does not have, and why. Pure.

/// How a sentence goes on that begins with a verb of PM2 that there is not; `None` for any other word.
pub(crate) fn reason(verb: &str) -> Option<String> {
    let not_yet = match verb {
        "monit" | "imonit" | "dash" | "dashboard" => {
            "`mcpm ls --watch` and `mcpm logs` show what goes on"
        }
        _ => {
            let why = on_purpose(verb)?;
            return Some(format!("not there on purpose: {why}"));
        }
    };
    Some(format!("not there yet: {not_yet}"))
}

fn on_purpose(verb: &str) -> Option<&'static str> {
    Some(match verb {
        "link" | "unlink" | "plus" | "register" | "login" | "logout" | "open" | "monitor"
        | "unmonitor" | "interact" | "agent" => {
            "it belongs to PM2's hosted dashboard, and mcpm reports to nobody; \
             the REST API has what a dashboard needs (docs/api.md)"
        }
        "profile:cpu" | "profile:mem" | "profile" | "inspect" | "deepUpdate" | "autoinstall"
        | "install-otel" | "uninstall-otel" | "trigger" => {
            "it reaches into Node's runtime, and apps are any programs here; \
             start node with `--node-args=--inspect` and use its own tools"
        }
        "install" | "uninstall" | "module:install" | "module:uninstall" | "module:update"
        | "module:generate" | "package" | "publish" | "module:package" | "module:publish" => {
            "modules are npm packages that run inside PM2; start such a program as an app"
        }
        "deploy" | "pull" | "forward" | "backward" => {
            "fetching sources is not the business of what runs them; \
             deploy with your own tools, then `mcpm reload FILE`"
        }
        "slist" | "sysinfos" | "web" => {
            "`mcpm ls` and `mcpm describe` show processes, `mcpm ls --json` tells programs"
        }
        "logrotate" => "logs are rotated anyway (`log_rotate` in docs/ecosystem-file.md)",
        "create" | "examples" => "`mcpm init` writes a first ecosystem file",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::args::Cli;

    #[test]
    fn no_verb_is_refused_that_there_is() {
        for command in Cli::command().get_subcommands() {
            for name in std::iter::once(command.get_name()).chain(command.get_all_aliases()) {
                assert_eq!(reason(name), None, "{name}");
            }
        }
        assert!(reason("deploy").is_some() && reason("monit").is_some());
        assert_eq!(reason("strat"), None);
    }
}
