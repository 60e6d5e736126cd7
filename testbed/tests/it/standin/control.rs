//! The AWS CLI drives the control plane.

use serde_json::{Value, json};
use testbed::Error;

use super::{ACCOUNT, Bench, OCI_INDEX, OCI_MANIFEST};

#[tokio::test]
async fn a_repository_is_created_described_and_deleted() -> Result<(), Error> {
    let bench = Bench::new().await?;
    let tags = ["--tags", "Key=team,Value=platform"];
    let created = bench
        .aws(&[&["ecr", "create-repository", "--repository-name", "team/app"], &tags[..]].concat())
        .await?;
    let repository = &created["repository"];
    assert_eq!(
        repository["repositoryArn"],
        "arn:aws:ecr:eu-west-1:123456789012:repository/team/app"
    );
    assert_eq!(repository["repositoryUri"], format!("{}/team/app", bench.registry));
    assert_eq!(repository["imageTagMutability"], "MUTABLE");
    assert!(!repository["createdAt"].is_null(), "{repository}");

    let described =
        bench.aws(&["ecr", "describe-repositories", "--repository-names", "team/app"]).await?;
    assert_eq!(described["repositories"][0], *repository);
    let error =
        bench.aws_error(&["ecr", "create-repository", "--repository-name", "team/app"]).await;
    assert!(error.contains("RepositoryAlreadyExistsException"), "{error}");
    let error = bench
        .aws_error(&["ecr", "describe-repositories", "--repository-names", "team/app", "none"])
        .await;
    assert!(
        error.contains("(RepositoryNotFoundException)")
            && error.contains("does not exist in the registry"),
        "{error}"
    );
    let error = bench.aws_error(&["ecr", "create-repository", "--repository-name", "Team"]).await;
    assert!(error.contains("(InvalidParameterException)"), "{error}");

    let arn = repository["repositoryArn"].as_str().unwrap_or_default();
    bench.aws(&["ecr", "tag-resource", "--resource-arn", arn, "--tags", "Key=a,Value=b"]).await?;
    bench
        .aws(&["ecr", "untag-resource", "--resource-arn", arn, "--tag-keys", "team", "unknown"])
        .await?;
    let listed = bench.aws(&["ecr", "list-tags-for-resource", "--resource-arn", arn]).await?;
    assert_eq!(listed["tags"], json!([{"Key": "a", "Value": "b"}]));
    let error = bench
        .aws_error(&["ecr", "tag-resource", "--resource-arn", arn, "--tags", "Key=aws:a,Value=b"])
        .await;
    assert!(error.contains("InvalidTagParameterException"), "{error}");

    bench.push_image("team/app", "1", "delete").await?;
    let error =
        bench.aws_error(&["ecr", "delete-repository", "--repository-name", "team/app"]).await;
    assert!(error.contains("RepositoryNotEmptyException"), "{error}");
    bench.aws(&["ecr", "delete-repository", "--repository-name", "team/app", "--force"]).await?;
    assert!(bench.ecr.repositories(ACCOUNT, super::REGION).is_empty());
    Ok(())
}

