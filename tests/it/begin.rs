//! Start of the operator while something that it needs is missing.

use std::path::Path;
use std::process::Command;

use testbed::cluster::Cluster;
use testbed::ecr::{self, StandIn};
use testbed::process::Process;

use crate::support::{ACCOUNT, REGION, eventually};

struct Begun {
    process: Process,
    address: String,
}

impl Begun {
    fn start(folder: &Path, kubeconfig: &Path, ecr: &StandIn) -> Self {
        let port = testbed::process::free_port().expect("a port");
        let address = format!("127.0.0.1:{port}");
        let mut command = Command::new(env!("CARGO_BIN_EXE_ecr-sync"));
        command
            .args([
                "controller",
                "--listen",
                &address,
                "--leader-election=false",
                "--startup-spread",
                "0s",
            ])
            .env_clear()
            .env("KUBECONFIG", kubeconfig)
            .env("AWS_ENDPOINT_URL", ecr.endpoint())
            .env("AWS_ACCESS_KEY_ID", StandIn::access_key(ACCOUNT))
            .env("AWS_SECRET_ACCESS_KEY", "any")
            .env("AWS_REGION", REGION);
        let process =
            Process::spawn("ecr-sync", &command, &folder.join(format!("operator-{port}.log")))
                .expect("starts");
        Self { process, address }
    }

    async fn readyz(&self) -> Option<(u16, String)> {
        let answer = testbed::http::client()
            .get(format!("http://{}/readyz", self.address))
            .send()
            .await
            .ok()?;
        let status = answer.status().as_u16();
        Some((status, answer.text().await.ok()?))
    }

    async fn wait(&self, status: u16, text: &str) {
        let is_so = async || {
            self.process.alive().expect("the operator runs");
            self.readyz().await.is_some_and(|(code, body)| code == status && body.contains(text))
        };
        eventually(&format!("{status} {text}"), is_so).await;
    }

    fn told(&self, text: &str) -> usize {
        self.process.tail(usize::MAX).lines().filter(|line| line.contains(text)).count()
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- operator ---\n{}\n--- end ---", self.process.tail(100));
        }
    }
}

#[tokio::test]
async fn a_missing_definition_and_missing_rights_are_waited_for_and_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let cluster = Cluster::start(folder.path().join("cluster")).await.expect("a cluster starts");
    let ecr = StandIn::start(ecr::Config::default()).await.expect("the stand-in starts");
    let admin = Begun::start(folder.path(), &cluster.kubeconfig(), &ecr);
    admin
        .wait(
            503,
            "the CustomResourceDefinition ecrrepositorysyncs.ecr-sync.io is not installed: \
                     apply crds/",
        )
        .await;

    cluster.create_namespace("ecr-sync-system").await.expect("a namespace");
    cluster
        .kubectl(&["create", "serviceaccount", "ecr-sync", "-n", "ecr-sync-system"])
        .await
        .expect("created");
    let kubeconfig =
        cluster.service_account_kubeconfig("ecr-sync-system", "ecr-sync").await.expect("a token");
    let poor = Begun::start(folder.path(), &kubeconfig, &ecr);
    poor.wait(503, "cannot get resource \"namespaces\"").await;

    cluster
        .apply(&ecr_sync::api::v1alpha1::crd_yaml().expect("YAML"))
        .await
        .expect("the API server takes the CRD");
    admin.wait(200, "ok").await;
    cluster
        .apply(
            "{apiVersion: ecr-sync.io/v1alpha1, kind: EcrRepositorySync, metadata: {name: \
                   app, namespace: default}, spec: {}}",
        )
        .await
        .expect("applied");
    eventually("created", async || ecr.repository(ACCOUNT, REGION, "app").is_some()).await;
    assert_eq!(admin.told("not ready yet"), 1, "one line for one reason");

    let some = [
        ["create", "clusterrole", "some", "--verb=get", "--resource=namespaces"].as_slice(),
        &[
            "create",
            "clusterrolebinding",
            "some",
            "--clusterrole=some",
            "--serviceaccount=ecr-sync-system:ecr-sync",
        ],
    ];
    for arguments in some {
        cluster.kubectl(arguments).await.expect("created");
    }
    poor.wait(503, "cannot list resource \"ecrrepositorysyncs\"").await;
    let rbac = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/rbac.yaml"))
        .expect("RBAC");
    cluster.apply(&rbac).await.expect("applied");
    poor.wait(200, "ok").await;
    assert_eq!(poor.told("not ready yet"), 2);
    drop((admin, poor));
    cluster.stop().await.expect("it stops");
}
