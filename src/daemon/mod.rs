//! Builds the rooms and connects them.
