//! Failures of the API server, injected by a proxy in front of the real one: nothing is lost, and
//! no request is repeated in a hot loop.
//!
//! The proxy counts the requests. A failure lasts until the operator has tried N times: a hot loop
//! gets there at once, and that fails the test. Between tries the operator waits 0.8 s, 1.6 s, 3.2
//! s ... plus up to the same again as jitter. So a minute of failures would show only two more
//! tries than ten seconds.

mod outage;
mod trouble;

use std::time::{Duration, Instant};

use ecr_sync::api::v1alpha1::EcrRepositorySync;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use testbed::traffic::{Fault, Match, Record, Then};
use testbed::upstream::User;

use self::trouble::{Trouble, answer, is, status, too_many_requests};
use crate::support::{ACCOUNT, REGION, condition, eventually};

/// The first list request of an operator only checks whether the definition exists.
const LIST: &str = "list ecrrepositorysyncs";
const WATCH: &str = "watch ecrrepositorysyncs";
const PATCH: &str = "patch ecrrepositorysyncs/status";

#[tokio::test]
async fn changes_during_an_outage_of_the_watch_are_noticed_afterwards() {
    let t = Trouble::new("watch-cut").await;
    let _operator = t.operator().await;
    t.rig.apply("edited", t.demo(&["1.26"])).await;
    t.rig.wait_synced("edited").await;

    t.api.faults().add(Fault::new(Match::operation(WATCH), Then::Reset).times(2));
    t.cut_watch().await;
    t.rig.apply("edited", t.demo(&["1.26", "1.27"])).await;
    t.rig.apply("created", t.demo(&["1.26"])).await;
    t.rig.wait_synced("created").await;
    t.rig.wait_synced("edited").await;
    assert_eq!(t.rig.repository("edited").tags.len(), 2);

    // Cut it repeatedly, while events are sent.
    for number in 0..3 {
        t.rig.apply(&format!("more-{number}"), json!({})).await;
        let watches = t.count(WATCH);
        t.cut_watch().await;
        t.tries(WATCH, watches + 1).await;
    }
    for number in 0..3 {
        t.rig.wait_synced(&format!("more-{number}")).await;
    }
    t.watching().await;
    assert_eq!(t.count(LIST), 2, "a watch goes on where it was cut: {}", t.summary());
    assert_eq!(t.count(WATCH), 1 + 3 + 3, "{}", t.summary());
}

/// The watch cannot resume after the cut: no event reports the resources that were deleted
/// meanwhile.
async fn the_watch_is_gone(name: &str, gone: Then) {
    let t = Trouble::new(name).await;
    let operator = t.operator().await;
    t.rig.apply("deleted", json!({"repositoryName": "wanted-by-two"})).await;
    let first = t.rig.wait_synced("deleted").await;
    eventually("a second later", async || {
        let created = first.metadata.creation_timestamp.as_ref().expect("set").0;
        k8s_openapi::jiff::Timestamp::now().as_second() > created.as_second()
    })
    .await;
    t.rig.apply("heir", json!({"repositoryName": "wanted-by-two"})).await;
    t.rig.wait_ready("heir", "False", "Conflict").await;
    t.rig.apply("edited", t.demo(&["1.26"])).await;
    t.rig.wait_synced("edited").await;
    t.rig
        .source
        .faults()
        .add(Fault::new(Match::operation("GetBlob").repository("team/app"), Then::StallAfter(10)));
    t.rig.apply("copying", json!({"image": t.rig.image("team/app", &["v1"])})).await;
    let copying = async || t.rig.source.under_way(|request| request.operation == "GetBlob") > 0;
    eventually("copying", copying).await;

    let watches = t.count(WATCH);
    t.api.faults().add(Fault::new(Match::operation(WATCH), Then::Stall).once());
    t.api.faults().add(Fault::new(Match::operation(WATCH), gone).once());
    t.cut_watch().await;
    t.tries(WATCH, watches + 1).await;
    for gone in ["deleted", "copying"] {
        t.rig.resources().delete(gone, &Default::default()).await.expect("deleted");
    }
    t.rig.apply("edited", t.demo(&["1.26", "1.27"])).await;
    t.rig.apply("created", json!({})).await;
    assert!(copying().await, "nobody knows yet that it is deleted");
    t.cut_watch().await;

    for name in ["edited", "created", "heir"] {
        t.rig.wait_synced(name).await;
    }
    assert_eq!(t.rig.repository("edited").tags.len(), 2);
    eventually("cancelled", async || !copying().await).await;
    assert!(
        t.rig
            .ecr
            .repository(ACCOUNT, REGION, "copying")
            .is_some_and(|repository| repository.tags.is_empty())
    );
    let (_, page) = operator.get("/schedule").await.expect("served");
    for (resource, is_there) in [
        ("deleted", false),
        ("copying", false),
        ("edited", true),
        ("created", true),
        ("heir", true),
    ] {
        let line = format!("{name}/{resource} ");
        assert_eq!(page.contains(&line), is_there, "{resource}:\n{page}");
    }
    assert_eq!(t.count(LIST), 3, "listed again once: {}", t.summary());
    assert_eq!(t.count(WATCH), watches + 3, "stalled, gone, good: {}", t.summary());
}

