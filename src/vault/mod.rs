//! Encrypted storage of credentials, and the keyed hashes under which secrets are looked up.
//!
//! Everything hangs on one master key (`master.rs`): a sealing key per user and service, and a
//! separate key for each kind of hash. `seal.rs` binds a ciphertext to the row it was made for, so
//! that one moved to another row does not open. [`unlock`] proves that the key is the one this
//! database was made with, before anything is written with it. [`MasterKeys`] puts another one in its
//! place while everything works on: what is sealed is sealed anew, hashes stay as they are.
//!
//! Invariants: nothing here prints. Keys and opened values are wiped when they are dropped. At every
//! moment the key that lies in its place, whichever it is, opens all that is stored.

mod fields;
mod guarded;
mod hashes;
mod held;
mod keys;
mod master;
mod random;
mod seal;
mod rotation;
mod rotate;
mod unlock;

pub use fields::{Credential, Fields};
pub use held::KeyNumber;
pub use keys::{Resealed, Vault};
pub use master::{KeyError, KeySource, MasterKey};
pub use random::{RandomError, base32, random};
pub use rotate::{KeyFacts, MasterKeys, RotateError, Rotation};
pub use seal::{Place, Purpose, SealError};
pub use unlock::{UnlockError, unlock};
