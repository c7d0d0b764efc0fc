-- Instances that are disabled or have an expiry are few among many: those that are not active are
-- found without reading all.
CREATE INDEX instances_with_an_end ON user_service_instances (number)
  WHERE disabled_at IS NOT NULL OR expires_at IS NOT NULL;
