//! What was counted and is not in the store yet. Pure.

use std::collections::BTreeMap;

use crate::store::{Usage, UsageKey, UsageRow};

/// Rows that wait for a store that cannot be written; what is counted beyond them stays where it was
/// counted. Some 20 MiB.
const ROWS_MAX: usize = 100_000;
/// Rows that are written at once: other writes get their turn between two such batches.
const BATCH: usize = 1000;

/// Waits for the store.
#[derive(Debug, Default)]
pub(super) struct Pending {
    rows: BTreeMap<UsageKey, Usage>,
}

impl Pending {
    /// Room for more?
    pub(super) fn is_full(&self) -> bool {
        self.rows.len() >= ROWS_MAX
    }

    /// Nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Puts more to it: what was counted, or a batch that could not be written.
    pub(super) fn put(&mut self, rows: impl IntoIterator<Item = UsageRow>) {
        for UsageRow { key, usage } in rows {
            self.rows.entry(key).or_default().add(&usage);
        }
    }

    /// Takes what is written next.
    pub(super) fn batch(&mut self) -> Vec<UsageRow> {
        let mut batch = Vec::new();
        while batch.len() < BATCH
            && let Some((key, usage)) = self.rows.pop_first()
        {
            batch.push(UsageRow { key, usage });
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::{Day, ServiceType, UserId};

    fn row(day: i64, user: u16, requests: u64) -> UsageRow {
        let mut usage = Usage {
            requests,
            errors: requests / 2,
            ..Usage::default()
        };
        usage.latencies.add(usize::from(user % 90), requests);
        UsageRow {
            key: UsageKey {
                day: Day::from_number(day),
                user: UserId::parse(&format!("user-{user}")).unwrap(),
                service: ServiceType::parse("demo").unwrap(),
            },
            usage,
        }
    }

    /// One of: something is counted; a batch is written; a batch fails.
    #[derive(Clone, Debug)]
    enum Step {
        Counted(i64, u16, u64),
        Written,
        Failed,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..3i64, 0..2000u16, 1..9u64).prop_map(|(d, u, n)| Step::Counted(d, u, n)),
            1 => Just(Step::Written),
            1 => Just(Step::Failed),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn what_was_counted_is_written_once_or_waits(
            first in 0..1500u16, steps in proptest::collection::vec(step(), 0..60),
        ) {
            let mut pending = Pending::default();
            let (mut counted, mut stored) = (Pending::default(), Pending::default());
            for user in 0..first {
                pending.put([row(0, user, 1)]);
                counted.put([row(0, user, 1)]);
            }
            for step in steps {
                match step {
                    Step::Counted(day, user, requests) => {
                        pending.put([row(day, user, requests)]);
                        counted.put([row(day, user, requests)]);
                    }
                    Step::Written => stored.put(pending.batch()),
                    Step::Failed => {
                        let batch = pending.batch();
                        prop_assert!(batch.len() <= BATCH);
                        pending.put(batch);
                    }
                }
            }
            while !pending.is_empty() {
                stored.put(pending.batch());
            }
            prop_assert_eq!(stored.rows, counted.rows);
        }
    }
}
