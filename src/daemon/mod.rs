//! Builds the rooms and connects them.
#![expect(missing_docs, reason = "a stand-in")]
pub struct DaemonOptions {
    pub detached: bool,
    pub listen: Option<std::net::SocketAddr>,
    pub public_url: Option<String>,
    pub resurrect: bool,
}
pub fn run(options: DaemonOptions) -> Result<(), std::io::Error> {
    let _ = (
        options.detached,
        options.listen,
        options.public_url,
        options.resurrect,
    );
    Err(std::io::Error::other("not on this branch"))
}
