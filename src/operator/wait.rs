//! Start of the process: the wait for an API server, the operator's rights and the
//! CustomResourceDefinition.
//!
//! With GitOps they arrive in any order, and the status of a process that exits says no more than
//! `CrashLoopBackOff`. So the process waits. `/readyz` shows the reason, and the log once.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::core::PartialObjectMeta;
use kube::{Api, Client, CustomResourceExt, ResourceExt};

use super::server::Health;
use crate::api::v1alpha1::EcrRepositorySync;
use crate::backoff::doubled;
use crate::controller::{Guarded, brief};

/// kube sets no deadline of its own.
const DEADLINE: Duration = Duration::from_secs(10);
/// First wait between two attempts; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// Longest wait: soon enough for a person who has just installed the CustomResourceDefinition.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Waits until the API server serves the resource. Returns the ID of this cluster: `cluster_id`, or
/// the UID of the namespace kube-system.
pub(super) async fn for_cluster(
    client: &Client,
    cluster_id: Option<String>,
    namespace: Option<&str>,
    health: &Health,
) -> String {
    let cluster_id = match cluster_id {
        Some(id) => id,
        None => uid_of_kube_system(client, health).await,
    };
    for_resource(client, namespace, health).await;
    cluster_id
}

async fn uid_of_kube_system(client: &Client, health: &Health) -> String {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let needs = "this cluster's identity is the UID of the namespace kube-system: allow `get` on \
                 it, or set --cluster-id";
    let ask = async || namespaces.get_metadata("kube-system").await;
    until_answered(health, needs, ask).await.uid().unwrap_or_default()
}

async fn for_resource(client: &Client, namespace: Option<&str>, health: &Health) {
    // Guarded: an object that cannot be decoded must not hold up the start.
    let resources: Api<Guarded<PartialObjectMeta<EcrRepositorySync>>> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let needs = format!("allow `list` and `watch` on {}", EcrRepositorySync::crd_name());
    let params = ListParams::default().limit(1);
    let ask = async || resources.list(&params).await;
    until_answered(health, &needs, ask).await;
}

/// Asks until there is an answer.
async fn until_answered<T>(
    health: &Health,
    needs: &str,
    ask: impl AsyncFn() -> Result<T, kube::Error>,
) -> T {
    let mut attempt = 0;
    loop {
        let reason = match tokio::time::timeout(DEADLINE, ask()).await {
            Ok(Ok(answer)) => return answer,
            Ok(Err(error)) => reason(&error, needs),
            Err(_) => format!("the API server did not answer within {} s", DEADLINE.as_secs()),
        };
        if health.set_waiting(&reason) {
            tracing::warn!(reason, "not ready yet, retrying");
        }
        attempt += 1;
        tokio::time::sleep(doubled(FIRST_WAIT, attempt, LONGEST_WAIT)).await;
    }
}

/// Says what is missing, and what to do about it.
fn reason(error: &kube::Error, needs: &str) -> String {
    match error {
        // The answer for an unknown kind is plain text, without a reason.
        kube::Error::Api(status) if status.code == 404 => format!(
            "the CustomResourceDefinition {} is not installed: apply crds/, or install the chart \
             with crds.enabled=true",
            EcrRepositorySync::crd_name()
        ),
        kube::Error::Api(status) if matches!(status.code, 401 | 403) => {
            format!("the API server refuses: {}; {needs}", status.message)
        }
        other => format!("the API server cannot be reached: {}", brief(other)),
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn refused(code: u16, reason: &str) -> kube::Error {
        kube::Error::Api(Status::failure("what the server says", reason).with_code(code).boxed())
    }

    #[test]
    fn the_reason_names_what_is_missing() {
        let crd = reason(&refused(404, "NotFound"), "allow it");
        assert!(crd.contains("ecrrepositorysyncs.ecr-sync.io is not installed"), "{crd}");
        for (code, name) in [(403, "Forbidden"), (401, "Unauthorized")] {
            assert_eq!(
                reason(&refused(code, name), "allow it"),
                "the API server refuses: what the server says; allow it"
            );
        }
        assert!(
            reason(&refused(503, "ServiceUnavailable"), "allow it")
                .starts_with("the API server cannot be reached")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_reason_is_logged_once_until_it_changes() {
        let health = Health::default();
        let tries = std::cell::Cell::new(0);
        let ask = async || {
            tries.set(tries.get() + 1);
            match tries.get() {
                1..=3 => Err(refused(404, "NotFound")),
                4 => Err(refused(403, "Forbidden")),
                _ => Ok(7),
            }
        };

        assert_eq!(until_answered(&health, "allow it", ask).await, 7);
        assert_eq!(tries.get(), 5);
        assert!(
            !health.set_waiting("the API server refuses: what the server says; allow it"),
            "the last reason was logged"
        );
    }
}
