//! Behaviour that Kubernetes users expect of a resource: sync on demand, dry run, Secrets, a status
//! that changes only if something else does.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use testbed::certificates::Certificates;
use testbed::proxy::Proxy;
use testbed::tls_front::TlsFront;
use testbed::traffic::{Fault, Match, Then};
use testbed::upstream::User;

use crate::support::{Kstatus, Rig, condition, docker_secret, eventually, kstatus, private};

#[tokio::test]
async fn an_annotation_asks_for_a_sync_now() {
    let rig = Rig::new("requested").await;
    let _operator = rig.operator().await;
    rig.apply("app", json!({"image": rig.image("library/demo", &["1.26"])})).await;
    rig.wait_synced("app").await;
    for (key, value) in [
        ("ecr-sync.io/requestedAt", "2026-01-01T00:00:00Z"),
        ("reconcile.fluxcd.io/requestedAt", "2025-01-01T00:00:00Z"),
        ("ecr-sync.io/requestedAt", "again"),
    ] {
        let mark = rig.source.mark();
        rig.annotate("app", key, value).await;
        let answered = |object: &ecr_sync::api::v1alpha1::EcrRepositorySync| {
            object.status.as_ref().and_then(|status| status.last_handled_reconcile_at.as_deref())
                == Some(value)
        };
        rig.wait("app", "answered", answered).await;
        assert_eq!(rig.source.log_since(mark).len(), 1, "the source was asked for the tag once");
    }
    // Other annotations are ignored.
    let mark = rig.source.mark();
    rig.annotate("app", "example.com/note", "x").await;
    rig.apply("other", json!({})).await;
    rig.wait_synced("other").await;
    assert!(rig.source.log_since(mark).is_empty());
}

#[tokio::test]
async fn a_request_during_a_pass_gets_a_pass_of_its_own() {
    let rig = Rig::new("requested-twice").await;
    let _operator = rig.operator().await;
    rig.source.faults().add(Fault::new(Match::operation("GetBlob"), Then::Slow(20_000)));
    rig.apply("app", json!({"image": rig.image("library/demo", &["1.26"])})).await;
    eventually("copying", async || rig.source.count(|request| request.operation == "GetBlob") > 0)
        .await;
    rig.annotate("app", "ecr-sync.io/requestedAt", "during").await;
    rig.source.faults().clear();
    let answered = |object: &ecr_sync::api::v1alpha1::EcrRepositorySync| {
        object.status.as_ref().and_then(|status| status.last_handled_reconcile_at.as_deref())
            == Some("during")
    };
    rig.wait("app", "answered", answered).await;
    rig.wait_synced("app").await;
}

#[tokio::test]
async fn a_dry_run_shows_the_plan_and_writes_nothing() {
    let rig = Rig::new("dry-run").await;
    let _operator = rig.operator().await;
    let spec = |dry_run: bool| {
        json!({"image": rig.image("library/demo", &["1.26", "1.27"]),
        "resourceTags": {"team": "a"}, "dryRun": dry_run})
    };
    rig.apply("app", spec(true)).await;
    let object = rig.wait_ready("app", "Unknown", "DryRun").await;
    let status = object.status.clone().expect("a status");
    assert_eq!(status.plan.len(), 3, "{:?}", status.plan);
    assert_eq!(status.plan[0], "create repository app");
    assert!(
        status.plan[1].starts_with("copy ") && status.plan[1].contains(" to tag 1.26"),
        "{}",
        status.plan[1]
    );
    assert!(status.history.is_empty());
    assert_eq!(kstatus(&object), Kstatus::InProgress);
    assert_eq!(rig.ecr.count(|request| request.is_write()), 0, "no write of any kind");
    rig.told("DryRun").await;
    let events = rig.events().await;
    assert_eq!(events.len(), 1, "{events:?}");

    rig.apply("app", spec(false)).await;
    let object = rig.wait_synced("app").await;
    assert!(object.status.expect("a status").plan.is_empty());
    assert_eq!(rig.repository("app").tags.len(), 2);
}

