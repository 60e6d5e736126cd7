//! The basis of every test: a namespace of the shared cluster, its own ECR stand-in, its own proxy
//! in front of a shared source, and the operator as a process with the permissions of
//! `deploy/rbac.yaml`.

mod aws;
pub mod aws_hosts;
pub mod cgroup;
pub mod checker;
pub mod corpus;
pub mod desk;
pub mod engine;
mod kstatus;
mod operator;
pub mod policies;
pub mod raw;
mod sources;

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ecr_sync::api::v1alpha1::EcrRepositorySync;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, Resource};
use kube_runtime::wait::await_condition;
use serde_json::{Value, json};
use testbed::cluster::Cluster;
use testbed::ecr::{self, RepositoryView, StandIn};
use testbed::proxy::Proxy;
use testbed::traffic::Record;
use tokio::sync::OnceCell;

pub use aws::session;
pub use kstatus::{Kstatus, kstatus};
pub use operator::Operator;
pub use sources::Sources;

/// The account that tests sync into.
pub const ACCOUNT: &str = "123456789012";
/// The region that tests sync into.
pub const REGION: &str = "eu-west-1";
/// The maximum wait. A machine that compiles at the same time is slow.
pub const DEADLINE: Duration = Duration::from_secs(90);

/// The parts of one test.
pub struct Rig {
    pub namespace: String,
    pub client: Client,
    pub ecr: StandIn,
    /// The proxy in front of a registry without logins.
    pub source: Proxy,
    pub sources: &'static Sources,
    cluster: &'static Cluster,
    folder: tempfile::TempDir,
}

impl Rig {
    /// Parts for the test called `name`, which becomes its namespace.
    pub async fn new(name: &str) -> Self {
        let cluster = prepared_cluster().await;
        cluster.create_namespace(name).await.expect("a namespace");
        let sources = Sources::shared().await;
        Self {
            namespace: name.to_owned(),
            client: client(cluster).await,
            ecr: StandIn::start(ecr::Config::default()).await.expect("the stand-in starts"),
            source: Proxy::start(sources.open.host()).await.expect("the proxy starts"),
            sources,
            cluster,
            folder: tempfile::tempdir().expect("a folder"),
        }
    }

    /// Starts the operator for the namespace of this test.
    pub async fn operator(&self) -> Operator {
        self.operator_with(&[], &[]).await
    }

    /// Starts the operator with more flags and environment variables.
    pub async fn operator_with(&self, flags: &[&str], environment: &[(&str, &str)]) -> Operator {
        let kubeconfig = operator_kubeconfig(self.cluster).await;
        let scope = ["--namespace", &self.namespace];
        Operator::start(self, &kubeconfig, &[&scope, flags].concat(), environment).await
    }

    /// Starts the operator in a cgroup, by the file that takes the id of a process.
    pub async fn operator_within(&self, processes: &std::path::Path, flags: &[&str]) -> Operator {
        let kubeconfig = operator_kubeconfig(self.cluster).await;
        let scope = ["--namespace", &self.namespace];
        let processes = processes.to_str().expect("text");
        let environment = [(operator::CGROUP, processes)];
        Operator::start(self, &kubeconfig, &[&scope, flags].concat(), &environment).await
    }

    /// Starts the operator as [`Rig::operator_with`] does. Returns before it is ready.
    pub async fn operator_at_once(&self, flags: &[&str], environment: &[(&str, &str)]) -> Operator {
        let aws = self.aws_environment();
        let aws: Vec<_> = aws.iter().map(|(name, value)| (&**name, &**value)).collect();
        self.operator_starting(flags, &[&aws, environment].concat()).await
    }

    /// Starts the operator with more flags, and with only this environment for AWS. Returns before
    /// it is ready.
    pub async fn operator_starting(
        &self,
        flags: &[&str],
        environment: &[(&str, &str)],
    ) -> Operator {
        let kubeconfig = operator_kubeconfig(self.cluster).await;
        let scope = ["--namespace", &self.namespace];
        Operator::begin(self, &kubeconfig, &[&scope, flags].concat(), environment)
    }

    /// Starts the operator with the stand-in as AWS, but with no other environment for AWS than this
    /// one. Returns before it is ready.
    pub async fn operator_without_identity(&self, environment: &[(&str, &str)]) -> Operator {
        let kubeconfig = operator_kubeconfig(self.cluster).await;
        let endpoint = self.ecr.endpoint();
        let aws = [("AWS_ENDPOINT_URL", endpoint.as_str()), ("AWS_EC2_METADATA_DISABLED", "true")];
        let scope = ["--namespace", &self.namespace];
        Operator::begin(self, &kubeconfig, &scope, &[&aws, environment].concat())
    }

    /// Starts the operator for all namespaces, for resources whose label `test` is the name of this
    /// test.
    pub async fn operator_everywhere(&self, flags: &[&str]) -> Operator {
        let kubeconfig = operator_kubeconfig(self.cluster).await;
        let label = format!("test={}", self.namespace);
        let scope = ["--watch-label-selector", &label];
        Operator::start(self, &kubeconfig, &[&scope, flags].concat(), &[]).await
    }