const EXPIRED: &str = "too old resource version: 1 (2)";

#[tokio::test]
async fn a_watch_that_is_answered_410_is_listed_again() {
    the_watch_is_gone("gone-answer", answer(410, "Expired", EXPIRED)).await;
}

#[tokio::test]
async fn a_watch_that_ends_in_an_error_event_410_is_listed_again() {
    let event = json!({"type": "ERROR", "object": status(410, "Expired", EXPIRED)});
    let headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
    the_watch_is_gone(
        "gone-event",
        Then::Status { code: 200, headers, body: format!("{event}\n") },
    )
    .await;
}

#[tokio::test]
async fn a_status_that_is_refused_is_written_in_the_end_and_nothing_is_done_twice() {
    let t = Trouble::new("status-refused").await;
    let modified = "Operation cannot be fulfilled on ecrrepositorysyncs.ecr-sync.io: the object \
                    has been modified";
    let refusals = [
        // Name, which of the two statuses (started, done), refusal, total requests.
        ("first-409", 0, answer(409, "Conflict", modified), 3),
        ("last-409", 1, answer(409, "Conflict", modified), 3),
        ("first-500", 0, answer(500, "InternalError", "etcdserver: request timed out"), 3),
        ("last-500", 1, answer(500, "InternalError", "etcdserver: request timed out"), 3),
        // Written, but the response is lost; the watch reports it.
        ("first-lost", 0, Then::LoseAnswer, 2),
        ("last-lost", 1, Then::LoseAnswer, 2),
    ];
    for (name, after, refusal, _) in &refusals {
        let status = Match::operation(PATCH).repository(format!("status-refused/{name}"));
        t.api.faults().add(Fault::new(status, refusal.clone()).after(*after).once());
    }
    // Long enough for the first status and its retry: short passes have no first status.
    let slow = Then::Delay(Duration::from_secs(6));
    t.rig.source.faults().add(Fault::new(Match::operation("GetBlob"), slow));
    let _operator = t.operator().await;
    for (name, ..) in &refusals {
        t.rig.apply(name, t.demo(&["1.26"])).await;
    }
    for (name, _, _, requests) in &refusals {
        let object = t.rig.wait_synced(name).await;
        assert_eq!(object.status.expect("a status").history.len(), 1, "{name}");
        let patches =
            t.api.count(|request| request.operation == PATCH && request.repository.ends_with(name));
        assert_eq!(patches, *requests, "{name}: {}", t.summary());
        assert_eq!(t.passes(name), 1, "{name}");
    }
    eventually("told", async || t.rig.events().await.len() == refusals.len()).await;
    let events = t.rig.events().await;
    assert!(events.iter().all(|event| event.1 == "Synced"), "{events:?}");
}

