//! Installation with Helm and with kubectl, as users do it, on separate API servers. The operator
//! runs as a process with the arguments of its Deployment and the token of its ServiceAccount, so
//! it has exactly the permissions of the manifests.

mod documents;
mod image;
mod kubelet;
mod readme;
mod registry;
mod shell;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use testbed::cluster::Cluster;
use testbed::ecr::{self, StandIn};
use testbed::proxy::Proxy;
use testbed::tools::{Call, workspace};
use testbed::upstream::User;

use crate::chart::{object, objects, rights};
use crate::support::{ACCOUNT, Operator, REGION, Sources, docker_secret, eventually};

const SYSTEM: &str = "ecr-sync-system";
const CRD: &str = "crd/ecrrepositorysyncs.ecr-sync.io";

/// A cluster without any installation, with a stand-in for ECR.
struct Site {
    cluster: Cluster,
    /// The address of the API server for the operator.
    api: Proxy,
    ecr: StandIn,
    sources: &'static Sources,
    folder: tempfile::TempDir,
}

/// What the kubelet knows of the operator's Pod.
struct Pod {
    /// Of its ServiceAccount.
    token: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    /// The spec of the Deployment's template.
    spec: Value,
}

impl Site {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let cluster = Cluster::start(folder.path().join("cluster")).await.expect("a cluster");
        let api = Proxy::start_to(cluster.url(), &cluster.ca()).await.expect("a proxy");
        let ecr = StandIn::start(ecr::Config::default()).await.expect("the stand-in starts");
        Self { cluster, api, ecr, sources: Sources::shared().await, folder }
    }

    async fn kubectl(&self, arguments: &[&str]) -> String {
        self.cluster
            .kubectl(arguments)
            .await
            .unwrap_or_else(|error| panic!("kubectl {arguments:?}: {error}"))
    }

    async fn helm(&self, verb: &str, chart: Option<&Path>, arguments: &[&str]) -> String {
        let mut call = Call::new("helm").expect("make tools").args(verb.split(' ')).arg("ecr-sync");
        if let Some(chart) = chart {
            call = call.arg(chart);
        }
        call = call
            .args(["--namespace", SYSTEM])
            .args(arguments)
            .env("KUBECONFIG", self.cluster.kubeconfig());
        for home in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            call = call.env(home, self.folder.path().join("helm"));
        }
        call.output().await.unwrap_or_else(|error| panic!("helm {verb} {arguments:?}: {error}"))
    }

    /// Returns the Pod that the kubelet would start.
    async fn pod(&self) -> Pod {
        let deployment =
            self.kubectl(&["get", "deployment", "ecr-sync", "-n", SYSTEM, "-o", "json"]).await;
        let mut deployment: Value = serde_json::from_str(&deployment).expect("JSON");
        let spec = deployment["spec"]["template"]["spec"].take();
        let account = spec["serviceAccountName"].as_str().expect("a ServiceAccount");
        let token =
            self.kubectl(&["create", "token", account, "-n", SYSTEM, "--duration", "24h"]).await;

        let container = &spec["containers"][0];
        let arguments = container["args"].as_array().into_iter().flatten();
        let arguments =
            arguments.map(|argument| argument.as_str().expect("a string").to_owned()).collect();

        let mut environment = Vec::new();
        for variable in container["env"].as_array().into_iter().flatten() {
            // As the kubelet sets them.
            let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
                Some("metadata.name") => "ecr-sync-0".to_owned(),
                Some("metadata.namespace") => SYSTEM.to_owned(),
                None if variable["value"].is_string() => {
                    variable["value"].as_str().unwrap_or_default().to_owned()
                }
                other => panic!("no value for {other:?}"),
            };
            environment.push((variable["name"].as_str().expect("a name").to_owned(), value));
        }
        environment.extend(self.aws().map(|(name, value)| (name.to_owned(), value)));
        // The sources of tests are on this machine.
        environment.push(("ALLOW_PRIVATE_SOURCES".to_owned(), "127.0.0.0/8".to_owned()));
        // The pages use the same repositories, from resources in different namespaces.
        environment.push(("ADOPTION".to_owned(), "*".to_owned()));

        Pod { token: token.trim().to_owned(), arguments, environment, spec }
    }

    /// Credentials, as IRSA or Pod Identity provides them.
    fn aws(&self) -> [(&'static str, String); 4] {
        [
            ("AWS_ENDPOINT_URL", self.ecr.endpoint()),
            ("AWS_ACCESS_KEY_ID", StandIn::access_key(ACCOUNT)),
            ("AWS_SECRET_ACCESS_KEY", "any".to_owned()),
            ("AWS_REGION", REGION.to_owned()),
        ]
    }

    /// Starts the container of the Deployment as a process, with its ServiceAccount.
    async fn start(&self) -> Operator {
        let pod = self.pod().await;
        self.run(&pod)
    }

    fn run(&self, pod: &Pod) -> Operator {
        let Pod { token, arguments, environment, .. } = pod;
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c",
                "cluster": {"server": format!("http://{}", self.api.host())}}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u",
                "namespace": SYSTEM}}],
            "current-context": "c",
        });
        let kubeconfig = self.folder.path().join("kubeconfig");
        std::fs::write(&kubeconfig, config.to_string()).expect("a file");
        let mut environment = environment.clone();
        environment.push(("KUBECONFIG".to_owned(), kubeconfig.display().to_string()));

        Operator::installed(&self.folder.path().join("operator.log"), arguments, &environment)
    }

    async fn apply(&self, object: &Value) {
        self.cluster.apply(&object.to_string()).await.expect("applied");
    }

    /// Applies a resource in the namespace `team`, and waits until it is in ECR.
    async fn sync(&self, name: &str, spec: Value) {
        let object = json!({
            "apiVersion": "ecr-sync.io/v1alpha1",
            "kind": "EcrRepositorySync",
            "metadata": {"name": name, "namespace": "team"},
            "spec": spec,
        });
        self.apply(&object).await;
        let ready = "--for=condition=Ready";
        self.kubectl(&["wait", &format!("ers/{name}"), "-n", "team", ready, "--timeout=60s"]).await;
    }

    async fn delete(&self, name: &str) {
        self.kubectl(&["delete", "ers", name, "-n", "team", "--wait=true", "--timeout=60s"]).await;
    }

    async fn spec(&self, name: &str) -> Value {
        let object = self.kubectl(&["get", "ers", name, "-n", "team", "-o", "json"]).await;
        serde_json::from_str::<Value>(&object).expect("JSON")["spec"].take()
    }

    async fn is_ready(&self, operator: &Operator, wanted: &str) {
        eventually(wanted, async || {
            operator.get("/readyz").await.is_some_and(|(_, body)| body.contains(wanted))
        })
        .await;
    }

    /// Waits for new tries of an operation.
    async fn tries(&self, operation: &str, number: usize) {
        let mark = self.api.mark();
        let tried = || {
            self.api.log_since(mark).iter().filter(|request| request.operation == operation).count()
        };
        eventually(&format!("{number} times {operation}"), async || tried() >= number).await;
    }

    fn private_image(&self) -> Value {
        json!({"pullUrl": format!("{}/library/demo", self.sources.basic.host()), "tags": ["1.26"],
            "insecure": true,
               "secretRef": {"name": "login"}})
    }

    /// Uses all features that need permissions: a login, an owner that is gone, a finalizer.
    async fn use_everything(&self) {
        let mut secret = serde_json::to_value(docker_secret(
            self.sources.basic.host(),
            User::Reader.name(),
            User::Reader.password(),
        ))
        .expect("JSON");
        secret["apiVersion"] = json!("v1");
        secret["kind"] = json!("Secret");
        secret["metadata"]["namespace"] = json!("team");
        self.apply(&secret).await;
        self.sync("app", json!({"image": self.private_image()})).await;
        self.delete("app").await;
        self.sync("renamed", json!({"repositoryName": "app", "image": self.private_image()})).await;
        self.sync("empty", json!({"deletionPolicy": "Delete"})).await;
        self.delete("empty").await;
        assert!(
            self.ecr.repository(ACCOUNT, REGION, "empty").is_none(),
            "deleted with its resource"
        );
        assert!(
            self.ecr
                .repository(ACCOUNT, REGION, "app")
                .is_some_and(|app| app.tags.contains_key("1.26"))
        );
    }

    /// All requests to the API server, as `verb resource`.
    fn used(&self) -> BTreeSet<String> {
        self.api
            .log()
            .into_iter()
            .map(|request| request.operation)
            .filter(|name| name != "Unknown")
            .collect()
    }

    /// Requests that the permissions did not allow.
    fn refused(&self) -> Vec<String> {
        let log = self.api.log().into_iter();
        log.filter(|request| matches!(request.status, Some(401 | 403)))
            .map(|request| request.operation)
            .collect()
    }
}

