//! Addresses that resources may name as sources, and what a source can do to other tenants.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use testbed::forward_proxy::ForwardProxy;
use testbed::proxy::Proxy;
use testbed::traffic::{Fault, Match, Then};

use crate::support::{Rig, condition, eventually};

async fn put_proxy(rig: &Rig, name: &str, proxy: &ForwardProxy) {
    let secrets: Api<Secret> = Api::namespaced(rig.client.clone(), &rig.namespace);
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
                        "stringData": {"address": proxy.url()}});
    let apply = PatchParams::apply("test");
    secrets.patch(name, &apply, &Patch::Apply(secret)).await.expect("a Secret");
}

#[tokio::test]
async fn addresses_that_the_operator_does_not_allow_get_no_connection() {
    let rig = Rig::new("egress").await;
    let proxy = ForwardProxy::start(None).expect("a proxy");
    put_proxy(&rig, "proxy", &proxy).await;
    let operator = rig.operator_with(&["--allow-private-sources", "10.9.8.7"], &[]).await;

    let port = rig.source.host().rsplit_once(':').expect("a port").1.to_owned();
    let image = |host: &str, more: Value| {
        let mut image = json!({"pullUrl": format!("{host}/library/demo"), "tags": ["1.27"]});
        image.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
        json!({"image": image})
    };
    let plain = || json!({"insecure": true});
    for (name, spec, kind) in [
        ("number", image(&rig.source.host(), plain()), "loopback"),
        ("name", image(&format!("localhost:{port}"), plain()), "loopback"),
        ("private", image("10.1.2.3:5000", plain()), "private"),
        ("metadata", image("169.254.169.254", plain()), "metadata"),
        (
            "proxied",
            image("registry.example", json!({"proxySecretRef": {"name": "proxy"}})),
            "loopback",
        ),
        (
            "chart",
            json!({"chart": {"pullUrl": format!("http://{}/charts/app", rig.source.host()),
                             "tags": ["1.0.0"]}}),
            "loopback",
        ),
    ] {
        rig.apply(name, spec).await;
        let object = rig.wait_ready(name, "False", "AccessDenied").await;
        let text = condition(&object, "Ready").expect("set").2;
        assert!(text.contains(kind), "{name}: {text}");
    }
    assert_eq!(rig.source.count(|_| true), 0, "no source was asked");
    assert_eq!(proxy.seen(), []);

    drop(operator);

    // The API server is no source, although its address is allowed.
    let _operator = rig.operator_with(&["--allow-private-sources", "127.0.0.0/8"], &[]).await;
    let config = std::fs::read_to_string(rig.kubeconfig()).expect("a kubeconfig");
    let server = config.split("https://").nth(1).expect("an address");
    let server: String =
        server.chars().take_while(|c| c.is_ascii_digit() || ".:".contains(*c)).collect();
    rig.apply("api-server", image(&server, json!({}))).await;
    let object = rig.wait_ready("api-server", "False", "AccessDenied").await;
    let text = condition(&object, "Ready").expect("set").2;
    assert!(text.contains("is the API server of the cluster"), "{text}");
}

#[tokio::test]
async fn a_tenants_proxy_that_asks_for_a_pause_of_a_day_stops_no_other_tenant() {
    let rig = Rig::new("egress-pause").await;
    // The tenant's proxy leads requests for the source to a server that refuses all of them.
    let refusing = Proxy::start(rig.sources.open.host()).await.expect("the proxy starts");
    refusing.faults().add(Fault::new(Match::any(), Then::too_many_requests(Some(86_400))));
    let host = rig.source.host();
    let places = [(host.as_str(), &*refusing.host())];
    let proxy = ForwardProxy::start_with(None, &places).expect("a proxy");
    put_proxy(&rig, "proxy", &proxy).await;
    let _operator = rig.operator().await;

    let mut image = rig.image("library/demo", &["1.27"]);
    image["proxySecretRef"] = json!({"name": "proxy"});
    rig.apply("hostile", json!({"image": image})).await;
    rig.wait_ready("hostile", "False", "RateLimited").await;
    assert!(refusing.count(|_| true) > 0, "the hostile server was asked");

    rig.apply("other", json!({"image": rig.image("library/demo", &["1.27"])})).await;
    rig.wait_synced("other").await;
}

#[tokio::test]
async fn a_source_that_drips_leaves_its_slot_to_the_others() {
    let rig = Rig::new("egress-drip").await;
    let dripping = Proxy::start(rig.sources.open.host()).await.expect("the proxy starts");
    dripping.faults().add(Fault::new(Match::operation("GetManifest"), Then::Slow(1)));
    let operator = rig.operator_with(&["--max-jobs", "1"], &[]).await;

    let host = dripping.host();
    let image = json!({"pullUrl": format!("{host}/library/demo"), "tags": ["1.27"],
                       "insecure": true});
    rig.apply("drip", json!({"image": image})).await;
    let is_asked = async || dripping.count(|record| record.operation == "GetManifest") > 0;
    eventually("the only slot is taken", is_asked).await;
    rig.apply("other", json!({"image": rig.image("library/demo", &["1.27"])})).await;
    rig.wait_synced("other").await;

    let object = rig.wait_ready("drip", "False", "RegistryUnavailable").await;
    let text = condition(&object, "Ready").expect("set").2;
    assert!(text.contains(&format!("{host} sends its answer too slowly")), "{text}");
    assert_eq!(operator.get("/healthz").await.expect("an answer").0, 200);
}
