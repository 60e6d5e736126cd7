//! The queue of passes: a source that hangs, and a namespace with many resources, do not delay the
//! others.

use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use testbed::proxy::Proxy;
use testbed::traffic::{Fault, Match, Then};

use crate::support::{DEADLINE, Rig, condition, eventually};

/// Resources whose source answers.
const HEALTHY: usize = 20;
/// Resources whose source hangs.
const HANGING: usize = 40;

/// With 4 places, 40 resources of a source that hangs would hold all of them for minutes.
#[tokio::test]
async fn resources_of_a_source_that_hangs_do_not_delay_the_others_and_go_on_when_it_answers() {
    let rig = Rig::new("queue-hanging").await;
    let alive = Proxy::start(rig.sources.open.host()).await.expect("a proxy");
    rig.source.faults().add(Fault::new(Match::any(), Then::Stall));
    let image = |host: String| {
        json!({"image": {"pullUrl": format!("{host}/library/demo"), "tags": ["1.27"],
            "insecure": true}})
    };
    for n in 0..HANGING {
        rig.apply(&format!("hanging-{n}"), image(rig.source.host())).await;
    }
    for n in 0..HEALTHY {
        rig.apply(&format!("healthy-{n}"), image(alive.host())).await;
    }

    let operator = rig.operator_with(&["--max-jobs", "4"], &[]).await;
    let started = tokio::time::Instant::now();
    for n in 0..HEALTHY {
        rig.wait_synced(&format!("healthy-{n}")).await;
    }
    let took = started.elapsed();
    let asked = rig.source.count(|_| true);
    assert!(asked > 0, "some of them have begun");

    // The host is found out once, by few requests. Then all of them say so, and wait.
    for n in 0..HANGING {
        let name = format!("hanging-{n}");
        let object = rig.wait_ready(&name, "False", "RegistryUnavailable").await;
        let (_, _, message) = condition(&object, "Ready").expect("set");
        let words = ["did not answer within 15 s", "are held back until it answers"];
        assert!(words.iter().all(|words| message.contains(words)), "{message}");
        assert!(message.contains(&rig.source.host()), "{message}");
    }
    let asked = rig.source.count(|_| true);
    assert!(asked <= 24, "{asked} requests for {HANGING} resources");

    rig.source.faults().clear();
    for n in 0..HANGING {
        rig.wait_synced(&format!("hanging-{n}")).await;
    }
    let (_, page) = operator.get("/metrics").await.expect("metrics");
    assert!(page.contains("ecrsync_queue_begun{place=\"aside\"} 0"), "{page}");
    assert!(took < DEADLINE / 2, "{took:?}");
}

#[tokio::test]
async fn a_namespace_with_many_resources_does_not_delay_another_one() {
    const CROWD: usize = 60;
    const TEAM: usize = 6;
    let rig = Rig::new("queue-crowd").await;
    rig.namespace("queue-team").await;
    let apply = async |namespace: &str, count: usize| {
        let resources: Api<ecr_sync::api::v1alpha1::EcrRepositorySync> =
            Api::namespaced(rig.client.clone(), namespace);
        for n in 0..count {
            let name = format!("app-{n}");
            let object = json!({
                "apiVersion": "ecr-sync.io/v1alpha1",
                "kind": "EcrRepositorySync",
                "metadata": {"name": name, "labels": {"test": rig.namespace}},
                "spec": {"repositoryName": format!("{namespace}/{name}")},
            });
            let params = PatchParams::apply("test");
            resources.patch(&name, &params, &Patch::Apply(object)).await.expect("applied");
        }
    };
    apply(&rig.namespace, CROWD).await;
    apply("queue-team", TEAM).await;

    let _operator = rig.operator_everywhere(&["--max-jobs", "1"]).await;
    let created = || {
        let log = rig.ecr.log().into_iter();
        let calls = log.filter(|record| record.operation == "CreateRepository");
        calls.map(|record| record.repository).collect::<Vec<_>>()
    };
    eventually("all created", async || created().len() == CROWD + TEAM).await;

    let created = created();
    let is_team = |name: &String| name.starts_with("queue-team/");
    let last = created.iter().rposition(is_team).expect("created");
    // The team gets eight places for one of the crowd. The crowd may get some before all resources
    // are in the queue.
    assert!(last < CROWD / 2, "{last}: {created:?}");
}