/// Permissions as `verb resource`, without groups and names.
fn granted<'a>(roles: impl IntoIterator<Item = &'a Value>) -> BTreeSet<String> {
    let short = |right: String| {
        let (verb, resource) = right.split_once(' ').expect("a verb");
        let resource = resource
            .split(' ')
            .next()
            .and_then(|resource| resource.split_once('/'))
            .expect("a group")
            .1;
        format!("{verb} {resource}")
    };
    roles.into_iter().flat_map(rights).map(short).collect()
}

fn chart() -> PathBuf {
    workspace().join("charts/ecr-sync")
}

/// The chart in an older version, with a CRD without the field `dryRun`.
fn older_chart(folder: &Path) -> PathBuf {
    let older = folder.join("older");
    for part in ["", "templates", "files"] {
        std::fs::create_dir_all(older.join(part)).expect("a folder");
        for entry in std::fs::read_dir(chart().join(part))
            .expect("a folder")
            .map(|entry| entry.expect("an entry"))
        {
            if entry.path().is_file() {
                std::fs::copy(entry.path(), older.join(part).join(entry.file_name()))
                    .expect("copied");
            }
        }
    }
    let edit = |path: &str, change: &dyn Fn(Value) -> Value| {
        let text = std::fs::read_to_string(older.join(path)).expect("a file");
        let changed = change(serde_saphyr::from_str(&text).expect("YAML"));
        std::fs::write(older.join(path), changed.to_string()).expect("written");
    };
    edit("Chart.yaml", &|mut chart| {
        chart["version"] = json!("0.0.9");
        chart["appVersion"] = json!("0.0.9");
        chart
    });
    edit("files/crd.yaml", &|mut crd| {
        let spec = &mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
            ["properties"];
        spec.as_object_mut().expect("properties").remove("dryRun").expect("it was there");
        crd
    });
    older
}

