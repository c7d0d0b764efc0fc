//! The router's table of instances: read without a lock, changed one small map at a time.
//!
//! Keyed by the keyed hash of the id, so neither a dump of the table nor the time of a look-up
//! says anything about ids. Holds active instances only. Changed by the registry alone.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::instances::entry::InstanceEntry;

/// So many maps, because one change copies one of them: with a million instances 39 µs instead of
/// 439 ms for a single map (`design.md` §4).
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
}

impl InstanceTable {
    /// A table without instances.
    pub fn empty() -> Self {
        // One empty map for all: an idle daemon pays 32 KiB for the table.
        let empty = Arc::new(Shard::default());
        Self {
            shards: (0..SHARDS)
                .map(|_| ArcSwap::new(Arc::clone(&empty)))
                .collect(),
        }
    }

    /// The active instance whose id has this keyed hash. Takes no lock and copies no map.
    pub fn get(&self, hash: &[u8; 32]) -> Option<Arc<InstanceEntry>> {
        self.shards[index(hash)].load().get(&Key(*hash)).cloned()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.load().len()).sum()
    }

    /// None at all?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts entries in, all at once per map: for the start, when one by one would copy too much.
    pub(super) fn fill(&self, entries: Vec<([u8; 32], Arc<InstanceEntry>)>) {
        let mut added: HashMap<usize, Vec<_>> = HashMap::new();
        for (hash, entry) in entries {
            added
                .entry(index(&hash))
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

    /// Puts an entry in the place of the one with this hash, which it answers.
    pub(super) fn put(
        &self,
        hash: &[u8; 32],
        entry: Arc<InstanceEntry>,
    ) -> Option<Arc<InstanceEntry>> {
        let before = self.shards[index(hash)].rcu(|shard| {
            let mut shard = Shard::clone(shard);
            shard.insert(Key(*hash), Arc::clone(&entry));
            shard
        });
        before.get(&Key(*hash)).cloned()
    }

    /// Takes the entry with this hash out.
    pub(super) fn take(&self, hash: &[u8; 32]) -> Option<Arc<InstanceEntry>> {
        let before = self.shards[index(hash)].rcu(|shard| {
            let mut shard = Shard::clone(shard);
            shard.remove(&Key(*hash));
            shard
        });
        before.get(&Key(*hash)).cloned()
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
fn index(hash: &[u8; 32]) -> usize {
    usize::from(u16::from_be_bytes([hash[0], hash[1]]) >> 4)
}
