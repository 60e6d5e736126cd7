//! Namespaces that do not trust each other share one operator.

use std::time::Duration;

use ecr_sync::api::v1alpha1::EcrRepositorySync;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use testbed::certificates::Certificates;
use testbed::ecr;
use testbed::forward_proxy::{ForwardProxy, Seen};
use testbed::proxy::Proxy;
use testbed::tls_front::TlsFront;
use testbed::traffic::{Fault, Match, Record, Then};
use testbed::upstream::User;

use crate::support::aws_hosts::{AwsHosts, borrowed};
use crate::support::{ACCOUNT, REGION, Rig, condition, docker_secret, eventually, login, private};

async fn apply_labelled(
    rig: &Rig,
    namespace: &str,
    name: &str,
    spec: &Value,
) -> Api<EcrRepositorySync> {
    let resources: Api<EcrRepositorySync> = Api::namespaced(rig.client.clone(), namespace);
    let object = json!({
        "apiVersion": "ecr-sync.io/v1alpha1", "kind": "EcrRepositorySync",
        "metadata": {"name": name, "namespace": namespace, "labels": {"test": rig.namespace}},
        "spec": spec,
    });
    resources
        .patch(name, &PatchParams::apply("test").force(), &Patch::Apply(object))
        .await
        .expect("applied");
    resources
}

fn is_synced(object: &EcrRepositorySync) -> bool {
    condition(object, "Ready").is_some_and(|(status, ..)| status == "True")
}

#[tokio::test]
async fn two_namespaces_use_one_host_each_with_its_own_login() {
    let rig = Rig::new("tenancy-one").await;
    let other = "tenancy-two";
    rig.namespace(other).await;
    // Both read the same repository of the same host through the same operator: only the Secret
    // differs.
    let source = Proxy::start(rig.sources.basic.host()).await.expect("the proxy starts");
    for (namespace, user) in [(rig.namespace.as_str(), User::Reader), (other, User::Writer)] {
        let secrets: Api<Secret> = Api::namespaced(rig.client.clone(), namespace);
        let secret = docker_secret(&source.host(), user.name(), user.password());
        secrets.create(&PostParams::default(), &secret).await.expect("a Secret");
    }
    let _operator = rig.operator_everywhere(&[]).await;
    for (namespace, user) in [(rig.namespace.as_str(), User::Reader), (other, User::Writer)] {
        let mark = source.mark();
        let spec = private(&source.host(), &["1.26", "1.27"]);
        let resources = apply_labelled(&rig, namespace, &format!("{namespace}-app"), &spec).await;
        eventually("synced", async || {
            resources.get(&format!("{namespace}-app")).await.is_ok_and(|object| is_synced(&object))
        })
        .await;
        let requests = source.log_since(mark);
        let logins: Vec<_> = requests.iter().filter_map(login).collect();
        assert!(
            logins.len() > 2 && logins.iter().all(|name| name == user.name()),
            "{namespace}: {logins:?}"
        );
        assert!(
            requests.iter().all(|request| login(request).is_some() || request.status == Some(401))
        );
    }
    // A namespace without the Secret gets nothing, although the operator has read the image twice.
    let spec = json!({"image": {"pullUrl": format!("{}/library/demo", source.host()),
        "tags": ["1.27"], "insecure": true}});
    let resources = apply_labelled(&rig, other, "without", &spec).await;
    eventually("refused", async || {
        let object = resources.get("without").await.expect("there");
        condition(&object, "Ready").is_some_and(|(_, reason, _)| reason == "AuthenticationFailed")
    })
    .await;
}

