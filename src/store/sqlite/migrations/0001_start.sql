-- All tables. Times are milliseconds since 1970.
-- A column that nothing writes yet stands here because adding it later would touch every row.

-- Named values of the daemon's own, such as the vault's check value.
CREATE TABLE settings (
  name   TEXT PRIMARY KEY,
  value  BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE service_registry (
  service       TEXT PRIMARY KEY,
  app           TEXT NOT NULL,
  port          INTEGER NOT NULL CHECK (port BETWEEN 1 AND 65535),
  display_name  TEXT NOT NULL,
  category      TEXT,
  spec          TEXT NOT NULL,              -- the `mcp` block as JSON
  created_at    INTEGER NOT NULL,
  updated_at    INTEGER NOT NULL,
  retired_at    INTEGER                     -- not in the list that was published last
) STRICT, WITHOUT ROWID;

CREATE TABLE users (
  id           TEXT PRIMARY KEY,
  created_at   INTEGER NOT NULL,
  disabled_at  INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE user_tokens (
  number        INTEGER PRIMARY KEY AUTOINCREMENT,
  hash          BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
  kind          TEXT NOT NULL CHECK (kind IN ('user', 'admin')),
  user_id       TEXT REFERENCES users (id) ON DELETE CASCADE,
  name          TEXT,
  created_at    INTEGER NOT NULL,
  last_used_at  INTEGER,
  expires_at    INTEGER,
  revoked_at    INTEGER,
  CHECK ((kind = 'user') = (user_id IS NOT NULL))
) STRICT;
CREATE INDEX user_tokens_by_owner ON user_tokens (user_id);

-- One per user and service. Services come and go with the ecosystem file; instances stay.
CREATE TABLE user_service_instances (
  number        INTEGER PRIMARY KEY AUTOINCREMENT,
  public_id     TEXT NOT NULL UNIQUE,
  user_id       TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  service       TEXT NOT NULL,
  hash          BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
  sealed_id     BLOB NOT NULL,
  label         TEXT,
  created_at    INTEGER NOT NULL,
  rotated_at    INTEGER,
  last_used_at  INTEGER,
  expires_at    INTEGER,
  disabled_at   INTEGER,
  UNIQUE (user_id, service)
) STRICT;
CREATE INDEX instances_by_service ON user_service_instances (service);

CREATE TABLE credentials (
  public_id   TEXT PRIMARY KEY
              REFERENCES user_service_instances (public_id) ON DELETE CASCADE,
  sealed      BLOB NOT NULL,
  updated_at  INTEGER NOT NULL,
  expires_at  INTEGER                       -- of OAuth tokens
) STRICT, WITHOUT ROWID;

CREATE TABLE service_health_status (
  service               TEXT PRIMARY KEY,
  last_check            INTEGER,
  response_us           INTEGER,
  consecutive_failures  INTEGER NOT NULL,
  good_checks           INTEGER NOT NULL,
  total_checks          INTEGER NOT NULL,
  last_failure          TEXT
) STRICT, WITHOUT ROWID;

-- Aggregates. Written in batches, after the fact: so a user may be gone by then, and no reference.
CREATE TABLE service_usage (
  day            INTEGER NOT NULL,          -- days since 1970, UTC
  user_id        TEXT NOT NULL,
  service        TEXT NOT NULL,
  requests       INTEGER NOT NULL,
  errors         INTEGER NOT NULL,
  bytes_in       INTEGER NOT NULL,
  bytes_out      INTEGER NOT NULL,
  latency_us     INTEGER NOT NULL,          -- sum
  latency_max    INTEGER NOT NULL,
  histogram      BLOB,
  PRIMARY KEY (day, user_id, service)
) STRICT, WITHOUT ROWID;
CREATE INDEX usage_by_user ON service_usage (user_id, day);

-- Outlives those it speaks of.
CREATE TABLE audit_log (
  number      INTEGER PRIMARY KEY AUTOINCREMENT,
  at          INTEGER NOT NULL,
  actor       TEXT NOT NULL,
  action      TEXT NOT NULL,
  user_id     TEXT,
  service     TEXT,
  public_id   TEXT,
  request_id  TEXT,
  detail      TEXT
) STRICT;
CREATE INDEX audit_by_time ON audit_log (at);
CREATE INDEX audit_by_user ON audit_log (user_id, number);

-- A verdict counts for the user who got it, never for another one with the same key.
CREATE TABLE api_key_validation_cache (
  user_id     TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  service     TEXT NOT NULL,
  hash        BLOB NOT NULL CHECK (length(hash) = 32),
  valid       INTEGER NOT NULL,
  checked_at  INTEGER NOT NULL,
  expires_at  INTEGER NOT NULL,
  PRIMARY KEY (user_id, service, hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX validation_by_end ON api_key_validation_cache (expires_at);
