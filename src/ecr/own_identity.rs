//! The AWS identity of this process itself: whether AWS accepts it, and its account.
//!
//! One check answers for all: sts:GetCallerIdentity, which needs no permission, once per process.
//! All who need the answer wait for the same check. A failure is remembered for some seconds, so
//! that a thousand resources without an identity do not ask a thousand times.

use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_sdk_ecr::config::interceptors::FinalizerInterceptorContextRef;
use aws_sdk_ecr::config::{ConfigBag, Credentials, Intercept, RuntimeComponents};
use aws_sdk_ecr::error::BoxError;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::Instant;

use super::counting::code_of;
use super::error::{Error, is_refusal_of_credentials};
use super::no_identity::Advice;
use crate::class::Class;

/// Time for which a failed check answers for the next ones: shorter than the wait of a person who
/// has corrected the identity, and long enough for all resources that are due at once.
const REMEMBERED: Duration = Duration::from_secs(5);

/// Shortest time between two checks that refused requests cause. AWS refuses valid credentials,
/// too, in a region that is not enabled for their account.
const DOUBT_EVERY: Duration = Duration::from_secs(60);

/// The question to STS. Boxed: it is asked once, and would make the future of every pass larger.
pub(super) type Asking<'a> = BoxFuture<'a, Result<String, Error>>;

/// The last check of the identity, and the one that is running.
#[derive(Debug)]
pub(super) struct OwnIdentity {
    advice: Advice,
    state: watch::Sender<Standing>,
    running: tokio::sync::Mutex<()>,
}

/// The standing of this process with AWS.
#[derive(Debug, Default)]
pub struct Standing {
    verdict: Verdict,
    account: Option<String>,
    doubted_at: Option<Instant>,
}

#[derive(Debug, Default)]
enum Verdict {
    /// Not checked yet, or not since AWS refused requests.
    #[default]
    Unchecked,
    /// AWS accepted the identity.
    Accepted,
    /// There is no identity, or AWS refuses it.
    Missing { message: String, at: Instant },
    /// The check ended without a result: STS is unreachable or throttles.
    Undecided { class: Class, message: String, at: Instant },
}

impl Standing {
    /// Whether AWS accepts the identity, as far as is known.
    #[must_use]
    pub const fn is_accepted(&self) -> bool {
        matches!(self.verdict, Verdict::Accepted)
    }

    /// Whether there is no identity that AWS accepts.
    #[must_use]
    pub const fn is_missing(&self) -> bool {
        matches!(self.verdict, Verdict::Missing { .. })
    }

    /// Returns the result that answers without another check.
    fn remembered(&self) -> Option<Result<String, Error>> {
        match &self.verdict {
            Verdict::Accepted => self.account.clone().map(Ok),
            Verdict::Missing { message, at } if at.elapsed() < REMEMBERED => {
                Some(Err(Error::NoIdentity(message.clone())))
            }
            Verdict::Undecided { class, message, at } if at.elapsed() < REMEMBERED => {
                Some(Err(Error::Unchecked { class: *class, message: message.clone() }))
            }
            _ => None,
        }
    }

    fn record(&mut self, result: &Result<String, Error>) {
        let at = Instant::now();
        self.verdict = match result {
            Ok(account) => {
                self.account = Some(account.clone());
                Verdict::Accepted
            }
            Err(Error::NoIdentity(message)) => Verdict::Missing { message: message.clone(), at },
            // No news: an identity that was accepted before stays so.
            Err(_) if self.account.is_some() => Verdict::Accepted,
            Err(error) => {
                Verdict::Undecided { class: error.class(), message: error.to_string(), at }
            }
        };
    }

    /// Returns whether the doubt is a new one.
    fn doubt(&mut self) -> bool {
        let now = Instant::now();
        let is_early = self.doubted_at.is_some_and(|at| now.duration_since(at) < DOUBT_EVERY);
        if is_early || !self.is_accepted() {
            return false;
        }
        self.doubted_at = Some(now);
        self.verdict = Verdict::Unchecked;
        true
    }
}

impl OwnIdentity {
    pub(super) fn new(advice: Advice) -> Self {
        let state = watch::Sender::new(Standing::default());
        Self { advice, state, running: tokio::sync::Mutex::default() }
    }

    pub(super) const fn advice(&self) -> &Advice {
        &self.advice
    }

    /// Returns the standing, as it changes.
    pub(super) fn standing(&self) -> watch::Receiver<Standing> {
        self.state.subscribe()
    }

    /// Returns the account, if a check has found it.
    pub(super) fn known_account(&self) -> Option<String> {
        self.state.borrow().account.clone()
    }

