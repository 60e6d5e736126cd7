//! The place of the running work in the queue of its process. Work that only waits gives its place
//! back, so that other work can run meanwhile.
//!
//! The lower modules report here that they wait, and for which host; they know nothing of the queue.
//! Like the author of writes, the place is a value of the task. Work without a place, such as a run
//! of the command line, just waits.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

tokio::task_local! {
    static PLACE: Arc<dyn Place>;
}

/// The place of one job.
pub(crate) trait Place: Send + Sync + fmt::Debug {
    /// A part of the job begins to wait: for this host, or for a rate limit.
    fn waits(&self, host: Option<&str>);

    /// A part of the job has ended its wait.
    fn goes_on(&self);

    /// The job is about to call AWS.
    fn calls_aws(&self);

    /// Exchanges the place for one among the jobs that copy. Waits until one is free.
    fn copies(&self) -> BoxFuture<'_, ()>;

    /// Announces the bytes that the job is about to transfer. Waits until there is room for them.
    fn transfers(&self, bytes: u64) -> BoxFuture<'_, ()>;
}

/// Runs `work` at this place.
pub(crate) fn at<'a, T: 'a>(
    place: Arc<dyn Place>,
    work: impl Future<Output = T> + Send + 'a,
) -> BoxFuture<'a, T> {
    PLACE.scope(place, work.boxed()).boxed()
}

/// Runs a task of its own at the place of this one.
pub(crate) fn inherited<'a, T: 'a>(work: impl Future<Output = T> + Send + 'a) -> BoxFuture<'a, T> {
    match PLACE.try_with(Clone::clone) {
        Ok(place) => at(place, work),
        Err(_without) => work.boxed(),
    }
}

/// Waits for `event`, which depends on this host, or on a rate limit.
pub(crate) async fn waiting<T>(host: Option<&str>, event: impl Future<Output = T>) -> T {
    let _wait = PLACE.try_with(|place| Wait::new(place.clone(), host)).ok();
    event.await
}

/// Waits for a place among the jobs that copy.
pub(crate) async fn copying() {
    if let Ok(place) = PLACE.try_with(Clone::clone) {
        place.copies().await;
    }
}

/// Waits until there is room for this many bytes on the way, before they are transferred. A part of a
/// job whose other parts transfer already must not call this.
pub(crate) async fn transferring(bytes: u64) {
    if let Ok(place) = PLACE.try_with(Clone::clone) {
        place.transfers(bytes).await;
    }
}

/// Reports that the job is about to call AWS.
pub(crate) fn calls_aws() {
    // Work without a place has nobody to report to.
    let _without = PLACE.try_with(|place| place.calls_aws());
}

/// A wait, which ends when this is dropped.
struct Wait(Arc<dyn Place>);

impl Wait {
    fn new(place: Arc<dyn Place>, host: Option<&str>) -> Self {
        place.waits(host);
        Self(place)
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.0.goes_on();
    }
}
