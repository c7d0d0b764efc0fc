//! Sockets that keep off service ports, and who listens on one.
