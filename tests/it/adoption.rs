//! Repositories that exist already: who may adopt them.

use serde_json::json;

use crate::support::{ACCOUNT, REGION, Rig, condition};

const OWNER_TAG: &str = "ecr-sync.io/owner";

#[tokio::test]
async fn a_repository_of_nobody_is_adopted_only_where_the_operator_allows_it() {
    let rig = Rig::new("adoption").await;
    let tenants = rig.folder().join("tenants.yaml");
    std::fs::write(
        &tenants,
        "tenants: [{namespaces: [adoption], repositories: [team/*], sources: ['*']}, \
         {namespaces: [another], repositories: ['*'], sources: ['*']}]",
    )
    .expect("a file");
    let tenants = tenants.display().to_string();
    let flags = ["--adoption", "shared/*,other", "--tenants", &tenants];
    for name in ["team/app", "foreign"] {
        rig.ecr.create_repository(ACCOUNT, REGION, name, [].into());
    }

    // A tenant that lists the repository is a permission to adopt it.
    let operator = rig.operator_with(&flags, &[]).await;
    rig.apply("listed", json!({"repositoryName": "team/app"})).await;
    rig.wait_synced("listed").await;
    rig.apply("foreign", json!({})).await;
    rig.wait_ready("foreign", "False", "AccessDenied").await;
    assert_eq!(operator.terminate().await, 0);

    // Without tenants, the names decide.
    let _operator = rig.operator_with(&["--adoption", "shared/*,other"], &[]).await;
    rig.ecr.create_repository(ACCOUNT, REGION, "shared/app", [].into());
    let image = rig.image("library/demo", &["1.26"]);
    rig.apply("shared", json!({"repositoryName": "shared/app", "image": image})).await;
    rig.wait_synced("shared").await;
    rig.apply("foreign", json!({"image": image, "resourceTags": {"team": "a"}})).await;
    let object = rig.wait_ready("foreign", "False", "RepositoryNotOwned").await;
    let (_, _, message) = condition(&object, "Ready").expect("set");
    assert!(
        message.contains("does not let namespace adoption adopt it")
            && message.contains("--adoption"),
        "{message}"
    );
    let foreign = rig.repository("foreign");
    assert!(foreign.tags.is_empty() && foreign.resource_tags.is_empty(), "{foreign:?}");

    // A repository that the resource has adopted already stays its own.
    rig.force("listed", "now").await;
    rig.wait_synced("listed").await;
}

#[tokio::test]
async fn by_default_nothing_is_adopted_but_what_the_namespace_has_left() {
    let rig = Rig::new("adopt-nothing").await;
    let _operator = rig.operator_with(&["--cluster-id=c"], &[("ADOPTION", "")]).await;
    let left = |namespace: &str| (OWNER_TAG.to_owned(), format!("c/{namespace}/gone"));
    rig.ecr.create_repository(ACCOUNT, REGION, "own", [left("adopt-nothing")].into());
    rig.ecr.create_repository(ACCOUNT, REGION, "theirs", [left("another")].into());
    rig.ecr.create_repository(ACCOUNT, REGION, "bare", [].into());

    for name in ["own", "new"] {
        rig.apply(name, json!({})).await;
        rig.wait_synced(name).await;
    }
    for name in ["theirs", "bare"] {
        rig.apply(name, json!({"adoptionPolicy": "Always"})).await;
        rig.wait_ready(name, "False", "RepositoryNotOwned").await;
    }
    assert_eq!(rig.repository("theirs").resource_tags, [left("another")].into());
}
