//! MCP servers that mcpm itself can run as apps.
