//! The upstream registry is a real one, filled by others' tools, and asks for the login it is told
//! to ask for.

use std::time::{Duration, Instant};

use testbed::tools;
use testbed::upstream::{Auth, Upstream, User};

/// Small where the size does not matter.
const MIB: usize = 1 << 20;

#[tokio::test]
async fn the_seeded_content_is_valid_and_always_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(folder.path(), Auth::None).await.unwrap();
    let seeded = upstream.seed(5 * MIB).await.unwrap();
    for image in seeded.images.iter().filter(|image| image.repository != "team/artifact") {
        let reference = upstream.reference(&image.repository, &image.tag);
        upstream.crane(&["validate", "--remote", &reference]).await.unwrap();
    }
    assert_eq!(seeded.digest("library/demo", "1.27"), seeded.digest("library/demo", "latest"));
    assert_eq!(seeded.digest("library/demo", "1.27"), seeded.digest("public/demo", "1.27"));
    let repository = format!("{}/library/demo", upstream.host());
    assert_eq!(upstream.crane(&["ls", &repository]).await.unwrap(), "1.26\n1.27\nlatest");

    let index =
        upstream.crane(&["manifest", &upstream.reference("library/demo", "1.27")]).await.unwrap();
    let index: serde_json::Value = serde_json::from_str(&index).unwrap();
    assert_eq!(index["mediaType"], "application/vnd.oci.image.index.v1+json");
    let platforms: Vec<&str> =
        (0..2).filter_map(|n| index["manifests"][n]["platform"]["architecture"].as_str()).collect();
    assert_eq!(platforms, ["amd64", "arm64"]);

    let layers = async |tag: &str| {
        let manifest =
            upstream.crane(&["manifest", &upstream.reference("team/app", tag)]).await.unwrap();
        let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
        manifest["layers"].as_array().unwrap().clone()
    };
    let (v2, v3) = (layers("v2").await, layers("v3").await);
    assert_eq!((v2.len(), v3.len()), (2, 3));
    assert_eq!(v2[..], v3[..2], "v3 has the layers of v2");

    let referrers =
        tools::Call::new("oras").unwrap().args(["discover", "--plain-http", "--format", "json"]);
    let referrers =
        referrers.arg(upstream.reference("team/artifact", "v1")).output().await.unwrap();
    assert!(referrers.contains(&seeded.sbom), "{referrers}");

    let other = tempfile::tempdir().unwrap();
    let other = Upstream::start(other.path(), Auth::None).await.unwrap();
    assert_eq!(other.seed(5 * MIB).await.unwrap().images, seeded.images);
}

#[tokio::test]
async fn a_basic_login_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(folder.path(), Auth::Basic).await.unwrap();
    let seeded = upstream.seed(MIB).await.unwrap();
    let reference = upstream.reference("library/demo", "1.26");
    let digest = upstream.crane_as(User::Reader, &["digest", &reference]).await.unwrap();
    assert_eq!(digest, seeded.digest("library/demo", "1.26"));
    let nobody = tools::run("crane", &["digest", &reference], &[("DOCKER_CONFIG", "/nonexistent")])
        .await
        .unwrap_err();
    assert!(nobody.to_string().contains("401"), "{nobody}");
    assert_eq!(upstream.token_requests(), 0);
}

#[tokio::test]
async fn tokens_allow_what_the_user_may_do() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(folder.path(), Auth::TOKEN).await.unwrap();
    let seeded = upstream.seed(MIB).await.unwrap();
    assert!(upstream.token_requests() > 0);
    let demo = upstream.reference("library/demo", "1.27");
    let digest = upstream.crane_as(User::Reader, &["digest", &demo]).await.unwrap();
    assert_eq!(digest, seeded.digest("library/demo", "1.27"));
    let refused =
        upstream.crane_as(User::Reader, &["tag", &demo, "mine"]).await.unwrap_err().to_string();
    assert!(refused.contains("401") || refused.contains("UNAUTHORIZED"), "{refused}");

    let anonymous = [("DOCKER_CONFIG", "/nonexistent")];
    let refused =
        tools::run("crane", &["digest", &demo], &anonymous).await.unwrap_err().to_string();
    assert!(refused.contains("401"), "{refused}");
    let public = upstream.reference("public/demo", "1.27");
    let digest = tools::run("crane", &["digest", &public], &anonymous).await.unwrap();
    assert_eq!(digest.trim(), seeded.digest("public/demo", "1.27"));

    for client in ["regctl", "oras"] {
        let args: &[&str] = if client == "oras" {
            &["manifest", "fetch", "--plain-http", "--descriptor", &demo]
        } else {
            &["--host", &format!("reg={},tls=disabled", upstream.host()), "manifest", "head", &demo]
        };
        let call = tools::Call::new(client).unwrap().args(args);
        let out =
            call.env("DOCKER_CONFIG", upstream.docker_config(User::Reader)).output().await.unwrap();
        assert!(out.contains(seeded.digest("library/demo", "1.27")), "{client}: {out}");
    }
}

#[tokio::test]
async fn a_token_ends_when_its_life_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let life = Duration::from_secs(2);
    let upstream = Upstream::start(folder.path(), Auth::Token { life }).await.unwrap();
    let client = testbed::http::client();
    let challenge = client.get(format!("http://{}/v2/", upstream.host())).send().await.unwrap();
    let challenge = challenge.headers()["www-authenticate"].to_str().unwrap().to_owned();
    let realm = challenge.split('"').nth(1).unwrap();
    let token = client.get(realm).query(&[("service", "testbed registry")]);
    let token =
        token.basic_auth(User::Reader.name(), Some(User::Reader.password())).send().await.unwrap();
    let token: serde_json::Value = token.json().await.unwrap();
    assert_eq!(token["expires_in"], 2);
    let token = token["token"].as_str().unwrap();

    let status = async || {
        let request = client.get(format!("http://{}/v2/", upstream.host())).bearer_auth(token);
        request.send().await.unwrap().status().as_u16()
    };
    let start = Instant::now();
    assert_eq!(status().await, 200);
    while status().await == 200 {
        assert!(start.elapsed() < 5 * life, "the token is still good after {:?}", start.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    let wrong = client.get(realm).basic_auth("reader", Some("wrong")).send().await.unwrap();
    assert_eq!(wrong.status().as_u16(), 401);
    assert_eq!(upstream.token_requests(), 2);
}
