//! Sources with private CAs, client certificates and forward proxies, all of them real, configured
//! with Secrets.

use std::collections::BTreeMap;

use ecr_sync::api::v1alpha1::EcrRepositorySync;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use testbed::certificates::Certificates;
use testbed::chart_repository::ChartRepository;
use testbed::forward_proxy::ForwardProxy;
use testbed::upstream::Upstream;

use crate::support::{Rig, condition};

const LOGIN: (&str, &str) = ("employee", "correct-horse");
const WRONG: &str = "hunter2";

/// Creates or replaces a Secret in the namespace of the test.
async fn put_secret(rig: &Rig, name: &str, entries: &[(&str, &str)]) {
    // Not stringData, because the API server would keep keys that were removed.
    let data: BTreeMap<_, _> =
        entries.iter().map(|(key, value)| (*key, ByteString(value.as_bytes().to_vec()))).collect();
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data});
    let secrets: Api<Secret> = Api::namespaced(rig.client.clone(), &rig.namespace);
    secrets
        .patch(name, &PatchParams::apply("test").force(), &Patch::Apply(secret))
        .await
        .expect("a Secret");
}

/// A registry with the shared content and HTTPS.
async fn tls_registry(rig: &Rig, certificates: &Certificates, client_ca: bool) -> Upstream {
    let folder = rig.folder().join(if client_ca { "mtls-registry" } else { "tls-registry" });
    Upstream::start_tls(folder, certificates, client_ca, &rig.sources.open)
        .await
        .expect("a registry starts")
}

/// An image with one tag, and the configuration of its source.
fn image(host: &str, access: &Value) -> Value {
    let mut image = json!({"pullUrl": format!("{host}/library/demo"), "tags": ["1.27"]});
    image.as_object_mut().expect("a map").extend(access.as_object().expect("a map").clone());
    json!({"image": image})
}

fn message(object: &EcrRepositorySync) -> &str {
    condition(object, "Ready").expect("set").2
}

fn has_demo(rig: &Rig, name: &str) {
    assert_eq!(
        rig.repository(name).tags["1.27"],
        rig.sources.seeded.digest("library/demo", "1.27")
    );
}

#[tokio::test]
async fn a_private_authority_is_trusted_once_a_secret_says_so() {
    let rig = Rig::new("trust-authority").await;
    let certificates = Certificates::generate().expect("certificates");
    let registry = tls_registry(&rig, &certificates, false).await;
    let _operator = rig.operator().await;
    rig.apply("app", image(registry.host(), &json!({}))).await;
    let object = rig.wait_ready("app", "False", "RegistryUnavailable").await;
    let text = message(&object);
    assert!(text.contains(registry.host()) && text.contains("ca.crt"), "{text}");
    // Another CA is not sufficient.
    let other = Certificates::generate().expect("certificates");
    put_secret(&rig, "other", &[("ca.crt", &other.authority)]).await;
    rig.apply("other", image(registry.host(), &json!({"certSecretRef": {"name": "other"}}))).await;
    let object = rig.wait_ready("other", "False", "RegistryUnavailable").await;
    assert!(message(&object).contains(registry.host()), "{}", message(&object));

    rig.apply("app", image(registry.host(), &json!({"certSecretRef": {"name": "trust"}}))).await;
    let object = rig.wait_ready("app", "False", "SecretNotFound").await;
    let text = message(&object);
    assert!(text.contains("Secret trust-authority/trust (image.certSecretRef)"), "{text}");
    // The Secret is created after the resource, as with GitOps.
    put_secret(&rig, "trust", &[("ca.crt", &certificates.authority)]).await;
    rig.wait_synced("app").await;
    has_demo(&rig, "app");
    // The wrong one is corrected.
    put_secret(&rig, "other", &[("ca.crt", &certificates.authority)]).await;
    rig.wait_synced("other").await;
    has_demo(&rig, "other");
}

