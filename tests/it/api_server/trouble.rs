//! An operator behind a proxy in front of the API server, and the failures that the proxy injects.

use std::time::Duration;

use serde_json::{Value, json};
use testbed::cluster::Cluster;
use testbed::proxy::Proxy;
use testbed::traffic::{Record, Then};

use super::WATCH;
use crate::support::{Operator, Rig, eventually};

/// A rig whose operator uses the API server through a proxy; the test itself does not.
pub(super) struct Trouble {
    pub(super) rig: Rig,
    pub(super) api: Proxy,
    kubeconfig: String,
}

impl Trouble {
    pub(super) async fn new(name: &str) -> Self {
        let rig = Rig::new(name).await;
        let cluster = Cluster::shared().await;
        let api = Proxy::start_to(cluster.url(), &cluster.ca()).await.expect("a proxy");
        let token =
            ["create", "token", "ecr-sync", "--namespace", "ecr-sync-system", "--duration", "24h"];
        let token = cluster.kubectl(&token).await.expect("a token");
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "proxy",
                "cluster": {"server": format!("http://{}", api.host())}}],
            "users": [{"name": "ecr-sync", "user": {"token": token.trim()}}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "ecr-sync",
                "namespace": name}}],
            "current-context": "proxy",
        });
        let kubeconfig = rig.folder().join("kubeconfig");
        std::fs::write(&kubeconfig, config.to_string()).expect("a file");
        Self { rig, api, kubeconfig: kubeconfig.display().to_string() }
    }

    /// Starts without leader election, so that the requests of these tests are the only ones.
    pub(super) async fn operator(&self) -> Operator {
        self.rig
            .operator_with(&["--leader-election=false"], &[("KUBECONFIG", &self.kubeconfig)])
            .await
    }

    /// Starts like [`Trouble::operator`]. Returns before the operator is ready.
    pub(super) async fn starting(&self) -> Operator {
        let aws = self.rig.aws_environment();
        let aws = aws.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let environment: Vec<_> = aws.chain([("KUBECONFIG", &*self.kubeconfig)]).collect();
        self.rig.operator_starting(&["--leader-election=false"], &environment).await
    }

    /// Starts an operator that competes for the Lease.
    pub(super) async fn elected(&self) -> Operator {
        let flags = ["--leader-election-namespace", "ecr-sync-system"];
        self.rig.operator_with(&flags, &[("KUBECONFIG", &self.kubeconfig)]).await
    }

    /// Waits until the operator watches resources.
    pub(super) async fn watching(&self) {
        eventually("watching", async || self.api.under_way(is(WATCH)) == 1).await;
    }

    /// Cuts the operator's watch of resources.
    pub(super) async fn cut_watch(&self) {
        self.watching().await;
        assert_eq!(self.api.hang_up(is(WATCH)), 1);
    }

    /// Waits until the operator has sent this number of requests of an operation.
    pub(super) async fn tries(&self, operation: &str, number: usize) {
        eventually(&format!("{number} times {operation}"), async || {
            self.count(operation) >= number
        })
        .await;
    }

    pub(super) fn count(&self, operation: &str) -> usize {
        self.api.count(is(operation))
    }

    /// Number of reads of a repository by the operator: one per pass.
    pub(super) fn passes(&self, repository: &str) -> usize {
        self.rig.ecr.count(|request| {
            request.operation == "DescribeImages" && request.repository == repository
        })
    }

    pub(super) fn demo(&self, tags: &[&str]) -> Value {
        json!({"image": self.rig.image("library/demo", tags)})
    }

    /// All requests by operation and response, for messages.
    pub(super) fn summary(&self) -> String {
        let mut counts = std::collections::BTreeMap::<_, usize>::new();
        for request in self.api.log() {
            *counts.entry((request.operation, request.status)).or_default() += 1;
        }
        format!("{counts:?}")
    }
}

pub(super) fn is(operation: &str) -> impl Fn(&Record) -> bool + '_ {
    move |request| request.operation == operation
}

/// The response of an API server that refuses a request.
pub(super) fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
           "message": message, "reason": reason, "code": code})
}

pub(super) fn answer(code: u16, reason: &str, message: &str) -> Then {
    let headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
    Then::Status { code, headers, body: status(code, reason, message).to_string() }
}

/// A refusal of API Priority and Fairness.
pub(super) fn too_many_requests(retry_after: Duration) -> Then {
    let headers = vec![
        ("Content-Type".to_owned(), "text/plain; charset=utf-8".to_owned()),
        ("Retry-After".to_owned(), retry_after.as_secs().to_string()),
    ];
    Then::Status {
        code: 429,
        headers,
        body: "Too many requests, please try again later.\n".to_owned(),
    }
}
