//! Removes what is older than the operator wants kept.
//!
//! In small parts with pauses between them: what somebody waits for goes first.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::settings::Retention;
use crate::ids::{Day, Timestamp};
use crate::store::{Answer, StoreError, StoreHandle};

/// After a start others have work to do.
const FIRST_AFTER: Duration = Duration::from_secs(60);
/// Days end once a day.
const EVERY: Duration = Duration::from_secs(24 * 3600);
/// After one that failed, such as on a full disk.
const AGAIN_AFTER: Duration = Duration::from_secs(600);
/// Rows that are removed at once: some milliseconds of a slow disk.
const BATCH: u32 = 500;
/// How long a session that nobody uses is kept at least, in milliseconds: a laptop that slept over night
/// goes on with its own. A client that comes later is told that it is gone, and begins another.
const SESSIONS_MS: i64 = 24 * 3600 * 1000;
const PAUSE: Duration = Duration::from_millis(100);

/// Removes a minute after the start, then daily and whenever another time is chosen.
pub(super) async fn run(store: StoreHandle, mut chosen: watch::Receiver<Retention>) {
    let mut wait = FIRST_AFTER;
    loop {
        tokio::select! {
            () = sleep(wait) => {}
            // And so long after another time was chosen.
            changed = chosen.changed() => match changed {
                Ok(()) => {
                    wait = wait.min(FIRST_AFTER);
                    continue;
                }
                Err(_) => return,
            },
        }
        let retention = *chosen.borrow_and_update();
        let now = Timestamp::now();
        wait = match forget(&store, retention, now).await {
            Ok(0) => EVERY,
            Ok(rows) => {
                tracing::info!(rows, %retention, "removed what is older than it is to be kept");
                EVERY
            }
            Err(error) => {
                tracing::warn!(%error, "cannot remove what is too old; trying again");
                AGAIN_AFTER
            }
        };
    }
}

/// Removes all that is too old today, and answers how much that was.
async fn forget(store: &StoreHandle, kept: Retention, now: Timestamp) -> Result<u64, StoreError> {
    let today = Day::of(now);
    // What is known of credentials counts for minutes, by the same clock; nobody chooses how long.
    in_parts(|| store.forget_checks_before(now, BATCH)).await?;
    // Nor does anybody choose it of sessions.
    let unused = Timestamp::from_millis(now.as_millis().saturating_sub(SESSIONS_MS));
    in_parts(|| store.forget_sessions_before(unused, BATCH)).await?;
    let mut gone = 0;
    if let Some(first) = first_kept(today, kept.usage_days) {
        gone += in_parts(|| store.forget_usage_before(first, BATCH)).await?;
    }
    if let Some(first) = first_kept(today, kept.audit_days) {
        gone += in_parts(|| store.forget_audit_before(first.begin(), BATCH)).await?;
    }
    Ok(gone)
}

/// The oldest day that stays; `None` when all stay.
fn first_kept(today: Day, days: u32) -> Option<Day> {
    (days > 0).then(|| today.before(days))
}