#[tokio::test]
async fn a_dry_run_shows_each_setting_policy_and_resource_tag_that_differs() {
    let rig = Rig::new("dry-run-settings").await;
    let _operator = rig.operator().await;
    let spec =
        |mutability: &str, scan: bool, images: u32, tags: serde_json::Value, dry_run: bool| {
            let rule = json!({"rulePriority": 1, "action": {"type": "expire"},
                          "selection": {"tagStatus": "any", "countType": "imageCountMoreThan",
                              "countNumber": images}});
            json!({"imageTagMutability": mutability, "scanOnPush": scan,
            "lifecyclePolicy": {"rules": [rule]},
               "permissionPolicy": {"Statement": []}, "resourceTags": tags, "dryRun": dry_run,
               "encryption": {"type": "AES256"}})
        };
    rig.apply("app", spec("Mutable", false, 5, json!({"team": "a", "stage": "dev"}), false)).await;
    rig.wait_synced("app").await;
    let (mark, before) = (rig.ecr.mark(), rig.events().await.len());
    rig.apply("app", spec("Immutable", true, 6, json!({"team": "b"}), true)).await;
    let object = rig.wait_ready("app", "Unknown", "DryRun").await;
    assert_eq!(
        object.status.expect("a status").plan,
        [
            "set resource tags team=b",
            "remove resource tags stage",
            "change imageTagMutability from Mutable to Immutable",
            "set scanOnPush to true",
            "replace lifecyclePolicy",
        ]
    );
    assert_eq!(rig.ecr.log_since(mark).iter().filter(|request| request.is_write()).count(), 0);
    assert_eq!(rig.events().await.len(), before + 1, "one event for the whole plan");
}

#[tokio::test]
async fn the_dry_run_of_the_operator_writes_nothing() {
    let rig = Rig::new("dry-run-operator").await;
    let _operator = rig.operator_with(&["--dry-run"], &[]).await;
    rig.apply("app", json!({"image": rig.image("library/demo", &["1.26"])})).await;
    rig.wait_ready("app", "Unknown", "DryRun").await;
    assert_eq!(rig.ecr.count(|request| request.is_write()), 0);
}

#[tokio::test]
async fn a_corrected_secret_is_used_at_once() {
    let rig = Rig::new("secret-corrected").await;
    let _operator = rig.operator().await;
    let host = rig.sources.basic.host();
    let secrets: Api<Secret> = Api::namespaced(rig.client.clone(), &rig.namespace);
    secrets
        .create(&PostParams::default(), &docker_secret(host, User::Reader.name(), "wrong"))
        .await
        .expect("a Secret");
    rig.apply("app", private(host, &["1.26"])).await;
    // The next retry would come after two minutes, later than any test waits.
    rig.wait_ready("app", "False", "AuthenticationFailed").await;
    let right = Patch::Merge(docker_secret(host, User::Reader.name(), User::Reader.password()));
    secrets.patch("login", &PatchParams::default(), &right).await.expect("corrected");
    rig.wait_synced("app").await;
}

#[tokio::test]
async fn the_operator_runs_without_watching_secrets() {
    let rig = Rig::new("secret-unwatched").await;
    let operator = rig.operator_with(&["--watch-secrets=false"], &[]).await;
    let host = rig.sources.basic.host();
    let secrets: Api<Secret> = Api::namespaced(rig.client.clone(), &rig.namespace);
    secrets
        .create(
            &PostParams::default(),
            &docker_secret(host, User::Reader.name(), User::Reader.password()),
        )
        .await
        .expect("a Secret");
    rig.apply("app", private(host, &["1.26"])).await;
    rig.wait_synced("app").await;
    assert!(!operator.log().contains("cannot watch Secrets"));
}

#[tokio::test]
async fn a_registry_config_serves_resources_without_a_secret_and_with_tls_only() {
    let rig = Rig::new("registry-config").await;
    let certificates = Certificates::generate().expect("certificates");
    let source = Proxy::start(rig.sources.basic.host()).await.expect("the proxy starts");
    let front = TlsFront::start(&certificates.server, &source.host()).expect("a front");
    let login = json!({"username": User::Reader.name(), "password": User::Reader.password()});
    let config = json!({"auths": {front.host(): login.clone(), source.host(): login}});
    let write = |name: &str, text: &str| {
        let path = rig.folder().join(name);
        std::fs::write(&path, text).expect("a file");
        path.to_string_lossy().into_owned()
    };
    let config = write("config.json", &config.to_string());
    let authority = write("authority.crt", &certificates.authority);
    let flags = ["--registry-config", &config];
    let _operator = rig.operator_with(&flags, &[("SSL_CERT_FILE", &authority)]).await;

    let image = |host: &str| json!({"pullUrl": format!("{host}/library/demo"), "tags": ["1.26"], "insecure": false});
    rig.apply("app", json!({"image": image(&front.host())})).await;
    rig.wait_synced("app").await;

    let mark = source.mark();
    let mut plain = image(&source.host());
    plain["insecure"] = json!(true);
    rig.apply("plain", json!({"image": plain})).await;
    let object = rig.wait_ready("plain", "False", "InvalidSpec").await;
    let text = condition(&object, "Ready").expect("set").2;
    assert!(text.contains("read with the operator's login") && text.contains("image.insecure"));
    assert!(source.log_since(mark).is_empty(), "no request was made");
}

