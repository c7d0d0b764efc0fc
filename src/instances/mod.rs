//! One user's access to one service.
