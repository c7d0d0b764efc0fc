//! Who has a port.
//!
//! `/proc/net/tcp` and `/proc/net/tcp6` name the socket, `/proc/PID/fd` its holders (proc(5)). Only
//! holders whose descriptors we may read are seen: our own user's, or all for root.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

use crate::ids::Port;

/// State `LISTEN` in `/proc/net/tcp`.
const LISTEN: &str = "0A";
/// Holders that are named in a message.
const SHOWN: usize = 3;

/// A listening socket, or several on one port, and the processes that hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Processes that hold it, and their sessions; empty when we may not see them.
    pub holders: Vec<Holder>,
    /// User of the socket.
    pub uid: u32,
}

/// A process that holds a listening socket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holder {
    /// Its pid.
    pub pid: u32,
    /// Its session: the pid of the service's root process, when it is ours.
    pub session: u32,
    /// Its name.
    pub program: String,
}

impl Listener {
    /// Every process that holds it is of this session. Of several sockets on the port (on other
    /// addresses, or shared) all must be; one whose holder we cannot see is nobody's.
    pub fn belongs_to_session(&self, session: u32) -> bool {
        !self.holders.is_empty() && self.holders.iter().all(|holder| holder.session == session)
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(self.uid));
        let user = match user {
            Ok(Some(user)) => user.name,
            _ => format!("uid {}", self.uid),
        };
        if self.holders.is_empty() {
            return write!(f, "a process of user {user} that may not be looked at");
        }
        for (number, holder) in self.holders.iter().take(SHOWN).enumerate() {
            let comma = if number > 0 { ", " } else { "" };
            write!(f, "{comma}`{}` (pid {})", holder.program, holder.pid)?;
        }
        write!(f, " of user {user}")
    }
}

/// Nobody listens on this port of the loopback address and no connection sits on it. Five
/// microseconds.
pub fn can_bind(port: Port) -> bool {
    let try_it = || -> io::Result<()> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        // Connections of the service's last run that are dying (TIME_WAIT) are no obstacle to it.
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port.get())).into())?;
        socket.listen(1)
    };
    match try_it() {
        Ok(()) => true,
        // Anything else (no descriptors, no permission) is for the service itself to meet.
        Err(error) => error.kind() != io::ErrorKind::AddrInUse,
    }
}

/// Every socket that listens on this port, on whatever address, is held by this process; `false` when
/// none does. Looks at this one process alone, whoever else runs: what another holds of the same
/// sockets it has got from this one, or both from one that started them. Blocks.
///
/// # Errors
/// When the kernel's tables can't be read.
pub fn is_listener(pid: u32, port: Port) -> io::Result<bool> {
    let (inodes, _) = listeners(port)?;
    let mut links = links(&inodes);
    if links.is_empty() {
        return Ok(false);
    }
    let open = std::fs::read_dir(format!("/proc/{pid}/fd"));
    for link in open.into_iter().flatten().flatten() {
        if let Ok(link) = std::fs::read_link(link.path()) {
            links.remove(link.to_str().unwrap_or_default());
        }
    }
    Ok(links.is_empty())
}

/// Who listens on this port, on whatever address; `None` when nobody does. Walks `/proc`: blocks.
///
/// # Errors
/// When the kernel's tables can't be read.
pub fn listener_owner(port: Port) -> io::Result<Option<Listener>> {
    let (inodes, uid) = listeners(port)?;
    if inodes.is_empty() {
        return Ok(None);
    }
    Ok(Some(Listener {
        holders: holders(&inodes)?,
        uid,
    }))
}

/// The sockets that listen on this port, by inode, and the user of the last one.
fn listeners(port: Port) -> io::Result<(BTreeSet<u64>, u32)> {
    let mut inodes = BTreeSet::new();
    let mut uid = 0;
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let file = match std::fs::File::open(table) {
            Ok(file) => file,
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for line in BufReader::new(file).lines().skip(1) {
            if let Some((inode, owner)) = listening(&line?, port) {
                inodes.insert(inode);
                uid = owner;
            }
        }
    }
    Ok((inodes, uid))
}

