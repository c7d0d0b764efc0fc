//! Keeps processes as the specs want them.