#[tokio::test]
async fn policies_read_back_reordered_with_the_same_meaning() -> Result<(), Error> {
    let bench = Bench::new().await?;
    bench.create("app");
    let rule = |priority: u64, list: &[&str]| {
        json!({"rulePriority": priority, "action": {"type": "expire"},
            "selection": {"tagStatus": "tagged",
            "tagPatternList": list, "countType": "imageCountMoreThan", "countNumber": 3}})
    };
    let text = json!({"rules": [rule(20, &["b*"]), rule(10, &["a*", "*z"])]}).to_string();
    bench
        .aws(&[
            "ecr",
            "put-lifecycle-policy",
            "--repository-name",
            "app",
            "--lifecycle-policy-text",
            &text,
        ])
        .await?;
    let got = bench.aws(&["ecr", "get-lifecycle-policy", "--repository-name", "app"]).await?;
    let got: Value = serde_json::from_str(got["lifecyclePolicyText"].as_str().unwrap_or_default())?;
    assert_eq!(got["rules"][0]["rulePriority"], 10);
    assert_eq!(got["rules"][0]["selection"]["tagPatternList"], json!(["*z", "a*"]));
    assert_eq!(got["rules"][1]["selection"]["tagPatternList"], json!(["b*"]));

    let input = json!({"repositoryName": "app", "lifecyclePolicyText": "{\"rules\":[]}"});
    let (status, error) = bench.call("PutLifecyclePolicy", &input).await?;
    assert_eq!((status, &error["__type"]), (400, &json!("InvalidParameterException")));
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|words| words.contains("greater than or equal to 100")),
        "{error}"
    );
    bench.aws(&["ecr", "delete-lifecycle-policy", "--repository-name", "app"]).await?;
    let error =
        bench.aws_error(&["ecr", "delete-lifecycle-policy", "--repository-name", "app"]).await;
    assert!(error.contains("LifecyclePolicyNotFoundException"), "{error}");

    let policy = json!({"Version": "2012-10-17", "Statement": [{"Sid": "pull", "Effect": "Allow",
        "Principal": {"AWS": ["111111111111", "222222222222", "333333333333"]},
        "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]}]})
    .to_string();
    bench
        .aws(&[
            "ecr",
            "set-repository-policy",
            "--repository-name",
            "app",
            "--policy-text",
            &policy,
        ])
        .await?;
    let mut seen = std::collections::HashSet::new();
    for _ in 0..3 {
        let got = bench.aws(&["ecr", "get-repository-policy", "--repository-name", "app"]).await?;
        let text = got["policyText"].as_str().unwrap_or_default().to_owned();
        let got: Value = serde_json::from_str(&text)?;
        let mut principals =
            got["Statement"][0]["Principal"]["AWS"].as_array().cloned().unwrap_or_default();
        principals.sort_by_key(Value::to_string);
        assert_eq!(principals[0], "arn:aws:iam::111111111111:root");
        assert_eq!(principals.len(), 3);
        seen.insert(text);
    }
    assert_eq!(seen.len(), 3, "every read shuffles");
    let bad = ["ecr", "set-repository-policy", "--repository-name", "app", "--policy-text", "{}"];
    let error = bench.aws_error(&bad).await;
    assert!(error.contains("Invalid repository policy provided"), "{error}");
    bench.aws(&["ecr", "delete-repository-policy", "--repository-name", "app"]).await?;
    let error =
        bench.aws_error(&["ecr", "get-repository-policy", "--repository-name", "app"]).await;
    assert!(error.contains("RepositoryPolicyNotFoundException"), "{error}");
    Ok(())
}

#[tokio::test]
async fn images_are_listed_in_pages_described_and_deleted() -> Result<(), Error> {
    let bench = Bench::new().await?;
    bench.create("app");
    let (body, digest) = bench.push_image("app", "t0", "pages").await?;
    for n in 1..150 {
        assert_eq!(
            bench.put_manifest("app", &format!("t{n}"), OCI_MANIFEST, &body).await?.status(),
            201
        );
    }
    let mark = bench.ecr.mark();
    let listed = bench.aws(&["ecr", "list-images", "--repository-name", "app"]).await?;
    assert_eq!(listed["imageIds"].as_array().map(Vec::len), Some(150));
    assert_eq!(bench.ecr.log_since(mark).len(), 2, "two pages");

    let id = ["--image-ids", "imageTag=t7"];
    let described = bench
        .aws(&[&["ecr", "describe-images", "--repository-name", "app"], &id[..]].concat())
        .await?;
    let details = &described["imageDetails"][0];
    assert_eq!(details["imageDigest"], digest);
    assert_eq!(details["imageTags"].as_array().map(Vec::len), Some(150));
    assert_eq!(details["imageManifestMediaType"], OCI_MANIFEST);
    assert_eq!(details["lastRecordedPullTime"], Value::Null, "looking is not pulling");
    let missing = [
        "ecr",
        "describe-images",
        "--repository-name",
        "app",
        "--image-ids",
        "imageTag=t7",
        "imageTag=none",
    ];
    let error = bench.aws_error(&missing).await;
    assert!(
        error.contains("(ImageNotFoundException)") && error.contains("imageTag:'none'"),
        "{error}"
    );

    let got = [
        "ecr",
        "batch-get-image",
        "--repository-name",
        "app",
        "--image-ids",
        "imageTag=t1",
        "imageTag=none",
    ];
    let got = bench.aws(&got).await?;
    assert_eq!(got["images"][0]["imageManifest"].as_str().map(str::as_bytes), Some(&body[..]));
    assert_eq!(got["failures"][0]["failureCode"], "ImageNotFound");
    assert!(
        bench.view("app").images[&digest].last_recorded_pull_time.is_some(),
        "BatchGetImage is pulling"
    );

    bench.ecr.archive(ACCOUNT, super::REGION, "app", "t7");
    let error = bench
        .aws_error(&[&["ecr", "describe-images", "--repository-name", "app"], &id[..]].concat())
        .await;
    assert!(error.contains("ImageNotFoundException"), "{error}");
    let any = ["ecr", "list-images", "--repository-name", "app", "--filter", "tagStatus=TAGGED"];
    assert_eq!(bench.aws(&any).await?["imageIds"], json!([]));

    let delete = ["ecr", "batch-delete-image", "--repository-name", "app", "--image-ids"];
    let by_tag = bench.aws(&[&delete[..], &["imageTag=t3", "imageTag=none"]].concat()).await?;
    assert_eq!(by_tag["failures"][0]["failureCode"], "ImageNotFound");
    assert_eq!(bench.view("app").tags.len(), 149);
    bench.aws(&[&delete[..], &[format!("imageDigest={digest}").as_str()]].concat()).await?;
    assert!(bench.view("app").images.is_empty());
    Ok(())
}

#[tokio::test]
async fn what_an_index_names_keeps_its_last_tag() -> Result<(), Error> {
    let bench = Bench::new().await?;
    bench.create("app");
    let (child, digest) = bench.push_image("app", "amd64", "child").await?;
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [
        {"mediaType": OCI_MANIFEST, "digest": digest, "size": child.len()}]});
    bench
        .put_manifest("app", "all", OCI_INDEX, index.to_string().as_bytes())
        .await?
        .error_for_status()?;
    bench.put_manifest("app", "linux", OCI_MANIFEST, &child).await?.error_for_status()?;
    let delete = async |id: &str| {
        let call = ["ecr", "batch-delete-image", "--repository-name", "app", "--image-ids", id];
        let answer = bench.aws(&call).await?;
        Ok::<_, Error>(
            answer["failures"][0]["failureCode"].as_str().unwrap_or("deleted").to_owned(),
        )
    };
    let other = super::digest(b"other");
    assert_eq!(
        delete(&format!("imageTag=linux,imageDigest={other}")).await?,
        "ImageTagDoesNotMatchDigest"
    );
    assert_eq!(delete("imageTag=linux").await?, "deleted", "another tag is left");
    let both = format!("imageTag=amd64,imageDigest={digest}");
    for id in ["imageTag=amd64".to_owned(), format!("imageDigest={digest}"), both] {
        assert_eq!(delete(&id).await?, "ImageReferencedByManifestList", "{id}");
    }
    assert_eq!(delete("imageTag=all").await?, "deleted");
    assert_eq!(delete("imageTag=amd64").await?, "deleted", "nothing names it any more");
    assert!(bench.view("app").images.is_empty());
    Ok(())
}

#[tokio::test]
async fn put_image_tells_what_is_there_already() -> Result<(), Error> {
    let bench = Bench::new().await?;
    bench.create("app");
    let (body, _) = bench.push_image("app", "1", "put").await?;
    let body = String::from_utf8(body)?;
    let put = |tag: &'static str| {
        [
            "ecr",
            "put-image",
            "--repository-name",
            "app",
            "--image-manifest",
            &body,
            "--image-tag",
            tag,
        ]
        .map(str::to_owned)
    };
    let call = |args: [String; 8]| async {
        let args = args;
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        bench.aws(&args).await
    };
    assert!(call(put("2")).await.is_ok());
    let error = call(put("2")).await.expect_err("nothing changed").to_string();
    assert!(error.contains("(ImageAlreadyExistsException)"), "{error}");
    let mutability = [
        "ecr",
        "put-image-tag-mutability",
        "--repository-name",
        "app",
        "--image-tag-mutability",
        "IMMUTABLE",
    ];
    bench.aws(&mutability).await?;
    let error = call(put("2")).await.expect_err("the tag is immutable").to_string();
    assert!(error.contains("(ImageTagAlreadyExistsException)"), "{error}");
    assert!(call(put("3")).await.is_ok());
    Ok(())
}

