//! Operator-wide defaults, from files.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::desk::{Desk, output};
use crate::support::policies::{keep, pull};
use crate::support::{ACCOUNT, REGION, Rig, Sources};

/// The number of images that a repository should keep, if there is a lifecycle policy.
fn kept(policy: &Option<Value>) -> Option<u64> {
    policy.as_ref()?["rules"][0]["selection"]["countNumber"].as_u64()
}

/// The three files in `folder`, as arguments.
fn files(folder: &Path, lifecycle: &Value) -> Vec<String> {
    let tags = "team: platform\nstage: dev\n";
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("a file");
        path.to_string_lossy().into_owned()
    };
    vec![
        "--default-lifecycle-policy-file".to_owned(),
        write("lifecycle.json", &lifecycle.to_string()),
        "--default-permission-policy-file".to_owned(),
        write("permission.json", &pull("210987654321").to_string()),
        "--default-resource-tags-file".to_owned(),
        write("tags.yaml", tags),
    ]
}

#[tokio::test]
async fn created_repositories_get_all_defaults_and_adopted_ones_the_missing_ones() {
    let rig = Rig::new("defaults").await;
    let arguments = files(rig.folder(), &keep(7));
    let _operator =
        rig.operator_with(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), &[]).await;
    rig.ecr.create_repository(ACCOUNT, REGION, "bare", BTreeMap::new());
    let theirs = BTreeMap::from([("team".to_owned(), "theirs".to_owned())]);
    rig.ecr.create_repository(ACCOUNT, REGION, "adopted", theirs);
    assert!(rig.ecr.set_lifecycle_policy(ACCOUNT, REGION, "adopted", Some(&keep(3))));

    rig.apply("new", json!({})).await;
    rig.apply("own", json!({"lifecyclePolicy": keep(5), "resourceTags": {"team": "own"}})).await;
    rig.apply(
        "none",
        json!({"lifecyclePolicy": {"rules": []}, "permissionPolicy": {"Statement": []},
            "resourceTags": {}}),
    )
    .await;
    rig.apply("bare", json!({})).await;
    rig.apply("adopted", json!({})).await;
    // repository -> images that its lifecycle policy keeps, whether it has a permission policy,
    // team, stage
    let table = [
        ("new", Some(7), true, Some("platform"), Some("dev")),
        ("own", Some(5), true, Some("own"), Some("dev")),
        ("none", None, false, None, None),
        ("bare", Some(7), true, Some("platform"), Some("dev")),
        ("adopted", Some(3), true, Some("theirs"), Some("dev")),
    ];
    for (name, lifecycle, permission, team, stage) in table {
        rig.wait_synced(name).await;
        let view = rig.repository(name);
        let tag = |key: &str| view.resource_tags.get(key).map(String::as_str);
        let found =
            (kept(&view.lifecycle_policy), view.policy.is_some(), tag("team"), tag("stage"));
        assert_eq!(found, (lifecycle, permission, team, stage), "{name}");
    }

    // Another default: it applies to repositories that we created, not to existing ones.
    files(rig.folder(), &keep(9));
    for (name, lifecycle) in [
        ("new", Some(9)),
        ("own", Some(5)),
        ("none", None),
        ("bare", Some(7)),
        ("adopted", Some(3)),
    ] {
        rig.request(name, "now").await;
        assert_eq!(kept(&rig.repository(name).lifecycle_policy), lifecycle, "{name}");
    }

    // A default that becomes invalid changes nothing.
    std::fs::write(rig.folder().join("lifecycle.json"), "{\"rules\": ").expect("a file");
    rig.request("new", "later").await;
    assert_eq!(kept(&rig.repository("new").lifecycle_policy), Some(9));
}

#[tokio::test]
async fn a_file_that_cannot_be_used_ends_the_start() {
    let desk = Desk::before(Sources::shared().await.open.host()).await;
    desk.write("bad.json", "{\"Rules\": []}");
    desk.write("all.yaml", "- name: app\n");
    let flag = "--default-lifecycle-policy-file";
    let cases: [(&[&str], &str, &str); 4] = [
        (&["sync", "all.yaml"], "bad.json", "lifecyclePolicy: has no rules"),
        (&["sync", "all.yaml"], "absent.json", "cannot read absent.json"),
        (&["controller"], "bad.json", "lifecyclePolicy: has no rules"),
        (&["controller"], "absent.json", "cannot read absent.json"),
    ];
    for (command, file, problem) in cases {
        let run = output(desk.command(&[command, &[flag, file]].concat())).await;
        let text = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(
            run.status.code() == Some(64) && text.contains(problem),
            "{command:?} {file}: {:?} {text}",
            run.status
        );
    }
    assert_eq!(desk.ecr.log().len(), 0, "nothing was asked of AWS");
}

#[tokio::test]
async fn the_command_line_reads_the_older_tools_variables() {
    let desk = Desk::before(Sources::shared().await.open.host()).await;
    desk.write("lifecycle.json", &keep(7).to_string());
    desk.write("tags.json", "{\"team\": \"platform\"}");
    desk.write("all.yaml", "- name: app\n- {name: own, lifecycle_policy: {rules: []}}\n");
    let mut command = desk.command(&["sync", "all.yaml"]);
    command.envs([
        ("DEFAULT_LIFECYCLE_POLICY_FILE", "lifecycle.json"),
        ("DEFAULT_RESOURCE_TAGS_FILE", "tags.json"),
        ("DEFAULT_PERMISSION_POLICY_FILE", ""),
    ]);
    let run = output(command).await;
    assert!(run.status.success(), "{run:?}");
    let (app, own) = (desk.repository("app"), desk.repository("own"));
    assert_eq!((kept(&app.lifecycle_policy), kept(&own.lifecycle_policy)), (Some(7), None));
    assert_eq!(app.resource_tags.get("team").map(String::as_str), Some("platform"));
}