#[tokio::test]
async fn helm_installs_upgrades_and_leaves_and_its_rights_are_those_that_are_used() {
    let site = Site::new().await;
    let older = older_chart(site.folder.path());
    let install = ["--create-namespace", "--set", "crds.enabled=false"];
    let notes = site.helm("install", Some(&older), &install).await;
    assert!(notes.contains("The operator waits until it exists"), "{notes}");

    // Without the CRD, the operator waits, logs this once, and then continues.
    let operator = site.start().await;
    site.is_ready(
        &operator,
        "CustomResourceDefinition ecrrepositorysyncs.ecr-sync.io is not installed",
    )
    .await;
    site.tries("list ecrrepositorysyncs", 2).await;
    assert_eq!(
        operator.get("/healthz").await.expect("an answer").0,
        200,
        "nothing that a restart would cure"
    );
    assert_eq!(operator.log().matches("is not installed").count(), 1, "{}", operator.log());
    site.helm("upgrade", Some(&older), &["--set", "crds.enabled=true"]).await;
    operator.ready().await;

    // First with the older CRD, then with this one.
    site.cluster.create_namespace("team").await.expect("a namespace");
    site.sync("before", json!({"repositoryName": "before", "resourceTags": {"team": "a"}})).await;
    let spec = site.spec("before").await;
    let dry_run =
        ["patch", "ers", "before", "-n", "team", "--type=merge", "--dry-run=server", "-o"];
    let dry_run =
        [&dry_run[..], &["jsonpath={.spec.dryRun}", "-p", "{\"spec\":{\"dryRun\":true}}"]].concat();
    assert_eq!(
        site.cluster.kubectl(&dry_run).await.unwrap_or_default(),
        "",
        "the older CRD has no such field"
    );
    site.helm("upgrade", Some(&chart()), &["--reset-values"]).await;
    eventually("upgraded", async || {
        site.cluster.kubectl(&dry_run).await.unwrap_or_default() == "true"
    })
    .await;
    let mut after = site.spec("before").await;
    assert_eq!(
        after.as_object_mut().and_then(|spec| spec.remove("dryRun")),
        Some(json!(false)),
        "the new field's default"
    );
    assert_eq!(after, spec, "nothing was lost");

    site.use_everything().await;
    assert_eq!(site.refused(), Vec::<String>::new(), "rights that are missing");
    // The Lease is renewed and released with update.
    assert_eq!(operator.terminate().await, 0);
    let installed = site.helm("get manifest", None, &[]).await;
    let installed = objects(&installed);
    let roles = [
        object(&installed, "ClusterRole", "ecr-sync"),
        object(&installed, "Role", "ecr-sync-leader"),
    ];
    assert_eq!(site.used(), granted(roles), "left: what was used; right: what the chart grants");

    site.helm("uninstall", None, &[]).await;
    site.kubectl(&["get", CRD]).await;
    assert!(
        site.kubectl(&["get", "ers", "-n", "team"]).await.contains("renamed"),
        "resources stay"
    );
}

