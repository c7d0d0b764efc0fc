//! Sockets that keep off service ports, and who listens on one.
//!
//! The reference range of service ports lies inside Linux's ephemeral range, so an outgoing
//! connection can sit on a service's port and make its bind fail (measured). Every
//! outgoing socket of ours comes from [`connect`], which keeps off that range and off the ports that
//! [`keep_off`] was told; [`can_bind`] and [`listener_owner`] say whether a port is free, and who has
//! it when it is not, [`listening_ports`] which ports somebody has. A [`Reserve`] lets somebody in when
//! descriptors have run out, and a [`Telling`] connection knows whether what was written last was read.

pub mod ephemeral;
mod listener;
mod outgoing;
mod ports;
mod reserve;
mod taken;

pub use listener::{Listener, can_bind, is_listener, listener_owner};
pub use outgoing::{connect, keep_off};
pub use ports::listening_ports;
pub use reserve::Reserve;
pub use taken::{Last, Taken, Telling};

/// Ports of services in the reference catalogue.
pub const SERVICE_PORTS: std::ops::RangeInclusive<u16> = 49160..=49999;