    /// Makes another namespace.
    pub async fn namespace(&self, name: &str) {
        self.cluster.create_namespace(name).await.expect("a namespace");
    }

    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// The environment with which AWS SDKs and the AWS CLI use the stand-in.
    pub fn aws_environment(&self) -> Vec<(String, String)> {
        [
            ("AWS_ENDPOINT_URL", self.ecr.endpoint()),
            ("AWS_ACCESS_KEY_ID", StandIn::access_key(ACCOUNT)),
            ("AWS_SECRET_ACCESS_KEY", "any".to_owned()),
            ("AWS_REGION", REGION.to_owned()),
            // The AWS CLI reads only this one.
            ("AWS_DEFAULT_REGION", REGION.to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.cluster.kubeconfig()
    }

    pub async fn try_kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        self.cluster.kubectl(arguments).await.map_err(|error| error.to_string())
    }

    pub async fn kubectl(&self, arguments: &[&str]) -> String {
        self.cluster.kubectl(arguments).await.expect("kubectl succeeds")
    }

    pub fn resources(&self) -> Api<EcrRepositorySync> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Applies a resource with this spec, as kubectl would.
    pub async fn apply(&self, name: &str, spec: Value) -> EcrRepositorySync {
        self.try_apply(name, spec)
            .await
            .unwrap_or_else(|error| panic!("{name} is refused: {error}"))
    }

    pub async fn try_apply(
        &self,
        name: &str,
        spec: Value,
    ) -> Result<EcrRepositorySync, kube::Error> {
        let object = json!({
            "apiVersion": "ecr-sync.io/v1alpha1",
            "kind": "EcrRepositorySync",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": spec,
        });
        self.resources()
            .patch(name, &PatchParams::apply("test").force(), &Patch::Apply(object))
            .await
    }

    /// An image of the source behind the proxy of this test.
    pub fn image(&self, repository: &str, tags: &[&str]) -> Value {
        json!({"pullUrl": format!("{}/{repository}", self.source.host()), "tags": tags,
            "insecure": true})
    }

    pub async fn annotate(&self, name: &str, key: &str, value: &str) {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {key: value}}}));
        self.resources().patch(name, &PatchParams::default(), &patch).await.expect("annotated");
    }

    /// Requests a pass, and waits for it.
    pub async fn request(&self, name: &str, value: &str) -> EcrRepositorySync {
        self.annotate(name, "ecr-sync.io/requestedAt", value).await;
        self.answered(name, value).await
    }

    /// Requests a pass that compares everything, and waits for it.
    pub async fn force(&self, name: &str, value: &str) -> EcrRepositorySync {
        let annotations = json!({"ecr-sync.io/requestedAt": value, "ecr-sync.io/forceAt": value});
        let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
        self.resources().patch(name, &PatchParams::default(), &patch).await.expect("annotated");
        self.answered(name, value).await
    }

    async fn answered(&self, name: &str, value: &str) -> EcrRepositorySync {
        self.wait(name, "answered", |object| {
            object.status.as_ref().and_then(|status| status.last_handled_reconcile_at.as_deref())
                == Some(value)
        })
        .await
    }

    /// Waits until `wanted` holds of a resource.
    pub async fn wait(
        &self,
        name: &str,
        what: &str,
        wanted: impl Fn(&EcrRepositorySync) -> bool,
    ) -> EcrRepositorySync {
        let resources = self.resources();
        // Every status in any test must be valid for other tools.
        let condition = |object: Option<&EcrRepositorySync>| {
            object.inspect(|object| checker::check(object)).is_some_and(&wanted)
        };
        let waiting = await_condition(resources.clone(), name, condition);
        match tokio::time::timeout(DEADLINE, waiting).await {
            Ok(object) => object.expect("the watch works").expect("the resource is there"),
            Err(_) => {
                let object = resources.get(name).await;
                panic!("{name} is not {what} after {DEADLINE:?}: {object:#?}")
            }
        }
    }

    /// Waits until a resource that is created now would be newer than this one: ages are in
    /// seconds.
    pub async fn a_second_after(&self, name: &str) {
        let object = self.resources().get(name).await.expect("it is there");
        let created = object.metadata.creation_timestamp.expect("set").0.as_second();
        eventually("a second later", async || {
            k8s_openapi::jiff::Timestamp::now().as_second() > created
        })
        .await;
    }

    /// Waits until Ready has this status and reason for the current generation.
    pub async fn wait_ready(&self, name: &str, status: &str, reason: &str) -> EcrRepositorySync {
        self.wait(name, &format!("Ready={status}/{reason}"), |object| {
            condition(object, "Ready").is_some_and(|(s, r, _)| s == status && r == reason)
                && is_observed(object)
        })
        .await
    }

    pub async fn wait_synced(&self, name: &str) -> EcrRepositorySync {
        self.wait_ready(name, "True", "Succeeded").await
    }

    /// The repository in the stand-in.
    pub fn repository(&self, name: &str) -> RepositoryView {
        self.ecr.repository(ACCOUNT, REGION, name).unwrap_or_else(|| panic!("{name} is not in ECR"))
    }

    /// `(type, reason, note)` of the events of this test's namespace.
    pub async fn events(&self) -> Vec<(String, String, String)> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let listed = events.list(&ListParams::default()).await.expect("events can be listed");
        let text = |value: Option<String>| value.unwrap_or_default();
        listed.items.into_iter().map(|e| (text(e.type_), text(e.reason), text(e.note))).collect()
    }

    /// The events with this reason, as soon as there is one: events are written after their status.
    pub async fn told(&self, reason: &str) -> Vec<(String, String, String)> {
        let told = async || {
            self.events().await.into_iter().filter(|event| event.1 == reason).collect::<Vec<_>>()
        };
        eventually(reason, async || !told().await.is_empty()).await;
        told().await
    }
}