#[tokio::test]
async fn a_resource_never_gets_the_status_of_a_former_one_with_its_name() {
    let t = Trouble::new("same-name").await;
    let _operator = t.operator().await;
    t.rig.source.faults().add(Fault::new(Match::operation("GetBlob"), Then::StallAfter(10)));
    t.rig.apply("app", t.demo(&["1.26"])).await;
    eventually("copying", async || {
        t.rig.source.under_way(|request| request.operation == "GetBlob") > 0
    })
    .await;
    let before = t.count(PATCH);

    t.api.faults().add(Fault::new(Match::operation(WATCH), Then::Stall).once());
    t.cut_watch().await;
    t.tries(WATCH, 2).await;
    t.rig.resources().delete("app", &Default::default()).await.expect("deleted");
    let new = t.rig.apply("app", t.demo(&["1.27"])).await;
    t.rig.source.faults().clear();
    assert!(t.rig.source.hang_up(|_| true) > 0, "the copy goes on with another try");
    t.tries(PATCH, before + 1).await;
    eventually("refused", async || t.api.count(|request| request.status == Some(409)) > 0).await;
    let untouched = t.rig.resources().get("app").await.expect("it is there");
    assert_eq!(condition(&untouched, "Ready"), None, "nobody has looked at this one");
    t.cut_watch().await;

    let object = t.rig.wait_synced("app").await;
    assert_eq!(object.metadata.uid, new.metadata.uid);
    assert!(t.rig.repository("app").tags.contains_key("1.27"));
    let refused = t.api.count(|request| request.operation == PATCH && request.status == Some(409));
    assert!(refused <= 3, "{}", t.summary());
}

#[tokio::test]
async fn a_retry_after_of_the_api_server_is_honoured() {
    const WAIT: Duration = Duration::from_secs(2);
    let t = Trouble::new("patience").await;
    for operation in [LIST, WATCH, PATCH] {
        t.api
            .faults()
            .add(Fault::new(Match::operation(operation), too_many_requests(WAIT)).times(2));
    }
    let _operator = t.operator().await;
    t.rig.apply("app", t.demo(&["1.26"])).await;
    t.rig.wait_synced("app").await;
    for (operation, good) in [(LIST, 2), (WATCH, 1), (PATCH, 1)] {
        let log = t.api.log().into_iter().filter(is(operation)).collect::<Vec<_>>();
        assert_eq!(log.len(), 2 + good, "{operation}: {}", t.summary());
        for pair in log[..3].windows(2) {
            let gap = pair[1].started.duration_since(pair[0].started).expect("in order");
            assert!(gap >= WAIT.mul_f64(0.95), "{operation} again after {gap:?}");
        }
    }
    assert_eq!(t.passes("app"), 1);
}

#[tokio::test]
async fn work_continues_while_the_api_server_refuses_and_is_reported_afterwards() {
    let t = Trouble::new("refusal").await;
    let operator = t.operator().await;
    t.rig.apply("edited", t.demo(&["1.26"])).await;
    t.rig.wait_synced("edited").await;
    t.rig
        .source
        .faults()
        .add(Fault::new(Match::operation("GetBlob").repository("large/blob"), Then::Slow(8 << 20)));
    t.rig.apply("copying", json!({"image": t.rig.image("large/blob", &["1"])})).await;
    eventually("copying", async || {
        t.rig.source.count(|request| request.repository == "large/blob") > 1
    })
    .await;

    let (mark, begun, watches) = (t.api.mark(), Instant::now(), t.count(WATCH));
    t.api.faults().add(Fault::new(Match::any(), Then::Reset));
    assert!(t.api.hang_up(|_| true) >= 2, "resources and Secrets are watched");
    t.rig.apply("edited", t.demo(&["1.26", "1.27"])).await;
    t.rig.apply("created", json!({})).await;
    t.rig
        .resources()
        .delete("nothing", &Default::default())
        .await
        .expect_err("the API server itself is well");
    eventually("copied", async || t.rig.repository("copying").tags.contains_key("1")).await;
    // The third try comes after 5.6 to 11.2 s, the fourth after at least 12 s.
    let over = async || begun.elapsed() >= Duration::from_secs(10) && t.count(WATCH) >= watches + 3;
    eventually("over", over).await;
    for page in ["/healthz", "/readyz"] {
        assert_eq!(operator.get(page).await.expect("it answers").0, 200, "{page}");
    }
    let (tries, watches) = (t.api.log_since(mark), t.count(WATCH) - watches);
    t.api.faults().clear();

    assert_eq!(watches, 3, "{}", t.summary());
    let patches = tries.iter().filter(|request| request.operation == PATCH).count();
    assert!(
        (1..=5).contains(&patches),
        "1 s, 2 s, 4 s between them, not {patches}: {}",
        t.summary()
    );
    assert!(tries.len() <= 12, "{}: {}", tries.len(), t.summary());
    for name in ["copying", "edited", "created"] {
        t.rig.wait_synced(name).await;
    }
    assert_eq!(t.passes("copying"), 1, "the pass that ended meanwhile is reported, not repeated");
    assert_eq!(t.rig.repository("edited").tags.len(), 2);
    let told = |events: &[(String, String, String)]| {
        events.iter().any(|event| event.2.contains("repository copying"))
    };
    eventually("told", async || told(&t.rig.events().await)).await;
}

