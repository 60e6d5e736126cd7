//! No AWS identity: one check says so in one line, in the operator and on the command line.

use std::process::{Command, Output};

use serde_json::json;
use testbed::ecr::{StandIn, Trust};
use testbed::traffic::{Fault, Match, Then};

use crate::support::desk::{Desk, output};
use crate::support::{ACCOUNT, Operator, REGION, Rig, Sources, condition, eventually};

const ROLE: &str = "arn:aws:iam::123456789012:role/ecr-sync";
const NO_IDENTITY: &str = "the operator has no AWS identity: annotate its ServiceAccount with \
                           eks.amazonaws.com/role-arn, or create an EKS Pod Identity association; \
                           then restart it";

/// Waits until /readyz answers this.
async fn readyz(operator: &Operator, status: u16, body: &str) {
    eventually(&format!("{status} {body}"), async || {
        operator.get("/readyz").await.is_some_and(|page| page == (status, format!("{body}\n")))
    })
    .await;
}

fn lines(operator: &Operator, text: &str) -> usize {
    operator.log().lines().filter(|line| line.contains(text)).count()
}

fn everything() -> serde_json::Value {
    json!({"Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": ["ecr:*", "sts:*"], "Resource": "*"}]})
}

/// STS and ECR answer that the keys have expired.
fn expire(ecr: &StandIn) {
    let text = "The security token included in the request is expired";
    let sts = Then::sts_error(403, "ExpiredToken", text);
    ecr.faults().add(Fault::new(Match::operation("GetCallerIdentity"), sts));
    for operation in ["DescribeImages", "DescribeRepositories", "CreateRepository"] {
        let refusal = Then::aws_error(400, "ExpiredTokenException", text);
        ecr.faults().add(Fault::new(Match::operation(operation), refusal));
    }
}

#[tokio::test]
async fn an_operator_without_credentials_says_so_and_asks_aws_nothing() {
    let rig = Rig::new("no-identity").await;
    let operator = rig.operator_without_identity(&[("AWS_REGION", REGION)]).await;
    readyz(&operator, 503, &format!("not ready: {NO_IDENTITY}")).await;

    for name in ["app-a", "app-b"] {
        rig.apply(name, json!({"image": rig.image("library/demo", &["1.27"])})).await;
    }
    rig.apply("elsewhere", json!({"registry": {"accountId": "999999999999"}})).await;
    for name in ["app-a", "app-b", "elsewhere"] {
        let object = rig.wait_ready(name, "False", "AuthenticationFailed").await;
        assert_eq!(condition(&object, "Ready").expect("set").2, NO_IDENTITY);
    }
    assert_eq!(lines(&operator, "not ready, retrying"), 1, "{}", operator.log());
    assert!(rig.ecr.log().is_empty());
    assert_eq!(operator.terminate().await, 0);
}

#[tokio::test]
async fn a_role_that_does_not_trust_the_operator_is_named_until_it_does() {
    let rig = Rig::new("no-trust").await;
    rig.kubectl(&["-n", &rig.namespace, "create", "serviceaccount", "ecr-sync"]).await;
    let arguments = ["create", "token", "ecr-sync", "--audience", "sts.amazonaws.com"];
    let token = rig.kubectl(&[&["-n", rig.namespace.as_str()], &arguments[..]].concat()).await;
    let file = rig.folder().join("token");
    std::fs::write(&file, token.trim()).expect("written");
    let file = file.to_string_lossy();

    let environment =
        [("AWS_REGION", REGION), ("AWS_ROLE_ARN", ROLE), ("AWS_WEB_IDENTITY_TOKEN_FILE", &*file)];
    let trust = |name: &str| Trust::ServiceAccount {
        namespace: rig.namespace.clone(),
        name: name.to_owned(),
    };
    rig.ecr.put_role(ROLE, &[trust("another")], everything());
    let operator = rig.operator_without_identity(&environment).await;
    let refused = format!(
        "AWS refuses the operator's identity: sts:AssumeRoleWithWebIdentity on {ROLE}: \
         AccessDenied: Not authorized to perform sts:AssumeRoleWithWebIdentity: the role's trust \
         policy must allow the cluster's OIDC provider and the operator's ServiceAccount"
    );
    readyz(&operator, 503, &format!("not ready: {refused}")).await;
    rig.apply("app", json!({"image": rig.image("library/demo", &["1.27"])})).await;
    let object = rig.wait_ready("app", "False", "AuthenticationFailed").await;
    assert_eq!(condition(&object, "Ready").expect("set").2, refused);

    rig.ecr.put_role(ROLE, &[trust("ecr-sync")], everything());
    readyz(&operator, 200, "ok").await;
    rig.wait_synced("app").await;
    assert_eq!(lines(&operator, "not ready, retrying"), 1, "{}", operator.log());
    assert_eq!(lines(&operator, "AWS accepts the operator's identity"), 1);
    assert_eq!(rig.ecr.count(|request| request.operation == "GetCallerIdentity"), 1);
}

