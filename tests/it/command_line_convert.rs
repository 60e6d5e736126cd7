//! `convert` and `import`: from files and from ECR to manifests that mean the same.

use serde_json::Value;
use testbed::traffic::Plane;

use crate::support::desk::{Desk, output};
use crate::support::{ACCOUNT, REGION, Rig, Sources};

async fn stdout(desk: &Desk, arguments: &[&str]) -> String {
    let output = output(desk.command(arguments)).await;
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// The lines of the plan, by repository.
async fn plan(desk: &Desk, path: &str) -> Vec<(Value, Value)> {
    let text = stdout(desk, &["sync", path, "--dry-run", "-o", "json"]).await;
    let report: Value = serde_json::from_str(&text).expect("JSON");
    let repositories = report["repositories"].as_array().expect("a list");
    repositories.iter().map(|r| (r["name"].clone(), r["diff"].clone())).collect()
}

/// Both formats of the older tool, with values that YAML misreads.
fn files(desk: &Desk) -> String {
    let host = desk.source.host();
    format!(
        "repositories:\n- name: team/app\n  image: {{pull_url: \"{host}/team/app:v1\", tags: \
         [\"v1\", \"v2\"], insecure: true}}\n  lifecyclePolicy:\n    rules:\n    \
         - rulePriority: 1\n      selection: {{tagStatus: any, countType: imageCountMoreThan, \
         countNumber: 10}}\n      action: {{type: expire}}\n  permissionPolicy:\n    \
         Version: \"2012-10-17\"\n    Statement:\n    - {{Sid: AllowPull, Effect: Allow, \
         Principal: {{AWS: \"arn:aws:iam::123456789012:root\"}}, Action: \
         [\"ecr:BatchGetImage\"]}}\n\
         - name: team_app\n  resource_tags: {{cost: \"0042\", on: \"yes\"}}\n- name: empty\n"
    )
}

#[tokio::test]
async fn converted_files_give_the_same_plan_and_the_api_server_accepts_them() {
    let rig = Rig::new("convert").await;
    let desk = Desk::before(Sources::shared().await.open.host()).await;
    desk.write("old/all.yml", &files(&desk));
    let manifests = stdout(&desk, &["convert", "old", "--namespace", &rig.namespace]).await;
    let path = desk.write("new/all.yaml", &manifests);

    let (old, new) = (plan(&desk, "old").await, plan(&desk, "new").await);
    assert_eq!(old.len(), 3);
    assert!(
        old.iter().all(|(_, diff)| diff.as_array().is_some_and(|lines| !lines.is_empty())),
        "{old:?}"
    );
    assert_eq!(old, new, "{manifests}");

    let path = path.display().to_string();
    let said = rig.kubectl(&["apply", "--dry-run=server", "--filename", &path]).await;
    assert_eq!(
        said.lines().filter(|line| line.contains("created (server dry run)")).count(),
        3,
        "{said}"
    );
}

#[tokio::test]
async fn imported_repositories_plan_to_no_change() {
    let desk = Desk::before(Sources::shared().await.open.host()).await;
    let text = format!(
        "{}- name: settings\n  image_tag_mutability: ImmutableWithExclusion\n  \
         image_tag_mutability_exclusion_filters: [\"latest*\"]\n  scan_on_push: true\n\
         - name: other\n",
        files(&desk).replace("repositories:\n", "")
    );
    let synced = desk.sync(&text, &[]).await;
    assert!(synced.is_success(), "{}", synced.text);

    let mark = desk.ecr.mark();
    let manifests = stdout(&desk, &["import"]).await;
    assert!(desk.ecr.log_since(mark).iter().all(|r| r.plane == Plane::Control && !r.is_write()));
    desk.write("imported/all.yaml", &manifests);
    let check = ["sync", "imported", "--dry-run", "--exit-code"];
    let again = output(desk.command(&check)).await;
    assert_eq!(
        again.status.code(),
        Some(0),
        "{}{manifests}",
        String::from_utf8_lossy(&again.stdout)
    );
    let settings = desk.repository("settings");
    assert!(manifests.contains("imageTagMutability: ImmutableWithExclusion"), "{manifests}");
    assert!(settings.scan_on_push && manifests.contains("scanOnPush: true"), "{manifests}");

    // The manifests do have an effect: a difference is a change.
    desk.ecr.create_repository(
        ACCOUNT,
        REGION,
        "late",
        [("team".to_owned(), "a".to_owned())].into(),
    );
    let one = stdout(&desk, &["import", "--selector", "late", "--namespace", "platform"]).await;
    assert!(one.contains("name: late\n  namespace: platform\n"), "{one}");
    desk.write("late.yaml", &one.replace("team: a", "team: b"));
    let changed = output(desk.command(&["sync", "late.yaml", "--dry-run", "--exit-code"])).await;
    assert_eq!(changed.status.code(), Some(2));
    let none = output(desk.command(&["import", "--selector", "nothing*"])).await;
    assert_eq!(none.status.code(), Some(64));
}