#[tokio::test]
async fn account_settings_layers_tokens_and_identity() -> Result<(), Error> {
    let bench = Bench::new().await?;
    bench.create("app");
    let name = ["--name", "BLOB_MOUNTING"];
    let read = [&["ecr", "get-account-setting"], &name[..]].concat();
    assert_eq!(bench.aws(&read).await?["value"], "DISABLED");
    bench
        .aws(&[&["ecr", "put-account-setting"], &name[..], &["--value", "ENABLED"]].concat())
        .await?;
    assert_eq!(bench.aws(&read).await?["value"], "ENABLED");

    let known = bench.push_blob("app", b"layer").await?;
    let unknown = super::digest(b"unknown");
    let check =
        ["ecr", "batch-check-layer-availability", "--repository-name", "app", "--layer-digests"];
    let checked =
        bench.aws(&[&check[..], &[known.as_str(), unknown.as_str(), "sha256:12"]].concat()).await?;
    assert_eq!(checked["layers"][0]["layerAvailability"], "AVAILABLE");
    assert_eq!(checked["layers"][1]["layerAvailability"], "UNAVAILABLE");
    assert_eq!(checked["failures"][0]["layerDigest"], "sha256:12");

    let token = bench.aws(&["ecr", "get-authorization-token"]).await?;
    let token = &token["authorizationData"][0];
    assert_eq!(token["proxyEndpoint"], format!("http://{}", bench.registry));
    assert_eq!(bench.aws(&["ecr", "describe-registry"]).await?["registryId"], ACCOUNT);
    assert_eq!(bench.aws(&["sts", "get-caller-identity"]).await?["Account"], ACCOUNT);
    let role = [
        "sts",
        "assume-role",
        "--role-session-name",
        "test",
        "--role-arn",
        "arn:aws:iam::999999999999:role/sync",
    ];
    let key = bench.aws(&role).await?["Credentials"]["AccessKeyId"].clone();
    assert!(key.as_str().is_some_and(|key| key.starts_with("ASIA999999999999")), "{key}");
    Ok(())
}