#[tokio::test]
async fn a_certificate_secret_without_a_certificate_is_named() {
    let rig = Rig::new("bad-certificate").await;
    let _operator = rig.operator().await;
    let secrets: Api<Secret> = Api::namespaced(rig.client.clone(), &rig.namespace);
    let mut secret = docker_secret("unused", User::Reader.name(), "unused");
    secret.metadata.name = Some("ca".to_owned());
    secret.type_ = None;
    secrets.create(&PostParams::default(), &secret).await.expect("a Secret");
    let mut image = rig.image("library/demo", &["1.26"]);
    image["certSecretRef"] = json!({"name": "ca"});
    rig.apply("app", json!({"image": image})).await;
    let object = rig.wait_ready("app", "False", "SecretNotFound").await;
    let (_, _, message) = condition(&object, "ImageSynced").expect("set");
    assert!(
        message.contains("bad-certificate/ca (image.certSecretRef)") && message.contains("ca.crt"),
        "{message}"
    );
}

#[tokio::test]
async fn only_labelled_resources_are_synced_with_a_label_selector() {
    let rig = Rig::new("labelled").await;
    let _operator = rig.operator_with(&["--watch-label-selector", "team=a"], &[]).await;
    rig.apply("other", json!({})).await;
    rig.apply("mine", json!({})).await;
    let patch = Patch::Merge(json!({"metadata": {"labels": {"team": "a"}}}));
    rig.resources().patch("mine", &PatchParams::default(), &patch).await.expect("labelled");
    rig.wait_synced("mine").await;
    let other = rig.resources().get("other").await.expect("it is there");
    assert_eq!(condition(&other, "Ready"), None);
}

#[tokio::test]
async fn a_source_that_is_down_does_not_change_ready() {
    let rig = Rig::new("source-down").await;
    let _operator = rig.operator().await;
    rig.apply("app", json!({"image": rig.image("library/demo", &["1.26"])})).await;
    let before = rig.wait_synced("app").await;
    rig.source.faults().add(Fault::new(Match::any(), Then::Reset));
    rig.annotate("app", "ecr-sync.io/requestedAt", "now").await;
    let down = rig
        .wait("app", "ImageSynced=Unknown", |object| {
            condition(object, "ImageSynced").is_some_and(|c| c.0 == "Unknown")
        })
        .await;
    assert_eq!(condition(&down, "Ready"), condition(&before, "Ready"));
    assert_eq!(condition(&down, "Reconciling"), None);
    assert_eq!(kstatus(&down), Kstatus::Current);
    rig.source.faults().clear();
    rig.annotate("app", "ecr-sync.io/requestedAt", "later").await;
    rig.wait("app", "ImageSynced=True", |object| {
        condition(object, "ImageSynced").is_some_and(|c| c.0 == "True")
    })
    .await;
}

#[tokio::test]
async fn a_pass_without_progress_is_given_up() {
    let rig = Rig::new("timeout").await;
    let _operator = rig.operator_with(&["--max-timeout", "1m"], &[]).await;
    // A source that does not answer is given up before.
    rig.ecr.faults().add(Fault::new(Match::operation("StartUpload"), Then::Stall));
    rig.apply("app", json!({"image": rig.image("library/demo", &["1.26"]), "timeout": "1m"})).await;
    rig.apply("long", json!({"image": rig.image("library/demo", &["1.26"]), "timeout": "24h"}))
        .await;
    let object = rig.wait_ready("app", "False", "Timeout").await;
    let (_, _, message) = condition(&object, "Ready").expect("set");
    assert!(message.contains("gave up after 1m without progress (spec.timeout)"), "{message}");
    let long = rig.wait_ready("long", "False", "Timeout").await;
    let (_, _, message) = condition(&long, "Ready").expect("set");
    let words = "gave up after 1m without progress (the operator's --max-timeout, which is shorter";
    assert!(message.contains(words), "{message}");
    assert!(condition(&object, "Reconciling").is_some(), "it will be tried again");
}

