//! The router's table of instances: read without a lock, changed one small map at a time.
//!
//! Keyed by the keyed hash of the id, so neither a dump of the table nor the time of a look-up
//! says anything about ids. Holds active instances only. Changed by the registry alone.
//!
//! After a start it is **not whole** for a while: it is being filled from the store (`filling.rs`). Until
//! it is, what was read there before a change must not come in after it, so the hash of each change is
//! kept, and what is [offered](InstanceTable::offer) under one of these is not taken.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

use crate::ids::PublicId;
use crate::instances::entry::InstanceEntry;

/// So many maps, because one change copies one of them: with a million instances 39 µs instead of
/// 439 ms for a single map.
pub(super) const SHARDS: usize = 4096;

type Shard = HashMap<Key, Arc<InstanceEntry>, BuildHasherDefault<Taken>>;

/// A keyed hash is as random as a hash can be: eight of its bytes are taken as they are.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key([u8; 32]);

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (_, rest) = self.0.split_at(8);
        let word = rest.first_chunk::<8>().expect("24 bytes are left");
        state.write_u64(u64::from_ne_bytes(*word));
    }
}

/// The hasher that goes with [`Key`].
#[derive(Default)]
struct Taken(u64);

impl Hasher for Taken {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }
}

/// All active instances.
pub struct InstanceTable {
    shards: Box<[ArcSwap<Shard>]>,
    is_whole: AtomicBool,
    /// What was changed since the start, until the table is whole.
    changed: Mutex<HashSet<Key>>,
}

impl InstanceTable {
    /// A table without instances, which is not whole yet.
    pub fn empty() -> Self {
        // One empty map for all: an idle daemon pays 32 KiB for the table.
        let empty = Arc::new(Shard::default());
        Self {
            shards: (0..SHARDS)
                .map(|_| ArcSwap::new(Arc::clone(&empty)))
                .collect(),
            is_whole: AtomicBool::new(false),
            changed: Mutex::default(),
        }
    }

    /// The active instance whose id has this keyed hash. Takes no lock and copies no map.
    pub fn get(&self, hash: &[u8; 32]) -> Option<Arc<InstanceEntry>> {
        self.shards[shard_of(hash)].load().get(&Key(*hash)).cloned()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.load().len()).sum()
    }

    /// None at all?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Does it hold all that are active?
    pub fn is_whole(&self) -> bool {
        self.is_whole.load(Ordering::Acquire)
    }

    /// It does from now on.
    pub(super) fn set_whole(&self) {
        // Under the lock, so that no offer is half done when changes begin to go without it.
        let mut changed = self.lock();
        self.is_whole.store(true, Ordering::Release);
        *changed = HashSet::new();
    }

    /// Takes in what the store has said, but for what is there already or has changed since the start:
    /// of these the table knows more. A whole table takes nothing.
    pub(super) fn offer(&self, mut entries: Vec<([u8; 32], Arc<InstanceEntry>)>) {
        if entries.is_empty() {
            return;
        }
        // Held to the end: a change comes before all of it, or after.
        let changed = self.lock();
        if self.is_whole() {
            return;
        }
        entries.retain(|(hash, _)| !changed.contains(&Key(*hash)) && self.get(hash).is_none());
        self.extend(entries);
    }

    /// Puts entries in, all at once per map: one by one would copy too much. Answers those in whose
    /// places they are.
    pub(super) fn fill(
        &self,
        entries: Vec<([u8; 32], Arc<InstanceEntry>)>,
    ) -> Vec<Arc<InstanceEntry>> {
        let _changing = self.change(entries.iter().map(|(hash, _)| hash));
        let before = entries.iter().filter_map(|(hash, _)| self.get(hash));
        let before = before.collect();
        self.extend(entries);
        before
    }

    fn extend(&self, entries: Vec<([u8; 32], Arc<InstanceEntry>)>) {
        let mut added: HashMap<usize, Vec<_>> = HashMap::new();
        for (hash, entry) in entries {
            added
                .entry(shard_of(&hash))
                .or_default()
                .push((Key(hash), entry));
        }
        for (index, entries) in added {
            self.shards[index].rcu(|shard| {
                let mut shard = Shard::clone(shard);
                shard.extend(entries.iter().map(|(key, entry)| (*key, Arc::clone(entry))));
                shard
            });
        }
    }

    /// Notes what is about to be changed, and keeps offers away until that is done. Nothing of the kind
    /// once the table is whole.
    fn change<'a>(
        &self,
        hashes: impl Iterator<Item = &'a [u8; 32]>,
    ) -> Option<MutexGuard<'_, HashSet<Key>>> {
        if self.is_whole() {
            return None;
        }
        let mut changed = self.lock();
        if !self.is_whole() {
            changed.extend(hashes.map(|hash| Key(*hash)));
        }
        Some(changed)
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Key>> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an entry in the place of the one with this hash, which it answers.
    pub(super) fn put(
        &self,
        hash: &[u8; 32],
        entry: Arc<InstanceEntry>,
    ) -> Option<Arc<InstanceEntry>> {
        let _changing = self.change([hash].into_iter());
        let before = self.shards[shard_of(hash)].rcu(|shard| {
            let mut shard = Shard::clone(shard);
            shard.insert(Key(*hash), Arc::clone(&entry));
            shard
        });
        before.get(&Key(*hash)).cloned()
    }

    /// Takes the entry with this hash out.
    pub(super) fn take(&self, hash: &[u8; 32]) -> Option<Arc<InstanceEntry>> {
        let _changing = self.change([hash].into_iter());
        let before = self.shards[shard_of(hash)].rcu(|shard| {
            let mut shard = Shard::clone(shard);
            shard.remove(&Key(*hash));
            shard
        });
        before.get(&Key(*hash)).cloned()
    }

    /// The entry of the instance with this public number, and the keyed hash of its id. Looks at all.
    pub(super) fn by_public(&self, public: &PublicId) -> Option<([u8; 32], Arc<InstanceEntry>)> {
        self.shards.iter().find_map(|shard| {
            let shard = shard.load();
            let found = shard.iter().find(|(_, entry)| entry.public == *public);
            found.map(|(key, entry)| (key.0, Arc::clone(entry)))
        })
    }

    /// The entries of one of the [`SHARDS`] maps for which `wanted` gives something.
    pub(super) fn sweep<T>(
        &self,
        shard: usize,
        wanted: impl Fn(&Arc<InstanceEntry>) -> Option<T>,
    ) -> Vec<T> {
        self.shards[shard]
            .load()
            .values()
            .filter_map(wanted)
            .collect()
    }
}