#[tokio::test]
async fn denials_and_limits_speak_as_aws_does() -> Result<(), Error> {
    let bench = Bench::new().await?;
    bench.create("team/app");
    bench.ecr.deny("ecr:GetLifecyclePolicy", "team/*");
    let get = ["ecr", "get-lifecycle-policy", "--repository-name", "team/app"];
    let error = bench.aws_error(&get).await;
    assert!(error.contains("(AccessDeniedException)"), "{error}");
    assert!(
        error.contains(
            "is not authorized to perform: ecr:GetLifecyclePolicy on resource: arn:aws:ecr:"
        ),
        "{error}"
    );
    bench.ecr.allow_all();

    bench.ecr.deny("ecr:TagResource", "*");
    let create =
        ["ecr", "create-repository", "--repository-name", "tagged", "--tags", "Key=a,Value=b"];
    assert!(bench.aws_error(&create).await.contains("ecr:TagResource"));
    bench.aws(&["ecr", "create-repository", "--repository-name", "untagged"]).await?;
    bench.ecr.allow_all();

    bench.ecr.limits("GetLifecyclePolicy", 0.001, 1);
    assert!(bench.aws_error(&get).await.contains("(LifecyclePolicyNotFoundException)"));
    let error = bench.aws_error(&get).await;
    assert!(error.contains("(ThrottlingException)") && error.contains("Rate exceeded"), "{error}");
    let error = bench.aws_error(&["ecr", "describe-repository-creation-templates"]).await;
    assert!(error.contains("UnknownOperationException"), "{error}");
    Ok(())
}
