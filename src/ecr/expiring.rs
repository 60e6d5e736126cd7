//! A cached value with an expiry, renewed ahead of time: ECR tokens, role credentials.

use std::future::Future;
use std::time::{Duration, SystemTime};

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::error::Error;

/// Shortest time between two renewals. A value that expires sooner, or is already expired, would
/// otherwise be renewed in a busy loop. (moto's ECR tokens expired in 2015.)
pub(super) const MIN_LIFETIME: Duration = Duration::from_secs(60);

/// A value with an expiry. One caller renews it; other callers wait for that result instead of
/// requesting their own.
#[derive(Debug)]
pub(super) struct Expiring<T>(Mutex<Option<Cached<T>>>);

#[derive(Debug)]
struct Cached<T> {
    value: T,
    renew_at: Instant,
    expires_at: Instant,
}

/// A value that was just fetched.
#[derive(Debug)]
pub(super) struct Fresh<T> {
    pub(super) value: T,
    /// Time from now to the expiry.
    pub(super) life: Duration,
    /// Time from now to the renewal.
    pub(super) renew_after: Duration,
}

impl<T> Fresh<T> {
    /// A value that expires at `expiry`, to be renewed `ahead` of that or at half life, whichever
    /// is later.
    pub(super) fn new(value: T, expiry: Option<SystemTime>, ahead: Duration) -> Self {
        let left =
            expiry.and_then(|at| at.duration_since(SystemTime::now()).ok()).unwrap_or_default();
        let life = left.max(MIN_LIFETIME);
        Self { value, life, renew_after: life - ahead.min(life / 2) }
    }
}

impl<T> Default for Expiring<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone> Expiring<T> {
    /// Returns the value, from `fetch` if a renewal is due. If the renewal fails, the old value is
    /// used until it expires.
    pub(super) async fn get(
        &self,
        name: &(impl std::fmt::Display + Sync + ?Sized),
        fetch: impl Future<Output = Result<Fresh<T>, Error>> + Send,
    ) -> Result<T, Error> {
        let mut current = self.0.lock().await;
        let now = Instant::now();
        if let Some(cached) = current.as_ref().filter(|cached| now < cached.renew_at) {
            return Ok(cached.value.clone());
        }

        match fetch.await {
            Ok(fresh) => {
                tracing::debug!(what = %name, life = fresh.life.as_secs(), "renewed");
                let now = Instant::now();
                let cached = Cached {
                    value: fresh.value,
                    renew_at: now + fresh.renew_after,
                    expires_at: now + fresh.life,
                };
                Ok(current.insert(cached).value.clone())
            }
            Err(error) => match current.as_mut().filter(|cached| now < cached.expires_at) {
                Some(cached) => {
                    tracing::warn!(
                        what = %name,
                        %error,
                        "cannot be renewed, the old one is used until it expires"
                    );
                    cached.renew_at = now + MIN_LIFETIME;
                    Ok(cached.value.clone())
                }
                None => Err(error),
            },
        }
    }

    /// Drops the value if it is the one that the server refused.
    pub(super) async fn refused(&self, is_refused: impl Fn(&T) -> bool) {
        let mut current = self.0.lock().await;
        if current.as_ref().is_some_and(|cached| is_refused(&cached.value)) {
            *current = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_caller_fetches_and_the_others_wait() {
        let token = Expiring::default();
        let fetches = AtomicU32::new(0);
        let get = || {
            token.get("token", async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let end = SystemTime::now() + Duration::from_secs(3600);
                Ok(Fresh::new(
                    fetches.fetch_add(1, Ordering::Relaxed),
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
    async fn an_expiry_in_the_past_does_not_cause_a_busy_loop() {
        let token = Expiring::default();
        let fetches = AtomicU32::new(0);
        let get = || {
            token.get("token", async {
                fetches.fetch_add(1, Ordering::Relaxed);
                Ok(Fresh::new((), Some(SystemTime::UNIX_EPOCH), Duration::from_secs(300)))
            })
        };
        for _ in 0..100 {
            get().await.expect("a value");
        }

        assert_eq!(fetches.load(Ordering::Relaxed), 1);
        tokio::time::advance(MIN_LIFETIME).await;
        get().await.expect("a value");
        assert_eq!(fetches.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_that_cannot_be_renewed_is_used_until_it_expires() {
        let token = Expiring::default();
        let end = SystemTime::now() + Duration::from_secs(3600);
        let fresh = async { Ok(Fresh::new(1, Some(end), Duration::from_secs(300))) };
        token.get("token", fresh).await.expect("a value");
        let down = || async { Err(Error::Unconfigured("down".into())) };
        tokio::time::advance(Duration::from_secs(3400)).await;
        assert_eq!(token.get("token", down()).await.expect("the old one"), 1);
        tokio::time::advance(Duration::from_secs(300)).await;
        assert!(token.get("token", down()).await.is_err());
    }

    #[tokio::test]
    async fn a_refused_value_is_not_returned_again() {
        let token = Expiring::default();
        let end = SystemTime::now() + Duration::from_secs(3600);
        let fresh = |value| async move { Ok(Fresh::new(value, Some(end), Duration::ZERO)) };
        assert_eq!(token.get("token", fresh(1)).await.expect("a value"), 1);
        token.refused(|value| *value == 7).await;
        assert_eq!(token.get("token", fresh(2)).await.expect("a value"), 1);
        token.refused(|value| *value == 1).await;
        assert_eq!(token.get("token", fresh(2)).await.expect("a value"), 2);
    }
}
