-- Users that are switched off are few, and asked for with each row of a token or an instance.
CREATE UNIQUE INDEX users_disabled ON users (id) WHERE disabled_at IS NOT NULL;
