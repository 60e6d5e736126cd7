//! The commands of README.md, unchanged.

use testbed::tools::workspace;

use super::Site;
use super::registry::Registry;
use super::shell::{Shell, blocks};
use crate::support::{ACCOUNT, REGION};

#[tokio::test]
async fn the_commands_of_the_readme_lead_to_a_synced_repository() {
    let site = Site::new().await;
    let registry = Registry::start(&site).await;
    let shell = Shell::on(&site).with("SSL_CERT_FILE", &registry.authority);
    let blocks = blocks("README.md", "Install");
    let [helm, plain] = blocks.as_slice() else { panic!("{blocks:?}") };

    // `make image-test` runs the same block with its image.
    let helm = registry.named_in(helm);
    let has_image = |line: &&str| line.starts_with("make image");
    assert_eq!(helm.lines().filter(has_image).count(), 1, "{helm}");
    let without_image: Vec<_> = helm.lines().filter(|line| !has_image(line)).collect();
    shell.paste(&without_image.join("\n")).await;
    let operator = site.start().await;
    operator.ready().await;

    let example = workspace().join("examples/02-many-tags.yaml");
    let example = std::fs::read_to_string(example).expect("a file");
    let here = format!("{}/library/demo\n    insecure: true", site.sources.open.host());
    let file = site.folder.path().join("example.yaml");
    std::fs::write(&file, example.replace("docker.io/library/nginx", &here)).expect("written");
    shell.paste(&format!("kubectl apply -f {}", file.display())).await;
    shell.paste("kubectl wait ers/platform-nginx --for=condition=Ready --timeout=60s").await;
    let table = shell.paste("kubectl get ers").await;
    assert!(table.contains("3/3") && table.contains("platform/nginx"), "{table}");
    let repository = site.ecr.repository(ACCOUNT, REGION, "platform/nginx");
    assert!(repository.is_some_and(|repository| repository.tags.len() == 3));
    assert_eq!(operator.terminate().await, 0);

    // The other way, to the same resources.
    shell.paste("helm uninstall ecr-sync --namespace ecr-sync-system --wait=false").await;
    let shell = shell.with("REGISTRY", "registry.example.com/platform");
    shell.paste(plain).await;
    let image = "jsonpath={.spec.template.spec.containers[0].image}";
    let image = ["get", "deployment", "ecr-sync", "-n", super::SYSTEM, "-o", image];
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!("registry.example.com/platform/ecr-sync:{version}");
    assert_eq!(site.kubectl(&image).await, expected);
    let operator = site.start().await;
    operator.ready().await;
    shell.paste("kubectl annotate ers platform-nginx ecr-sync.io/requestedAt=again").await;
    let handled = "jsonpath={.status.lastHandledReconcileAt}=again";
    shell.paste(&format!("kubectl wait ers/platform-nginx --for={handled} --timeout=60s")).await;
}