#[tokio::test]
async fn keys_that_expire_while_the_operator_runs_are_noticed_and_so_are_new_ones() {
    let rig = Rig::new("expired-keys").await;
    let operator = rig.operator().await;
    rig.apply("app", json!({"image": rig.image("library/demo", &["1.27"])})).await;
    rig.wait_synced("app").await;
    assert_eq!(rig.ecr.count(|request| request.operation == "GetCallerIdentity"), 1);

    expire(&rig.ecr);
    rig.annotate("app", "ecr-sync.io/requestedAt", "1").await;
    let expired = "AWS refuses the operator's identity: sts:GetCallerIdentity: ExpiredToken: The \
                   security token included in the request is expired: renew the credentials in \
                   its environment, or annotate its ServiceAccount with \
                   eks.amazonaws.com/role-arn";
    readyz(&operator, 503, &format!("not ready: {expired}")).await;
    rig.apply("late", json!({})).await;
    let object = rig.wait_ready("late", "False", "AuthenticationFailed").await;
    assert_eq!(condition(&object, "Ready").expect("set").2, expired);

    rig.ecr.faults().clear();
    readyz(&operator, 200, "ok").await;
    rig.wait_synced("late").await;
    assert_eq!(lines(&operator, "not ready, retrying"), 1, "{}", operator.log());
    assert_eq!(lines(&operator, "AWS accepts the operator's identity"), 2);
}

#[tokio::test]
async fn an_sts_that_throttles_is_no_missing_identity() {
    let rig = Rig::new("sts-throttles").await;
    let throttled = Then::sts_error(400, "Throttling", "Rate exceeded");
    rig.ecr.faults().add(Fault::new(Match::operation("GetCallerIdentity"), throttled));
    let operator = rig.operator().await;
    assert_eq!(lines(&operator, "cannot check the operator's AWS identity"), 1);

    // ECR can be used without STS where the account is known.
    rig.apply("known", json!({"registry": {"accountId": ACCOUNT}})).await;
    rig.wait_synced("known").await;
    rig.apply("unknown", json!({})).await;
    let object = rig.wait_ready("unknown", "False", "RateLimited").await;
    let text = condition(&object, "Ready").expect("set").2;
    assert!(text.contains("sts:GetCallerIdentity") && text.contains("Rate exceeded"), "{text}");

    rig.ecr.faults().clear();
    rig.wait_synced("unknown").await;
    assert_eq!(operator.get("/readyz").await.expect("served").0, 200);
}

#[tokio::test]
async fn resources_with_service_accounts_need_no_identity_of_the_operator() {
    let rig = Rig::new("only-accounts").await;
    let trust = Trust::ServiceAccount { namespace: rig.namespace.clone(), name: "team".to_owned() };
    rig.ecr.put_role(ROLE, &[trust], everything());
    rig.kubectl(&[
        "apply",
        "-f",
        concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/rbac-service-accounts.yaml"),
    ])
    .await;
    let namespace = ["-n", rig.namespace.as_str()];
    for arguments in [
        &[
            "create",
            "rolebinding",
            "ecr-sync-service-accounts",
            "--clusterrole=ecr-sync-service-accounts",
            "--serviceaccount=ecr-sync-system:ecr-sync",
        ][..],
        &["create", "serviceaccount", "team"],
        &["annotate", "serviceaccount", "team", &format!("eks.amazonaws.com/role-arn={ROLE}")],
    ] {
        rig.kubectl(&[&namespace[..], arguments].concat()).await;
    }

    let registry = json!({"serviceAccountName": "team"});
    let image = rig.image("library/demo", &["1.27"]);
    rig.apply("app", json!({"registry": registry, "image": image})).await;
    let operator = rig.operator_without_identity(&[("AWS_REGION", REGION)]).await;
    readyz(&operator, 200, "ok").await;
    rig.wait_synced("app").await;
    assert_eq!(lines(&operator, "every resource names a ServiceAccount"), 1);
}

#[tokio::test]
async fn an_operator_without_a_region_says_so_until_every_resource_names_one() {
    let rig = Rig::new("no-region").await;
    let key = StandIn::access_key(ACCOUNT);
    let keys = [("AWS_ACCESS_KEY_ID", key.as_str()), ("AWS_SECRET_ACCESS_KEY", "any")];
    let operator = rig.operator_without_identity(&keys).await;
    let missing = "the operator has no AWS region: set --region (aws.region in the Helm chart) or \
                   AWS_REGION in its environment, or spec.registry.region in every resource";
    readyz(&operator, 503, &format!("not ready: {missing}")).await;
    rig.apply("nowhere", json!({})).await;
    let object = rig.wait_ready("nowhere", "False", "InvalidSpec").await;
    assert_eq!(condition(&object, "Ready").expect("set").2, missing);

    rig.kubectl(&["-n", &rig.namespace, "delete", "ecrsync", "nowhere"]).await;
    rig.apply("somewhere", json!({"registry": {"region": REGION}})).await;
    rig.wait_synced("somewhere").await;
    readyz(&operator, 200, "ok").await;
}

async fn desk() -> Desk {
    let desk = Desk::before(Sources::shared().await.open.host()).await;
    desk.write("all.yaml", "- name: app-a\n- name: app-b\n- name: app-c\n");
    desk
}

