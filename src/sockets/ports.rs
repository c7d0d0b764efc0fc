//! Which TCP ports a process and what it has started listen on.

use std::collections::{BTreeSet, HashMap};
use std::fs;

use crate::ids::Port;

/// State `LISTEN` in `/proc/net/tcp` (proc_net_tcp(5)).
const LISTEN: &str = "0A";

/// The TCP ports that members of this session listen on, on whatever address; the session is that of
/// the process `root`, in whose network the ports are. Members whose descriptors may not be read have
/// none. Walks `/proc`: blocks.
pub fn listening_ports(root: u32) -> BTreeSet<Port> {
    let sockets: HashMap<u64, Port> = ["tcp", "tcp6"]
        .iter()
        // A process that is gone, or a kernel without IPv6.
        .filter_map(|table| fs::read_to_string(format!("/proc/{root}/net/{table}")).ok())
        .flat_map(|table| table.lines().filter_map(listener).collect::<Vec<_>>())
        .collect();
    if sockets.is_empty() {
        return BTreeSet::new();
    }
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|&pid| session(pid) == Some(root))
        .flat_map(|pid: u32| {
            fs::read_dir(format!("/proc/{pid}/fd"))
                .into_iter()
                .flatten()
        })
        .filter_map(|fd| {
            let link = fs::read_link(fd.ok()?.path()).ok()?;
            let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
            sockets.get(&inode.parse().ok()?).copied()
        })
        .collect()
}

/// Inode and port of a line that is about a listener.
fn listener(line: &str) -> Option<(u64, Port)> {
    let mut fields = line.split_ascii_whitespace();
    let (_, number) = fields.nth(1)?.rsplit_once(':')?;
    if fields.nth(1)? != LISTEN {
        return None;
    }
    let port = Port::new(u16::from_str_radix(number, 16).ok()?)?;
    Some((fields.nth(5)?.parse().ok()?, port))
}

fn session(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;
    use std::os::fd::OwnedFd;
    use std::process::{Command, Stdio};

    use rustix::process::{Pid, Signal, kill_process_group};

    use super::*;

    #[test]
    fn the_ports_of_a_session_are_those_of_all_its_members() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = Port::new(listener.local_addr().unwrap().port()).unwrap();
        // The leader gives it to a child and has it no longer.
        let script = "exec 3<&0 </dev/null; sleep 600 & exec 3<&-; echo there; wait";
        let mut leader = Command::new("setsid")
            .args(["sh", "-c", script])
            .stdin(OwnedFd::from(listener))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = [0; 6];
        leader.stdout.take().unwrap().read_exact(&mut said).unwrap();
        assert_eq!(listening_ports(leader.id()), BTreeSet::from([port]));
        let ours = session(std::process::id()).unwrap();
        assert!(!listening_ports(ours).contains(&port));
        kill_process_group(Pid::from_child(&leader), Signal::KILL).unwrap();
        leader.wait().unwrap();
    }

    #[test]
    fn only_listeners_count() {
        let line = |state: &str| {
            format!(
                "   0: 0100007F:0BB8 00000000:0000 {state} 00000000:00000000 00:00000000 \
                 00000000     0        0 4711 1 0000000000000000 100 0 0 10 0"
            )
        };
        assert_eq!(
            listener(&line("0A")),
            Some((4711, Port::new(3000).unwrap()))
        );
        assert_eq!(listener(&line("01")), None);
        assert_eq!(
            listener("  sl  local_address rem_address   st tx_queue"),
            None
        );
    }
}
