//! The commands of README.md, unchanged.

use testbed::tools::workspace;

use super::Site;
use crate::support::{ACCOUNT, REGION};

/// The commands of the first block of a section of README.md, without comments, each on one line.
fn readme_commands(heading: &str) -> Vec<String> {
    let readme = std::fs::read_to_string(workspace().join("README.md")).expect("a file");
    let section = readme.split(&format!("\n## {heading}\n")).nth(1).expect("a section");
    let block =
        section.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block");
    let joined = block.replace("\\\n", " ");
    let commands =
        joined.lines().map(|line| line.split(" #").next().unwrap_or_default().trim().to_owned());
    commands.filter(|line| !line.is_empty()).collect()
}

#[tokio::test]
async fn the_commands_of_the_readme_lead_to_a_synced_repository() {
    let site = Site::new().await;
    // Runs a command with a shell in the root of the repository.
    let run = async |command: &str| {
        let tools = ["kubectl", "helm"].map(|tool| testbed::tools::find(tool).expect("make tools"));
        let mut folders: Vec<_> = tools
            .iter()
            .filter_map(|tool| tool.parent())
            .map(|f| f.display().to_string())
            .collect();
        folders.push(std::env::var("PATH").unwrap_or_default());
        let mut shell = tokio::process::Command::new("bash");
        shell
            .args(["-euc", command])
            .current_dir(workspace())
            .env("PATH", folders.join(":"))
            .env("KUBECONFIG", site.cluster.kubeconfig());
        for home in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            shell.env(home, site.folder.path().join("helm"));
        }
        let output = shell.output().await.expect("a shell");
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let commands = readme_commands("Install");
    let [helm, kubectl, flux] = commands.as_slice() else { panic!("{commands:?}") };
    // Flux is not installed here: `gitops` passes its values to the chart.
    assert!(workspace().join(flux.rsplit(' ').next().expect("a file")).is_file(), "{flux}");

    run(helm).await;
    let operator = site.start().await;
    operator.ready().await;
    let example =
        std::fs::read_to_string(workspace().join("examples/02-many-tags.yaml")).expect("a file");
    let here = format!("{}/library/demo\n    insecure: true", site.sources.open.host());
    let file = site.folder.path().join("example.yaml");
    std::fs::write(&file, example.replace("docker.io/library/nginx", &here)).expect("written");
    run(&format!("kubectl apply -f {}", file.display())).await;
    run("kubectl wait ers/platform-nginx --for=condition=Ready --timeout=60s").await;
    let table = run("kubectl get ers").await;
    assert!(table.contains("3/3") && table.contains("platform/nginx"), "{table}");
    assert!(
        site.ecr.repository(ACCOUNT, REGION, "platform/nginx").is_some_and(|r| r.tags.len() == 3)
    );
    assert_eq!(operator.terminate().await, 0);

    // The other way to install, with the same resources.
    run("helm uninstall ecr-sync --namespace ecr-sync-system --wait=false").await;
    run(kubectl).await;
    let operator = site.start().await;
    operator.ready().await;
    run("kubectl annotate ers platform-nginx ecr-sync.io/requestedAt=again").await;
    run("kubectl wait ers/platform-nginx --for=jsonpath={.status.lastHandledReconcileAt}=again \
         --timeout=60s")
    .await;
}
