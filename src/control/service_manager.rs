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

/// Says it to whoever `NOTIFY_SOCKET` names; to nobody when there is none.
pub fn tell(word: &str) {
    let Some(address) = env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let send = || -> io::Result<()> {
        let text = address.to_string_lossy();
        let to = match text.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&address)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.send_to_addr(word.as_bytes(), &to).map(drop)
    };
    if let Err(error) = send() {
        tracing::warn!(%error, word, "cannot tell the service manager");
    }
}

/// Says that we are alive twice in each time that systemd allows; never done when it wants no
/// signs of life.
pub async fn keep_alive() {
    let allowed = env::var("WATCHDOG_USEC").ok();
    let allowed = allowed.and_then(|text| text.parse().ok());
    let Some(allowed) = allowed.filter(|&micros: &u64| micros > 0) else {
        return std::future::pending().await;
    };
    loop {
        tell(ALIVE);
        tokio::time::sleep(Duration::from_micros(allowed / 2)).await;
    }
}
