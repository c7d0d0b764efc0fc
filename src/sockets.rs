//! Sockets that keep off service ports, and who listens on one.
use crate::ids::Port;
/// x
pub fn can_bind(port: Port) -> bool {
    std::net::TcpListener::bind(("127.0.0.1", port.get())).is_ok()
}
/// x
pub fn listener_owner(_port: Port) -> std::io::Result<Option<String>> {
    Ok(None)
}
