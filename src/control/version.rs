//! Which versions speak with each other, and which of the two to restart when they differ.
//!
//! Every request names the client's version and every answer the daemon's, in headers. Pure.

use std::cmp::Ordering;
use std::fmt;

use http::HeaderName;

/// Version of this program, client and daemon alike.
pub const OURS: &str = env!("CARGO_PKG_VERSION");
/// In every request over the socket: the version of the client.
pub const CLIENT_HEADER: HeaderName = HeaderName::from_static("x-mcpm-client");
/// In every answer over the socket: the version of the daemon.
pub const DAEMON_HEADER: HeaderName = HeaderName::from_static("x-mcpm-daemon");

/// The daemon is of another version than this command. Prints what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skew {
    client: String,
    daemon: String,
}

impl Skew {
    /// `None` when both are the same.
    pub fn between(client: &str, daemon: &str) -> Option<Self> {
        (client != daemon).then(|| Self {
            client: client.to_owned(),
            daemon: daemon.to_owned(),
        })
    }
}

impl fmt::Display for Skew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, daemon } = self;
        write!(
            f,
            "this command is mcpm {client}, the running daemon is {daemon}: "
        )?;
        match numbers(client).cmp(&numbers(daemon)) {
            Ordering::Less => f.write_str("use the newer mcpm, which started the daemon"),
            Ordering::Equal | Ordering::Greater => {
                f.write_str("`mcpm update` lets this version take over (services keep running)")
            }
        }
    }
}

/// `1.2.3-rc1` → `[1, 2, 3]`: enough to see which is older.
fn numbers(version: &str) -> [u64; 3] {
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let mut parts = core.split('.').map(|part| part.parse().unwrap_or(0));
    std::array::from_fn(|_| parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_versions_say_nothing() {
        assert_eq!(Skew::between("0.1.0", "0.1.0"), None);
    }

    #[test]
    fn the_older_one_is_to_give_way() {
        let text = |client, daemon| Skew::between(client, daemon).unwrap().to_string();
        assert!(text("0.10.0", "0.9.0").contains("`mcpm update`"));
        assert!(text("0.9.0", "0.10.0").contains("use the newer mcpm"));
        assert!(text("0.9.0-rc1", "0.9.0").contains("`mcpm update`"));
    }
}
