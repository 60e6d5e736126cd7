//! Independent clients read the copies.

use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use serde_json::json;

use crate::support::{ACCOUNT, REGION, Rig};

#[tokio::test]
async fn crane_regctl_oras_and_oci_client_read_the_sources_digests() {
    let rig = Rig::new("readers").await;
    let _operator = rig.operator().await;
    let wanted = [
        ("library/demo", vec!["1.26", "1.27", "latest"]),
        ("team/app", vec!["v1", "v2", "v3"]),
        ("team/artifact", vec!["v1"]),
    ];
    for (index, (repository, tags)) in wanted.iter().enumerate() {
        rig.apply(
            &format!("r{index}"),
            json!({"repositoryName": repository, "image": rig.image(repository, tags)}),
        )
        .await;
    }
    for index in 0..wanted.len() {
        rig.wait_synced(&format!("r{index}")).await;
    }
    let registry = rig.ecr.registry(ACCOUNT, REGION).await;
    let token = rig.ecr.authorization_token(ACCOUNT, REGION);
    let config = json!({"auths": {&registry: {"auth": token}}}).to_string();
    std::fs::write(rig.folder().join("config.json"), config).expect("a docker config");
    let regctl = json!({"hosts": {&registry: {"tls": "disabled"}}}).to_string();
    std::fs::write(rig.folder().join("regctl.json"), regctl).expect("a regctl config");
    let folder = rig.folder().to_string_lossy().into_owned();
    let regctl_config = format!("{folder}/regctl.json");
    let environment =
        [("DOCKER_CONFIG", folder.as_str()), ("REGCTL_CONFIG", regctl_config.as_str())];
    let run = async |tool: &str, arguments: &[&str]| {
        testbed::tools::run(tool, arguments, &environment)
            .await
            .unwrap_or_else(|error| panic!("{tool}: {error}"))
    };
    let oci = oci_client::Client::new(ClientConfig {
        protocol: ClientProtocol::Http,
        ..ClientConfig::default()
    });
    let password = rig_password(&token);
    let auth = RegistryAuth::Basic("AWS".to_owned(), password);

    for (repository, tags) in &wanted {
        for tag in tags {
            let image = format!("{registry}/{repository}:{tag}");
            let digest = rig.sources.seeded.digest(repository, tag).to_owned();
            assert_eq!(run("crane", &["digest", &image]).await.trim(), digest, "crane {image}");
            assert_eq!(
                run("regctl", &["image", "digest", &image]).await.trim(),
                digest,
                "regctl {image}"
            );
            let described =
                run("oras", &["manifest", "fetch", "--descriptor", "--plain-http", &image]).await;
            let described: serde_json::Value =
                serde_json::from_str(&described).expect("a descriptor");
            assert_eq!(described["digest"], json!(digest), "oras {image}");
            let read = oci
                .fetch_manifest_digest(&image.parse().expect("a reference"), &auth)
                .await
                .expect("a digest");
            assert_eq!(read, digest, "oci-client {image}");
            if *repository != "team/artifact" {
                run("crane", &["validate", "--remote", &image]).await;
            }
        }
    }
}

/// The password in `base64("AWS:password")`.
fn rig_password(token: &str) -> String {
    use base64::Engine;
    let decoded = base64::engine::general_purpose::STANDARD.decode(token).expect("base64");
    String::from_utf8(decoded).expect("text").strip_prefix("AWS:").expect("AWS").to_owned()
}
