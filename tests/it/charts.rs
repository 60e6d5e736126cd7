//! Helm charts: charts that the real helm packaged and indexed are copied, and the real helm pulls
//! and installs the copies.

mod reproducible;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use ecr_sync::registry::Digest;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;
use testbed::chart_repository::ChartRepository;
use testbed::ecr::{self, StandIn};
use testbed::proxy::Proxy;
use testbed::traffic::{Fault, Match, Plane, Then};
use testbed::upstream::User;

use crate::support::{ACCOUNT, REGION, Rig, condition};

/// A repository with versions 1.0.0, 1.1.0 and 2.0.0-rc.1 of the chart `app`, and a proxy that
/// counts.
struct Charts {
    repository: ChartRepository,
    proxy: Proxy,
}

impl Charts {
    async fn new(rig: &Rig) -> Self {
        let repository = ChartRepository::start(rig.folder().join("charts"), None)
            .await
            .expect("a chart repository");
        for version in ["1.0.0", "1.1.0", "2.0.0-rc.1"] {
            repository.package("stable", "app", version).await.expect("helm packages");
        }
        repository.index("stable").await.expect("helm indexes");
        let proxy = Proxy::start(repository.host()).await.expect("a proxy");
        Self { repository, proxy }
    }

    fn url(&self) -> String {
        format!("http://{}/stable", self.proxy.host())
    }

    fn archive_digest(&self, version: &str) -> String {
        let archive = self.repository.read(&format!("stable/app-{version}.tgz")).expect("packaged");
        Digest::sha256_of(&archive).to_string()
    }

    /// Archives that were requested since the last call.
    fn downloads(&self, since: &mut testbed::traffic::Mark) -> usize {
        let log = self.proxy.log_since(*since);
        *since = self.proxy.mark();
        log.iter().filter(|request| request.path.ends_with(".tgz")).count()
    }
}