#[tokio::test]
async fn kubectl_installs_and_its_rights_are_those_that_are_used() {
    let site = Site::new().await;
    // deploy/ is the rendered chart, so its objects cause no warnings either.
    for (flag, folder) in [("-f", "crds"), ("-k", "deploy")] {
        let folder = workspace().join(folder).display().to_string();
        site.kubectl(&["apply", "--warnings-as-errors", flag, &folder]).await;
    }
    let operator = site.start().await;
    operator.ready().await;
    site.cluster.create_namespace("team").await.expect("a namespace");
    site.use_everything().await;
    assert_eq!(site.refused(), Vec::<String>::new(), "rights that are missing");
    // The operator's writes keep a field of a newer CRD that it does not know.
    let field = "[{\"op\":\"add\",\
                  \"path\":\"/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties\
                  /someday\",\"value\":{\"type\":\"string\"}}]";
    site.kubectl(&["patch", CRD, "--type=json", "-p", field]).await;
    let set = [
        "patch",
        "ers",
        "renamed",
        "-n",
        "team",
        "--type=merge",
        "-p",
        "{\"spec\":{\"someday\":\"kept\",\"deletionPolicy\":\"Delete\"}}",
    ];
    let read = [
        "get",
        "ers",
        "renamed",
        "-n",
        "team",
        "-o",
        "jsonpath={.spec.someday} {.metadata.finalizers}",
    ];
    eventually("kept beside our finalizer", async || {
        site.kubectl(&set).await;
        site.kubectl(&read).await == "kept [\"ecr-sync.io/repository\"]"
    })
    .await;
    assert_eq!(operator.terminate().await, 0);
    let base =
        std::fs::read_to_string(workspace().join("deploy/base/install.yaml")).expect("a file");
    let installed = objects(&base);
    let roles = [
        object(&installed, "ClusterRole", "ecr-sync"),
        object(&installed, "Role", "ecr-sync-leader"),
    ];
    assert_eq!(site.used(), granted(roles), "left: what was used; right: what deploy/ grants");
}

#[tokio::test]
async fn the_api_server_accepts_every_overlay() {
    let site = Cluster::shared().await;
    site.create_namespace("team-a").await.expect("a namespace");
    for overlay in ["irsa", "pod-identity", "namespaced"] {
        let folder = workspace().join("deploy/overlays").join(overlay).display().to_string();
        let built = site
            .kubectl(&["kustomize", &folder])
            .await
            .unwrap_or_else(|error| panic!("{overlay}: {error}"));
        let objects = objects(&built);
        if overlay == "namespaced" {
            let wide =
                objects.iter().filter(|object| object["kind"] == "ClusterRoleBinding").count();
            assert_eq!(wide, 0, "nothing cluster-wide is bound");
            let all = object(
                &self::objects(
                    &std::fs::read_to_string(workspace().join("deploy/rbac.yaml")).expect("a file"),
                ),
                "ClusterRole",
                "ecr-sync",
            )
            .clone();
            let mut all = rights(&all);
            assert!(all.remove("get /namespaces kube-system"));
            let role = objects.iter().find(|object| {
                object["metadata"]["namespace"] == "team-a" && object["kind"] == "Role"
            });
            assert_eq!(rights(role.expect("a Role in the namespace")), all);
        }
        // In a dry run the Namespace is not created, so its objects use another one.
        for mut object in objects {
            if object["metadata"]["namespace"].is_string() {
                object["metadata"]["namespace"] = json!("team-a");
            }
            let call =
                Call::new("kubectl").expect("make tools").env("KUBECONFIG", site.kubeconfig());
            let call = call.args(["apply", "--warnings-as-errors", "--dry-run=server", "-f", "-"]);
            let call = call.input(object.to_string());
            call.output().await.unwrap_or_else(|error| panic!("{overlay}: {error}"));
        }
    }
}
