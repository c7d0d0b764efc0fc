-- Where something of the audit log came from, and what its filters look by. Those that are seldom
-- true have an index; the others are found while the log is read backwards.
ALTER TABLE audit_log ADD COLUMN address TEXT;
CREATE INDEX audit_by_action ON audit_log (action, number);
CREATE INDEX audit_by_instance ON audit_log (public_id, number) WHERE public_id IS NOT NULL;
