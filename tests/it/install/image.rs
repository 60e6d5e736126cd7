//! The image of the Dockerfile, built, pushed and installed by the commands of README.md, and run
//! without a container daemon. `make image-test` prepares the engine and starts this test.
//!
//! It costs a release build: 10 minutes on two cores with empty caches, 2 with compiled
//! dependencies, and then half a minute.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::registry::Registry;
use super::shell::{Shell, blocks};
use super::{Pod, Site};
use crate::support::Operator;

/// Of a release build with empty caches, on a machine that has other work.
const BUILD: Duration = Duration::from_secs(45 * 60);
/// Of all layers, compressed.
const LARGEST: u64 = 20 << 20;

/// The container of a Pod on the host's network, as the kubelet would start it.
fn container(site: &Site, registry: &Registry, pod: &Pod) -> Operator {
    let mount = site.folder.path().join("serviceaccount");
    std::fs::create_dir(&mount).expect("a folder");
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

    // The image for GitLab, from the same program; its base is one that exists here.
    let base = std::env::var("RUST_IMAGE").expect("make image-test");
    let named = registry.named_in(&super::shell::blocks("docs/migration.md", "2. In CI")[0]);
    let without_image = named.replace("make image ci-image", "make ci-image");
    assert_ne!(without_image, named);
    let shell = shell.with("CI_IMAGE", base);
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
    let started = Instant::now();
    let operator = container(&site, &registry, &pod);
    operator.ready().await;
    eprintln!("image of {size} bytes; pulled, started and ready in {:?}", started.elapsed());
    site.cluster.create_namespace("team").await.expect("a namespace");
    site.use_everything().await;
    assert_eq!(operator.terminate().await, 0);
}
