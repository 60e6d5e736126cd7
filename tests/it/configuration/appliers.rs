//! Set, emptied, absent: the same result with every tool that applies resources.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::policies::keep;
use crate::support::{ACCOUNT, REGION, Rig, eventually};

fn policy(field: &str) -> Value {
    match field {
        "lifecyclePolicy" => keep(9),
        _ => {
            json!({"Version": "2012-10-17",
                "Statement": [{"Effect": "Allow", "Action": "ecr:BatchGetImage",
            "Principal": {"AWS": "210987654321"}}]})
        }
    }
}

/// The state of both policies in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Set,
    Emptied,
    Absent,
}

fn spec(step: Step) -> Value {
    match step {
        Step::Set => {
            json!({"lifecyclePolicy": policy("lifecyclePolicy"),
                "permissionPolicy": policy("permissionPolicy")})
        }
        Step::Emptied => {
            json!({"lifecyclePolicy": {"rules": []}, "permissionPolicy": {"Statement": []}})
        }
        Step::Absent => json!({}),
    }
}

fn manifest(name: &str, namespace: &str, spec: &Value) -> String {
    json!({"apiVersion": "ecr-sync.io/v1alpha1", "kind": "EcrRepositorySync",
           "metadata": {"name": name, "namespace": namespace}, "spec": spec})
    .to_string()
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::write(&path, text).expect("a file");
    path.to_string_lossy().into_owned()
}

/// Whether the repository has a lifecycle and a permission policy.
fn has(rig: &Rig, name: &str) -> (bool, bool) {
    let view = rig.ecr.repository(ACCOUNT, REGION, name);
    view.map_or((false, false), |view| (view.lifecycle_policy.is_some(), view.policy.is_some()))
}

/// Runs all steps with a tool: a policy that is set exists, one that is emptied is removed, and one
/// that is absent is not managed.
async fn story(rig: &Rig, name: &str, apply: impl AsyncFn(Step)) {
    for (step, there) in
        [(Step::Set, true), (Step::Emptied, false), (Step::Set, true), (Step::Absent, true)]
    {
        apply(step).await;
        rig.wait_synced(name).await;
        eventually("as written", async || has(rig, name) == (there, there)).await;
    }
    // Absent is not empty: changes by others are kept now.
    assert!(rig.ecr.set_lifecycle_policy(ACCOUNT, REGION, name, None));
    rig.force(name, "absent").await;
    assert_eq!(has(rig, name), (false, true));
}

#[tokio::test]
async fn set_emptied_and_absent_by_kubectl_on_either_side() {
    let rig = Rig::new("applied").await;
    let _operator = rig.operator().await;
    for (name, flags) in
        [("client", &[][..]), ("server", &["--server-side", "--force-conflicts"][..])]
    {
        story(&rig, name, async |step| {
            let file =
                write(rig.folder(), "resource.json", &manifest(name, &rig.namespace, &spec(step)));
            rig.kubectl(&[&["apply", "-f", &file], flags].concat()).await;
        })
        .await;
    }
}

#[tokio::test]
async fn set_emptied_and_absent_by_helm() {
    let rig = Rig::new("applied-helm").await;
    let _operator = rig.operator().await;
    let folder = rig.folder().join("chart");
    write(&folder, "Chart.yaml", "apiVersion: v2\nname: repository\nversion: 1.0.0\n");
    let template = "apiVersion: ecr-sync.io/v1alpha1\nkind: EcrRepositorySync\nmetadata:\n  \
                    name: {{ .Release.Name }}\n\
                    spec: {{ .Values.spec | toJson }}\n";
    write(&folder, "templates/resource.yaml", template);
    let chart = folder.to_string_lossy().into_owned();
    let kubeconfig = rig.kubeconfig().to_string_lossy().into_owned();
    let home = rig.folder().to_string_lossy().into_owned();
    let environment = [("KUBECONFIG", kubeconfig.as_str()), ("HOME", home.as_str())];
    story(&rig, "helm", async |step| {
        let values = write(rig.folder(), "values.json", &json!({"spec": spec(step)}).to_string());
        let arguments =
            ["upgrade", "--install", "helm", &chart, "-n", &rig.namespace, "-f", &values];
        testbed::tools::run("helm", &arguments, &environment)
            .await
            .unwrap_or_else(|error| panic!("helm: {error}"));
    })
    .await;
}

#[tokio::test]
async fn set_emptied_and_absent_by_a_kustomize_overlay() {
    let rig = Rig::new("applied-kustomize").await;
    let _operator = rig.operator().await;
    let base = manifest("overlay", &rig.namespace, &spec(Step::Set));
    write(rig.folder(), "base/resource.yaml", &base);
    write(rig.folder(), "base/kustomization.yaml", "resources: [resource.yaml]\n");
    let overlay = rig.folder().join("overlay").to_string_lossy().into_owned();
    story(&rig, "overlay", async |step| {
        let change = match step {
            Step::Set => json!({}),
            Step::Emptied => spec(Step::Emptied),
            // An overlay removes a field of its base.
            Step::Absent => json!({"lifecyclePolicy": null, "permissionPolicy": null}),
        };
        let patch = manifest("overlay", &rig.namespace, &change);
        write(rig.folder(), "overlay/patch.yaml", &patch);
        write(
            rig.folder(),
            "overlay/kustomization.yaml",
            "resources: [../base]\npatches: [{path: patch.yaml}]\n",
        );
        rig.kubectl(&["apply", "-k", &overlay]).await;
    })
    .await;
}