#[tokio::test]
async fn no_request_is_made_for_resources_that_a_tenant_may_not_use() {
    let rig = Rig::new("tenancy-table").await;
    let table = rig.folder().join("tenants.yaml");
    let write = |repositories: &str| {
        let host = rig.source.host();
        let text = format!(
            "tenants:\n- {{namespaces: [{}], repositories: ['{repositories}'], sources: \
             ['{host}']}}\n",
            rig.namespace
        );
        std::fs::write(&table, text).expect("written");
    };
    write("team/*");
    let _operator = rig.operator_with(&["--tenants", &table.to_string_lossy()], &[]).await;
    let spec = |more: Value| {
        let mut spec = json!({"image": rig.image("library/demo", &["1.27"])});
        spec.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
        spec
    };
    for (name, more, part) in [
        ("repository", json!({"repositoryName": "other/app"}), "repository other/app"),
        (
            "account",
            json!({"repositoryName": "team/a", "registry": {"accountId": "210987654321"}}),
            "account 210987654321",
        ),
        (
            "region",
            json!({"repositoryName": "team/b", "registry": {"region": "us-east-1"}}),
            "region us-east-1",
        ),
        (
            "role",
            json!({"repositoryName": "team/c",
                "registry": {"roleArn": "arn:aws:iam::210987654321:role/x"}}),
            "role arn:aws:iam::210987654321:role/x",
        ),
        (
            "source",
            json!({"repositoryName": "team/d", "image": {"pullUrl": "quay.io/a/b:1"}}),
            "source quay.io",
        ),
    ] {
        rig.apply(name, spec(more)).await;
        let object = rig.wait_ready(name, "False", "AccessDenied").await;
        let text = condition(&object, "Ready").expect("set").2;
        assert!(text.contains(part) && text.contains("tenants.yaml, tenants[0]."), "{text}");
    }
    assert_eq!(rig.source.count(|_| true), 0, "no source was asked");
    let asked: Vec<_> = rig.ecr.log().into_iter().map(|request| request.operation).collect();
    assert_eq!(
        asked,
        ["GetCallerIdentity"],
        "the operator asked who it is, and nothing for the tenant"
    );

    rig.apply("allowed", spec(json!({"repositoryName": "team/app"}))).await;
    rig.wait_synced("allowed").await;
    // The table is read again.
    write("*");
    let mut asked = 0;
    eventually("allowed", async || {
        asked += 1;
        rig.request("repository", &asked.to_string()).await;
        rig.ecr.repository(ACCOUNT, REGION, "other/app").is_some()
    })
    .await;
}

#[tokio::test]
async fn a_private_ecr_source_is_read_with_the_operators_identity_where_it_is_listed() {
    let mut rig = Rig::new("tenancy-ecr").await;
    // Its redirects would lead to this machine, which a source with another name may not do.
    let config = ecr::Config { redirect_blobs: false, ..ecr::Config::default() };
    rig.ecr = ecr::StandIn::start(config).await.expect("the stand-in starts");
    let table = rig.folder().join("tenants.yaml");
    let host = format!("{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com");
    let text = format!(
        "tenants:\n- {{namespaces: [{}], repositories: ['*'], sources: ['*'], ecrSources: \
         ['{host}/shared/*']}}\n",
        rig.namespace
    );
    std::fs::write(&table, text).expect("written");
    let registry = rig.ecr.registry(ACCOUNT, REGION).await;
    let hosts = AwsHosts::start(rig.folder(), &host, &registry);
    let table = table.to_string_lossy();
    let environment = hosts.environment();
    let operator = rig.operator_with(&["--tenants", &table], &borrowed(&environment)).await;
    for name in ["shared/base", "secret/base"] {
        let image = rig.image("library/demo", &["1.27"]);
        rig.apply(&name.replace('/', "-"), json!({"repositoryName": name, "image": image})).await;
        rig.wait_synced(&name.replace('/', "-")).await;
    }
    let from =
        |name: &str| json!({"image": {"pullUrl": format!("{host}/{name}"), "tags": ["1.27"]}});
    rig.apply("copy", from("shared/base")).await;
    rig.wait_synced("copy").await;
    assert_eq!(
        rig.repository("copy").tags["1.27"],
        rig.sources.seeded.digest("library/demo", "1.27")
    );
    // The environment's proxy gets a tunnel: it cannot read the password.
    let seen = hosts.seen();
    assert!(seen.iter().any(|seen| seen.target == format!("{host}:443")), "{seen:?}");
    assert!(seen.iter().all(|seen| seen.method == "CONNECT" && has_no_login(seen)), "{seen:?}");

    rig.apply("stolen", from("secret/base")).await;
    let object = rig.wait_ready("stolen", "False", "AccessDenied").await;
    let text = condition(&object, "Ready").expect("set").2;
    assert!(text.contains(&format!("{host}/secret/base")) && text.contains("ecrSources"), "{text}");

    steal(&rig, &host, &registry, from("shared/base")).await;
    assert!(!operator.log().to_ascii_lowercase().contains("basic qvdt"), "AWS: in base64");
}

/// Whether nothing that the proxy read is a login.
fn has_no_login(seen: &Seen) -> bool {
    let head = seen.head.to_ascii_lowercase();
    // `AWS:`, the user name of all ECR passwords, in base64.
    !head.contains("authorization") && !head.contains("qvdt")
}

