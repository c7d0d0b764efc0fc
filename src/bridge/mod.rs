//! MCP servers that mcpm itself can run as apps.
#![expect(missing_docs, reason = "a stand-in")]
use crate::ids::Port;
pub mod demo {
    pub fn run(_: Option<super::Port>, _: bool) -> Result<(), std::io::Error> {
        Err(std::io::Error::other("not on this branch"))
    }
}
pub mod rest {
    pub fn run(
        _: &std::path::Path,
        _: Option<super::Port>,
        _: bool,
        _: bool,
    ) -> Result<(), std::io::Error> {
        Err(std::io::Error::other("not on this branch"))
    }
}
