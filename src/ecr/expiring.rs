//! What ends and is had anew: ECR's tokens, the keys of roles.

use std::future::Future;
use std::time::{Duration, SystemTime};

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::error::Error;

/// Something that says it ends sooner, or in the past, is not renewed more often than this: a loop
/// keyed on the expiry alone would spin. (moto's ECR tokens ended in 2015.)
pub(super) const LEAST_LIFE: Duration = Duration::from_secs(60);

/// A value with an end. One caller renews it; callers that come meanwhile wait for its answer
/// instead of asking again.
#[derive(Debug)]
pub(super) struct Expiring<T>(Mutex<Option<Held<T>>>);

#[derive(Debug)]
struct Held<T> {
    value: T,
    renew_at: Instant,
    ends_at: Instant,
}

/// A fresh value.
#[derive(Debug)]
pub(super) struct Fresh<T> {
    pub(super) value: T,
    /// From now to its end.
    pub(super) life: Duration,
    /// From now until it is renewed.
    pub(super) renew_after: Duration,
}

impl<T> Fresh<T> {
    /// A value that ends at `end`, to be renewed a share of its life, but at most `ahead`, before.
    pub(super) fn new(value: T, end: Option<SystemTime>, ahead: Duration) -> Self {
        let left =
            end.and_then(|end| end.duration_since(SystemTime::now()).ok()).unwrap_or_default();
        let life = left.max(LEAST_LIFE);
        Self { value, life, renew_after: life - ahead.min(life / 2) }
    }
}

impl<T> Default for Expiring<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone> Expiring<T> {
    /// The value, from `fetch` when it is due. One that cannot be renewed yet is used to its end.
    pub(super) async fn get(
        &self,
        what: &(impl std::fmt::Display + Sync + ?Sized),
        fetch: impl Future<Output = Result<Fresh<T>, Error>> + Send,
    ) -> Result<T, Error> {
        let mut current = self.0.lock().await;
        let now = Instant::now();
        if let Some(held) = current.as_ref().filter(|held| now < held.renew_at) {
            return Ok(held.value.clone());
        }
        match fetch.await {
            Ok(fresh) => {
                tracing::debug!(%what, life = fresh.life.as_secs(), "renewed");
                let now = Instant::now();
                let (renew_at, ends_at) = (now + fresh.renew_after, now + fresh.life);
                Ok(current.insert(Held { value: fresh.value, renew_at, ends_at }).value.clone())
            }
            Err(error) => match current.as_mut().filter(|held| now < held.ends_at) {
                Some(held) => {
                    tracing::warn!(%what, %error, "cannot be renewed yet");
                    held.renew_at = now + LEAST_LIFE;
                    Ok(held.value.clone())
                }
                None => Err(error),
            },
        }
    }

    /// Drops the value if it is the one that was refused.
    pub(super) async fn refused(&self, is_it: impl Fn(&T) -> bool) {
        let mut current = self.0.lock().await;
        if current.as_ref().is_some_and(|held| is_it(&held.value)) {
            *current = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_caller_asks_and_the_others_wait() {
        let (renewed, asked) = (Expiring::default(), AtomicU32::new(0));
        let get = || {
            renewed.get("it", async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let end = SystemTime::now() + Duration::from_secs(3600);
                Ok(Fresh::new(
                    asked.fetch_add(1, Ordering::Relaxed),
                    Some(end),
                    Duration::from_secs(300),
                ))
            })
        };
        let all = futures::future::join_all((0..50).map(|_| get())).await;
        assert!(all.into_iter().all(|value| value.expect("a value") == 0));
        tokio::time::advance(Duration::from_secs(3290)).await;
        assert_eq!(get().await.expect("the same"), 0);
        tokio::time::advance(Duration::from_secs(20)).await;
        assert_eq!(get().await.expect("a new one"), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_in_the_past_does_not_make_it_spin() {
        let (renewed, asked) = (Expiring::default(), AtomicU32::new(0));
        let get = || {
            renewed.get("it", async {
                asked.fetch_add(1, Ordering::Relaxed);
                Ok(Fresh::new((), Some(SystemTime::UNIX_EPOCH), Duration::from_secs(300)))
            })
        };
        for _ in 0..100 {
            get().await.expect("a value");
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        tokio::time::advance(LEAST_LIFE).await;
        get().await.expect("a value");
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_renewed_is_used_to_its_end() {
        let renewed = Expiring::default();
        let end = SystemTime::now() + Duration::from_secs(3600);
        let fresh = async { Ok(Fresh::new(1, Some(end), Duration::from_secs(300))) };
        renewed.get("it", fresh).await.expect("a value");
        let down = || async { Err(Error::Unconfigured("down".to_owned())) };
        tokio::time::advance(Duration::from_secs(3400)).await;
        assert_eq!(renewed.get("it", down()).await.expect("the old one"), 1);
        tokio::time::advance(Duration::from_secs(300)).await;
        assert!(renewed.get("it", down()).await.is_err());
    }

    #[tokio::test]
    async fn what_was_refused_is_not_given_again() {
        let renewed = Expiring::default();
        let end = SystemTime::now() + Duration::from_secs(3600);
        let fresh = |value| async move { Ok(Fresh::new(value, Some(end), Duration::ZERO)) };
        assert_eq!(renewed.get("it", fresh(1)).await.expect("a value"), 1);
        renewed.refused(|value| *value == 7).await;
        assert_eq!(renewed.get("it", fresh(2)).await.expect("a value"), 1);
        renewed.refused(|value| *value == 1).await;
        assert_eq!(renewed.get("it", fresh(2)).await.expect("a value"), 2);
    }
}