#[tokio::test]
async fn series_are_removed_with_the_resource() {
    let rig = Rig::new("series").await;
    let operator = rig.operator_with(&["--resource-metrics", "series,tier!=silver"], &[]).await;
    rig.apply("app", json!({"repositoryName": "team/app"})).await;
    rig.wait_synced("app").await;
    rig.apply("silver", json!({})).await;
    rig.kubectl(&["label", "ers", "silver", "-n", "series", "tier=silver"]).await;
    rig.wait_synced("silver").await;
    let own = async |name: &str| {
        let series = format!("ecrsync_resource_info{{name=\"{name}\",");
        operator.get("/metrics").await.is_some_and(|(_, page)| page.contains(&series))
    };
    eventually("not chosen any more", async || !own("silver").await).await;

    let (_, page) = operator.get("/metrics").await.expect("metrics");
    for line in [
        "ecrsync_resources{namespace=\"series\",ready=\"True\",reason=\"Succeeded\",\
         suspended=\"false\"} 2",
        "ecrsync_resource_info{name=\"app\",namespace=\"series\",ready=\"True\",\
         reason=\"Succeeded\",repository=\"team/app\",suspended=\"false\"} 1",
        "ecrsync_resource_condition{name=\"app\",namespace=\"series\",status=\"True\",type=\"Ready\"} 1",
        "ecrsync_resource_condition{name=\"app\",namespace=\"series\",status=\"False\",type=\"Ready\"} 0",
    ] {
        assert!(page.contains(line), "{line} is not in\n{page}");
    }
    for name in ["app", "silver"] {
        rig.resources().delete(name, &Default::default()).await.expect("deleted");
    }
    eventually("gone from the page", async || {
        operator
            .get("/metrics")
            .await
            .is_some_and(|(_, page)| !page.contains("namespace=\"series\""))
    })
    .await;
}

#[tokio::test]
async fn history_lists_the_changes() {
    let rig = Rig::new("history").await;
    let _operator = rig.operator().await;
    rig.apply("app", json!({"image": rig.image("library/demo", &["1.26"])})).await;
    let first = rig.wait_synced("app").await.status.expect("a status");
    rig.apply("app", json!({"image": rig.image("library/demo", &["1.26", "1.27"])})).await;
    let second = rig.wait_synced("app").await.status.expect("a status");
    assert_eq!(second.history.len(), 2);
    assert!(second.history[0].changes.starts_with("copied tag 1.27"), "{:?}", second.history);
    assert_eq!((second.history[0].generation, second.history[1].generation), (2, 1));
    let revision = |status: &ecr_sync::api::v1alpha1::EcrRepositorySyncStatus| {
        status.image.clone().expect("an image").revision
    };
    assert_ne!(revision(&first), revision(&second));
    assert_eq!(revision(&first).len(), 16);
}

#[tokio::test]
async fn kubectl_wait_never_returns_on_a_stale_generation() {
    let rig = Rig::new("stale").await;
    let operator = rig.operator().await;
    rig.apply("app", json!({})).await;
    rig.wait_synced("app").await;
    let wait = ["wait", "--for=condition=Ready", "ers/app", "-n", "stale", "--timeout=1s"];
    rig.try_kubectl(&wait).await.expect("it is ready");
    assert_eq!(operator.terminate().await, 0);
    rig.apply("app", json!({"resourceTags": {"team": "a"}})).await;
    let error = rig.try_kubectl(&wait).await.expect_err("nobody looked at the new generation");
    assert!(error.contains("timed out"), "{error}");
}

#[tokio::test]
async fn promtool_accepts_the_metrics_page() {
    let rig = Rig::new("promtool").await;
    let operator = rig.operator().await;
    rig.apply("app", json!({"image": rig.image("library/demo", &["1.26", "9.99"])})).await;
    rig.wait_ready("app", "False", "PartiallySynced").await;
    let (_, page) = operator.get("/metrics").await.expect("metrics");
    for line in [
        "ecrsync_tags{namespace=\"promtool\",state=\"failed\"} 1",
        "ecrsync_tags{namespace=\"promtool\",state=\"synced\"} 1",
        "ecrsync_aws_requests_total{code=\"OK\",operation=\"CreateRepository\"} 1",
        "ecrsync_aws_requests_total{code=\"RepositoryNotFoundException\",operation=\"DescribeImages\"} 1",
        "ecrsync_registry_requests_total{code=\"404\",host_class=\"other\",method=\"GET\"} 1",
        "workqueue_adds_total{name=\"ecrrepositorysync\"} 1",
    ] {
        assert!(page.contains(line), "{line} is not in\n{page}");
    }
    assert!(
        page.contains(
            "ecrsync_token_expiry_timestamp_seconds{account=\"123456789012\",region=\"eu-west-1\"}"
        ),
        "{page}"
    );
    let promtool = testbed::tools::find("promtool").expect("make tools");
    let path = rig.folder().join("page");
    std::fs::write(&path, page).expect("a file");
    let file = std::fs::File::open(&path).expect("a file");
    let checked = std::process::Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(file)
        .output()
        .expect("it runs");
    let complaints = String::from_utf8_lossy(&checked.stderr).into_owned();
    // The names of controller-runtime break promtool's rules; ours must not.
    let ours: Vec<_> = complaints.lines().filter(|line| line.starts_with("ecrsync_")).collect();
    assert!(ours.is_empty() && !complaints.contains("error while linting"), "{complaints}");
}
