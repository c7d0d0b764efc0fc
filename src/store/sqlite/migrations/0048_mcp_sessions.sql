-- Sessions of MCP clients, which outlive a daemon. What the router keeps of one is its own business.
CREATE TABLE mcp_sessions (
  key       BLOB PRIMARY KEY,
  public_id TEXT NOT NULL REFERENCES user_service_instances (public_id) ON DELETE CASCADE,
  data      BLOB NOT NULL,
  used_at   INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX mcp_sessions_of_instances ON mcp_sessions (public_id, used_at);
CREATE INDEX mcp_sessions_by_use ON mcp_sessions (used_at);
