//! The controller reads images from mirrors, with the login of the mirror, and falls back to the
//! original registry only if this is enabled.

use std::path::PathBuf;
use std::process::Command;

use ecr_sync::api::v1alpha1::EcrRepositorySync;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;
use testbed::proxy::Proxy;
use testbed::traffic::{Fault, Match, Record, Then};
use testbed::upstream::User;

use crate::support::{Operator, Rig, condition, docker_secret, eventually, login};

/// A source without a login, and a mirror of it with one.
struct Stage {
    rig: Rig,
    mirror: Proxy,
    table: PathBuf,
}

impl Stage {
    async fn new(name: &str) -> Self {
        let rig = Rig::new(name).await;
        let mirror = Proxy::start(rig.sources.basic.host()).await.expect("the proxy starts");
        // The mirror belongs to the operator: its login is not in the namespace of the resources.
        rig.namespace(&format!("{name}-home")).await;
        let table = rig.folder().join("mirrors.yaml");
        let stage = Self { rig, mirror, table };
        stage.create_login().await;
        stage
    }

    async fn create_login(&self) {
        let secrets: Api<Secret> =
            Api::namespaced(self.rig.client.clone(), &format!("{}-home", self.rig.namespace));
        let secret =
            docker_secret(&self.mirror.host(), User::Reader.name(), User::Reader.password());
        secrets.create(&PostParams::default(), &secret).await.expect("a Secret");
    }

    /// Writes the table, with additional fields of its entry.
    fn write(&self, more: &str) {
        let (source, mirror) = (self.rig.source.host(), self.mirror.host());
        let secret = format!(
            "credentialsSecretRef: {{name: login, namespace: {}-home}}",
            self.rig.namespace
        );
        let text = format!(
            "mirrors:\n- {{match: '{source}', rewrite: '{mirror}', insecure: true, \
             {secret}{more}}}\n"
        );
        std::fs::write(&self.table, text).expect("written");
    }

    /// Starts the operator. The tenants may read the original registry; nothing lists the mirror.
    async fn operator(&self) -> Operator {
        let tenants = self.rig.folder().join("tenants.yaml");
        let text = format!(
            "tenants: [{{namespaces: [{}], repositories: ['*'], sources: ['{}']}}]\n",
            self.rig.namespace,
            self.rig.source.host()
        );
        std::fs::write(&tenants, text).expect("written");
        let (mirrors, tenants) = (self.table.to_string_lossy(), tenants.to_string_lossy());
        self.rig.operator_with(&["--mirrors-file", &mirrors, "--tenants", &tenants], &[]).await
    }

    fn logins(&self) -> Vec<String> {
        self.mirror.log().iter().filter_map(login).collect()
    }
}

/// The location that was read, and the original image.
fn places(object: &EcrRepositorySync) -> (String, Option<String>) {
    let image = object.status.clone().and_then(|status| status.image).expect("an image");
    (image.source, image.original)
}

fn has_login(request: &Record) -> bool {
    request.headers.contains_key("authorization")
}

#[tokio::test]
async fn an_image_is_read_from_its_mirror_with_the_mirrors_login_and_both_places_are_named() {
    let stage = Stage::new("mirror-login").await;
    let Stage { rig, mirror, .. } = &stage;
    stage.write("");
    let _operator = stage.operator().await;
    // The login of the resource is for the original registry, which is not read, so the missing
    // Secret does not matter.
    let mut image = rig.image("team/app", &["v1"]);
    image["secretRef"] = json!({"name": "of-the-source"});
    rig.apply("app", json!({"image": image})).await;
    let object = rig.wait_synced("app").await;
    assert_eq!(rig.repository("app").tags["v1"], rig.sources.seeded.digest("team/app", "v1"));
    let (from, of) =
        (format!("{}/team/app", mirror.host()), format!("{}/team/app", rig.source.host()));
    assert_eq!(places(&object), (from.clone(), Some(of.clone())));
    let text = condition(&object, "ImageSynced").expect("set").2;
    assert_eq!(text, format!("1/1 tags from {from} (mirror of {of})"));
    assert_eq!(rig.source.count(|_| true), 0, "the original registry is not read");
    let logins = stage.logins();
    assert!(
        logins.len() > 2 && logins.iter().all(|name| name == User::Reader.name()),
        "{logins:?}"
    );

    // The operator reads the Secret of the table, and names it if it is missing.
    let secrets: Api<Secret> =
        Api::namespaced(rig.client.clone(), &format!("{}-home", rig.namespace));
    secrets.delete("login", &DeleteParams::default()).await.expect("deleted");
    rig.apply("without", json!({"image": rig.image("team/app", &["v1"])})).await;
    let object = rig.wait_ready("without", "False", "SecretNotFound").await;
    let text = condition(&object, "Ready").expect("set").2;
    let named = format!(
        "Secret mirror-login-home/login (login of the mirror of {}) does not exist",
        rig.source.host()
    );
    assert!(text.contains(&named), "{text}");
    stage.create_login().await;

    // The login of a resource is not sent to the mirror.
    let secrets: Api<Secret> = Api::namespaced(rig.client.clone(), &rig.namespace);
    let own = docker_secret(&rig.source.host(), User::Writer.name(), User::Writer.password());
    secrets.create(&PostParams::default(), &own).await.expect("a Secret");
    let mut image = rig.image("team/app", &["v2"]);
    image["secretRef"] = json!({"name": "login"});
    rig.apply("own", json!({"image": image})).await;
    rig.wait_synced("own").await;
    assert!(stage.logins().iter().all(|name| name == User::Reader.name()));
}

