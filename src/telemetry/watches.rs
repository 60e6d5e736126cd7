//! Watches of the API server: whether they work (`/readyz`, `ecrsync_watch_failing_seconds`), and
//! the number of resources that cannot be decoded (`ecrsync_undecodable_resources`).

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::{
    GaugeVec, IntGauge, Registry, register_gauge_vec_with_registry,
    register_int_gauge_with_registry,
};
use tokio::time::Instant;

/// A watch that fails for this long is reported on /readyz. Shorter than that is a restart of the
/// API server, which needs nobody.
const REPORTED_AFTER: Duration = Duration::from_secs(60);

/// A kind of object that is watched; values of the label `kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The resources: without them nothing can be done.
    Resources,
    /// The metadata of Secrets: without them a changed Secret is used at the next pass.
    Secrets,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Resources, Self::Secrets];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Resources => "EcrRepositorySync",
            Self::Secrets => "Secret",
        }
    }
}

/// State of one watch.
#[derive(Clone, Debug, Default)]
struct State {
    /// Whether this process watches the kind. A follower does not.
    is_used: bool,
    is_listed: bool,
    /// The first of the failures since it worked last, and the reason of the latest.
    failing: Option<(Instant, String)>,
}

impl State {
    fn failing_for(&self) -> Duration {
        self.failing.as_ref().map(|(since, _)| since.elapsed()).unwrap_or_default()
    }

    /// Returns what is wrong, if it is wrong for long.
    fn trouble(&self, kind: Kind) -> Option<String> {
        let kind = kind.as_str();
        let reason = self.failing.as_ref().map(|(_, reason)| reason);
        if self.is_used && !self.is_listed {
            let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            return Some(format!("waiting for the first list of {kind}{reason}"));
        }

        let time = self.failing_for();
        (time >= REPORTED_AFTER).then(|| {
            let reason = reason.map_or("", String::as_str);
            format!("the watch of {kind} has failed for {} s: {reason}", time.as_secs())
        })
    }
}

/// The watches of the process. Clones share the state.
#[derive(Clone, Debug)]
pub struct Watches {
    failing: GaugeVec,
    undecodable: IntGauge,
    states: Arc<Mutex<[State; 2]>>,
}

impl Watches {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            failing: register_gauge_vec_with_registry!(
                "ecrsync_watch_failing_seconds",
                "Time since a kind can no longer be watched; 0 while the watch works.",
                &["kind"],
                registry
            )?,
            undecodable: register_int_gauge_with_registry!(
                "ecrsync_undecodable_resources",
                "Resources that cannot be decoded, and so are not synced.",
                registry
            )?,
            states: Arc::default(),
        })
    }

    /// Makes the process not ready until the first list of a kind.
    pub fn expect(&self, kind: Kind) {
        self.states.lock()[kind as usize].is_used = true;
    }

    /// Returns the handle of one watch, and expects its first list.
    #[must_use]
    pub fn watch(&self, kind: Kind) -> Watch {
        self.expect(kind);
        Watch { kind, states: self.states.clone() }
    }

    /// Sets the number of resources that cannot be decoded.
    pub fn undecodable(&self, number: usize) {
        self.undecodable.set(i64::try_from(number).unwrap_or(i64::MAX));
    }

    /// Updates the gauges that depend on time.
    pub(super) fn refresh(&self) {
        for kind in Kind::ALL {
            let time = self.states.lock()[kind as usize].failing_for();
            self.failing.with_label_values(&[kind.as_str()]).set(time.as_secs_f64());
        }
    }

    /// Returns why the process cannot work, if a watch is the reason.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.states.lock()[Kind::Resources as usize].trouble(Kind::Resources)
    }

    /// Returns what does not work although the process does its work.
    #[must_use]
    pub fn degraded(&self) -> Option<String> {
        self.states.lock()[Kind::Secrets as usize].trouble(Kind::Secrets)
    }
}

/// One watch, which reports its state.
#[derive(Clone, Debug)]
pub struct Watch {
    kind: Kind,
    states: Arc<Mutex<[State; 2]>>,
}

impl Watch {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.states.lock()[self.kind as usize]);
    }

    /// Records a complete list.
    pub fn listed(&self) {
        self.change(|state| state.is_listed = true);
    }

    /// Records that the watch works.
    pub fn works(&self) {
        self.change(|state| state.failing = None);
    }

    /// Records a failure of the list or of the watch.
    pub fn failed(&self, reason: String) {
        self.change(|state| {
            let since = state.failing.take().map_or_else(Instant::now, |(since, _)| since);
            state.failing = Some((since, reason));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn pass(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    fn seconds(watches: &Watches, kind: Kind) -> f64 {
        watches.refresh();
        watches.failing.with_label_values(&[kind.as_str()]).get()
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_list_is_waited_for_where_a_kind_is_watched() {
        let watches = Watches::new(&Registry::new()).expect("distinct names");
        assert_eq!(watches.trouble(), None, "a follower watches nothing");

        let watch = watches.watch(Kind::Resources);
        let waiting = "waiting for the first list of EcrRepositorySync";
        assert_eq!(watches.trouble().as_deref(), Some(waiting));
        watch.failed("why".to_owned());
        assert_eq!(watches.trouble(), Some(format!("{waiting}: why")));
        watch.listed();
        assert_eq!(watches.trouble(), None, "it watches again soon");
        assert_eq!(watches.degraded(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_fails_for_a_minute_is_reported_until_it_works() {
        let watches = Watches::new(&Registry::new()).expect("distinct names");
        let watch = watches.watch(Kind::Resources);
        watch.listed();
        watch.failed("first".to_owned());
        pass(59).await;
        watch.failed("second".to_owned());
        assert_eq!(watches.trouble(), None);

        pass(2).await;
        assert_eq!(
            watches.trouble().as_deref(),
            Some("the watch of EcrRepositorySync has failed for 61 s: second")
        );
        assert!((seconds(&watches, Kind::Resources) - 61.0).abs() < 0.1);

        watch.works();
        assert_eq!(watches.trouble(), None);
        assert!(seconds(&watches, Kind::Resources).abs() < 0.1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_of_secrets_does_not_make_the_process_unready() {
        let watches = Watches::new(&Registry::new()).expect("distinct names");
        let watch = watches.watch(Kind::Secrets);
        watch.listed();
        watch.failed("forbidden".to_owned());
        pass(90).await;
        assert_eq!(watches.trouble(), None);
        let degraded = "the watch of Secret has failed for 90 s: forbidden";
        assert_eq!(watches.degraded().as_deref(), Some(degraded));
        assert!(seconds(&watches, Kind::Secrets) > 89.0);
    }
}
