//! The AWS credential chain and endpoints: the credentials of a pod, and the hosts of every
//! partition.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use serde_json::json;
use testbed::ecr::{StandIn, Trust};
use testbed::forward_proxy::ForwardProxy;

use crate::support::desk::{Desk, output};
use crate::support::{ACCOUNT, REGION, Rig, Sources};

const ROLE: &str = "arn:aws:iam::999999999999:role/sync";

async fn desk() -> Desk {
    let desk = Desk::before(Sources::shared().await.open.host()).await;
    desk.write("all.yaml", "- name: app\n");
    desk
}

#[tokio::test]
async fn hosts_are_those_of_the_partition_fips_and_dual_stack() {
    // The proxy refuses all connections, and records their targets.
    let proxy = ForwardProxy::start(Some(("nobody", "knows"))).expect("a proxy");
    let desk = desk().await;
    let table = [
        ("eu-west-1", "false", "false", "api.ecr.eu-west-1.amazonaws.com:443"),
        ("cn-north-1", "false", "false", "api.ecr.cn-north-1.amazonaws.com.cn:443"),
        ("us-gov-west-1", "true", "false", "api.ecr-fips.us-gov-west-1.amazonaws.com:443"),
        ("eu-west-1", "false", "true", "ecr.eu-west-1.api.aws:443"),
        ("us-east-1", "true", "true", "ecr-fips.us-east-1.api.aws:443"),
    ];
    for (region, fips, dual_stack, host) in table {
        let mut command =
            desk.command(&["sync", "all.yaml", "--account-id", ACCOUNT, "--region", region]);
        command
            .env_remove("AWS_ENDPOINT_URL")
            .env("AWS_USE_FIPS_ENDPOINT", fips)
            .env("AWS_USE_DUALSTACK_ENDPOINT", dual_stack)
            .env("HTTPS_PROXY", proxy.url());
        assert!(!output(command).await.status.success());
        let seen: Vec<_> = proxy.seen().into_iter().map(|seen| seen.target).collect();
        assert!(seen.iter().any(|target| target == host), "{host} is not in {seen:?}");
    }
}

#[tokio::test]
async fn a_service_account_of_the_pod_is_enough() {
    let rig = Rig::new("irsa").await;
    let trust = Trust::ServiceAccount { namespace: rig.namespace.clone(), name: "sync".to_owned() };
    let everything = json!({"Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": ["ecr:*", "sts:*"], "Resource": "*"}]});
    rig.ecr.put_role(ROLE, &[trust], everything);
    rig.kubectl(&["-n", &rig.namespace, "create", "serviceaccount", "sync"]).await;
    let token = rig
        .kubectl(&[
            "-n",
            &rig.namespace,
            "create",
            "token",
            "sync",
            "--audience",
            "sts.amazonaws.com",
        ])
        .await;
    let desk = desk().await;
    desk.write("token", token.trim());
    let mut command = desk.command(&["sync", "all.yaml"]);
    // As set by the webhook of EKS.
    command
        .env_remove("AWS_ACCESS_KEY_ID")
        .env_remove("AWS_SECRET_ACCESS_KEY")
        .env("AWS_ENDPOINT_URL", rig.ecr.endpoint())
        .env("AWS_ROLE_ARN", ROLE)
        .env("AWS_WEB_IDENTITY_TOKEN_FILE", "token");
    let output = output(command).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(rig.ecr.repository("999999999999", REGION, "app").is_some(), "in the role's account");
}

/// The agent of EKS Pod Identity: returns credentials for the token of the pod.
async fn agent(
    State(token): State<&'static str>,
    headers: HeaderMap,
) -> Result<String, StatusCode> {
    if headers.get("authorization").is_none_or(|value| value != token) {
        return Err(StatusCode::FORBIDDEN);
    }
    let keys = json!({"AccessKeyId": StandIn::access_key(ACCOUNT), "SecretAccessKey": "any",
        "Token": "any",
                   "Expiration": "2099-01-01T00:00:00Z"});
    Ok(keys.to_string())
}

#[tokio::test]
async fn the_agent_of_pod_identity_is_asked_with_the_pods_token() {
    const TOKEN: &str = "of-the-pod";
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let routes = Router::new().route("/v1/credentials", get(agent)).with_state(TOKEN);
    let serving = tokio::spawn(async move { axum::serve(listener, routes).await });
    let desk = desk().await;
    desk.write("token", TOKEN);
    let mut command = desk.command(&["sync", "all.yaml"]);
    command
        .env_remove("AWS_ACCESS_KEY_ID")
        .env_remove("AWS_SECRET_ACCESS_KEY")
        .env("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("http://{address}/v1/credentials"))
        .env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "token");
    let output = output(command).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(desk.ecr.repository(ACCOUNT, REGION, "app").is_some());
    serving.abort();
}
