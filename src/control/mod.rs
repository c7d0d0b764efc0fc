//! The API over the unix socket.
