//! Credentials at rest.
