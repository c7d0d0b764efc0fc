//! What flags, environment, shells and files say about settings, and what a start may change of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::listen::Front;
use super::run::{DaemonError, DaemonOptions};
use super::settings::{self, Chosen, Source, Sources};
use crate::config::Settings;
use crate::config::load::load_settings;
use crate::home::Home;
use crate::problem::chain;
use crate::store::StoreHandle;

/// Where the store keeps the settings of the ecosystem file's block.
const BLOCK_SETTING: &str = "ecosystem_block";

/// What the flags and the environment of this process say.
pub(super) fn strong(options: &DaemonOptions) -> Result<Vec<Source>, DaemonError> {
    let flags = Settings {
        listen: options.listen,
        public_url: options.public_url.clone(),
        ..Settings::default()
    };
    let mut strong = vec![Source {
        name: settings::FLAG.into(),
        settings: flags,
    }];
    let environment = settings::from_environment(|name| std::env::var(name).ok());
    strong.extend(environment.map_err(DaemonError::Settings)?);
    Ok(strong)
}

/// The same and what files say.
pub(super) async fn sources(
    strong: Vec<Source>,
    home: &Home,
    store: &StoreHandle,
) -> Result<Sources, DaemonError> {
    let mut files = Vec::new();
    if let Some(kept) = store.setting(BLOCK_SETTING).await? {
        match serde_json::from_slice(&kept) {
            Ok(block) => files.push(Block::source(&block)),
            Err(error) => tracing::warn!(%error, "stored settings are not readable; left out"),
        }
    }
    let path = home.settings();
    if path.exists() {
        let (settings, warnings) =
            load_settings(&path).map_err(|error| DaemonError::Settings(chain(&error)))?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        files.push(Source {
            name: path.display().to_string(),
            settings,
        });
    }
    Ok(Sources { strong, files })
}

/// The `mcpm` block of an ecosystem file, as the store keeps it for a daemon that sees no file.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Block {
    /// Where it stands; `None` when it came from standard input.
    pub(super) file: Option<PathBuf>,
    /// What it says.
    pub(super) settings: Settings,
}

impl Block {
    fn source(&self) -> Source {
        let name = match &self.file {
            Some(file) => file.display().to_string(),
            None => "an ecosystem file that came from standard input".to_owned(),
        };
        Source {
            name,
            settings: self.settings.clone(),
        }
    }
}

/// What one `start` says about settings.
pub(super) struct Asked {
    /// Of its ecosystem file.
    pub(super) block: Option<Block>,
    /// Of its shell.
    pub(super) environment: BTreeMap<String, String>,
}

/// Takes the settings of a start. What contradicts those in force is refused while processes run;
/// an idle daemon moves. Returns the new settings when they are others.
pub(super) async fn apply(
    sources: &mut Sources,
    Asked { block, environment }: Asked,
    idle: bool,
    settings_file: &str,
    front: &Front,
    store: &StoreHandle,
) -> Result<Option<Chosen>, String> {
    let before = settings::choose(sources).map_err(|error| error.to_string())?;
    let shell = settings::from_environment(|name| environment.get(name).cloned())?;
    let mut next = sources.clone();
    next.take_shell(&shell);
    if let Some(block) = &block {
        // One block is in force; `mcpm.json` is the other file, and the last.
        next.files.retain(|file| file.name == settings_file);
        next.files.insert(0, block.source());
    }
    let after = settings::choose(&next).map_err(|error| error.to_string())?;
    let wished = settings::choose(&Sources {
        strong: shell,
        files: block.iter().map(Block::source).collect(),
    });
    let wished = wished.map_err(|error| error.to_string())?;
    let same_file = block.as_ref().is_some_and(|block| {
        let name = block.source().name;
        sources.files.iter().any(|file| file.name == name)
    });
    let moves = idle || before.may_become(&after, same_file);
    let mut refused = if moves { &after } else { &before }.refused(&wished);
    if refused.is_empty() && !moves {
        // What the last file said and this one does not.
        refused = before.difference(&after);
    }
    if !refused.is_empty() && !idle {
        return Err(format!(
            "the running daemon has other settings than this start ({refused}): `mcpm kill` and \
             start again, or make them equal"
        ));
    }
    if !refused.is_empty() {
        tracing::warn!("a stronger setting is in force: {refused}");
    }
    if let Some(block) = block {
        let kept = serde_json::to_vec(&block).expect("settings hold nothing that JSON can't");
        if let Err(error) = store.put_setting(BLOCK_SETTING, kept).await {
            return Err(format!("the settings could not be kept: {error}"));
        }
    }
    *sources = next;
    if after.same_values(&before) {
        return Ok(None);
    }
    front.apply(after.clone());
    Ok(Some(after))
}
