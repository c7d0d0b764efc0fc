//! Where the secret of an OAuth client is read, anew at each use: so it can be changed at any time.

use std::path::{Path, PathBuf};

use crate::config::spec::ClientSecret;
use crate::secret::Secret;

/// Bytes of a secret's file.
const FILE_MAX: u64 = 64 * 1024;

/// Why there is no secret. Shows names, never values.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The variable is not there.
    #[error("the daemon has no variable `{0}`; set it where the daemon is started")]
    NoVariable(String),
    /// The file cannot be read.
    #[error("cannot read the client's secret in `{}`", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is empty, or no text.
    #[error("there is no secret in `{0}`")]
    Empty(String),
}

/// Reads it.
///
/// # Errors
/// See [`SecretError`].
pub(super) async fn read(place: &ClientSecret) -> Result<Secret<String>, SecretError> {
    match place {
        ClientSecret::Env(name) => {
            let value = std::env::var(name);
            let value = value.map_err(|_| SecretError::NoVariable(name.clone()))?;
            fit(Secret::new(value), name)
        }
        ClientSecret::File(path) => {
            let name = path.display().to_string();
            fit(of_file(path).await?, &name)
        }
    }
}

async fn of_file(path: &Path) -> Result<Secret<String>, SecretError> {
    let failed = |source| SecretError::Read {
        path: path.to_owned(),
        source,
    };
    let length = tokio::fs::metadata(path).await.map_err(failed)?.len();
    if length > FILE_MAX {
        return Err(failed(std::io::ErrorKind::FileTooLarge.into()));
    }
    let text = tokio::fs::read_to_string(path).await.map_err(failed)?;
    Ok(Secret::new(text))
}

/// Without the line end that editors add.
fn fit(given: Secret<String>, name: &str) -> Result<Secret<String>, SecretError> {
    let text = given.expose().trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Err(SecretError::Empty(name.to_owned()));
    }
    Ok(Secret::new(text.to_owned()))
}
