//! How a process is reloaded (pure): by a second run that takes over, or in place.
//!
//! Two runs need each what the other has. A port can't be had twice, so a process that has one is
//! restarted in place, and its siblings wait until it is back.

use std::collections::BTreeSet;
use std::fmt;

use super::snapshot::Process;
use crate::config::AppSpec;
use crate::ids::Port;

/// How a process is reloaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// The new run is started beside the old one, which ends when the new one has proven itself.
    Beside,
    /// The old run ends first. Nothing stands in the way of another when it is not online anyway.
    InPlace(Option<Obstacle>),
}

/// Why there can't be two runs of a process at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// It is a service, on this fixed port.
    Service(Port),
    /// It listens on these ports.
    Listens(BTreeSet<Port>),
    /// It has something of its own by this variable (`increment_var`).
    Incremented(String),
    /// It is to run as another user, who shall own its pipes.
    OtherUser,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(port) => write!(f, "is a service on port {port}"),
            Self::Listens(ports) => {
                let plural = if ports.len() > 1 { "s" } else { "" };
                let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
                write!(f, "listens on port{plural} {}", ports.join(", "))
            }
            Self::Incremented(name) => write!(f, "has a `{name}` of its own (`increment_var`)"),
            Self::OtherUser => f.write_str("is to run as another user"),
        }
    }
}

/// Decides; `next` is what the new run is made from, `ports` what the old one listens on, and
/// `can_double` says that the old one is online and alone.
pub fn how(process: &Process, next: &AppSpec, ports: BTreeSet<Port>, can_double: bool) -> How {
    if !can_double {
        return How::InPlace(None);
    }
    let service = [next, &process.spec]
        .into_iter()
        .find_map(|spec| spec.mcp.as_ref());
    let obstacle = if let Some(mcp) = service {
        Obstacle::Service(mcp.port)
    } else if !ports.is_empty() {
        Obstacle::Listens(ports)
    } else if let Some(name) = &next.increment_var {
        Obstacle::Incremented(name.clone())
    } else if next.run_as != process.spec.run_as {
        Obstacle::OtherUser
    } else {
        return How::Beside;
    };
    How::InPlace(Some(obstacle))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::spec::RunAs;
    use crate::ids::PmId;
    use crate::supervisor::testing;

    #[track_caller]
    fn check(next: AppSpec, ports: &[u16], can_double: bool, expected: &str) {
        let process = Process::registered(PmId(0), 0, Arc::new(testing::spec("web")));
        let ports = ports.iter().filter_map(|&port| Port::new(port)).collect();
        let said = match how(&process, &next, ports, can_double) {
            How::Beside => "beside".to_owned(),
            How::InPlace(None) => "in place".to_owned(),
            How::InPlace(Some(obstacle)) => obstacle.to_string(),
        };
        assert_eq!(said, expected);
    }

    #[test]
    fn what_can_be_there_twice_is_and_the_rest_says_why_not() {
        let spec = || testing::spec("web");
        check(spec(), &[], true, "beside");
        check(spec(), &[], false, "in place");
        check(spec(), &[3000], false, "in place");
        check(spec(), &[3000], true, "listens on port 3000");
        check(spec(), &[3000, 80], true, "listens on ports 80, 3000");
        let counted = AppSpec {
            increment_var: Some("PORT".into()),
            ..spec()
        };
        check(
            counted,
            &[],
            true,
            "has a `PORT` of its own (`increment_var`)",
        );
        let other = AppSpec {
            run_as: Some(RunAs { uid: 7, gid: 7 }),
            ..spec()
        };
        check(other, &[], true, "is to run as another user");
    }
}
