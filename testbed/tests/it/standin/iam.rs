//! The AWS CLI takes on roles, and may do what their policies allow.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use testbed::Error;
use testbed::ecr::{StandIn, Trust};

use super::{ACCOUNT, Bench};

const ROLE: &str = "arn:aws:iam::999999999999:role/team/sync";

fn allow(actions: &[&str], resource: &str) -> Value {
    json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*"},
        {"Effect": "Allow", "Action": actions, "Resource": resource},
    ]})
}

fn trust(principal: &str, external_id: Option<&str>) -> Trust {
    Trust::Principal {
        principal: principal.to_owned(),
        external_id: external_id.map(str::to_owned),
    }
}

/// Access key, secret key, session token of an answer of STS.
fn keys(answer: &Value) -> [String; 3] {
    ["AccessKeyId", "SecretAccessKey", "SessionToken"]
        .map(|key| answer["Credentials"][key].as_str().unwrap_or_default().to_owned())
}

fn assume<'a>(role: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["sts", "assume-role", "--role-session-name", "tester", "--role-arn", role], more].concat()
}

/// A token as kubelet mounts it; nobody verifies the signature.
fn web_token(subject: &str, audience: &str, end: u64) -> String {
    let claims = json!({"sub": subject, "aud": [audience], "exp": end,
        "iss": "https://kubernetes.default.svc"});
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

#[tokio::test]
async fn a_role_is_assumed_by_whom_it_trusts_and_may_do_what_its_policy_says() -> Result<(), Error>
{
    let bench = Bench::new().await?;
    let own = allow(
        &["ecr:CreateRepository", "ecr:Describe*"],
        "arn:aws:ecr:eu-west-1:999999999999:repository/team/*",
    );
    bench.ecr.put_role(ROLE, &[trust(ACCOUNT, Some("right"))], own);

    for wrong in [&[][..], &["--external-id", "wrong"]] {
        let error = bench.aws_error(&assume(ROLE, wrong)).await;
        assert!(
            error.contains("(AccessDenied)") && error.contains("to perform: sts:AssumeRole on"),
            "{error}"
        );
    }
    let error = bench.aws_error(&assume("arn:aws:iam::999999999999:role/other", &[])).await;
    assert!(error.contains("(AccessDenied)"), "{error}");
    let stranger = [StandIn::access_key("555555555555"), "any".to_owned(), String::new()];
    let error = bench
        .aws_as(&stranger, &assume(ROLE, &["--external-id", "right"]))
        .await
        .expect_err("not trusted");
    assert!(error.to_string().contains("(AccessDenied)"), "{error}");

    let keys = keys(&bench.aws(&assume(ROLE, &["--external-id", "right"])).await?);
    let me = bench.aws_as(&keys, &["sts", "get-caller-identity"]).await?;
    assert_eq!(me["Arn"], "arn:aws:sts::999999999999:assumed-role/sync/tester");
    bench.aws_as(&keys, &["ecr", "create-repository", "--repository-name", "team/app"]).await?;
    assert_eq!(bench.ecr.repositories("999999999999", "eu-west-1"), ["team/app"]);
    for (refused, action) in [
        (
            &["ecr", "create-repository", "--repository-name", "other/app"][..],
            "ecr:CreateRepository",
        ),
        (&["ecr", "list-images", "--repository-name", "team/app"], "ecr:ListImages"),
        (
            &["ecr", "create-repository", "--repository-name", "team/b", "--tags", "Key=a,Value=b"],
            "ecr:TagResource",
        ),
    ] {
        let error = bench.aws_as(&keys, refused).await.expect_err("not allowed").to_string();
        let words = format!(
            "assumed-role/sync/tester is not authorized to perform: {action} on resource: \
             arn:aws:ecr:"
        );
        assert!(error.contains("(AccessDeniedException)") && error.contains(&words), "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn a_role_may_be_assumed_from_another_if_both_say_so() -> Result<(), Error> {
    let bench = Bench::new().await?;
    let (first, second) =
        ("arn:aws:iam::123456789012:role/first", "arn:aws:iam::999999999999:role/second");
    bench.ecr.put_role(
        first,
        &[trust(ACCOUNT, None)],
        allow(&["sts:AssumeRole"], "arn:aws:iam::999999999999:role/s*"),
    );
    bench.ecr.put_role(second, &[trust(first, None)], allow(&["ecr:*"], "*"));
    let error = bench.aws_error(&assume(second, &[])).await;
    assert!(error.contains("(AccessDenied)"), "{error}");
    let from = keys(&bench.aws(&assume(first, &[])).await?);
    let into = keys(&bench.aws_as(&from, &assume(second, &[])).await?);
    bench.aws_as(&into, &["ecr", "create-repository", "--repository-name", "app"]).await?;
    bench.ecr.put_role(first, &[trust(ACCOUNT, None)], allow(&["ecr:*"], "*"));
    let error =
        bench.aws_as(&from, &assume(second, &[])).await.expect_err("the first may not").to_string();
    assert!(error.contains("(AccessDenied)"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_token_of_the_cluster_opens_the_role_of_its_service_account() -> Result<(), Error> {
    let bench = Bench::new().await?;
    let account = Trust::ServiceAccount { namespace: "team".to_owned(), name: "sync".to_owned() };
    bench.ecr.put_role(ROLE, &[account], allow(&["ecr:*"], "*"));
    let call = async |token: &str| {
        let with_token = ["--role-session-name", "tester", "--web-identity-token", token];
        bench
            .aws(
                &[&["sts", "assume-role-with-web-identity", "--role-arn", ROLE], &with_token[..]]
                    .concat(),
            )
            .await
    };
    let (right, far) = ("system:serviceaccount:team:sync", 9_999_999_999);
    for (token, code) in [
        (web_token("system:serviceaccount:other:sync", "sts.amazonaws.com", far), "(AccessDenied)"),
        (web_token(right, "vault", far), "(InvalidIdentityToken)"),
        (web_token(right, "sts.amazonaws.com", 1), "(ExpiredTokenException)"),
        ("no.token".to_owned(), "(InvalidIdentityToken)"),
    ] {
        let error = call(&token).await.expect_err(code).to_string();
        assert!(error.contains(code), "{code}: {error}");
    }
    let keys = keys(&call(&web_token(right, "sts.amazonaws.com", far)).await?);
    bench.aws_as(&keys, &["ecr", "create-repository", "--repository-name", "app"]).await?;
    // Keys do not help where only ServiceAccounts are trusted.
    assert!(bench.aws_error(&assume(ROLE, &[])).await.contains("(AccessDenied)"));
    Ok(())
}

#[tokio::test]
async fn keys_of_a_role_end_and_belong_to_their_token() -> Result<(), Error> {
    let bench = Bench::new().await?;
    bench.ecr.put_role(ROLE, &[trust(ACCOUNT, None)], allow(&["ecr:*"], "*"));
    let mut mixed = keys(&bench.aws(&assume(ROLE, &[])).await?);
    mixed[2] = "another".to_owned();
    let error = bench
        .aws_as(&mixed, &["ecr", "describe-repositories"])
        .await
        .expect_err("mixed")
        .to_string();
    assert!(error.contains("(UnrecognizedClientException)"), "{error}");
    bench.ecr.session_life(Duration::ZERO);
    let ended = keys(&bench.aws(&assume(ROLE, &[])).await?);
    let error = bench
        .aws_as(&ended, &["ecr", "describe-repositories"])
        .await
        .expect_err("ended")
        .to_string();
    assert!(error.contains("(ExpiredTokenException)"), "{error}");
    Ok(())
}

#[tokio::test]
async fn the_registry_asks_the_policy_of_whoever_the_token_was_given_to() -> Result<(), Error> {
    let bench = Bench::new().await?;
    bench.push_image("app", "1", "hello").await.expect_err("there is no repository");
    bench.create("app");
    bench.push_image("app", "1", "hello").await?;
    bench.ecr.put_user_policy(
        ACCOUNT,
        allow(&["ecr:BatchGetImage"], "arn:aws:ecr:eu-west-1:123456789012:repository/app"),
    );
    assert_eq!(bench.request("GET", "/v2/app/manifests/1").send().await?.status(), 200);
    let listed = bench.request("GET", "/v2/app/tags/list").send().await?;
    assert_eq!(listed.status(), 403);
    let text = listed.text().await?;
    assert!(
        text.contains("not authorized to perform: ecr:ListImages on resource: arn:aws:ecr:"),
        "{text}"
    );
    Ok(())
}
