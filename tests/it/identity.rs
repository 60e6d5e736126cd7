//! Roles and ServiceAccounts: the identity that syncs a repository.

use std::sync::Arc;

use ecr_sync::ecr::{Identity, Location};
use ecr_sync::registry::{Egress, Transport, TransportOptions};
use serde_json::{Value, json};
use testbed::ecr::{self, StandIn, Trust};
use testbed::traffic::Record;

use crate::support::{ACCOUNT, REGION, Rig, condition, eventually, session};

const OTHER: &str = "999999999999";
const ROLE: &str = "arn:aws:iam::999999999999:role/sync";

fn everything() -> Value {
    json!({"Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": ["ecr:*", "sts:*"], "Resource": "*"}]})
}

fn trust(principal: &str, external_id: Option<&str>) -> Trust {
    Trust::Principal {
        principal: principal.to_owned(),
        external_id: external_id.map(str::to_owned),
    }
}

fn spec(rig: &Rig, registry: &Value) -> Value {
    json!({"image": rig.image("library/demo", &["1.27"]), "registry": registry})
}

fn is_call<'a>(operation: &'a str, account: &'a str) -> impl Fn(&Record) -> bool + 'a {
    move |request| request.operation == operation && request.account == account
}

#[tokio::test]
async fn a_role_of_another_account_is_assumed_once_with_the_external_id_of_the_table() {
    let rig = Rig::new("identity-role").await;
    rig.ecr.put_role(ROLE, &[trust(ACCOUNT, Some("tenant-7"))], everything());
    let other_role = "arn:aws:iam::999999999999:role/untold";
    rig.ecr.put_role(other_role, &[trust(ACCOUNT, Some("tenant-8"))], everything());
    let table = rig.folder().join("roles.yaml");
    std::fs::write(&table, format!("- {{roleArn: '{ROLE}', externalId: tenant-7}}\n"))
        .expect("written");
    let operator = rig.operator_with(&["--roles-file", &table.to_string_lossy()], &[]).await;

    rig.apply("app-a", spec(&rig, &json!({"roleArn": ROLE}))).await;
    rig.apply("app-b", spec(&rig, &json!({"roleArn": ROLE, "accountId": OTHER}))).await;
    let a = rig.wait_synced("app-a").await;
    rig.wait_synced("app-b").await;
    let repository = a.status.and_then(|status| status.repository).expect("told");
    assert_eq!(repository.registry_id, OTHER, "the role's account is meant");
    for name in ["app-a", "app-b"] {
        let view = rig.ecr.repository(OTHER, REGION, name).expect("in the role's account");
        assert_eq!(view.tags["1.27"], rig.sources.seeded.digest("library/demo", "1.27"));
    }
    assert!(rig.ecr.repositories(ACCOUNT, REGION).is_empty());
    assert_eq!(
        rig.ecr.count(|request| request.operation == "AssumeRole"),
        1,
        "one set of keys for all who use it"
    );
    assert_eq!(rig.ecr.count(is_call("GetAuthorizationToken", OTHER)), 1);

    // The table has no external id for this one, and the resource cannot name one.
    rig.apply("untold", spec(&rig, &json!({"roleArn": other_role}))).await;
    let object = rig.wait_ready("untold", "False", "AccessDenied").await;
    let text = condition(&object, "Ready").expect("set").2;
    for part in ["sts:AssumeRole", other_role, "roles file"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // The table is read again when it changes.
    let both = format!(
        "- {{roleArn: '{ROLE}', externalId: tenant-7}}\n- {{roleArn: '*/untold', externalId: \
         tenant-8}}\n"
    );
    std::fs::write(&table, both.replace("*/untold", "arn:aws:iam::*:role/untold"))
        .expect("written");
    let mut asked = 0;
    eventually("assumed", async || {
        asked += 1;
        let object = rig.request("untold", &asked.to_string()).await;
        condition(&object, "Ready").is_some_and(|(status, ..)| status == "True")
    })
    .await;
    assert!(!operator.log().contains("tenant-8"), "external ids are not logged");
}

#[tokio::test]
async fn a_service_account_is_its_own_identity() {
    let rig = Rig::new("identity-sa").await;
    let namespace = rig.namespace.as_str();
    let account = |name: &str| Trust::ServiceAccount {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    rig.ecr.put_role(ROLE, &[account("team")], everything());
    let last = "arn:aws:iam::888888888888:role/last";
    rig.ecr.put_role(last, &[trust(ROLE, None)], everything());
    let _operator = rig.operator().await;

    let by = |name: &str| spec(&rig, &json!({"serviceAccountName": name}));
    rig.apply("app", by("team")).await;
    let object = rig.wait_ready("app", "False", "AccessDenied").await;
    let text = condition(&object, "Ready").expect("set").2;
    assert!(text.contains("get serviceaccounts") && text.contains("docs/iam.md"), "{text}");

    rig.kubectl(&[
        "apply",
        "-f",
        concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/rbac-service-accounts.yaml"),
    ])
    .await;
    rig.kubectl(&[
        "-n",
        namespace,
        "create",
        "rolebinding",
        "ecr-sync-service-accounts",
        "--clusterrole=ecr-sync-service-accounts",
        "--serviceaccount=ecr-sync-system:ecr-sync",
    ])
    .await;
    rig.annotate("app", "ecr-sync.io/requestedAt", "1").await;
    let object = rig.wait_ready("app", "False", "SecretNotFound").await;
    let text = condition(&object, "Ready").expect("set").2;
    assert!(
        text.contains("ServiceAccount identity-sa/team") && text.contains("does not exist"),
        "{text}"
    );

    for name in ["team", "other"] {
        rig.kubectl(&["-n", namespace, "create", "serviceaccount", name]).await;
        let annotation = format!("eks.amazonaws.com/role-arn={ROLE}");
        rig.kubectl(&["-n", namespace, "annotate", "serviceaccount", name, &annotation]).await;
    }
    rig.annotate("app", "ecr-sync.io/requestedAt", "2").await;
    let object = rig.wait_synced("app").await;
    assert_eq!(
        object.status.and_then(|status| status.repository).expect("told").registry_id,
        OTHER
    );
    assert!(rig.ecr.repository(OTHER, REGION, "app").is_some());

    // A role that trusts another ServiceAccount is not used, although the operator has credentials
    // of it by now.
    rig.apply("other", by("other")).await;
    let object = rig.wait_ready("other", "False", "AccessDenied").await;
    let text = condition(&object, "Ready").expect("set").2;
    for part in ["sts:AssumeRoleWithWebIdentity", ROLE, "ServiceAccount identity-sa/other"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // From the role of the ServiceAccount to another role.
    rig.apply("last", spec(&rig, &json!({"serviceAccountName": "team", "roleArn": last}))).await;
    rig.wait_synced("last").await;
    assert!(rig.ecr.repository("888888888888", REGION, "last").is_some());
    assert!(
        rig.ecr.repositories(ACCOUNT, REGION).is_empty(),
        "the operator's own identity did nothing"
    );
}

#[tokio::test]
async fn identities_share_the_limits_of_a_registry_and_nothing_else() {
    let ecr = StandIn::start(ecr::Config::default()).await.expect("the stand-in starts");
    let session = session(
        &ecr,
        Transport::new(&TransportOptions::default(), &Arc::new(Egress::trusting()))
            .expect("a transport"),
    );
    let location = Location { account: Some(OTHER.to_owned()), region: None };
    let role = |name: &str| {
        let role = format!("arn:aws:iam::999999999999:role/{name}").parse().expect("a role");
        Identity { service_account: None, role: Some(role) }
    };
    let own = session.registry(&location, &Identity::default()).await.expect("a registry");
    let a = session.registry(&location, &role("a")).await.expect("a registry");
    let b = session.registry(&location, &role("b")).await.expect("a registry");
    let again = session.registry(&location, &role("a")).await.expect("a registry");
    assert!(Arc::ptr_eq(&a, &again));
    assert!(!Arc::ptr_eq(&a, &b) && !Arc::ptr_eq(&a, &own));
    assert!(
        Arc::ptr_eq(&a.limits, &b.limits) && Arc::ptr_eq(&a.limits, &own.limits),
        "ECR counts by account"
    );
    assert_eq!(ecr.count(|request| request.operation == "AssumeRole"), 2);
}