/// What a descriptor of one of these sockets leads to.
fn links(inodes: &BTreeSet<u64>) -> BTreeSet<String> {
    inodes
        .iter()
        .map(|inode| format!("socket:[{inode}]"))
        .collect()
}

/// Inode and user of a line that is about a listener on this port.
fn listening(line: &str, port: Port) -> Option<(u64, u32)> {
    let mut fields = line.split_ascii_whitespace();
    let local = fields.nth(1)?;
    let (_, number) = local.rsplit_once(':')?;
    if u16::from_str_radix(number, 16).ok()? != port.get() || fields.nth(1)? != LISTEN {
        return None;
    }
    let uid = fields.nth(3)?.parse().ok()?;
    let inode = fields.nth(1)?.parse().ok()?;
    Some((inode, uid))
}

fn holders(inodes: &BTreeSet<u64>) -> io::Result<Vec<Holder>> {
    let links = links(inodes);
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let Ok(open) = std::fs::read_dir(entry.path().join("fd")) else {
            continue;
        };
        let holds = open.flatten().any(|fd| {
            let link = std::fs::read_link(fd.path());
            link.is_ok_and(|link| link.to_str().is_some_and(|link| links.contains(link)))
        });
        if holds && let Some(holder) = describe(pid) {
            found.push(holder);
        }
    }
    found.sort();
    Ok(found)
}

fn describe(pid: u32) -> Option<Holder> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, rest) = stat.rsplit_once(')')?;
    let program = head.split_once('(')?.1.to_owned();
    let session = rest.split_ascii_whitespace().nth(3)?.parse().ok()?;
    Some(Holder {
        pid,
        session,
        program,
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::OwnedFd;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_listener_is_found_with_its_holder() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = std::net::TcpListener::bind(address) else {
                continue;
            };
            let port = Port::new(listener.local_addr().unwrap().port()).unwrap();
            let found = listener_owner(port).unwrap().unwrap();
            let me = std::process::id();
            assert!(
                found.holders.iter().any(|holder| holder.pid == me),
                "{found:?}"
            );
            let session = found.holders[0].session;
            assert!(found.belongs_to_session(session));
            assert!(!found.belongs_to_session(session + 1));
            assert!(found.to_string().contains(&format!("pid {me}")), "{found}");
            assert!(is_listener(me, port).unwrap());
            assert!(!is_listener(1, port).unwrap());
        }
    }

    #[test]
    fn a_port_that_others_listen_on_too_is_not_ones_own() {
        let listen = |address: &str| -> TcpListener {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_reuse_address(true).unwrap();
            let address: SocketAddr = address.parse().unwrap();
            socket.bind(&address.into()).unwrap();
            socket.listen(1).unwrap();
            socket.into()
        };
        let ours = listen("127.0.0.1:0");
        let number = ours.local_addr().unwrap().port();
        let port = Port::new(number).unwrap();
        let me = std::process::id();
        assert!(is_listener(me, port).unwrap());
        // On another address of this machine, by a process that has it as its input.
        let theirs = listen(&format!("127.0.0.2:{number}"));
        let mut stranger = Command::new("/bin/sleep")
            .arg("1000")
            .stdin(OwnedFd::from(theirs))
            .spawn()
            .unwrap();
        let found = is_listener(me, port).unwrap();
        let of_stranger = is_listener(stranger.id(), port).unwrap();
        stranger.kill().unwrap();
        stranger.wait().unwrap();
        assert!(!found && !of_stranger);
        assert!(is_listener(me, port).unwrap());
        drop(ours);
        assert!(!is_listener(me, port).unwrap(), "nobody listens");
    }

    #[test]
    fn a_port_is_free_until_somebody_has_it() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = Port::new(listener.local_addr().unwrap().port()).unwrap();
        assert!(!can_bind(port));
        drop(listener);
        assert!(can_bind(port));
        assert_eq!(listener_owner(port).unwrap(), None);
    }

    #[test]
    fn an_unseen_holder_is_nobodys() {
        let listener = Listener {
            holders: Vec::new(),
            uid: 0,
        };
        assert!(!listener.belongs_to_session(1));
        assert!(listener.to_string().contains("may not be looked at"));
    }
}
