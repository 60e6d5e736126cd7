//! Every missing permission of those in `deploy/rbac.yaml` is named in the log of the operator,
//! with verb and resource.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};
use testbed::cluster::Cluster;
use testbed::tools::workspace;
use testbed::upstream::User;

use crate::chart::{object, objects};
use crate::support::{Operator, Rig, docker_secret, eventually, private};

/// All permissions in `deploy/rbac.yaml`: group, resource, names and verb.
fn rights() -> Vec<Value> {
    let text = std::fs::read_to_string(workspace().join("deploy/rbac.yaml")).expect("RBAC");
    let all = objects(&text);
    let roles = [object(&all, "ClusterRole", "ecr-sync"), object(&all, "Role", "ecr-sync")];
    let rules = roles.iter().flat_map(|role| role["rules"].as_array().expect("rules"));
    let single = |rule: &Value| {
        let verbs = rule["verbs"].as_array().expect("verbs").clone();
        let rule = rule.clone();
        verbs.into_iter().map(move |verb| {
            let mut single = rule.clone();
            single["verbs"] = json!([verb]);
            single
        })
    };
    rules.flat_map(single).collect()
}

/// An operator with all permissions except one.
async fn without(number: usize, rights: &[Value], rig: &Rig) -> Operator {
    let cluster = Cluster::shared().await;
    let name = rig.namespace.clone();
    let rest: Vec<_> =
        rights.iter().enumerate().filter(|(n, _)| *n != number).map(|(_, right)| right).collect();
    let api_version = "rbac.authorization.k8s.io/v1";
    let role = json!({"apiVersion": api_version, "kind": "ClusterRole", "metadata": {"name": name},
        "rules": rest});
    let binding = json!({
        "apiVersion": api_version, "kind": "ClusterRoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": "ecr-sync", "namespace": name}],
    });
    for object in [role, binding] {
        cluster.apply(&object.to_string()).await.expect("applied");
    }
    let kubeconfig = cluster.service_account_kubeconfig(&name, "ecr-sync").await.expect("a token");
    let scope = [format!("--namespace={name}"), format!("--leader-election-namespace={name}")];
    let always = ["controller", "--listen=0.0.0.0:8080", "--startup-spread=0s"].map(str::to_owned);
    let mut environment = rig.aws_environment();
    environment.push(("KUBECONFIG".to_owned(), kubeconfig.display().to_string()));
    environment.push(("ALLOW_PRIVATE_SOURCES".to_owned(), "127.0.0.0/8".to_owned()));
    Operator::installed(
        &rig.folder().join("operator.log"),
        &[&always[..], &scope].concat(),
        &environment,
    )
}

/// Makes the operator use all permissions: a login, a finalizer, an owner that may be gone.
async fn need_everything(rig: &Rig) {
    let secrets: Api<Secret> = Api::namespaced(rig.client.clone(), &rig.namespace);
    let host = rig.sources.basic.host();
    let secret = docker_secret(host, User::Reader.name(), User::Reader.password());
    secrets.create(&PostParams::default(), &secret).await.expect("a Secret");
    rig.apply("app", private(host, &["1.26"])).await;
    rig.apply("empty", json!({"deletionPolicy": "Delete"})).await;
}

/// Moves the repository of a deleted resource to a new one.
async fn rename(rig: &Rig) {
    rig.wait_synced("app").await;
    rig.resources().delete("app", &DeleteParams::default()).await.expect("deleted");
    let mut spec = private(rig.sources.basic.host(), &["1.26"]);
    spec["repositoryName"] = json!("app");
    rig.apply("renamed", spec).await;
}

#[tokio::test]
async fn each_right_that_is_missing_is_named_with_its_verb_and_resource() {
    let rights = rights();
    assert!(rights.len() >= 13, "{rights:?}");
    for (number, right) in rights.iter().enumerate() {
        let (verb, resource) = (&right["verbs"][0], &right["resources"][0]);
        let (verb, resource) =
            (verb.as_str().expect("a verb"), resource.as_str().expect("a resource"));
        let rig = Rig::new(&format!("rights-{number}")).await;
        let operator = without(number, &rights, &rig).await;
        need_everything(&rig).await;
        if (verb, resource) == ("get", "ecrrepositorysyncs") {
            rename(&rig).await;
        }
        let named = format!("cannot {verb} resource \\\"{resource}\\\"");
        let plain = named.replace('\\', "");
        eventually(&format!("told: {plain}"), async || {
            let log = operator.log();
            log.contains(&plain) || log.contains(&named)
        })
        .await;
        operator.kill().await;
    }
}
