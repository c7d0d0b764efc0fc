//! What systemd hears from us: sd_notify(3), without its library.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The daemon can be used, and is this process: one that has taken over is another than was started.
pub fn ready() -> String {
    format!("MAINPID={}\nREADY=1", std::process::id())
}

/// The daemon ends.
pub const STOPPING: &str = "STOPPING=1";
/// The daemon still does its work.
pub const ALIVE: &str = "WATCHDOG=1";

/// A socket to whoever `NOTIFY_SOCKET` names, non-blocking; `None` when it names nobody.
///
/// # Errors
/// When nobody listens there.
pub(super) fn connect() -> io::Result<Option<UnixDatagram>> {
    let Some(address) = env::var_os("NOTIFY_SOCKET") else {
        return Ok(None);
    };
    let text = address.to_string_lossy();
    let to = match text.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&address)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(&to)?;
    Ok(Some(socket))
}

/// Says it to the service manager, when there is one; `false` when it did not take it.
pub fn tell(word: &str) -> bool {
    let said = connect().and_then(|socket| match socket {
        Some(socket) => socket.send(word.as_bytes()).map(drop),
        None => Ok(()),
    });
    if let Err(error) = &said {
        tracing::warn!(%error, word, "cannot tell the service manager");
    }
    said.is_ok()
}

/// Says that we are alive twice in each time that systemd allows, and sooner again when it had no
/// room for that; never done when it wants no signs of life.
pub async fn keep_alive() {
    let allowed = env::var("WATCHDOG_USEC").ok();
    let allowed = allowed.and_then(|text| text.parse().ok());
    let Some(allowed) = allowed.filter(|&micros: &u64| micros > 0) else {
        return std::future::pending().await;
    };
    loop {
        let share = if tell(ALIVE) { 2 } else { 20 };
        tokio::time::sleep(Duration::from_micros(allowed / share)).await;
    }
}
