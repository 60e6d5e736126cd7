//! The Pod of the chart, run by a real kubelet with containerd and runc. `make kubelet-test`
//! prepares the engine that builds the image, and starts this test.
//!
//! There is no controller manager and no scheduler: the test creates the Pod from the Deployment's
//! template, on its node. There is no network for Pods, so the Pod uses that of the machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use testbed::process::{Process, free_port};
use testbed::tools;

use super::image::BUILD;
use super::registry::Registry;
use super::shell::{Shell, blocks};
use super::{SYSTEM, Site, chart};

const NODE: &str = "testbed";
const POD: &str = "ecr-sync-0";

/// The image of the container that holds a Pod's namespaces.
const PAUSE: &str = r#"
printf 'int pause(void); int main(void) { for (;;) pause(); }' | cc -static -x c -o $FOLDER/pause -
container=$(buildah from scratch)
buildah copy --quiet $container $FOLDER/pause /pause
buildah config --entrypoint '["/pause"]' $container
buildah commit --quiet --rm $container $PAUSE_IMAGE
buildah push $PAUSE_IMAGE
"#;

/// The snapshotter `native` leaves no mounts.
const CONTAINERD: &str = r#"
version = 2
root = "FOLDER/containerd"
state = "FOLDER/state"
[grpc]
address = "FOLDER/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "PAUSE_IMAGE"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "FOLDER/registries"
[plugins."io.containerd.grpc.v1.cri".cni]
conf_dir = "FOLDER/cni"
"#;

/// Removes the containers and the mounts of a node whose kubelet has ended.
const CLEAN: &str = r#"
ctr="ctr --address $FOLDER/containerd.sock --namespace k8s.io"
$ctr tasks list --quiet | xargs --no-run-if-empty --max-args=1 $ctr tasks delete --force
$ctr containers list --quiet | xargs --no-run-if-empty --max-args=1 $ctr containers delete
awk -v folder="$FOLDER/" 'index($5, folder) == 1 { print $5 }' /proc/self/mountinfo |
  sort --reverse | xargs --no-run-if-empty umount --lazy
"#;

/// Kernel settings that the kubelet changes.
const SETTINGS: [&str; 6] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];

/// This machine as the node of a site's cluster.
struct Node {
    /// `None` once it has ended.
    kubelet: Option<Process>,
    /// Runs until the containers are removed.
    _containerd: Process,
    folder: PathBuf,
    settings: Vec<(PathBuf, String)>,
}

impl Node {
    fn start(site: &Site, registry: &Registry, pause: &str) -> Self {
        let folder = site.folder.path().join("node");
        std::fs::create_dir_all(folder.join("cni")).expect("a folder");
        let settings = SETTINGS.map(|name| PathBuf::from("/proc/sys").join(name));
        let settings = settings.into_iter().filter_map(|file| {
            let value = std::fs::read_to_string(&file).ok()?;
            Some((file, value))
        });
        let settings = settings.collect();

        // containerd speaks HTTP with a registry on this machine, unless a file names its authority.
        let host = registry.https.host();
        let registries = folder.join("registries").join(host);
        std::fs::create_dir_all(&registries).expect("a folder");
        let hosts = format!("[host.\"https://{host}\"]\nca = \"{}\"\n", registry.authority);
        std::fs::write(registries.join("hosts.toml"), hosts).expect("written");

        let file = folder.join("containerd.toml");
        let path = folder.display().to_string();
        let config = CONTAINERD.replace("PAUSE_IMAGE", pause).replace("FOLDER", &path);
        std::fs::write(&file, config).expect("written");
        let mut containerd = Command::new("containerd");
        containerd.arg("--config").arg(file);
        let log = folder.join("containerd.log");
        let containerd = Process::spawn("containerd", &containerd, &log).expect("containerd");

        let file = folder.join("kubelet.json");
        std::fs::write(&file, kubelet_config(&folder).to_string()).expect("written");
        let mut kubelet = Command::new(tools::find("kubelet").expect("tools/build kubelet"));
        kubelet.arg("--config").arg(file);
        kubelet.arg("--kubeconfig").arg(site.cluster.kubeconfig());
        kubelet.arg("--root-dir").arg(folder.join("kubelet"));
        kubelet.arg("--cert-dir").arg(folder.join("certificates"));
        kubelet.args(["--hostname-override", NODE]);
        let log = folder.join("kubelet.log");
        let kubelet = Process::spawn("kubelet", &kubelet, &log).expect("the kubelet");
        Self { kubelet: Some(kubelet), _containerd: containerd, folder, settings }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(kubelet) = self.kubelet.take()
            && std::thread::panicking()
        {
            eprintln!("--- kubelet ---\n{}\n--- end ---", kubelet.tail(20));
        }

        let mut clean = Command::new("bash");
        clean.args(["-c", CLEAN]).env("FOLDER", &self.folder);
        if let Err(error) = clean.status() {
            eprintln!("containers and mounts of {} are left: {error}", self.folder.display());
        }
        for (file, value) in &self.settings {
            if let Err(error) = std::fs::write(file, value) {
                eprintln!("{} is not restored: {error}", file.display());
            }
        }
    }
}

