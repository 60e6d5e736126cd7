//! Resources that wait for a source whose host is down: one of them probes whether it answers again,
//! and then all go on.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::context::Context;
use crate::hash::Fingerprint;

/// Time between two checks. A host that is back is noticed by its probe; this adds little to it.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// Time until another resource probes a host, if the last one has not asked it yet.
const PROBE_EVERY: Duration = Duration::from_secs(10);

/// The state of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Host {
    Answers,
    Down { wants_probe: bool },
}

/// Makes passes due when their source answers again, and one pass when a probe is due.
pub(super) async fn watch(context: Arc<Context>) {
    let engine = &context.engine;
    let host = |way| match engine.is_down(way) {
        false => Host::Answers,
        true => Host::Down { wants_probe: engine.wants_probe(way) },
    };

    let mut probes = HashMap::new();
    loop {
        tokio::time::sleep(CHECK_EVERY).await;
        let waiting = context.memories.waiting_for_sources();
        context.ask_sources(&due(&waiting, host, &mut probes, Instant::now()));
    }
}

/// Returns the UIDs of the resources whose passes are due. `probes` has the last probes by source.
fn due(
    waiting: &[(String, Fingerprint)],
    host: impl Fn(Fingerprint) -> Host,
    probes: &mut HashMap<Fingerprint, Instant>,
    now: Instant,
) -> HashSet<String> {
    let mut due = HashSet::new();
    for (uid, way) in waiting {
        let is_due = match host(*way) {
            Host::Answers => true,
            Host::Down { wants_probe: false } => false,
            Host::Down { wants_probe: true } => {
                let is_over = |last: &Instant| now.duration_since(*last) >= PROBE_EVERY;
                let is_turn = probes.get(way).is_none_or(is_over);
                if is_turn {
                    probes.insert(*way, now);
                }
                is_turn
            }
        };
        if is_due {
            due.insert(uid.clone());
        }
    }
    probes.retain(|_, last| now.duration_since(*last) < PROBE_EVERY);
    due
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_resource_probes_a_host_that_is_down_and_all_go_on_when_it_answers() {
        let (first, second) = (Fingerprint::of("first"), Fingerprint::of("second"));
        let waiting = |way, count| (0..count).map(move |n| (format!("{n}"), way));
        let waiting: Vec<_> = waiting(first, 3).chain([("x".to_owned(), second)]).collect();
        let mut probes = HashMap::new();
        let mut due = |host: fn(bool) -> Host| {
            let host = move |way| host(way == first);
            due(&waiting, host, &mut probes, Instant::now()).len()
        };

        let down = |_| Host::Down { wants_probe: false };
        let probing = |is_first| Host::Down { wants_probe: is_first };
        assert_eq!(due(down), 0);
        assert_eq!(due(probing), 1);
        assert_eq!(due(probing), 0, "the probe is in the queue");
        tokio::time::advance(PROBE_EVERY).await;
        assert_eq!(due(probing), 1);
        assert_eq!(due(|_| Host::Answers), 4);
    }
}
