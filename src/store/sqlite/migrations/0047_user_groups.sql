-- The group whose limits hold for a user. Users without one are many, and never asked for by it.
ALTER TABLE users ADD COLUMN group_name TEXT;
CREATE INDEX users_grouped ON users (id, group_name) WHERE group_name IS NOT NULL;
