//! Options of an app on a command line, for a new one or over one that is listed:
//! `restart web --kill-timeout 3000 -- --port 80`.
//!
//! What a listed process is made from is asked for, changed here, and sent back: the daemon knows
//! no options.

use crate::api::outcomes::{Done, Outcome};
use crate::api::process_orders::{ReloadRequest, Reloaded};
use crate::config::Loaded;
use crate::config::spec::{AppSpec, Env, SPEC_VERSION};
use crate::control::client::Client;

use super::app_flags::AppFlags;
use super::render::Output;
use super::{list, loading};

/// What an app is to be, or what is to be different from now on.
#[derive(Debug, clap::Args)]
pub(crate) struct Change {
    #[command(flatten)]
    flags: AppFlags,
    /// Arguments of the script
    #[arg(last = true, value_name = "ARGS")]
    script_args: Vec<String>,
}

impl Change {
    /// The options.
    pub(crate) fn flags(&self) -> &AppFlags {
        &self.flags
    }

    /// Options and arguments.
    pub(crate) fn into_parts(self) -> (AppFlags, Vec<String>) {
        (self.flags, self.script_args)
    }

    /// A new app of a script.
    ///
    /// # Errors
    /// What is wrong with the options.
    pub(crate) fn script(&self, script: &str) -> anyhow::Result<Loaded> {
        loading::from_script(script, &self.script_args, &self.flags)
    }

    /// Is there anything?
    pub(crate) fn is_given(&self) -> bool {
        self.flags.are_given() || !self.script_args.is_empty()
    }

    /// How many there are is not changed by a restart.
    pub(crate) fn tell_of_instances(&self, output: &Output) {
        if let Some(count) = self.flags.instances() {
            output.warning(format_args!(
                "`-i` does not count for what is listed: `mcpm scale NAME {count}`"
            ));
        }
    }

    /// What the process is to be made from; `None` when nothing is different.
    ///
    /// # Errors
    /// What is wrong with the options.
    pub(crate) fn of(&self, spec: &AppSpec) -> anyhow::Result<Option<AppSpec>> {
        let amended = || loading::amended(spec, &self.flags, &self.script_args);
        self.is_given().then(amended).transpose()
    }

    /// Restarts what a target means, changed; all options are looked at before the first of them.
    ///
    /// # Errors
    /// When the target means nothing, or an option is wrong.
    pub(crate) async fn restart(
        &self,
        target: &str,
        env: Option<&Env>,
        daemon: &mut Client,
    ) -> anyhow::Result<Vec<Outcome>> {
        let mut requests = Vec::new();
        for process in list::selected(daemon, target, true).await? {
            requests.push(ReloadRequest {
                spec_version: SPEC_VERSION,
                pm_id: process.pm_id,
                spec: self.of(&process.spec)?,
                env: env.cloned(),
                renamed_from: Some(process.name),
                at_once: true,
            });
        }
        let mut outcomes = Vec::new();
        for request in requests {
            let path = "/api/v1/admin/processes/reload";
            let done: Reloaded = daemon.post(path, &request).await?;
            outcomes.push(Outcome {
                pm_id: done.pm_id,
                name: done.name,
                error: done.error,
                done: Done::AsAsked,
                note: None,
            });
        }
        Ok(outcomes)
    }
}
