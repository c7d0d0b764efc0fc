//! Asks services whether they are alive.