/// The environment that connects helm to the stand-in.
async fn helm_environment(rig: &Rig) -> Vec<(String, String)> {
    let registry = rig.ecr.registry(ACCOUNT, REGION).await;
    let config =
        json!({"auths": {registry: {"auth": rig.ecr.authorization_token(ACCOUNT, REGION)}}});
    let path = rig.folder().join("helm-registry.json");
    std::fs::write(&path, config.to_string()).expect("a file");
    let folder = rig.folder().to_string_lossy().into_owned();
    let path = path.to_string_lossy().into_owned();
    [
        ("HELM_REGISTRY_CONFIG", path),
        ("HELM_CACHE_HOME", folder.clone()),
        ("HELM_DATA_HOME", folder),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

async fn helm(rig: &Rig, arguments: &[&str]) -> String {
    let environment = helm_environment(rig).await;
    let environment: Vec<_> =
        environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    testbed::tools::run("helm", arguments, &environment)
        .await
        .unwrap_or_else(|error| panic!("helm: {error}"))
}

#[tokio::test]
async fn helm_pulls_shows_and_installs_the_copy_of_an_http_chart() {
    let rig = Rig::new("chart-http").await;
    let charts = Charts::new(&rig).await;
    let _operator = rig.operator().await;
    rig.apply(
        "app",
        json!({"chart": {"pullUrl": charts.url(), "tags": ["1.0.0"],
        "versionSelector": {"latest": 1}}}),
    )
    .await;
    let object = rig.wait_synced("app").await;
    let status = object.status.clone().expect("a status");
    let chart = status.chart.expect("a chart");
    assert_eq!((chart.summary.as_str(), status.derived.len()), ("2/2", 2));
    assert_eq!(chart.source, format!("{} (chart app)", charts.url()));
    assert_eq!(condition(&object, "ChartSynced").map(|c| c.0), Some("True"));
    assert_eq!(condition(&object, "ImageSynced"), None);
    // Without a constraint, a pre-release is a version like any other, and here it is the newest.
    assert_eq!(rig.repository("app").tags.keys().collect::<Vec<_>>(), ["1.0.0", "2.0.0-rc.1"]);

    let address = format!("oci://{}/app", rig.ecr.registry(ACCOUNT, REGION).await);
    let to = rig.folder().join("pulled").to_string_lossy().into_owned();
    std::fs::create_dir(&to).expect("a folder");
    helm(&rig, &["pull", &address, "--version", "1.0.0", "--plain-http", "--destination", &to])
        .await;
    let pulled = std::fs::read(PathBuf::from(&to).join("app-1.0.0.tgz")).expect("helm pulled it");
    assert_eq!(
        Digest::sha256_of(&pulled).to_string(),
        charts.archive_digest("1.0.0"),
        "byte for byte"
    );
    let shown =
        helm(&rig, &["show", "chart", &address, "--version", "2.0.0-rc.1", "--plain-http"]).await;
    assert!(shown.contains("version: 2.0.0-rc.1"), "{shown}");
    let kubeconfig = rig.kubeconfig();
    let kubeconfig = kubeconfig.to_string_lossy();
    let install = [
        "install",
        "app",
        &address,
        "--version",
        "1.0.0",
        "--plain-http",
        "-n",
        "chart-http",
        "--kubeconfig",
    ];
    helm(&rig, &[&install[..], &[&kubeconfig]].concat()).await;
    let installed = rig.kubectl(&["get", "deployment", "-n", "chart-http", "-o", "name"]).await;
    assert_eq!(installed.trim(), "deployment.apps/app");
}

#[tokio::test]
async fn a_second_look_costs_one_conditional_get_also_after_a_restart() {
    let rig = Rig::new("chart-warm").await;
    let charts = Charts::new(&rig).await;
    for minor in 2..19 {
        charts
            .repository
            .package("stable", "app", &format!("1.{minor}.0"))
            .await
            .expect("helm packages");
    }
    charts.repository.index("stable").await.expect("helm indexes");
    let operator = rig.operator().await;
    rig.apply("app", json!({"chart": {"pullUrl": charts.url(), "versionSelector": {"latest": 0}}}))
        .await;
    rig.wait_synced("app").await;
    assert_eq!(rig.repository("app").tags.len(), 20);
    assert_eq!(operator.terminate().await, 0);
    let (mut since, mark) = (charts.proxy.mark(), rig.ecr.mark());
    let operator = rig.operator().await;
    rig.request("app", "again").await;
    let log = charts.proxy.log_since(since);
    assert!(log.iter().all(|request| request.path.ends_with("/index.yaml")), "{log:#?}");
    assert!(log.len() <= 2, "the start and the request share a look, or have one each: {log:#?}");
    assert_eq!(charts.downloads(&mut since), 0);
    let log = rig.ecr.log_since(mark);
    assert!(
        log.iter().all(|request| !request.is_write() && request.plane == Plane::Control),
        "{log:#?}"
    );
    let listed = log.iter().filter(|request| {
        request.operation == "DescribeImages" || request.operation == "ListImages"
    });
    assert!(listed.count() <= 2, "one page a look: {log:#?}");
    assert_eq!(operator.terminate().await, 0);
}

#[tokio::test]
async fn a_replaced_archive_is_kept_and_reported_unless_the_spec_says_otherwise() {
    let rig = Rig::new("chart-replaced").await;
    let charts = Charts::new(&rig).await;
    let operator = rig.operator().await;
    let spec = |change: &str| {
        json!({"chart": {"pullUrl": charts.url(), "tags": ["1.0.0", "1.1.0"],
        "onSourceChange": change}})
    };
    rig.apply("app", spec("Keep")).await;
    rig.wait_synced("app").await;
    let before = rig.repository("app").tags;
    charts.repository.package("stable", "app", "1.0.0").await.expect("repackaged");
    charts.repository.index("stable").await.expect("indexed");
    // The index is read again after a restart.
    assert_eq!(operator.terminate().await, 0);
    let _operator = rig.operator().await;
    let object = rig.request("app", "look").await;
    let (status, reason, message) = condition(&object, "ChartSynced").expect("set");
    assert_eq!((status, reason), ("True", "SourceChanged"), "{message}");
    assert!(
        message.contains("1.0.0") && message.contains("onSourceChange: Overwrite"),
        "{message}"
    );
    assert_eq!(condition(&object, "Ready").map(|c| c.0), Some("True"));
    assert_eq!(rig.repository("app").tags, before);
    assert_eq!(rig.told("SourceChanged").await[0].0, "Warning");

    rig.apply("app", spec("Overwrite")).await;
    rig.wait_synced("app").await;
    let after = rig.repository("app").tags;
    assert_ne!(after["1.0.0"], before["1.0.0"]);
    assert_eq!(after["1.1.0"], before["1.1.0"]);
}

#[tokio::test]
async fn image_and_chart_share_a_repository_and_one_failing_leaves_the_other() {
    let rig = Rig::new("chart-mixed").await;
    let charts = Charts::new(&rig).await;
    let _operator = rig.operator().await;
    let spec = |version: &str| {
        json!({
            "image": rig.image("library/demo", &["latest"]),
            "chart": {"pullUrl": format!("{}/app", charts.url()), "tags": [version]},
        })
    };
    rig.apply("mixed", spec("1.0.0")).await;
    let object = rig.wait_synced("mixed").await;
    assert_eq!(
        condition(&object, "Ready").map(|c| c.2.starts_with("1/1 tags and 1/1 chart versions in ")),
        Some(true)
    );
    assert_eq!(rig.repository("mixed").tags.keys().collect::<Vec<_>>(), ["1.0.0", "latest"]);
    // The repository does not have the name of the chart.
    let advice = rig.told("Advice").await;
    assert!(advice.len() == 1 && advice[0].2.contains("last segment is mixed"), "{advice:?}");

    rig.apply("broken", spec("9.9.9")).await;
    let object = rig.wait_ready("broken", "False", "SourceNotFound").await;
    assert_eq!(condition(&object, "ImageSynced").map(|c| c.0), Some("True"));
    let (_, _, message) = condition(&object, "ChartSynced").expect("set");
    assert!(message.contains("has no version 9.9.9 of app"), "{message}");
}

#[tokio::test]
async fn a_chart_of_an_oci_registry_is_copied_as_it_is() {
    let rig = Rig::new("chart-oci").await;
    let charts = Charts::new(&rig).await;
    let archive =
        charts.repository.package("stable", "app", "1.2.0+build.7").await.expect("packaged");
    let archive = archive.to_string_lossy();
    let source = rig.sources.open.host();
    helm(&rig, &["push", &archive, &format!("oci://{source}/charts-of-this-test"), "--plain-http"])
        .await;
    let _operator = rig.operator().await;
    // A chart repository; the name of the chart comes from the ECR repository.
    let chart = json!({"pullUrl": format!("oci://{source}/charts-of-this-test"),
        "tags": ["1.2.0+build.7"], "insecure": true});
    rig.apply("oci", json!({"repositoryName": "platform/app", "chart": chart})).await;
    let object = rig.wait_synced("oci").await;
    assert_eq!(
        object.status.expect("a status").chart.expect("a chart").source,
        format!("oci://{source}/charts-of-this-test/app")
    );
    let digest = rig
        .sources
        .open
        .crane(&["digest", &format!("{source}/charts-of-this-test/app:1.2.0_build.7")])
        .await;
    assert_eq!(
        rig.repository("platform/app").tags["1.2.0_build.7"],
        digest.expect("crane reads it").trim()
    );
}

#[tokio::test]
async fn a_private_chart_repository_is_read_with_the_secret() {
    let rig = Rig::new("chart-private").await;
    let user = User::Reader;
    let login = Some((user.name(), user.password()));
    let repository =
        ChartRepository::start(rig.folder().join("charts"), login).await.expect("a repository");
    repository.package("stable", "app", "1.0.0").await.expect("packaged");
    repository.index("stable").await.expect("indexed");
    let _operator = rig.operator().await;
    let url = format!("http://{}/stable", repository.host());
    let spec = |secret: Option<&str>| {
        let mut chart = json!({"pullUrl": url, "tags": ["1.0.0"]});
        if let Some(secret) = secret {
            chart["secretRef"] = json!({"name": secret});
        }
        json!({"chart": chart})
    };
    rig.apply("app", spec(None)).await;
    rig.wait_ready("app", "False", "AuthenticationFailed").await;
    let secrets: Api<Secret> = Api::namespaced(rig.client.clone(), &rig.namespace);
    let secret = Secret {
        metadata: kube::api::ObjectMeta { name: Some("login".to_owned()), ..Default::default() },
        type_: Some("kubernetes.io/basic-auth".to_owned()),
        string_data: Some(
            [("username", user.name()), ("password", user.password())]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into(),
        ),
        ..Default::default()
    };
    secrets.create(&PostParams::default(), &secret).await.expect("a Secret");
    rig.apply("app", spec(Some("login"))).await;
    rig.wait_synced("app").await;
}

#[tokio::test]
async fn bad_repositories_have_distinct_failures() {
    let rig = Rig::new("chart-bad").await;
    let repository =
        ChartRepository::start(rig.folder().join("charts"), None).await.expect("a repository");
    repository
        .write("page/index.yaml", "<!DOCTYPE html><html><body>Please log in</body></html>")
        .expect("written");
    let wrong = json!({"apiVersion": "v1", "entries": {"app": [
        {"name": "app", "version": "1.0.0", "urls": ["app-1.0.0.tgz"],
            "digest": "0".repeat(64)}]}});
    repository.package("wrong", "app", "1.0.0").await.expect("packaged");
    repository.write("wrong/index.yaml", &wrong.to_string()).expect("written");
    let _operator = rig.operator().await;
    let cases = [
        ("page", "SourceInvalid", "page/index.yaml"),
        ("wrong", "SourceInvalid", "app-1.0.0.tgz"),
        ("nothing", "SourceNotFound", "nothing/index.yaml"),
    ];
    for (folder, _, _) in cases {
        let url = format!("http://{}/{folder}", repository.host());
        rig.apply(folder, json!({"chart": {"pullUrl": url, "name": "app", "tags": ["1.0.0"]}}))
            .await;
    }
    for (folder, reason, text) in cases {
        let object = rig.wait_ready(folder, "False", reason).await;
        let (_, _, message) = condition(&object, "ChartSynced").expect("set");
        assert!(message.contains(text), "{folder}: {message}");
        assert!(rig.repository(folder).images.is_empty(), "nothing half-written");
    }
}

#[tokio::test]
async fn a_selected_tag_that_both_want_is_a_collision_and_the_rest_is_done() {
    let rig = Rig::new("chart-collision").await;
    let charts = Charts::new(&rig).await;
    let _operator = rig.operator().await;
    let image = rig.image("library/demo", &["1.26", "1.27"]);
    let refused = json!({
        "image": {"pullUrl": "nginx", "tags": ["1.0.0_x"]},
        "chart": {"pullUrl": charts.url(), "tags": ["1.0.0+x"]},
    });
    let error = rig.try_apply("refused", refused).await.expect_err("the same tag twice");
    assert!(
        error.to_string().contains("an image tag and a chart version are the same tag"),
        "{error}"
    );

    charts.repository.package("stable", "app", "1.27").await.expect("packaged");
    charts.repository.index("stable").await.expect("indexed");
    let chart = json!({"pullUrl": charts.url(), "versionSelector": {"latest": 0, "semver": "1.x"}});
    let spec = json!({"image": image, "chart": chart});
    rig.apply("app", spec).await;
    let object = rig.wait_ready("app", "False", "PartiallySynced").await;
    let failures = object.status.expect("a status").chart.expect("a chart").failures;
    assert_eq!((failures[0].tag.as_str(), failures[0].reason.as_str()), ("1.27", "TagCollision"));
    assert_eq!(rig.repository("app").tags.keys().collect::<Vec<_>>(), ["1.0.0", "1.1.0", "1.26"]);
}

#[tokio::test]
async fn provenance_is_copied_if_it_exists_and_a_failure_does_not_count_as_none() {
    let rig = Rig::new("chart-provenance").await;
    let charts = Charts::new(&rig).await;
    let signed = "-----BEGIN PGP SIGNED MESSAGE-----\n";
    charts.repository.write("stable/app-1.0.0.tgz.prov", signed).expect("written");
    charts
        .proxy
        .faults()
        .add(Fault::new(Match::any().path("app-1.1.0.tgz.prov"), Then::status(503)));
    let _operator = rig.operator().await;
    let versions = ["1.0.0", "1.1.0", "2.0.0-rc.1"];
    rig.apply(
        "app",
        json!({"chart": {"pullUrl": charts.url(), "tags": versions, "provenance": true}}),
    )
    .await;
    let object = rig.wait_ready("app", "False", "PartiallySynced").await;
    let failures = object.status.expect("a status").chart.expect("a chart").failures;
    assert_eq!((failures.len(), failures[0].tag.as_str()), (1, "1.1.0"), "{failures:?}");
    assert!(failures[0].message.contains("app-1.1.0.tgz.prov"), "{failures:?}");
    assert_eq!(rig.repository("app").tags.keys().collect::<Vec<_>>(), ["1.0.0", "2.0.0-rc.1"]);

    let address = format!("oci://{}/app", rig.ecr.registry(ACCOUNT, REGION).await);
    let to = rig.folder().join("pulled");
    std::fs::create_dir(&to).expect("a folder");
    let folder = to.to_string_lossy();
    helm(&rig, &["pull", &address, "--version", "1.0.0", "--plain-http", "--prov", "-d", &folder])
        .await;
    assert_eq!(
        std::fs::read_to_string(to.join("app-1.0.0.tgz.prov")).expect("helm pulled it"),
        signed
    );

    charts.proxy.faults().clear();
    rig.request("app", "the server is well again").await;
    rig.wait_synced("app").await;
}

#[tokio::test]
async fn thirty_repositories_with_charts_of_one_index_ask_for_it_once() {
    let rig = Rig::new("chart-shared").await;
    let charts = Charts::new(&rig).await;
    let url = charts.url();
    let lines: String = (0..30)
        .map(|n| {
            format!("- name: team-{n}/app\n  chart: {{pull_url: \"{url}\", tags: [\"1.0.0\"]}}\n")
        })
        .collect();
    for look in ["cold", "warm"] {
        let mark = charts.proxy.mark();
        sync(&rig, &rig.ecr, &lines, &[]).await;
        let log = charts.proxy.log_since(mark);
        let indexes: Vec<_> = log
            .iter()
            .map(|r| r.path.as_str())
            .filter(|path| path.ends_with("/index.yaml"))
            .collect();
        // First it is read as a repository at the root, with a chart `stable`.
        assert_eq!(indexes, ["/index.yaml", "/stable/index.yaml"], "{look}");
    }
    for n in [0, 29] {
        assert_eq!(rig.repository(&format!("team-{n}/app")).tags.len(), 1);
    }
}

/// Runs `ecr-sync sync` with these lines.
async fn sync(rig: &Rig, ecr: &StandIn, lines: &str, environment: &[(&str, &OsStr)]) {
    let file = rig.folder().join("all.yaml");
    std::fs::write(&file, lines).expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ecr-sync"));
    command
        .args(["sync", &file.to_string_lossy()])
        .env_clear()
        .env("HOME", rig.folder())
        .env("AWS_ENDPOINT_URL", ecr.endpoint())
        .env("AWS_ACCESS_KEY_ID", StandIn::access_key(ACCOUNT))
        .env("AWS_SECRET_ACCESS_KEY", "any")
        .env("AWS_REGION", REGION)
        .envs(environment.iter().copied());
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .expect("joined")
        .expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
