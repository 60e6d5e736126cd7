//! The commands of README.md and docs/, pasted in order on an installed operator.
//!
//! It costs about a minute. README's Install has a test of its own.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use testbed::tools::workspace;
use testbed::upstream::{Auth, Upstream};

use super::Site;
use super::shell::Shell;
use crate::support::{ACCOUNT, Operator, REGION};

/// Commands that no test can run: how they begin, and why.
const LEFT_OUT: [(&str, &str); 23] = [
    ("aws cloudtrail ", "the stand-in plays ECR and STS only"),
    ("aws ecr start-lifecycle-policy-preview ", "the stand-in has no previews"),
    ("aws eks ", "the stand-in plays ECR and STS only"),
    ("aws iam ", "the stand-in plays ECR and STS only"),
    ("aws service-quotas ", "the stand-in plays ECR and STS only"),
    ("aws ecr get-login-password | helm ", "the registry's name is one of AWS"),
    ("cargo run ", "runs until it is interrupted"),
    ("cargo test ", "starts tests"),
    ("crane auth login ", "a registry on the internet"),
    ("crane blob ", "a registry on the internet"),
    ("crane ls ", "a registry on the internet"),
    ("crane manifest ", "a registry on the internet"),
    ("export CARGO_TARGET_AARCH64", "a cross build"),
    ("git clone ", "a repository on the internet"),
    ("helm install ecr-sync ", "has a test of its own"),
    ("helm install redis ", "the registry's name is one of AWS"),
    ("kubectl get --raw ", "no Pod runs without a kubelet"),
    ("kubectl logs ", "no Pod runs without a kubelet"),
    ("kubectl rollout status ", "no Pod runs without a kubelet"),
    ("kubectl run ", "no Pod runs without a kubelet"),
    ("make ", "has a test of its own, or builds for long"),
    ("rustup ", "a cross build"),
    ("sed \"s|ghcr.io/ecr-sync", "has a test of its own"),
];

/// What a command finds: the script that runs before it, once.
const BEFORE: [(&str, &str, &str); 8] = [
    ("docs/charts.md", "kubectl wait ers/redis", "echo \"$REDIS\" | kubectl apply -f -"),
    ("docs/gitops.md", "kubectl apply -k", "kubectl delete ers --all -A"),
    ("docs/gitops.md", "kubectl patch configmap", "kubectl create cm argocd-cm -n argocd"),
    (
        "docs/ownership.md",
        "kubectl patch ers",
        "kubectl delete ers nginx -n platform; echo \"$DELETED\" | kubectl apply -f -
         kubectl wait ers/nginx -n platform --for=condition=Ready --timeout=60s",
    ),
    (
        "docs/runbook.md",
        "kubectl get ers -A",
        "kubectl delete ers --all -A; echo \"$NGINX\" | tee nginx.yaml | kubectl apply -f -
         kubectl wait ers/nginx -n platform --for=condition=Ready --timeout=60s",
    ),
    (
        "docs/runbook.md",
        "aws ecr delete-repository",
        "aws ecr delete-repository --repository-name nginx --force
         aws ecr create-repository --repository-name nginx",
    ),
    (
        "docs/runbook.md",
        "aws ecr describe-repositories",
        "kubectl annotate ers nginx -n platform \
     --overwrite ecr-sync.io/requestedAt=policy
     kubectl wait ers/nginx -n platform --for=jsonpath={.status.lastHandledReconcileAt}=policy",
    ),
    ("docs/runbook.md", "kubectl edit", "export KUBE_EDITOR=true"),
];

/// The page with a test of its own.
const INSTALL: &str = "docs/install.md";
/// For all commands of a document.
const DEADLINE: Duration = Duration::from_secs(300);

/// All commands of a document's blocks of `sh`, and those after `$` in its consoles: each one line,
/// or more with `\` or a here-document.
fn steps(document: &str) -> Vec<String> {
    let text = std::fs::read_to_string(workspace().join(document)).expect("a document");
    let mut steps = Vec::new();
    let mut lines = text.lines();
    while let Some(fence) = lines.next() {
        let is_console = fence == "```console";
        if !is_console && fence != "```sh" {
            continue;
        }
        let mut block = lines.by_ref().take_while(|line| *line != "```");
        while let Some(line) = block.next() {
            let Some(line) = (if is_console { line.strip_prefix("$ ") } else { Some(line) }) else {
                continue;
            };
            let mut command = line.to_owned();
            while command.ends_with('\\') {
                command = format!("{command}\n{}", block.next().expect("another line"));
            }
            if let Some((_, end)) = line.split_once("<<") {
                let end = end.trim_matches('\'');
                for line in block.by_ref() {
                    command = format!("{command}\n{line}");
                    if line == end {
                        break;
                    }
                }
            }
            steps.push(command);
        }
    }
    steps
}

fn documents() -> Vec<String> {
    let documents = crate::docs::documents().into_iter().map(|path| path.display().to_string());
    documents.filter(|document| document != INSTALL).collect()
}

/// A registry that a mirror table names instead of docker.io.
async fn mirror(site: &Site) -> Upstream {
    let folder = site.folder.path();
    let mirror = Upstream::start(folder.join("mirror"), Auth::None).await.expect("a registry");
    for tag in ["1.26", "1.27", "latest"] {
        let from = site.sources.open.reference("library/demo", tag);
        mirror
            .crane(&["copy", &from, &mirror.reference("library/nginx", tag)])
            .await
            .expect("copied");
    }
    mirror
}

