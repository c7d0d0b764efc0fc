//! Outgoing TCP connections whose own port is never a service's.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::AsRawFd;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

use super::SERVICE_PORTS;
use crate::ids::Port;

/// `IP_LOCAL_PORT_RANGE` of Linux 6.3 (ip(7)): low port, and high port shifted by 16.
const IP_LOCAL_PORT_RANGE: libc::c_int = 51;
/// Ports that are tried one by one where the kernel does not know that option.
const TRIES: u16 = 64;

/// The kernel's ephemeral range.
static KERNELS: LazyLock<RangeInclusive<u16>> = LazyLock::new(|| {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    parse(&text.unwrap_or_default()).unwrap_or(32768..=60999)
});

/// The part of it that we use, as the socket option has it; 0 until it was first asked for.
static CHOSEN: AtomicU32 = AtomicU32::new(0);

/// Keeps later connections off these ports too: services may stand outside of the reference range.
/// Connections that are open are not touched.
pub fn keep_off(ports: impl IntoIterator<Item = Port>) {
    let ports = ports.into_iter().map(Port::get).collect();
    CHOSEN.store(packed(&clear_of(KERNELS.clone(), ports)), Ordering::Relaxed);
}

fn chosen() -> RangeInclusive<u16> {
    if CHOSEN.load(Ordering::Relaxed) == 0 {
        keep_off([]);
    }
    let [low, high] = halves(CHOSEN.load(Ordering::Relaxed));
    low..=high
}

/// High port shifted by 16, and low port.
fn packed(range: &RangeInclusive<u16>) -> u32 {
    (u32::from(*range.end()) << 16) | u32::from(*range.start())
}

fn halves(packed: u32) -> [u16; 2] {
    let [a, b, c, d] = packed.to_be_bytes();
    [u16::from_be_bytes([c, d]), u16::from_be_bytes([a, b])]
}

/// Connects within `timeout`, without Nagle's delay.
///
/// # Errors
/// The system's error, or [`io::ErrorKind::TimedOut`].
pub async fn connect(addr: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    let socket = TcpSocket::from_std_stream(prepared(addr)?.into());
    match tokio::time::timeout(timeout, socket.connect(addr)).await {
        Ok(connected) => connected,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

fn prepared(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    let range = chosen();
    if limit_range(&socket, &range).is_err() {
        bind_one(&socket, addr, &range)?;
    }
    Ok(socket)
}

/// Has the kernel choose from this range when it connects.
fn limit_range(socket: &Socket, range: &RangeInclusive<u16>) -> io::Result<()> {
    let value = packed(range);
    let size = libc::socklen_t::try_from(size_of_val(&value)).expect("four bytes");
    // SAFETY: the descriptor is open as long as `socket` lives, and `value` is read only, for its
    // own size.
    #[expect(unsafe_code, reason = "no library offers this option yet")]
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            IP_LOCAL_PORT_RANGE,
            (&raw const value).cast(),
            size,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Before Linux 6.3: takes ports by hand, from a random one on.
fn bind_one(socket: &Socket, to: SocketAddr, range: &RangeInclusive<u16>) -> io::Result<()> {
    let from: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // So that two connections to different places may share a port, as the kernel's own choice may.
    socket.set_reuse_address(true)?;
    let mut bytes = [0; 2];
    getrandom::fill(&mut bytes).map_err(|_| io::ErrorKind::Other)?;
    let (low, size) = (*range.start(), range.end() - range.start());
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for step in 0..TRIES {
        let offset = u16::from_ne_bytes(bytes).wrapping_add(step) % size.max(1);
        match socket.bind(&SocketAddr::new(from, low + offset).into()) {
            Ok(()) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Two numbers, as `/proc` writes a range.
pub(super) fn parse(text: &str) -> Option<RangeInclusive<u16>> {
    let mut numbers = text.split_ascii_whitespace().map(str::parse);
    Some(numbers.next()?.ok()?..=numbers.next()?.ok()?)
}

/// What is left of a range without the reference range and these ports: the widest part. A range
/// of which nothing is left is kept, since there is no other.
fn clear_of(range: RangeInclusive<u16>, ports: BTreeSet<u16>) -> RangeInclusive<u16> {
    let (start, end) = (u32::from(*range.start()), u32::from(*range.end()));
    let reference = u32::from(*SERVICE_PORTS.start())..=u32::from(*SERVICE_PORTS.end());
    let mut taken: Vec<RangeInclusive<u32>> = ports
        .into_iter()
        .map(|port| u32::from(port)..=u32::from(port))
        .collect();
    taken.push(reference);
    taken.push(end + 1..=end + 1);
    taken.sort_by_key(|taken| *taken.start());
    let mut widest = start..start;
    let mut from = start;
    for taken in taken {
        let gap = from..(*taken.start()).min(end + 1);
        if gap.len() > widest.len() {
            widest = gap;
        }
        from = from.max(taken.end() + 1);
    }
    let port = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
    match widest.is_empty() {
        true => range,
        false => port(widest.start)..=port(widest.end - 1),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_widest_part_beside_the_service_ports_is_used() {
        let check = |from: RangeInclusive<u16>, ports: &[u16], expected: RangeInclusive<u16>| {
            let ports = ports.iter().copied().collect();
            assert_eq!(clear_of(from, ports), expected);
        };
        check(32768..=60999, &[], 32768..=49159);
        check(32768..=60999, &[80, 49161, 61000], 32768..=49159);
        check(32768..=60999, &[40000], 50000..=60999);
        check(32768..=60999, &[33000, 55000], 33001..=49159);
        check(32768..=60999, &[32768, 60999], 32769..=49159);
        check(49000..=60999, &[], 50000..=60999);
        check(1024..=5000, &[], 1024..=5000);
        check(1..=65535, &[65535], 1..=49159);
        check(50000..=60000, &[], 50000..=60000);
        check(49200..=49300, &[], 49200..=49300);
        check(5..=6, &[5, 6], 5..=6);
    }

    proptest! {
        #[test]
        fn no_port_of_a_service_is_ever_in_the_part_unless_nothing_else_is_left(
            low: u16, size: u16, ports: BTreeSet<u16>,
        ) {
            let range = low..=low.saturating_add(size);
            let left = clear_of(range.clone(), ports.clone());
            prop_assert!(range.contains(left.start()) && range.contains(left.end()));
            let free = |port: &u16| !ports.contains(port) && !SERVICE_PORTS.contains(port);
            prop_assert_eq!(left.clone().all(|port| free(&port)), range.clone().any(|p| free(&p)));
            prop_assert_eq!(halves(packed(&left)), [*left.start(), *left.end()]);
        }
    }

    #[test]
    fn the_kernels_words_are_read() {
        assert_eq!(parse("32768\t60999\n"), Some(32768..=60999));
        assert_eq!(parse(""), None);
    }

    #[tokio::test]
    async fn no_outgoing_connection_sits_on_a_service_port() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let mut open = Vec::new();
        for _ in 0..300 {
            let stream = connect(to, Duration::from_secs(5)).await.unwrap();
            let port = stream.local_addr().unwrap().port();
            assert!(!SERVICE_PORTS.contains(&port), "{port}");
            open.push((stream, listener.accept().await.unwrap()));
        }
    }

    #[test]
    fn the_way_for_older_kernels_keeps_off_as_well() {
        let to = "127.0.0.1:9".parse().unwrap();
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        bind_one(&socket, to, &(40000..=40999)).unwrap();
        let port = socket.local_addr().unwrap().as_socket().unwrap().port();
        assert!((40000..=40999).contains(&port));
    }
}