/// A tenant asks for a source that is read with the operator's identity, over connections of its
/// own: a proxy and an authority for a man in the middle, and plain HTTP.
async fn steal(rig: &Rig, host: &str, registry: &str, spec: Value) {
    let certificates = Certificates::generate_for(&[host]).expect("certificates");
    let front = TlsFront::start(&certificates.server, registry).expect("a front");
    let places = [(&*format!("{host}:443"), &*front.host()), (&*format!("{host}:80"), registry)];
    let proxy = ForwardProxy::start_with(None, &places).expect("a proxy");
    put_secret(rig, "proxy", json!({"address": proxy.url()})).await;
    put_secret(rig, "authority", json!({"ca.crt": certificates.authority})).await;
    put_secret(rig, "own", json!({"username": "AWS", "password": "of-the-tenant"})).await;

    let own = |fields: &[(&str, Value)]| {
        let mut spec = spec.clone();
        for (field, value) in fields {
            spec["image"][*field] = value.clone();
        }
        spec
    };
    let proxied = ("proxySecretRef", json!({"name": "proxy"}));
    let trusted = ("certSecretRef", json!({"name": "authority"}));
    let plain = ("insecure", json!(true));
    for (name, fields) in [
        ("in-the-clear", vec![proxied.clone(), plain.clone()]),
        ("in-the-middle", vec![proxied.clone(), trusted.clone()]),
        ("by-proxy", vec![proxied.clone()]),
        ("by-authority", vec![trusted]),
        ("plain", vec![plain.clone()]),
    ] {
        rig.apply(name, own(&fields)).await;
        let object = rig.wait_ready(name, "False", "InvalidSpec").await;
        let text = condition(&object, "Ready").expect("set").2;
        assert!(text.contains(host) && text.contains("image.secretRef"), "{text}");
        assert!(text.contains(&format!("image.{}", fields[0].0)), "{text}");
    }
    assert_eq!(proxy.seen(), [], "not even a connection was made");

    // With a login of its own, the tenant chooses the connection, and the proxy sees that login.
    let fields = [proxied, plain, ("secretRef", json!({"name": "own"}))];
    rig.apply("own", own(&fields)).await;
    rig.wait_ready("own", "False", "AuthenticationFailed").await;
    let seen = proxy.seen();
    // `AWS:of-the-tenant`
    let is_own = |seen: &Seen| seen.head.contains("Basic QVdTOm9mLXRoZS10ZW5hbnQ=");
    assert!(seen.iter().any(is_own), "{seen:?}");
    assert!(seen.iter().all(|seen| is_own(seen) || has_no_login(seen)), "{seen:?}");
}

async fn put_secret(rig: &Rig, name: &str, entries: Value) {
    let secrets: Api<Secret> = Api::namespaced(rig.client.clone(), &rig.namespace);
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
                        "stringData": entries});
    let apply = PatchParams::apply("test");
    secrets.patch(name, &apply, &Patch::Apply(secret)).await.expect("a Secret");
}

/// A running pass may end with the login of its start; the next pass has the new login.
#[tokio::test]
async fn a_secret_that_rotates_during_a_copy_does_not_fail_it() {
    let rig = Rig::new("rotation").await;
    let source = Proxy::start(rig.sources.basic.host()).await.expect("the proxy starts");
    let secrets: Api<Secret> = Api::namespaced(rig.client.clone(), &rig.namespace);
    let put = async |user: User| {
        let secret = docker_secret(&source.host(), user.name(), user.password());
        let apply = PatchParams::apply("test").force();
        secrets.patch("login", &apply, &Patch::Apply(&secret)).await.expect("a Secret");
    };
    put(User::Reader).await;
    source
        .faults()
        .add(Fault::new(Match::operation("GetBlob"), Then::Delay(Duration::from_secs(2))).once());
    let _operator = rig.operator().await;
    rig.apply("app", private(&source.host(), &["1.26", "1.27"])).await;
    eventually("copying", async || source.count(|record| record.operation == "GetBlob") > 0).await;
    put(User::Writer).await;
    rig.wait_synced("app").await;
    let mark = source.mark();
    rig.request("app", "again").await;
    let logins = || source.log_since(mark).iter().filter_map(login).collect::<Vec<_>>();
    eventually("read again", async || !logins().is_empty()).await;
    assert!(logins().iter().all(|name| name == User::Writer.name()), "{:?}", logins());
    let refused = |record: &Record| record.status == Some(401) && login(record).is_some();
    assert_eq!(source.count(refused), 0);
}