fn without_keys(mut command: Command) -> Command {
    command
        .env_remove("AWS_ACCESS_KEY_ID")
        .env_remove("AWS_SECRET_ACCESS_KEY")
        .env("AWS_EC2_METADATA_DISABLED", "true");
    command
}

/// The command ended with this one line, before it did anything.
fn assert_refused(output: &Output, line: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(text, format!("error: {line}\n"));
    assert_eq!(output.status.code(), Some(64), "{text}");
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[tokio::test]
async fn commands_without_credentials_end_with_one_line_before_they_ask_aws() {
    let desk = desk().await;
    let advice = "no AWS credentials: log in (aws sso login), choose a profile (AWS_PROFILE), or \
                  set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";
    for arguments in [
        &["sync", "all.yaml"][..],
        &["sync", "all.yaml", "--dry-run", "--output", "json"],
        &["sync", "all.yaml", "--account-id", ACCOUNT],
        &["import"],
        &["import", "--account-id", ACCOUNT],
    ] {
        assert_refused(&output(without_keys(desk.command(arguments))).await, advice);
    }

    let mut command = without_keys(desk.command(&["sync", "all.yaml"]));
    command.env("AWS_PROFILE", "staging");
    assert_refused(
        &output(command).await,
        "no AWS credentials in the profile \"staging\" (AWS_PROFILE): log in \
         (aws sso login --profile staging), or choose another profile",
    );
    // What the SDK logs of it is not shown.
    desk.write(".aws/config", "[profile expired]\ncredential_process = /bin/false\n");
    let mut command = without_keys(desk.command(&["sync", "all.yaml"]));
    command.env("AWS_PROFILE", "expired");
    assert_refused(
        &output(command).await,
        "the AWS credentials cannot be loaded: Error retrieving credentials: external process \
         exited with code exit status: 1. Stderr: log in again (aws sso login --profile expired), \
         or choose another profile (AWS_PROFILE)",
    );
    assert!(desk.ecr.log().is_empty());
}

#[tokio::test]
async fn commands_with_invalid_credentials_end_after_one_request() {
    let desk = desk().await;
    let again = "log in again (aws sso login), or choose another profile (AWS_PROFILE)";
    let invalid = format!(
        "AWS refuses the credentials: sts:GetCallerIdentity: InvalidClientTokenId: The security \
         token included in the request is invalid: {again}"
    );
    for arguments in [&["sync", "all.yaml"][..], &["import"]] {
        let mut command = desk.command(arguments);
        command.env("AWS_ACCESS_KEY_ID", "AKIADELETED");
        assert_refused(&output(command).await, &invalid);
    }
    assert_eq!(desk.ecr.log().len(), 2);

    expire(&desk.ecr);
    assert_refused(
        &output(desk.command(&["sync", "all.yaml"])).await,
        &format!(
            "AWS refuses the credentials: sts:GetCallerIdentity: ExpiredToken: The security token \
             included in the request is expired: {again}"
        ),
    );
    assert_eq!(desk.ecr.log().len(), 3);
}

#[tokio::test]
async fn a_missing_region_is_reported_once_unless_every_repository_names_one() {
    let desk = desk().await;
    let without_region = |arguments: &[&str]| {
        let mut command = desk.command(arguments);
        command.env_remove("AWS_REGION").env("AWS_EC2_METADATA_DISABLED", "true");
        command
    };
    let missing = "no AWS region: set AWS_REGION, choose a profile that has one (AWS_PROFILE), or \
                   use --region";
    for arguments in [&["sync", "all.yaml"][..], &["import"]] {
        assert_refused(&output(without_region(arguments)).await, missing);
    }
    assert!(desk.ecr.log().is_empty());

    desk.write(
        "named.yaml",
        &format!(
            "{{apiVersion: ecr-sync.io/v1alpha1, kind: EcrRepositorySync, metadata: {{name: app}}, \
             spec: {{registry: {{region: {REGION}}}}}}}\n"
        ),
    );
    let named = output(without_region(&["sync", "named.yaml"])).await;
    assert!(named.status.success(), "{}", String::from_utf8_lossy(&named.stderr));
    assert!(desk.ecr.repository(ACCOUNT, REGION, "app").is_some());
}

#[tokio::test]
async fn an_sts_that_throttles_is_a_failure_of_each_repository() {
    let desk = desk().await;
    let throttled = Then::sts_error(400, "Throttling", "Rate exceeded");
    desk.ecr.faults().add(Fault::new(Match::operation("GetCallerIdentity"), throttled));
    let run = desk.sync("- name: app-a\n- name: app-b\n", &[]).await;
    assert_eq!(run.code, Some(1), "{}", run.text);
    let failure = "! RateLimited: sts:GetCallerIdentity on the AWS identity in use: Throttling: \
                   Rate exceeded";
    assert_eq!(run.text.matches(failure).count(), 2, "{}", run.text);
    assert!(desk.sync("- name: app\n", &["--account-id", ACCOUNT]).await.is_success());
}
