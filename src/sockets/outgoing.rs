//! Outgoing TCP connections whose own port is never a service's.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::AsRawFd;
use std::sync::LazyLock;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

use super::SERVICE_PORTS;

/// `IP_LOCAL_PORT_RANGE` of Linux 6.3 (ip(7)): low port, and high port shifted by 16.
const IP_LOCAL_PORT_RANGE: libc::c_int = 51;
/// Ports that are tried one by one where the kernel does not know that option.
const TRIES: u16 = 64;

/// The part of the kernel's ephemeral range that we use: the larger one beside the service ports.
static RANGE: LazyLock<RangeInclusive<u16>> = LazyLock::new(|| {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    clear_of_services(parse(&text.unwrap_or_default()).unwrap_or(32768..=60999))
});

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
    if limit_range(&socket, &RANGE).is_err() {
        bind_one(&socket, addr, &RANGE)?;
    }
    Ok(socket)
}

/// Has the kernel choose from this range when it connects.
fn limit_range(socket: &Socket, range: &RangeInclusive<u16>) -> io::Result<()> {
    let value = (u32::from(*range.end()) << 16) | u32::from(*range.start());
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

/// What is left of a range without the service ports: the larger part. A range that lies within
/// them is kept, since there is no other.
fn clear_of_services(range: RangeInclusive<u16>) -> RangeInclusive<u16> {
    let below = *range.start()..=(*range.end()).min(SERVICE_PORTS.start() - 1);
    let above = (*range.start()).max(SERVICE_PORTS.end() + 1)..=*range.end();
    match (below.is_empty(), above.is_empty()) {
        (true, true) => range,
        (false, true) => below,
        (true, false) => above,
        (false, false) if below.len() >= above.len() => below,
        (false, false) => above,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_larger_part_beside_the_service_ports_is_used() {
        let check = |from: RangeInclusive<u16>, expected: RangeInclusive<u16>| {
            assert_eq!(clear_of_services(from), expected);
        };
        check(32768..=60999, 32768..=49159);
        check(49000..=60999, 50000..=60999);
        check(1024..=5000, 1024..=5000);
        check(50000..=60000, 50000..=60000);
        check(49200..=49300, 49200..=49300);
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
