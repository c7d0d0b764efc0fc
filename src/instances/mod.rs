//! One user's access to one service.

pub mod credentials;
pub mod validate;