#[tokio::test]
async fn a_token_that_was_refused_for_a_while_needs_no_restart() {
    let t = Trouble::new("expired-token").await;
    let operator = t.operator().await;
    t.rig.apply("edited", json!({})).await;
    t.rig.wait_synced("edited").await;
    t.rig.source.faults().add(Fault::new(Match::operation("GetBlob"), Then::StallAfter(10)));
    t.rig.apply("copying", t.demo(&["1.26"])).await;
    eventually("copying", async || {
        t.rig.source.under_way(|request| request.operation == "GetBlob") > 0
    })
    .await;

    t.api.replace_token(Some("expired"));
    let begun = Instant::now();
    t.cut_watch().await;
    t.rig.source.faults().clear();
    t.rig.source.hang_up(|_| true);
    t.rig.apply("edited", json!({"resourceTags": {"team": "a"}})).await;
    t.rig.apply("created", json!({})).await;
    let refused = |operation| {
        t.api.count(|request| request.operation == operation && request.status == Some(401))
    };
    eventually("refused", async || refused(WATCH) >= 3 && refused(PATCH) >= 2).await;
    assert!(
        begun.elapsed() >= Duration::from_secs(5),
        "within {:?}: {}",
        begun.elapsed(),
        t.summary()
    );
    assert_eq!(operator.get("/readyz").await.expect("it answers").0, 200);
    t.api.replace_token(None);

    for name in ["edited", "created", "copying"] {
        t.rig.wait_synced(name).await;
    }
    assert_eq!(t.rig.repository("edited").resource_tags["team"], "a");
    assert_eq!(t.passes("copying"), 1);
    assert_eq!(operator.log().matches("controller starts").count(), 1);
    assert!(refused(WATCH) <= 4 && refused(PATCH) <= 5, "{}", t.summary());
}

#[tokio::test]
async fn events_that_cannot_be_written_fail_nothing() {
    let t = Trouble::new("no-events").await;
    let events = |then| Fault::new(Match::operation("create events"), then);
    let forbidden = answer(403, "Forbidden", "events.events.k8s.io is forbidden");
    t.api.faults().add(events(forbidden).once());
    t.api
        .faults()
        .add(events(answer(500, "InternalError", "etcdserver: request timed out")).once());
    t.api.faults().add(events(Then::Reset).once());
    let operator = t.operator().await;
    for name in ["forbidden", "broken", "reset"] {
        t.rig.apply(name, t.demo(&["1.26"])).await;
        t.rig.wait_synced(name).await;
        eventually("logged", async || operator.log().contains("cannot write an event")).await;
        assert_eq!(t.passes(name), 1, "{name}");
    }
    eventually("tried", async || t.count("create events") == 3).await;
    t.rig.apply("good", t.demo(&["1.26"])).await;
    t.rig.wait_synced("good").await;
    eventually("told", async || t.rig.events().await.len() == 1).await;
    assert_eq!(t.count("create events"), 4, "an event that is lost is lost: {}", t.summary());
    assert_eq!(t.count(PATCH), 4, "{}", t.summary());
}

#[tokio::test]
async fn an_operator_that_starts_before_the_server_waits_for_it() {
    let t = Trouble::new("not-there-yet").await;
    t.rig.apply("app", json!({})).await;
    t.api.faults().add(Fault::new(Match::any(), Then::Reset));
    let begun = Instant::now();
    let heal = async {
        eventually("five tries", async || t.api.log().len() >= 5).await;
        // 0.2 s, 0.4 s, 0.8 s, 1.6 s.
        assert!(
            begun.elapsed() >= Duration::from_secs(3),
            "five tries within {:?}",
            begun.elapsed()
        );
        assert_eq!(t.count("get namespaces"), 5, "nothing but the first question: {}", t.summary());
        t.api.faults().clear();
        Instant::now()
    };
    let ready = async {
        let operator = t.operator().await;
        (operator, Instant::now())
    };
    let (healed, (_operator, ready)) = tokio::join!(heal, ready);
    assert!(healed < ready, "ready before there was an API server");
    t.rig.wait_synced("app").await;
    assert_eq!((t.count("get namespaces"), t.count(LIST)), (6, 2), "{}", t.summary());
}

