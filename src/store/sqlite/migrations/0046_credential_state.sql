-- Since when the external service refuses what is stored for an instance: `NULL` while it is not known to.
-- Beside the rest of the row, since every list of instances shows it.
ALTER TABLE user_service_instances ADD COLUMN credential_expired_at INTEGER;