/// No cgroup hierarchy and no firewall rules of its own: a machine may have another kubelet.
fn kubelet_config(folder: &Path) -> Value {
    let path = |name: &str| folder.join(name).display().to_string();
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": format!("unix://{}", path("containerd.sock")),
        "address": "127.0.0.1",
        "port": free_port().expect("a port"),
        "healthzPort": 0,
        "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": false,
        "enforceNodeAllocatable": [],
        "failCgroupV1": false,
        "failSwapOn": false,
        "localStorageCapacityIsolation": false,
        "evictionHard": {"memory.available": "0%", "nodefs.available": "0%",
            "imagefs.available": "0%", "nodefs.inodesFree": "0%"},
        "makeIPTablesUtilChains": false,
        "nodeStatusUpdateFrequency": "2s",
        "podLogsDir": path("logs"),
        "resolvConf": "",
        "volumePluginDir": path("plugins"),
    })
}

/// Values for a cluster without the admission plugin that mounts the ServiceAccount's token, without
/// a Service network, and without IRSA.
fn values(site: &Site) -> Value {
    let api = site.cluster.url().trim_start_matches("https://").to_owned();
    let (host, port) = api.split_once(':').expect("an address");
    let service = [("KUBERNETES_SERVICE_HOST", host), ("KUBERNETES_SERVICE_PORT", port)];
    let service = service.map(|(name, value)| (name, value.to_owned()));
    let environment = site.aws().into_iter().chain(service);
    let environment: Vec<_> =
        environment.map(|(name, value)| json!({"name": name, "value": value})).collect();

    let sources = json!([
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace",
            "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
    ]);
    json!({
        "controller": {"extraEnv": environment, "allowPrivateSources": ["127.0.0.0/8"]},
        "extraVolumes": [{"name": "account", "projected": {"sources": sources}}],
        "extraVolumeMounts": [{"name": "account", "readOnly": true,
            "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}],
    })
}

/// Creates the Pod of the Deployment on the node, as a ReplicaSet and the scheduler would.
async fn create_pod(site: &Site) {
    let mut spec = site.pod().await.spec;
    spec["nodeName"] = json!(NODE);
    spec["hostNetwork"] = json!(true);

    // Another program of this machine may use the port.
    let port = free_port().expect("a port");
    let container = &mut spec["containers"][0];
    container["ports"][0]["containerPort"] = json!(port);
    for argument in container["args"].as_array_mut().expect("arguments") {
        let text = argument.as_str().expect("a string");
        *argument = json!(text.replace("0.0.0.0:8080", &format!("0.0.0.0:{port}")));
    }
    site.apply(&json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": POD, "namespace": SYSTEM}, "spec": spec}))
        .await;
}

#[tokio::test]
#[ignore = "a release build, and needs root, buildah, containerd and runc: make kubelet-test"]
async fn the_kubelet_runs_the_pod_of_the_chart_until_the_pod_is_deleted() {
    let site = Site::new().await;
    let registry = Registry::start(&site).await;
    let pause = format!("{}/platform/pause:1", registry.https.host());
    let shell = Shell::on(&site)
        .with("SSL_CERT_FILE", &registry.authority)
        .with("FOLDER", site.folder.path().display().to_string())
        .with("PAUSE_IMAGE", &pause)
        .deadline(BUILD);
    shell.paste(&registry.named_in(&blocks("README.md", "Install")[0])).await;
    shell.paste(PAUSE).await;

    let file = site.folder.path().join("values.json");
    std::fs::write(&file, values(&site).to_string()).expect("written");
    let file = file.display().to_string();
    site.helm("upgrade", Some(&chart()), &["--reuse-values", "--values", &file]).await;
    let authority = format!("--from-file=ca.crt={}", site.cluster.ca().display());
    site.kubectl(&["create", "configmap", "kube-root-ca.crt", "-n", SYSTEM, &authority]).await;
    let node = Node::start(&site, &registry, &pause);
    create_pod(&site).await;
    let pod = format!("pod/{POD}");
    let ready = ["wait", &pod, "-n", SYSTEM, "--for=condition=Ready", "--timeout=180s"];
    site.kubectl(&ready).await;

    site.cluster.create_namespace("team").await.expect("a namespace");
    site.use_everything().await;
    let status = "jsonpath={.status.phase} {.status.containerStatuses[0].restartCount}";
    assert_eq!(site.kubectl(&["get", &pod, "-n", SYSTEM, "-o", status]).await, "Running 0");
    let version = "jsonpath={.status.nodeInfo.kubeletVersion}";
    let version = site.kubectl(&["get", "node", NODE, "-o", version]).await;
    let server = site.kubectl(&["version", "-o", "json"]).await;
    let server: Value = serde_json::from_str(&server).expect("JSON");
    assert_eq!(server["serverVersion"]["gitVersion"], version, "the pins in tools/");

    // The Lease of an operator that was killed would keep its holder.
    site.kubectl(&["delete", &pod, "-n", SYSTEM, "--wait=true", "--timeout=60s"]).await;
    let holder = "jsonpath={.spec.holderIdentity}";
    assert_eq!(site.kubectl(&["get", "lease/ecr-sync", "-n", SYSTEM, "-o", holder]).await, "");
    drop(node);
}