#[tokio::test]
async fn a_failed_mirror_is_passed_over_only_where_the_table_says_so() {
    let stage = Stage::new("mirror-fallback").await;
    let Stage { rig, mirror, .. } = &stage;
    stage.write("");
    let operator = stage.operator().await;
    for operation in ["HeadManifest", "GetManifest"] {
        mirror.faults().add(Fault::new(Match::operation(operation), Then::status(404)));
    }
    rig.apply("app", json!({"image": rig.image("team/app", &["v1"])})).await;
    let object = rig.wait_ready("app", "False", "SourceNotFound").await;
    let text = condition(&object, "Ready").expect("set").2;
    assert!(text.contains(&mirror.host()), "{text}");
    assert_eq!(rig.source.count(|_| true), 0, "the original registry is not read");

    // The changed table applies from the next pass on.
    stage.write(", fallback: true");
    let mut asked = 0;
    eventually("read from the original registry", async || {
        asked += 1;
        let object = rig.request("app", &asked.to_string()).await;
        condition(&object, "Ready").is_some_and(|(status, ..)| status == "True")
    })
    .await;
    let object = rig.resources().get("app").await.expect("there");
    let own = format!("{}/team/app", rig.source.host());
    assert_eq!(places(&object), (own.clone(), None));
    assert!(
        operator
            .log()
            .contains(&format!("{own} was read from its original registry, since its mirror")),
        "told"
    );
    assert!(!rig.source.log().iter().any(has_login), "the mirror's login is for the mirror");

    // A mirror that has the manifests but not the blobs: these are read from the original registry,
    // by digest.
    mirror.faults().clear();
    mirror.faults().add(Fault::new(Match::operation("GetBlob"), Then::status(404)));
    let mark = rig.source.mark();
    rig.apply("blobs", json!({"image": rig.image("team/app", &["v2"])})).await;
    let object = rig.wait_synced("blobs").await;
    assert_eq!(rig.repository("blobs").tags["v2"], rig.sources.seeded.digest("team/app", "v2"));
    assert_eq!(places(&object), (format!("{}/team/app", mirror.host()), Some(own)));
    let asked = rig.source.log_since(mark);
    assert!(asked.iter().any(|request| request.operation == "GetBlob"), "{asked:#?}");
    assert!(!asked.iter().any(has_login));
}

#[tokio::test]
async fn an_invalid_table_is_reported_and_the_previous_one_stays_in_effect() {
    let stage = Stage::new("mirror-table").await;
    let Stage { rig, mirror, table } = &stage;
    std::fs::write(table, "mirrors:\n- {match: docker.io}\n").expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ecr-sync"));
    let output =
        command.args(["controller", "--mirrors-file"]).arg(table).output().expect("it runs");
    assert_eq!(output.status.code(), Some(64), "a wrong table ends the start");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("mirrors.yaml: mirrors[0]: docker.io has no rewrite"), "{text}");

    stage.write("");
    let operator = stage.operator().await;
    let usable = async |wanted: u8| {
        let line = format!("ecrsync_file_usable{{file=\"mirrors\"}} {wanted}");
        let page = operator.get("/metrics").await.expect("a page").1;
        page.contains(&line)
    };
    assert!(usable(1).await);
    std::fs::write(table, "mirrors: [").expect("written");
    eventually("told to be unusable", async || usable(0).await).await;
    assert!(
        operator.log().contains("invalid content ignored; the previous content stays in effect")
    );
    rig.apply("app", json!({"image": rig.image("team/app", &["v1"])})).await;
    let object = rig.wait_synced("app").await;
    assert_eq!(places(&object).0, format!("{}/team/app", mirror.host()));
    stage.write(", fallback: true");
    eventually("told to be usable", async || usable(1).await).await;
}
