//! The image of the Dockerfile, built, pushed and installed by the commands of README.md, and run
//! without a container daemon. `make image-test` prepares the engine and starts this test.
//!
//! It costs a release build: 10 minutes on two cores with empty caches, 2 with compiled
//! dependencies, and then half a minute.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::registry::Registry;
use super::shell::{Shell, blocks};
use super::{Pod, Site};
use crate::support::Operator;

/// Of a release build with empty caches, on a machine that has other work.
pub(super) const BUILD: Duration = Duration::from_secs(45 * 60);
/// Of all layers, compressed.
const LARGEST: u64 = 20 << 20;
/// The number of starts that are measured.
const STARTS: usize = 5;
/// The median on an idle machine is below 0.2 s. One of them must be quick on any machine.
const QUICK_START: Duration = Duration::from_secs(1);

/// The container of a Pod on the host's network, as the kubelet would start it.
fn container(site: &Site, registry: &Registry, pod: &Pod) -> Operator {
    let mount = site.folder.path().join("serviceaccount");
    std::fs::create_dir_all(&mount).expect("a folder");
    std::fs::copy(site.cluster.ca(), mount.join("ca.crt")).expect("copied");
    std::fs::write(mount.join("token"), &pod.token).expect("written");
    std::fs::write(mount.join("namespace"), super::SYSTEM).expect("written");
    let api = site.cluster.url().trim_start_matches("https://").to_owned();
    let (host, port) = api.split_once(':').expect("an address");

    let container = &pod.spec["containers"][0];
    let security = &container["securityContext"];
    assert_eq!(security["readOnlyRootFilesystem"], true);
    assert_eq!(security["allowPrivilegeEscalation"], false);
    assert_eq!(security["capabilities"]["drop"][0], "ALL");
    let user = &pod.spec["securityContext"]["runAsUser"];
    let text = |value: &Value| value.as_str().expect("a string").to_owned();

    let mut command = Command::new("podman");
    command.env("SSL_CERT_FILE", &registry.authority).args(["run", "--rm", "--pull", "always"]);
    command.arg("--pidfile").arg(pid_file(site));
    command.args(["--network", "host", "--http-proxy=false", "--cap-drop", "all"]);
    command.args(["--read-only", "--read-only-tmpfs=false", "--security-opt", "no-new-privileges"]);
    command.args(["--user", &format!("{user}:{user}")]);
    command
        .args(["--memory", &text(&container["resources"]["limits"]["memory"]).replace("Mi", "m")]);
    let mounted = "/var/run/secrets/kubernetes.io/serviceaccount";
    command.args(["--volume", &format!("{}:{mounted}:ro", mount.display())]);
    let service = [("KUBERNETES_SERVICE_HOST", host), ("KUBERNETES_SERVICE_PORT", port)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    for (name, value) in pod.environment.iter().chain(&service) {
        command.args(["--env", &format!("{name}={value}")]);
    }
    command.arg(text(&container["image"]));
    Operator::run(&site.folder.path().join("operator.log"), command, &pod.arguments)
}

/// The file with the id of the container's process; podman writes it.
fn pid_file(site: &Site) -> PathBuf {
    site.folder.path().join("operator.pid")
}

/// Returns the time from the start of the container's process to the first `/readyz` with 200, to
/// 10 ms.
async fn start_to_ready(site: &Site, operator: &Operator) -> Duration {
    let deadline = Instant::now() + Duration::from_secs(60);
    while operator.get("/readyz").await.is_none_or(|(status, _)| status != 200) {
        assert!(Instant::now() < deadline, "not ready: {}", operator.log());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let uptime = std::fs::read_to_string("/proc/uptime").expect("the time since boot");
    let pid = std::fs::read_to_string(pid_file(site)).expect("podman writes it");
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).expect("it runs");

    let now: f64 = uptime.split(' ').next().and_then(|text| text.parse().ok()).expect("seconds");
    // Field 22 of proc_pid_stat(5), 100 per second; the fields after the name begin with the third.
    let fields = stat.rsplit(") ").next().expect("fields");
    let start: f64 = fields.split(' ').nth(19).and_then(|text| text.parse().ok()).expect("ticks");
    Duration::from_secs_f64((now - start / 100.0).max(0.0))
}

#[tokio::test]
#[ignore = "a release build, and needs buildah and podman: make image-test"]
async fn the_image_is_built_pushed_and_installed_as_the_readme_says_and_syncs_a_repository() {
    let site = Site::new().await;
    let registry = Registry::start(&site).await;
    let shell = Shell::on(&site).with("SSL_CERT_FILE", &registry.authority).deadline(BUILD);
    let blocks = blocks("README.md", "Install");
    shell.paste(&registry.named_in(&blocks[0])).await;
    let (size, user) = registry.image("platform/ecr-sync", env!("CARGO_PKG_VERSION")).await;
    assert!(size <= LARGEST, "{size} bytes");
    assert_eq!(user, "65532:65532");

    // The image for GitLab, from the same program; tools/image/test names its base in CI_IMAGE.
    let named = registry.named_in(&super::shell::blocks("docs/migration.md", "2. In CI")[0]);
    let without_image = named.replace("make image ci-image", "make ci-image");
    assert_ne!(without_image, named);
    shell.paste(&without_image).await;
    let image =
        format!("{}/platform/ecr-sync:{}-ci", registry.https.host(), env!("CARGO_PKG_VERSION"));
    let version = format!("podman run --rm --network host {image} sh -c 'ecr-sync --version'");
    let version = shell.paste(&version).await;
    assert_eq!(version.trim(), format!("ecr-sync {}", env!("CARGO_PKG_VERSION")));

    // The archives of a release.
    let folder = site.folder.path().join("dist").display().to_string();
    let binaries = format!("tools/image/binaries {} 1.2.3 {folder}", image.trim_end_matches("-ci"));
    shell.paste(&format!("ENGINE=podman ARCHITECTURES=$BUILDARCH {binaries}")).await;
    let listed = shell.paste(&format!("tar -tzf {folder}/*.tar.gz")).await;
    assert_eq!(listed, "ecr-sync\nLICENSE\nCargo.lock\n");

    let pod = site.pod().await;
    let mut operator = container(&site, &registry, &pod);
    let mut times = vec![start_to_ready(&site, &operator).await];
    while times.len() < STARTS {
        assert_eq!(operator.terminate().await, 0);
        operator = container(&site, &registry, &pod);
        times.push(start_to_ready(&site, &operator).await);
    }
    times.sort();
    eprintln!("image of {size} bytes; from start to ready: {times:?}");
    assert!(times[0] < QUICK_START, "from start to ready: {times:?}");
    site.cluster.create_namespace("team").await.expect("a namespace");
    site.use_everything().await;
    assert_eq!(operator.terminate().await, 0);
}