/// A folder with the files of the repository, and files of the reader's own.
fn folder(site: &Site, table: &str) -> PathBuf {
    let folder = site.folder.path().join("reader");
    std::fs::create_dir_all(folder.join("repositories")).expect("a folder");
    for name in ["charts", "crds", "deploy", "examples"] {
        std::os::unix::fs::symlink(workspace().join(name), folder.join(name)).expect("a link");
    }
    let list =
        "- name: nginx-app\n  image: {pull_url: docker.io/library/nginx, tags: [\"1.27\"]}\n";
    std::fs::write(folder.join("repositories/list.yaml"), list).expect("written");
    std::fs::write(folder.join("mirrors.yaml"), table).expect("written");
    folder
}

fn resource(name: &str, spec: &serde_json::Value) -> String {
    let metadata = json!({"name": name, "namespace": "platform"});
    let (version, kind) = ("ecr-sync.io/v1alpha1", "EcrRepositorySync");
    json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}).to_string()
}

/// A site with a registry that plays docker.io, and a shell of a reader.
struct Reader {
    site: Site,
    shell: Shell,
    /// The mirror table.
    table: PathBuf,
    _mirror: Upstream,
}

impl Reader {
    async fn new() -> Self {
        let site = Site::new().await;
        let mirror = mirror(&site).await;
        let host = mirror.host();
        let table =
            format!("mirrors: [{{match: docker.io, rewrite: \"{host}\", insecure: true}}]\n");
        let folder = folder(&site, &table);
        let table = folder.join("mirrors.yaml");
        for namespace in ["platform", "team-a", "argocd"] {
            site.cluster.create_namespace(namespace).await.expect("a namespace");
        }

        let shell = Shell::on(&site)
            .deadline(DEADLINE)
            .folder(&folder)
            .with_tools(&["aws", "crane"])
            .with("HOME", folder.display().to_string())
            .with("MIRRORS_FILE", table.display().to_string())
            .with("AWS_PAGER", "")
            .with("AWS_DEFAULT_REGION", REGION)
            .with("ECR_ACCOUNT_ID", ACCOUNT)
            .with("ECR_REGION", REGION);
        let aws = site.aws().into_iter();
        let shell = aws.fold(shell, |shell, (name, value)| shell.with(name, value));
        Self { site, shell, table, _mirror: mirror }
    }

    /// Starts the operator of the Deployment, with the mirror table.
    async fn operator(&self) -> Operator {
        let mut pod = self.site.pod().await;
        pod.arguments.push(format!("--mirrors-file={}", self.table.display()));
        let operator = self.site.run(&pod);
        operator.ready().await;
        operator
    }
}

/// Whether a command cannot run; if so, its prefix is no longer unused.
fn is_left_out(command: &str, unused: &mut Vec<&str>) -> bool {
    let mut prefixes = LEFT_OUT.iter().map(|(prefix, _)| *prefix);
    let prefix = prefixes.find(|prefix| command.starts_with(prefix));
    unused.retain(|unused| Some(*unused) != prefix);
    prefix.is_some()
}

#[tokio::test]
async fn every_command_of_the_documents_runs_as_it_stands() {
    let reader = Reader::new().await;
    let image = json!({"pullUrl": "docker.io/library/nginx", "tags": ["1.26"]});
    let rule = json!({"rulePriority": 1, "action": {"type": "expire"}, "selection": {
        "tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 10}});
    let nginx = json!({"image": image, "lifecyclePolicy": {"rules": [rule]}});
    let shell = &reader.shell;
    let shell = shell
        .clone()
        .with("NGINX", resource("nginx", &nginx))
        .with("REDIS", resource("redis", &json!({})).replace("platform", "default"))
        .with("DELETED", resource("nginx", &json!({"deletionPolicy": "Delete"})));
    shell
        .paste("helm install ecr-sync charts/ecr-sync -n ecr-sync-system --create-namespace")
        .await;
    let _operator = reader.operator().await;

    let mut unused: Vec<_> = LEFT_OUT.iter().map(|(prefix, _)| *prefix).collect();
    for command in steps(INSTALL) {
        is_left_out(&command, &mut unused);
    }
    for document in documents() {
        let mut before: Vec<_> = BEFORE.iter().filter(|(name, ..)| *name == document).collect();
        let mut script = format!("echo {document} >&2; set -x\n");
        for command in steps(&document) {
            if is_left_out(&command, &mut unused) {
                continue;
            }
            if let Some(at) = before.iter().position(|(_, start, _)| command.starts_with(start)) {
                script.push_str(&format!("{}\n", before.remove(at).2));
            }
            script.push_str(&format!("{command}\n"));
        }
        let left: Vec<_> = before.iter().map(|(_, start, _)| *start).collect();
        assert!(left.is_empty(), "{document} has no such commands: {left:?}");
        shell.paste(&script).await;
    }
    assert!(unused.is_empty(), "no document has these commands: {unused:?}");
}

#[tokio::test]
async fn the_page_on_installation_leads_to_a_synced_repository() {
    let reader = Reader::new().await;
    let mut operator = None;
    for command in steps(INSTALL) {
        // The one command of the page that LEFT_OUT names and that can run here.
        let installs = command.starts_with("helm install ecr-sync ");
        if !installs && is_left_out(&command, &mut Vec::new()) {
            continue;
        }
        reader.shell.paste(&command).await;
        if operator.is_none() {
            operator = Some(reader.operator().await);
        }
    }
    let nginx = reader.site.ecr.repository(ACCOUNT, REGION, "nginx");
    assert!(nginx.is_some_and(|nginx| nginx.tags.contains_key("1.27")));
}
