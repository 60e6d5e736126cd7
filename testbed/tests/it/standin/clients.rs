//! crane, regctl and oras push, pull, list and copy.

use serde_json::Value;
use testbed::{Error, layer};

use super::{ACCOUNT, Bench, REGION};

#[tokio::test]
async fn crane_pushes_validates_lists_and_copies() -> Result<(), Error> {
    let bench = Bench::new().await?;
    bench.create("team/app");
    bench.create("team/copy");
    let small = bench.file("small.tar", &layer::unique("hello", 100)?);
    let large = bench.file("large.tar", &layer::unique("noise", 20 << 20)?);
    let (small, large) =
        (small.to_string_lossy().into_owned(), large.to_string_lossy().into_owned());

    let amd64 = bench.at("team/app:amd64");
    let arm64 = bench.at("team/app:arm64");
    bench.run("crane", &["append", "-f", &small, "-f", &large, "-t", &amd64]).await?;
    bench.run("crane", &["append", "-f", &small, "-t", &arm64]).await?;
    let both = bench.at("team/app:1.0");
    bench.run("crane", &["index", "append", "-m", &amd64, "-m", &arm64, "-t", &both]).await?;
    bench.run("crane", &["validate", "--remote", &both]).await?;

    let tags = bench.run("crane", &["ls", &bench.at("team/app")]).await?;
    let mut tags: Vec<_> = tags.lines().collect();
    tags.sort_unstable();
    assert_eq!(tags, ["1.0", "amd64", "arm64"]);

    bench.run("crane", &["copy", &both, &bench.at("team/copy:1.0")]).await?;
    bench.run("crane", &["validate", "--remote", &bench.at("team/copy:1.0")]).await?;
    let (source, copy) = (bench.view("team/app"), bench.view("team/copy"));
    assert_eq!(source.tags["1.0"], copy.tags["1.0"]);
    assert_eq!(copy.images.len(), 3);

    let pulled = bench.folder().join("pulled.tar").to_string_lossy().into_owned();
    bench.run("crane", &["pull", &amd64, &pulled]).await?;
    assert!(std::fs::metadata(&pulled)?.len() > 20 << 20);
    // A pull is noticed, a push is not.
    assert!(bench.view("team/app").images[&source.tags["amd64"]].last_recorded_pull_time.is_some());
    Ok(())
}

#[tokio::test]
async fn crane_pushes_a_saved_image() -> Result<(), Error> {
    let bench = Bench::new().await?;
    bench.create("app");
    let layer =
        bench.file("layer.tar", &layer::unique("hello", 1000)?).to_string_lossy().into_owned();
    let saved = bench.folder().join("image.tar").to_string_lossy().into_owned();
    bench.run("crane", &["append", "-f", &layer, "-t", "local/app:1", "-o", &saved]).await?;
    bench.run("crane", &["push", &saved, &bench.at("app:1")]).await?;
    bench.run("crane", &["validate", "--remote", &bench.at("app:1")]).await?;
    let manifest = bench.run("crane", &["manifest", &bench.at("app:1")]).await?;
    let view = bench.view("app");
    assert_eq!(manifest.trim_end().as_bytes(), &view.images[&view.tags["1"]].manifest[..]);
    Ok(())
}

#[tokio::test]
async fn regctl_copies_inspects_and_lists() -> Result<(), Error> {
    let bench = Bench::new().await?;
    bench.create("app");
    bench.create("copy");
    let (manifest, digest) = bench.push_image("app", "v1", "regctl").await?;
    bench.run("regctl", &["image", "copy", &bench.at("app:v1"), &bench.at("copy:v1")]).await?;
    assert_eq!(bench.view("copy").images[&digest].manifest, manifest);
    assert_eq!(
        bench.run("regctl", &["image", "digest", &bench.at("copy:v1")]).await?.trim(),
        digest
    );
    assert_eq!(bench.run("regctl", &["tag", "ls", &bench.at("copy")]).await?.trim(), "v1");
    Ok(())
}

#[tokio::test]
async fn oras_pushes_attaches_discovers_and_pulls() -> Result<(), Error> {
    let bench = Bench::new().await?;
    bench.create("artifact");
    bench.file("hello.txt", b"hello");
    bench.file("sbom.json", b"{}");
    let (target, out) = (bench.at("artifact:1"), bench.folder().join("out"));
    bench.run("oras", &["push", "--plain-http", &target, "hello.txt:text/plain"]).await?;
    let kind = "application/vnd.example.sbom";
    bench
        .run("oras", &["attach", "--plain-http", "--artifact-type", kind, &target, "sbom.json"])
        .await?;
    let found =
        bench.run("oras", &["discover", "--plain-http", "--format", "json", &target]).await?;
    let found: Value = serde_json::from_str(&found)?;
    assert_eq!(found["referrers"][0]["artifactType"], kind, "{found}");
    // The referrers API was asked, not the fallback tag.
    assert!(
        bench.ecr.count(|record| record.operation == "ListReferrers" && record.status == Some(200))
            > 0
    );
    bench.run("oras", &["pull", "--plain-http", &target, "-o", &out.to_string_lossy()]).await?;
    assert_eq!(std::fs::read(out.join("hello.txt"))?, b"hello");
    Ok(())
}

#[tokio::test]
async fn crane_copies_between_regions_only_with_both_logins() -> Result<(), Error> {
    let bench = Bench::new().await?;
    bench.create("app");
    bench.push_image("app", "1", "regions").await?;
    bench.ecr.create_repository(ACCOUNT, "us-east-1", "app", Default::default());
    let other = bench.ecr.registry(ACCOUNT, "us-east-1").await;
    assert_ne!(other, bench.registry);
    let target = format!("{other}/app:1");
    assert!(bench.run("crane", &["copy", &bench.at("app:1"), &target]).await.is_err());

    let mut auths = serde_json::json!({});
    auths[&bench.registry]["auth"] = bench.token.as_str().into();
    auths[&other]["auth"] = bench.ecr.authorization_token(ACCOUNT, "us-east-1").into();
    bench.file("config.json", serde_json::json!({"auths": auths}).to_string().as_bytes());
    bench.run("crane", &["copy", &bench.at("app:1"), &target]).await?;
    let copied = bench.ecr.repository(ACCOUNT, "us-east-1", "app").expect("the repository exists");
    assert_eq!(
        copied.tags["1"],
        bench.ecr.repository(ACCOUNT, REGION, "app").expect("it exists").tags["1"]
    );
    Ok(())
}