/// A Secret called `login`, as `kubectl create secret docker-registry` makes it.
pub fn docker_secret(host: &str, user: &str, password: &str) -> Secret {
    let config = json!({"auths": {host: {"username": user, "password": password}}}).to_string();
    Secret {
        metadata: kube::api::ObjectMeta { name: Some("login".to_owned()), ..Default::default() },
        type_: Some("kubernetes.io/dockerconfigjson".to_owned()),
        string_data: Some([(".dockerconfigjson".to_owned(), config)].into()),
        ..Default::default()
    }
}

/// The user name in a request of the log.
pub fn login(request: &Record) -> Option<String> {
    let header = request.headers.get("authorization")?.to_str().ok()?.strip_prefix("Basic ")?;
    let pair = String::from_utf8(STANDARD.decode(header).ok()?).ok()?;
    pair.split_once(':').map(|(user, _)| user.to_owned())
}

/// A spec whose image comes from a source behind a login.
pub fn private(host: &str, tags: &[&str]) -> Value {
    json!({"image": {"pullUrl": format!("{host}/library/demo"), "tags": tags, "insecure": true,
                     "secretRef": {"name": "login"}}})
}

/// Status, reason and message of a condition.
pub fn condition<'a>(
    object: &'a EcrRepositorySync,
    type_: &str,
) -> Option<(&'a str, &'a str, &'a str)> {
    let conditions = &object.status.as_ref()?.conditions;
    conditions
        .iter()
        .find(|condition| condition.type_ == type_)
        .map(|c| (c.status.as_str(), c.reason.as_str(), c.message.as_str()))
}

/// Whether the status belongs to the current spec.
pub fn is_observed(object: &EcrRepositorySync) -> bool {
    object.status.as_ref().and_then(|status| status.observed_generation) == object.meta().generation
}

/// The shared cluster with CRD and RBAC.
async fn prepared_cluster() -> &'static Cluster {
    static PREPARED: OnceCell<&'static Cluster> = OnceCell::const_new();
    PREPARED
        .get_or_init(|| async {
            let cluster = Cluster::shared().await;
            let crd = ecr_sync::api::v1alpha1::crd_yaml().expect("the CRD serialises");
            cluster.apply(&crd).await.expect("the API server takes the CRD");
            cluster
                .kubectl(&[
                    "wait",
                    "--for=condition=Established",
                    "crd/ecrrepositorysyncs.ecr-sync.io",
                    "--timeout=60s",
                ])
                .await
                .expect("the CRD is established");
            let rbac =
                std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/rbac.yaml"))
                    .expect("RBAC");
            cluster.apply(&rbac).await.expect("the API server takes the RBAC");
            cluster
        })
        .await
}

/// The kubeconfig of the operator's ServiceAccount.
async fn operator_kubeconfig(cluster: &'static Cluster) -> PathBuf {
    static KUBECONFIG: OnceCell<PathBuf> = OnceCell::const_new();
    KUBECONFIG
        .get_or_init(|| async {
            cluster
                .service_account_kubeconfig("ecr-sync-system", "ecr-sync")
                .await
                .expect("a token")
        })
        .await
        .clone()
}

async fn client(cluster: &Cluster) -> Client {
    let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig()).expect("the cluster wrote one");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .expect("it is valid");
    Client::try_from(config).expect("a client")
}

/// Waits until `done` holds, for conditions without a watch.
pub async fn eventually(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while !done().await {
        assert!(tokio::time::Instant::now() < deadline, "not {what} after {DEADLINE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether all content of the images exists.
pub fn is_whole(repository: &RepositoryView) -> bool {
    repository.images.values().all(|image| {
        let manifest: Value = serde_json::from_slice(&image.manifest).expect("a manifest");
        let list = |name: &str| manifest[name].as_array().cloned().unwrap_or_default();
        let digest = |of: &Value| of["digest"].as_str().unwrap_or_default().to_owned();
        let blobs = list("layers").into_iter().chain(manifest.get("config").cloned());
        blobs.into_iter().all(|blob| repository.blobs.contains_key(&digest(&blob)))
            && list("manifests").iter().all(|child| repository.images.contains_key(&digest(child)))
    })
}