#[tokio::test]
async fn a_client_certificate_opens_a_registry_that_asks_for_one() {
    let rig = Rig::new("trust-client").await;
    let certificates = Certificates::generate().expect("certificates");
    let registry = tls_registry(&rig, &certificates, true).await;
    let _operator = rig.operator().await;
    let spec = image(registry.host(), &json!({"certSecretRef": {"name": "trust"}}));
    let authority = ("ca.crt", certificates.authority.as_str());
    put_secret(&rig, "trust", &[authority]).await;
    rig.apply("app", spec.clone()).await;
    let object = rig.wait_ready("app", "False", "AuthenticationFailed").await;
    let text = message(&object);
    for part in [registry.host(), "client certificate", "tls.crt and tls.key", "certSecretRef"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // A certificate that the registry does not know.
    let stranger = Certificates::generate().expect("certificates").client;
    put_secret(
        &rig,
        "stranger",
        &[authority, ("tls.crt", &stranger.certificate), ("tls.key", &stranger.key)],
    )
    .await;
    rig.apply("stranger", image(registry.host(), &json!({"certSecretRef": {"name": "stranger"}})))
        .await;
    let object = rig.wait_ready("stranger", "False", "AuthenticationFailed").await;
    let text = message(&object);
    assert!(
        text.contains(registry.host()) && text.contains("does not accept the client certificate"),
        "{text}"
    );

    let client = &certificates.client;
    put_secret(
        &rig,
        "trust",
        &[authority, ("tls.crt", &client.certificate), ("tls.key", &client.key)],
    )
    .await;
    rig.wait_synced("app").await;
    has_demo(&rig, "app");
}

#[tokio::test]
async fn all_requests_use_the_proxy() {
    let rig = Rig::new("trust-proxy").await;
    let certificates = Certificates::generate().expect("certificates");
    let registry = tls_registry(&rig, &certificates, true).await;
    let proxy = ForwardProxy::start(Some(LOGIN)).expect("a proxy");
    let operator = rig.operator().await;
    let client = &certificates.client;
    let trust = [
        ("ca.crt", certificates.authority.as_str()),
        ("tls.crt", client.certificate.as_str()),
        ("tls.key", client.key.as_str()),
    ];
    put_secret(&rig, "trust", &trust).await;
    let login = |password| {
        [("address", proxy.url()), ("username", LOGIN.0.to_owned()), ("password", password)]
    };
    let right = login(LOGIN.1.to_owned());
    put_secret(&rig, "proxy", &right.each_ref().map(|(key, value)| (*key, value.as_str()))).await;

    // Only the proxy resolves these names.
    let port = |host: &str| host.rsplit_once(':').expect("a port").1.to_owned();
    let plain = format!("registry.test:{}", port(&rig.source.host()));
    let secure = format!("registry.test:{}", port(registry.host()));
    let through = json!({"proxySecretRef": {"name": "proxy"}, "insecure": true});
    rig.apply("plain", image(&plain, &through)).await;
    rig.wait_synced("plain").await;
    has_demo(&rig, "plain");
    let forwarded = |target: &str| {
        proxy.seen().iter().filter(|s| s.target == target && s.method != "CONNECT").count()
    };
    assert_eq!(
        forwarded(&plain),
        rig.source.count(|_| true),
        "the source saw what the proxy passed on, and no more"
    );

    rig.apply(
        "secure",
        image(
            &secure,
            &json!({"proxySecretRef": {"name": "proxy"}, "certSecretRef": {"name": "trust"}}),
        ),
    )
    .await;
    rig.wait_synced("secure").await;
    has_demo(&rig, "secure");
    let seen = proxy.seen();
    assert!(seen.iter().any(|seen| seen.method == "CONNECT" && seen.target == secure), "{seen:?}");
    assert!(seen.iter().all(|seen| seen.allowed), "{seen:?}");
    assert!(!operator.log().contains(LOGIN.1), "the password is in the log");
}

#[tokio::test]
async fn charts_take_the_same_way() {
    let rig = Rig::new("trust-chart").await;
    let certificates = Certificates::generate().expect("certificates");
    let registry = tls_registry(&rig, &certificates, true).await;
    let charts = ChartRepository::start(rig.folder().join("charts"), None)
        .await
        .expect("a chart repository");
    let archive = charts.package("stable", "app", "1.0.0").await.expect("helm packages");
    charts.index("stable").await.expect("helm indexes");
    let target = format!("oci://{}/charts-of-trust", rig.sources.open.host());
    let archive = archive.to_string_lossy();
    testbed::tools::run("helm", &["push", &archive, &target, "--plain-http"], &[])
        .await
        .expect("helm pushes");

    let proxy = ForwardProxy::start(Some(LOGIN)).expect("a proxy");
    let _operator = rig.operator().await;
    put_secret(
        &rig,
        "proxy",
        &[("address", &proxy.url()), ("username", LOGIN.0), ("password", LOGIN.1)],
    )
    .await;
    let client = &certificates.client;
    let trust = [
        ("ca.crt", &certificates.authority),
        ("tls.crt", &client.certificate),
        ("tls.key", &client.key),
    ];
    put_secret(&rig, "trust", &trust.map(|(key, value)| (key, value.as_str()))).await;

    let port = |host: &str| host.rsplit_once(':').expect("a port").1.to_owned();
    let http = format!("http://charts.test:{}/stable/app", port(charts.host()));
    let oci = format!("oci://registry.test:{}/charts-of-trust/app", port(registry.host()));
    let through = json!({"name": "proxy"});
    rig.apply(
        "http",
        json!({"chart": {"pullUrl": http, "tags": ["1.0.0"], "proxySecretRef": through}}),
    )
    .await;
    let both = json!({"pullUrl": oci, "tags": ["1.0.0"], "proxySecretRef": through,
        "certSecretRef": {"name": "trust"}});
    rig.apply("oci", json!({"chart": both})).await;
    rig.wait_synced("http").await;
    rig.wait_synced("oci").await;
    assert!(rig.repository("http").tags.contains_key("1.0.0"));
    assert!(rig.repository("oci").tags.contains_key("1.0.0"));

    // The same without a client certificate, and with a proxy that has another password.
    put_secret(&rig, "half", &[("ca.crt", &certificates.authority)]).await;
    put_secret(
        &rig,
        "stale",
        &[("address", &proxy.url()), ("username", LOGIN.0), ("password", WRONG)],
    )
    .await;
    let half = json!({"pullUrl": oci, "tags": ["1.0.0"], "proxySecretRef": through,
        "certSecretRef": {"name": "half"}});
    rig.apply("half", json!({"chart": half})).await;
    rig.apply(
        "stale",
        json!({"chart": {"pullUrl": http, "tags": ["1.0.0"], "proxySecretRef": {"name": "stale"}}}),
    )
    .await;
    let object = rig.wait_ready("half", "False", "AuthenticationFailed").await;
    assert!(message(&object).contains("client certificate"), "{}", message(&object));
    let object = rig.wait_ready("stale", "False", "AuthenticationFailed").await;
    assert!(message(&object).contains("proxySecretRef"), "{}", message(&object));
}

#[tokio::test]
async fn a_proxy_that_refuses_or_is_down_is_named() {
    let rig = Rig::new("trust-refused").await;
    let certificates = Certificates::generate().expect("certificates");
    let registry = tls_registry(&rig, &certificates, false).await;
    let proxy = ForwardProxy::start(Some(LOGIN)).expect("a proxy");
    let operator = rig.operator().await;
    put_secret(&rig, "trust", &[("ca.crt", &certificates.authority)]).await;
    put_secret(
        &rig,
        "proxy",
        &[("address", &proxy.url()), ("username", LOGIN.0), ("password", WRONG)],
    )
    .await;
    let plain =
        image(&rig.source.host(), &json!({"proxySecretRef": {"name": "proxy"}, "insecure": true}));
    let secure = json!({"proxySecretRef": {"name": "proxy"}, "certSecretRef": {"name": "trust"}});
    rig.apply("plain", plain).await;
    rig.apply("secure", image(registry.host(), &secure)).await;
    let address = proxy.url().replace("http://", "");
    for name in ["plain", "secure"] {
        let object = rig.wait_ready(name, "False", "AuthenticationFailed").await;
        let text = message(&object);
        assert!(text.contains(&address) && text.contains("proxySecretRef"), "{text}");
        assert!(!format!("{object:?}").contains(WRONG), "the password is in the status");
    }
    assert_eq!(rig.source.count(|_| true), 0, "nothing goes around the proxy");
    assert!(proxy.seen().iter().all(|seen| !seen.allowed));
    let events = format!("{:?}", rig.events().await);
    assert!(!events.contains(WRONG) && !operator.log().contains(WRONG), "the password got out");

    // Corrected, but then the proxy stops.
    put_secret(
        &rig,
        "proxy",
        &[("address", &proxy.url()), ("username", LOGIN.0), ("password", LOGIN.1)],
    )
    .await;
    for name in ["plain", "secure"] {
        rig.wait_synced(name).await;
        has_demo(&rig, name);
    }
    drop(proxy);
    rig.apply("later", image(registry.host(), &secure)).await;
    let object = rig.wait_ready("later", "False", "RegistryUnavailable").await;
    let text = message(&object);
    assert!(text.contains(&address) && text.contains(registry.host()), "{text}");
}

#[tokio::test]
async fn a_certificate_that_is_none_costs_the_image_alone() {
    let rig = Rig::new("trust-malformed").await;
    let _operator = rig.operator().await;
    put_secret(&rig, "trust", &[("ca.crt", "not a certificate")]).await;
    let policy = json!({"rules": [{"rulePriority": 1, "selection": {"tagStatus": "untagged",
        "countType": "sinceImagePushed", "countUnit": "days", "countNumber": 14},
        "action": {"type": "expire"}}]});
    let mut spec =
        image(&rig.source.host(), &json!({"certSecretRef": {"name": "trust"}, "insecure": true}));
    spec["lifecyclePolicy"] = policy.clone();
    rig.apply("app", spec).await;
    let object = rig.wait_ready("app", "False", "SecretNotFound").await;
    let text = message(&object);
    assert!(
        text.contains("Secret trust-malformed/trust (image.certSecretRef)")
            && text.contains("ca.crt"),
        "{text}"
    );
    assert_eq!(condition(&object, "ImageSynced").map(|c| c.0), Some("False"));
    assert_eq!(condition(&object, "ConfigurationSynced").map(|c| c.0), Some("True"));
    assert_eq!(rig.repository("app").lifecycle_policy, Some(policy), "the rest is done");
    assert_eq!(rig.source.count(|_| true), 0);
    // A key of another certificate does not work either.
    let (one, two) = (
        Certificates::generate().expect("certificates"),
        Certificates::generate().expect("certificates"),
    );
    put_secret(
        &rig,
        "trust",
        &[("tls.crt", &one.client.certificate), ("tls.key", &two.client.key)],
    )
    .await;
    let object = rig
        .wait("app", "told about the key", |object| {
            condition(object, "Ready").is_some_and(|(_, _, text)| text.contains("tls.key"))
        })
        .await;
    assert!(
        message(&object).contains("Secret trust-malformed/trust (image.certSecretRef)"),
        "{}",
        message(&object)
    );
    assert!(message(&object).contains("KeyMismatch"), "{}", message(&object));
    put_secret(&rig, "trust", &[("ca.crt", &one.authority)]).await;
    rig.wait_synced("app").await;
}
