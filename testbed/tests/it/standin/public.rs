//! public.ecr.aws, as the AWS CLI, crane and regctl meet it.

use serde_json::json;
use testbed::Error;

use super::{ACCOUNT, Bench, REGION};

#[tokio::test]
async fn everybody_reads_public_images_and_nobody_pushes_them() -> Result<(), Error> {
    let bench = Bench::new().await?;
    bench.create("app");
    let (manifest, digest) = bench.push_image("app", "v1", "public").await?;
    assert!(bench.ecr.publish(ACCOUNT, REGION, "app", "docker/library/app"));
    let registry = bench.ecr.public_registry().await;
    let image = format!("{registry}/docker/library/app:v1");
    assert_eq!(
        bench.run("crane", &["manifest", &image]).await?.trim_end().as_bytes(),
        &manifest[..]
    );
    let host = format!("reg={registry},tls=disabled");
    let found = bench.run("regctl", &["--host", &host, "image", "digest", &image]).await?;
    assert_eq!(found.trim(), digest);
    let tag = format!("{registry}/docker/library/app:v2");
    assert!(bench.run("crane", &["copy", &image, &tag]).await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_login_is_given_in_one_region_for_two_rights() -> Result<(), Error> {
    let bench = Bench::new().await?;
    let ask = ["ecr-public", "get-authorization-token", "--region", "us-east-1"];
    let answer = bench.aws(&ask).await?;
    let token = answer["authorizationData"]["authorizationToken"]
        .as_str()
        .expect("one token, not a list")
        .to_owned();
    let elsewhere =
        bench.aws_error(&["ecr-public", "get-authorization-token", "--region", REGION]).await;
    assert!(elsewhere.contains("valid region"), "{elsewhere}");

    let registry = bench.ecr.public_registry().await;
    let client = testbed::http::client();
    let get = |path: &str, header: String| {
        client.get(format!("http://{registry}{path}")).header("authorization", header)
    };
    assert_eq!(get("/token/", format!("Basic {token}")).send().await?.status(), 200);
    assert_eq!(
        get("/token/", format!("Basic {}", bench.token)).send().await?.status(),
        401,
        "of a private registry"
    );
    assert_eq!(
        get("/v2/", format!("Bearer {token}")).send().await?.status(),
        200,
        "as AWS documents it"
    );
    assert_eq!(get("/v2/", format!("Basic {token}")).send().await?.status(), 401);

    for (allowed, missing) in [
        ("ecr-public:*", "sts:GetServiceBearerToken"),
        ("sts:*", "ecr-public:GetAuthorizationToken"),
    ] {
        let statement = json!({"Effect": "Allow", "Action": [allowed], "Resource": "*"});
        bench
            .ecr
            .put_user_policy(ACCOUNT, json!({"Version": "2012-10-17", "Statement": [statement]}));
        let error = bench.aws_error(&ask).await;
        assert!(error.contains(missing), "{error}");
    }
    Ok(())
}
