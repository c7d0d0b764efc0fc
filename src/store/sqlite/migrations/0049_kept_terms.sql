-- What an operator has laid down for an instance that its owner has removed: the next one of that user and
-- service begins with it.
CREATE TABLE kept_terms (
  user_id     TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  service     TEXT NOT NULL,
  expires_at  INTEGER,
  disabled_at INTEGER,
  PRIMARY KEY (user_id, service)
) STRICT, WITHOUT ROWID;