async fn in_parts<'a>(forget: impl Fn() -> Answer<'a, u64>) -> Result<u64, StoreError> {
    let mut gone = 0;
    loop {
        let part = forget().await?;
        gone += part;
        if part < u64::from(BATCH) {
            return Ok(gone);
        }
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ids::{PublicId, ServiceType, UserId};
    use crate::store::{
        Added, Memory, NewInstance, SessionRow, Usage, UsageFilter, UsageKey, UsageRow,
    };

    /// How often a test looks.
    const STEP: Duration = Duration::from_secs(30);

    fn row(day: Day, user: u32) -> UsageRow {
        UsageRow {
            key: UsageKey {
                day,
                user: UserId::parse(&format!("user-{user}")).unwrap(),
                service: ServiceType::parse("demo").unwrap(),
            },
            usage: Usage {
                requests: 1,
                ..Usage::default()
            },
        }
    }

    async fn days(store: &StoreHandle) -> Vec<Day> {
        let page = store.usage(&UsageFilter::default(), None, 10_000).await;
        let mut days: Vec<_> = page.unwrap().items.iter().map(|row| row.key.day).collect();
        days.dedup();
        days
    }

    fn retention(usage_days: u32) -> Retention {
        Retention {
            usage_days,
            audit_days: 0,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_old_goes_in_parts_and_the_rest_stays() {
        let store: StoreHandle = Arc::new(Memory::new());
        let today = Day::from_number(20_000);
        let ages = [0, 1, 179, 180, 181, 500];
        for age in ages {
            let users = 0..BATCH + 1;
            let rows = users.map(|user| row(today.before(age), user));
            store.add_usage(rows.collect()).await.unwrap();
        }
        assert_eq!(
            forget(&store, retention(0), today.begin()).await.unwrap(),
            0
        );
        assert_eq!(days(&store).await.len(), ages.len());
        let gone = forget(&store, retention(180), today.begin()).await.unwrap();
        assert_eq!(gone, 2 * u64::from(BATCH + 1));
        let left = [180, 179, 1, 0].map(|age| today.before(age));
        assert_eq!(days(&store).await, left);
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_go_when_they_were_not_used_for_a_day_whatever_is_chosen() {
        let store: StoreHandle = Arc::new(Memory::new());
        let now = Day::from_number(20_000).begin();
        let public = instance(&store).await;
        let ages = [0, SESSIONS_MS, SESSIONS_MS + 1, 9 * SESSIONS_MS];
        for (n, age) in (0..).zip(ages) {
            let session = SessionRow {
                key: [n; 32],
                instance: public.clone(),
                data: vec![n],
                used_at: Timestamp::from_millis(now.as_millis() - age),
            };
            assert!(store.put_session(session).await.unwrap());
        }
        // Nobody reads of it in the log.
        assert_eq!(forget(&store, retention(0), now).await.unwrap(), 0);
        for n in 0..4 {
            let session = store.session(&[n; 32]).await.unwrap();
            assert_eq!(session.is_some(), n < 2, "{n}");
        }
    }

    async fn instance(store: &StoreHandle) -> PublicId {
        let (user, created_at) = (UserId::parse("alice").unwrap(), Timestamp::from_millis(1));
        let public = PublicId::parse("ins_aaaabbbbcccc").unwrap();
        let new = NewInstance {
            public: public.clone(),
            user,
            service: ServiceType::parse("demo").unwrap(),
            hash: [1; 32],
            sealed_id: vec![1],
            sealed_credential: vec![2],
            created_at,
            label: None,
            expires_at: None,
            disabled_at: None,
        };
        let added = store.add_instances(vec![new], Some(created_at)).await;
        assert_eq!(added.unwrap(), [Added::Done]);
        public
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_done_a_minute_after_the_start_daily_and_when_another_time_is_chosen() {
        let store: StoreHandle = Arc::new(Memory::new());
        let old = Day::of(Timestamp::now()).before(100);
        let (choose, chosen) = watch::channel(retention(50));
        let task = tokio::spawn(run(store.clone(), chosen));
        let gone = async |within: Duration| {
            store.add_usage(vec![row(old, 1)]).await.unwrap();
            let begun = tokio::time::Instant::now();
            while !days(&store).await.is_empty() {
                assert!(begun.elapsed() <= within + STEP, "it stays");
                sleep(STEP).await;
            }
        };
        gone(FIRST_AFTER).await;
        gone(EVERY).await;
        choose.send_replace(retention(0));
        store.add_usage(vec![row(old, 1)]).await.unwrap();
        sleep(EVERY * 3).await;
        assert_eq!(days(&store).await, [old]);
        choose.send_replace(retention(99));
        gone(FIRST_AFTER).await;
        drop(choose);
        task.await.unwrap();
    }
}
