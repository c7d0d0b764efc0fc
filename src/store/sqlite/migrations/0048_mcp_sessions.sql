-- Sessions of MCP clients, which outlive a daemon. What the router keeps of one is its own business.
-- With rows of their own number, since what is kept may be some KiB.
CREATE TABLE mcp_sessions (
  number     INTEGER PRIMARY KEY,
  key        BLOB NOT NULL UNIQUE CHECK (length(key) = 32),
  public_id  TEXT NOT NULL REFERENCES user_service_instances (public_id) ON DELETE CASCADE,
  data       BLOB NOT NULL,
  used_at    INTEGER NOT NULL
) STRICT;
CREATE INDEX mcp_sessions_of_instances ON mcp_sessions (public_id, used_at, key);
CREATE INDEX mcp_sessions_by_use ON mcp_sessions (used_at);