/// Which map: the first 12 bits of the hash.
pub(super) fn shard_of(hash: &[u8; 32]) -> usize {
    usize::from(u16::from_be_bytes([hash[0], hash[1]]) >> 4)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::{ServiceType, Timestamp, UserId};
    use crate::store::{CredentialState, InstanceRow, StoredInstance};
    use crate::vault::{MasterKey, Vault};

    /// One change of the table: a hash, and what becomes of it.
    type Change = (u8, bool, bool);

    fn hash(n: u8) -> [u8; 32] {
        // Many share a map, some share the bytes that the map hashes by.
        let mut hash = [n / 8; 32];
        hash[0] = n % 3;
        hash[31] = n;
        hash
    }

    fn entry(hash: [u8; 32], vault: &Vault) -> Arc<InstanceEntry> {
        let row = InstanceRow {
            public: PublicId::parse("ins_aaaabbbbcccc").unwrap(),
            user: UserId::parse("alice").unwrap(),
            service: ServiceType::parse("figma").unwrap(),
            hash,
            created_at: Timestamp::from_millis(0),
            last_used_at: None,
            expires_at: None,
            disabled_at: None,
            owner_disabled: false,
            label: None,
            rotated_at: None,
            credential: CredentialState::Good,
            credential_at: Timestamp::from_millis(0),
        };
        let stored = StoredInstance {
            row,
            sealed_id: Vec::new(),
            sealed_credential: Vec::new(),
        };
        Arc::new(InstanceEntry::new(stored, vault.clone()))
    }

    fn same(one: Option<&Arc<InstanceEntry>>, two: Option<&Arc<InstanceEntry>>) -> bool {
        match (one, two) {
            (Some(one), Some(two)) => Arc::ptr_eq(one, two),
            (one, two) => one.is_none() && two.is_none(),
        }
    }

    proptest! {
        #[test]
        fn it_is_a_map_whatever_was_put_in_and_taken_out(
            changes in proptest::collection::vec(any::<Change>(), 0..60),
        ) {
            let vault = Vault::new(&MasterKey::from_bytes([1; 32]));
            let table = InstanceTable::empty();
            let mut map: HashMap<[u8; 32], Arc<InstanceEntry>> = HashMap::new();
            for (n, put, fill) in changes {
                let hash = hash(n);
                let fresh = entry(hash, &vault);
                if put && fill {
                    table.fill(vec![(hash, Arc::clone(&fresh))]);
                    map.insert(hash, fresh);
                } else {
                    let (was, is) = match put {
                        true => (table.put(&hash, Arc::clone(&fresh)), map.insert(hash, fresh)),
                        false => (table.take(&hash), map.remove(&hash)),
                    };
                    prop_assert!(same(was.as_ref(), is.as_ref()));
                }
                prop_assert!(same(table.get(&hash).as_ref(), map.get(&hash)));
            }
            prop_assert_eq!(table.len(), map.len());
            prop_assert_eq!(table.is_empty(), map.is_empty());
            for n in 0..=u8::MAX {
                prop_assert!(same(table.get(&hash(n)).as_ref(), map.get(&hash(n))));
            }
            let swept: usize = (0..SHARDS).map(|shard| table.sweep(shard, |_| Some(())).len()).sum();
            prop_assert_eq!(swept, map.len());
        }

        #[test]
        fn what_is_offered_never_takes_the_place_of_a_change(
            changes in proptest::collection::vec((0u8..8, 0u8..4), 0..60), whole in 0usize..60,
        ) {
            let vault = Vault::new(&MasterKey::from_bytes([1; 32]));
            let table = InstanceTable::empty();
            let mut map: HashMap<u8, Arc<InstanceEntry>> = HashMap::new();
            let mut changed = HashSet::new();
            for (at, (n, what)) in changes.into_iter().enumerate() {
                if at == whole {
                    table.set_whole();
                }
                let (hash, fresh) = (hash(n), entry(hash(n), &vault));
                match what {
                    0 => {
                        table.offer(vec![(hash, Arc::clone(&fresh))]);
                        if at < whole && !changed.contains(&n) {
                            map.entry(n).or_insert(fresh);
                        }
                        continue;
                    }
                    1 => drop(table.put(&hash, Arc::clone(&fresh))),
                    2 => {
                        let before = table.fill(vec![(hash, Arc::clone(&fresh))]);
                        prop_assert!(same(before.first(), map.get(&n)));
                    }
                    _ => drop(table.take(&hash)),
                }
                changed.insert(n);
                match what {
                    1 | 2 => drop(map.insert(n, fresh)),
                    _ => drop(map.remove(&n)),
                }
            }
            for n in 0..8 {
                prop_assert!(same(table.get(&hash(n)).as_ref(), map.get(&n)));
            }
        }
    }
}
