//! What must be there before work can begin: an API server, our rights, the
//! CustomResourceDefinition.
//!
//! A missing one is waited for, not died of: with GitOps they come in any order, and a process that
//! ends says no more than `CrashLoopBackOff`. What is waited for stands in `/readyz`, and once in
//! the log.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::{Api, Client, CustomResourceExt, ResourceExt};

use super::server::Health;
use crate::api::v1alpha1::EcrRepositorySync;

/// kube sets no deadline of its own.
const DEADLINE: Duration = Duration::from_secs(10);
/// First wait between two tries; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// Longest wait: the CustomResourceDefinition comes and we go on, soon enough for who is watching.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The uid of the namespace kube-system, which is this cluster's identity.
pub(super) async fn uid_of_kube_system(client: &Client, health: &Health) -> String {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let needs = "this cluster's identity is the uid of the namespace kube-system: allow `get` on it, or set --cluster-id";
    let namespace =
        lasting(health, needs, async || namespaces.get_metadata("kube-system").await).await;
    namespace.uid().unwrap_or_default()
}

/// The resource that we keep, which is there once its CustomResourceDefinition is.
pub(super) async fn for_resource(client: &Client, namespace: Option<&str>, health: &Health) {
    let resources: Api<EcrRepositorySync> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let crd = EcrRepositorySync::crd_name();
    let needs = format!("allow `list` and `watch` on {crd}");
    // Names only: an object that cannot be decoded is not our matter here.
    lasting(health, &needs, async || {
        resources.list_metadata(&ListParams::default().limit(1)).await
    })
    .await;
}

/// Asks until there is an answer.
async fn lasting<T>(
    health: &Health,
    needs: &str,
    ask: impl AsyncFn() -> Result<T, kube::Error>,
) -> T {
    let mut wait = FIRST_WAIT;
    loop {
        let why = match tokio::time::timeout(DEADLINE, ask()).await {
            Ok(Ok(answer)) => return answer,
            Ok(Err(error)) => reason(&error, needs),
            Err(_) => format!("the API server did not answer within {} s", DEADLINE.as_secs()),
        };
        if health.set_waiting(&why) {
            tracing::warn!(reason = why, "cannot begin yet; tried again until it works");
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// What is missing, and what to do about it.
fn reason(error: &kube::Error, needs: &str) -> String {
    match error {
        // The answer to a kind that nobody defined; it is plain text, without a reason.
        kube::Error::Api(status) if status.code == 404 => format!(
            "the CustomResourceDefinition {} is not installed: apply crds/, or install the chart with crds.enabled=true",
            EcrRepositorySync::crd_name()
        ),
        kube::Error::Api(status) if matches!(status.code, 401 | 403) => {
            format!("the API server refuses: {}; {needs}", status.message)
        }
        other => format!("the API server cannot be reached: {other}"),
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
    fn what_is_missing_is_named() {
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
    async fn the_same_reason_is_told_once_and_another_again() {
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
        assert_eq!(lasting(&health, "allow it", ask).await, 7);
        assert_eq!(tries.get(), 5);
        assert!(
            !health.set_waiting("the API server refuses: what the server says; allow it"),
            "the last one is known"
        );
    }
}
