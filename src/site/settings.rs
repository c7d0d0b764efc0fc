//! `PM2_SERVE_…` → what is served, and to whom. Pure.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::secret::Secret;

/// PM2's port.
const PORT: u16 = 8080;
/// The page of a folder, and of every unknown path of a single-page application.
const HOMEPAGE: &str = "index.html";

/// What is served, and to whom.
#[derive(Debug)]
pub struct Settings {
    /// Files in and below it, and no others.
    pub folder: PathBuf,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Unknown paths get the homepage: the page itself looks at the path.
    pub spa: bool,
    /// The page of `/`, below the folder, without a slash in front.
    pub homepage: String,
    /// `user:password`, when one must be shown.
    pub login: Option<Secret<String>>,
}

/// Why nothing can be served.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// No number of a port.
    #[error("`{0}` is no port; write a number from 1 to 65535 in `PM2_SERVE_PORT`")]
    Port(String),
    /// No address.
    #[error("`{0}` is no address; write one such as `127.0.0.1` in `PM2_SERVE_HOST`")]
    Host(String),
    /// A password was asked for and not told.
    #[error(
        "basic authentication needs a user and a password: set `PM2_SERVE_BASIC_AUTH_USERNAME` \
         and `PM2_SERVE_BASIC_AUTH_PASSWORD`"
    )]
    Login,
}

impl Settings {
    /// Reads them; empty variables count as absent.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let get = |name: &str| variable(&format!("PM2_SERVE_{name}")).filter(|v| !v.is_empty());
        let is_on = |name: &str| get(name).is_some_and(|value| value == "true" || value == "1");
        let port = match get("PORT") {
            None => PORT,
            Some(text) => match text.parse() {
                Ok(port) if port != 0 => port,
                _ => return Err(SettingsError::Port(text)),
            },
        };
        let host = match get("HOST") {
            None => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Some(text) if text == "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Some(text) => text.parse().map_err(|_| SettingsError::Host(text))?,
        };
        let login = match (get("BASIC_AUTH_USERNAME"), get("BASIC_AUTH_PASSWORD")) {
            (Some(user), Some(password)) if !user.contains(':') => {
                Some(Secret::new(format!("{user}:{password}")))
            }
            (None, None) if !is_on("BASIC_AUTH") => None,
            // Half a login must not become none.
            _ => return Err(SettingsError::Login),
        };
        let homepage = get("HOMEPAGE").unwrap_or_else(|| HOMEPAGE.to_owned());
        Ok(Self {
            folder: PathBuf::from(get("PATH").unwrap_or_else(|| ".".to_owned())),
            listen: SocketAddr::new(host, port),
            spa: is_on("SPA"),
            homepage: homepage.trim_start_matches('/').to_owned(),
            login,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        Settings::read(|name| {
            let found = variables
                .iter()
                .find(|(known, _)| name == format!("PM2_SERVE_{known}"));
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn without_a_word_it_is_this_folder_on_port_8080_as_in_pm2() {
        let settings = read(&[("PORT", "")]).unwrap();
        assert_eq!(settings.listen.to_string(), "0.0.0.0:8080");
        assert_eq!((settings.folder.to_str(), settings.spa), (Some("."), false));
        assert_eq!(settings.homepage, "index.html");
        assert!(settings.login.is_none());
    }

    #[test]
    fn what_is_set_counts() {
        let settings = read(&[
            ("PORT", "81"),
            ("HOST", "::1"),
            ("SPA", "true"),
            ("HOMEPAGE", "/start.html"),
            ("BASIC_AUTH", "true"),
            ("BASIC_AUTH_USERNAME", "u"),
            ("BASIC_AUTH_PASSWORD", "p:w"),
        ])
        .unwrap();
        assert_eq!(settings.listen.to_string(), "[::1]:81");
        assert_eq!(settings.homepage, "start.html");
        assert!(settings.spa && settings.login.unwrap().equals("u:p:w"));
    }

    #[test]
    fn half_a_login_is_none_at_all() {
        for wrong in [
            &[("BASIC_AUTH", "true")][..],
            &[("BASIC_AUTH_USERNAME", "u")],
            &[("BASIC_AUTH_PASSWORD", "p")],
            &[("BASIC_AUTH_USERNAME", "a:b"), ("BASIC_AUTH_PASSWORD", "p")],
        ] {
            assert_eq!(read(wrong).unwrap_err(), SettingsError::Login);
        }
        assert!(matches!(
            read(&[("PORT", "0")]),
            Err(SettingsError::Port(_))
        ));
        assert!(matches!(
            read(&[("HOST", "x")]),
            Err(SettingsError::Host(_))
        ));
    }
}