    /// Returns the account; asks STS if it is not known, or if the identity is in doubt.
    ///
    /// # Errors
    /// [`Error::NoIdentity`] if there is no identity that AWS accepts; any other error if that
    /// cannot be found out now.
    pub(super) async fn account<'a>(
        &self,
        ask: impl FnOnce() -> Asking<'a>,
    ) -> Result<String, Error> {
        if let Some(result) = self.remembered() {
            return result;
        }
        let _running = self.running.lock().await;
        if let Some(result) = self.remembered() {
            return result;
        }

        let result = ask().await.map_err(|error| self.advice.judged(error));
        self.state.send_modify(|standing| standing.record(&result));
        result
    }

    /// Checks the identity for a request that does not need the account: only a missing identity
    /// is a failure. STS may be unreachable where ECR is not (VPC endpoints).
    ///
    /// # Errors
    /// [`Error::NoIdentity`].
    pub(super) async fn accepted<'a>(&self, ask: impl FnOnce() -> Asking<'a>) -> Result<(), Error> {
        if matches!(self.state.borrow().verdict, Verdict::Undecided { .. }) {
            return Ok(());
        }
        match self.account(ask).await {
            Err(error @ Error::NoIdentity(_)) => Err(error),
            _ => Ok(()),
        }
    }

    fn remembered(&self) -> Option<Result<String, Error>> {
        self.state.borrow().remembered()
    }

    /// Records that AWS refused the credentials, or that they cannot be loaded.
    fn doubt(&self) {
        self.state.send_if_modified(Standing::doubt);
    }

    /// Returns the configuration with credentials whose errors have our text.
    pub(super) fn watching(self: &Arc<Self>, sdk: SdkConfig) -> SdkConfig {
        let Some(inner) = sdk.credentials_provider() else { return sdk };
        let watched = Watched { inner, identity: self.clone() };
        sdk.into_builder().credentials_provider(SharedCredentialsProvider::new(watched)).build()
    }
}

/// The credentials chain of the SDK, with our errors.
#[derive(Debug)]
struct Watched {
    inner: SharedCredentialsProvider,
    identity: Arc<OwnIdentity>,
}

impl ProvideCredentials for Watched {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            self.inner.provide_credentials().await.map_err(|error| {
                self.identity.doubt();
                match self.identity.advice.without_credentials(&error) {
                    Some(message) => CredentialsError::provider_error(Error::NoIdentity(message)),
                    None => error,
                }
            })
        })
    }

    fn fallback_on_interrupt(&self) -> Option<Credentials> {
        self.inner.fallback_on_interrupt()
    }
}

/// Doubts the identity when AWS refuses its credentials.
#[derive(Debug)]
pub(super) struct Doubting(pub(super) Arc<OwnIdentity>);

impl Intercept for Doubting {
    fn name(&self) -> &'static str {
        "Doubting"
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let code = context.response().and_then(code_of);
        if code.is_some_and(|code| is_refusal_of_credentials(&code)) {
            self.0.doubt();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// STS, with a count of its calls.
    #[derive(Default)]
    struct Sts(AtomicU32);

    impl Sts {
        fn answer<'a>(
            &'a self,
            answer: Result<&'static str, Error>,
        ) -> impl FnOnce() -> Asking<'a> {
            move || {
                Box::pin(async move {
                    self.0.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    answer.map(str::to_owned)
                })
            }
        }

        fn calls(&self) -> u32 {
            self.0.load(Ordering::Relaxed)
        }
    }

    fn identity() -> Arc<OwnIdentity> {
        Arc::new(OwnIdentity::new(Advice::of_process(true)))
    }

    fn missing() -> Result<&'static str, Error> {
        Err(Error::NoIdentity("no identity".to_owned()))
    }

    fn throttled() -> Result<&'static str, Error> {
        Err(Error::Unchecked { class: Class::RateLimited, message: "later".to_owned() })
    }

    #[tokio::test(start_paused = true)]
    async fn one_check_answers_for_all() {
        let (own, sts) = (identity(), Sts::default());
        let all = (0..50).map(|_| own.account(sts.answer(Ok("123456789012"))));
        for account in futures::future::join_all(all).await {
            assert_eq!(account.expect("accepted"), "123456789012");
        }
        tokio::time::advance(Duration::from_secs(86_400)).await;
        own.account(sts.answer(missing())).await.expect("remembered");
        assert_eq!(sts.calls(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_missing_identity_is_remembered_for_some_seconds() {
        let (own, sts) = (identity(), Sts::default());
        for _ in 0..50 {
            let error = own.accepted(sts.answer(missing())).await.expect_err("missing");
            assert_eq!(error.to_string(), "no identity");
        }
        assert_eq!(sts.calls(), 1);
        assert!(own.standing().borrow().is_missing());

        tokio::time::advance(REMEMBERED).await;
        own.accepted(sts.answer(Ok("123456789012"))).await.expect("it works now");
        assert!(own.standing().borrow().is_accepted());
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_without_a_result_stops_only_those_who_need_the_account() {
        let (own, sts) = (identity(), Sts::default());
        own.accepted(sts.answer(throttled())).await.expect("not known to be missing");
        own.accepted(sts.answer(throttled())).await.expect("not asked again");
        let error = own.account(sts.answer(throttled())).await.expect_err("no account");
        assert_eq!((error.class(), sts.calls()), (Class::RateLimited, 1));

        tokio::time::advance(REMEMBERED).await;
        own.account(sts.answer(Ok("123456789012"))).await.expect("asked again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_request_causes_one_check_per_minute() {
        let (own, sts) = (identity(), Sts::default());
        let accepted = || own.accepted(sts.answer(Ok("123456789012")));
        accepted().await.expect("accepted");
        for _ in 0..10 {
            own.doubt();
            accepted().await.expect("accepted");
        }
        assert_eq!(sts.calls(), 2);

        tokio::time::advance(DOUBT_EVERY).await;
        own.doubt();
        own.accepted(sts.answer(throttled())).await.expect("no news");
        assert!(own.standing().borrow().is_accepted(), "as before");
        assert_eq!(own.known_account().as_deref(), Some("123456789012"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_identity_that_is_lost_is_noticed() {
        let (own, sts) = (identity(), Sts::default());
        own.accepted(sts.answer(Ok("123456789012"))).await.expect("accepted");
        own.doubt();
        own.accepted(sts.answer(missing())).await.expect_err("lost");
        assert!(own.standing().borrow().is_missing());
    }
}