#[tokio::test]
async fn a_signal_before_the_first_list_ends_the_operator() {
    let t = Trouble::new("stopped-early").await;
    t.api.faults().add(Fault::new(Match::operation(LIST), Then::Stall).after(1));
    let operator = t.starting().await;
    eventually("listing", async || t.api.under_way(is(LIST)) == 1).await;
    eventually("waiting", async || {
        let wanted =
            (503, "not ready: waiting for the first list of EcrRepositorySync\n".to_owned());
        operator.get("/readyz").await == Some(wanted)
    })
    .await;
    assert_eq!(operator.terminate().await, 0);
}

#[tokio::test]
async fn resources_are_synced_without_the_right_to_watch_secrets() {
    let t = Trouble::new("secrets-forbidden").await;
    let forbidden = answer(
        403,
        "Forbidden",
        "secrets is forbidden: User \"x\" cannot list resource \"secrets\"",
    );
    t.api.faults().add(Fault::new(Match::operation("list secrets"), forbidden.clone()));
    t.api.faults().add(Fault::new(Match::operation("watch secrets"), forbidden));
    let host = t.rig.sources.basic.host();
    let secret = |password: &str| {
        let config =
            json!({"auths": {host: {"username": User::Reader.name(), "password": password}}})
                .to_string();
        Secret {
            metadata: kube::api::ObjectMeta {
                name: Some("login".to_owned()),
                ..Default::default()
            },
            type_: Some("kubernetes.io/dockerconfigjson".to_owned()),
            string_data: Some([(".dockerconfigjson".to_owned(), config)].into()),
            ..Default::default()
        }
    };
    let secrets: Api<Secret> = Api::namespaced(t.rig.client.clone(), &t.rig.namespace);
    secrets.create(&PostParams::default(), &secret("wrong")).await.expect("a Secret");
    let begun = Instant::now();
    let operator = t.operator().await;
    let private = json!({"image": {"pullUrl": format!("{host}/library/demo"), "tags": ["1.26"],
        "insecure": true,
                                   "secretRef": {"name": "login"}}});
    t.rig.apply("app", private).await;
    t.rig.wait_ready("app", "False", "AuthenticationFailed").await;
    let corrected = Patch::Merge(secret(User::Reader.password()));
    secrets.patch("login", &PatchParams::default(), &corrected).await.expect("corrected");
    t.rig.annotate("app", "ecr-sync.io/requestedAt", "now").await;
    t.rig.wait_synced("app").await;

    // 0.8 s, 1.6 s, 3.2 s, plus up to the same again.
    t.tries("list secrets", 4).await;
    assert!(begun.elapsed() >= Duration::from_secs(5), "four tries within {:?}", begun.elapsed());
    let told = operator.log().matches("cannot watch Secrets").count();
    assert!((1..=4).contains(&told), "told {told} times");
    let object: EcrRepositorySync = t.rig.resources().get("app").await.expect("it is there");
    assert_eq!(condition(&object, "Ready").map(|ready| ready.0), Some("True"));
}

#[tokio::test]
async fn secrets_are_listed_and_watched_by_their_metadata_only() {
    let t = Trouble::new("secrets-metadata").await;
    let _operator = t.operator().await;
    t.rig.apply("app", json!({})).await;
    t.rig.wait_synced("app").await;
    t.tries("watch secrets", 1).await;
    let of_secrets = |record: &Record| record.operation.ends_with(" secrets");
    let requests: Vec<_> = t.api.log().into_iter().filter(of_secrets).collect();
    assert!(requests.iter().any(|request| request.operation == "list secrets"), "{requests:?}");
    for request in requests {
        let accept = request.headers["accept"].to_str().expect("text");
        assert!(accept.contains("as=PartialObjectMetadata"), "{}: {accept}", request.operation);
    }
}
