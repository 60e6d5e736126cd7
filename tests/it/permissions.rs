//! The policy that `ecr-sync iam-policy` prints is sufficient and minimal.

use ecr_sync::class::Class;
use ecr_sync::sync::{Earlier, Failure, Mode};
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use testbed::chart_repository::ChartRepository;
use testbed::ecr::{self, StandIn};
use tokio_util::sync::CancellationToken;

use crate::support::desk::{Desk, output};
use crate::support::engine::{engine, job};
use crate::support::{ACCOUNT, REGION, Sources};

const NAME: &str = "platform/app";

/// The life of a repository: created with all features, changed and emptied, deleted. The content
/// of the files of each stage.
fn stages(source: &str, charts: &str) -> Vec<Value> {
    let rule = json!({"rulePriority": 1, "selection": {"tagStatus": "untagged",
        "countType": "imageCountMoreThan",
                      "countNumber": 100}, "action": {"type": "expire"}});
    let statement = json!({"Sid": "Pull", "Effect": "Allow",
        "Principal": {"AWS": "arn:aws:iam::210987654321:root"},
                           "Action": ["ecr:BatchGetImage"]});
    let made = json!({
        "repositoryName": NAME,
        "image": {"pullUrl": format!("{source}/library/demo"), "tags": ["1.27"], "insecure": true},
        "chart": {"pullUrl": format!("http://{charts}/stable"), "name": "nginx",
            "tags": ["15.0.2"]},
        "lifecyclePolicy": {"rules": [rule]},
        "permissionPolicy": {"Version": "2012-10-17", "Statement": [statement]},
        "resourceTags": {"team": "platform"},
        "imageTagMutability": "Mutable",
        "scanOnPush": true,
        "encryption": {"type": "KMS", "kmsKey": "alias/team"},
        "archivedImages": "Restore",
        "deletionPolicy": "ForceDelete",
    });
    let mut changed = made.clone();
    changed["image"]["tags"] = json!(["1.27", "1.26"]);
    changed["lifecyclePolicy"] = json!({"rules": []});
    changed["permissionPolicy"] = json!({"Statement": []});
    changed["resourceTags"] = json!({"owner": "platform"});
    changed["imageTagMutability"] = json!("Immutable");
    changed["scanOnPush"] = json!(false);
    let mut pruned = changed.clone();
    pruned["image"]["tags"] = json!(["1.27"]);
    pruned["prune"] = json!({"enabled": true, "maxPercent": 100, "minUnpulled": "0s"});
    vec![made, changed, pruned]
}

/// The failures over the life of a repository with this policy.
async fn live(stages: &[Value], policy: &Value) -> Vec<Failure> {
    let ecr = StandIn::start(ecr::Config::default()).await.expect("the stand-in starts");
    ecr.put_user_policy(ACCOUNT, policy.clone());
    let engine = engine(&ecr);
    let before = Earlier {
        managed_tag_keys: ["team".to_owned()].into(),
        inspects: true,
        ..Earlier::default()
    };
    let job = |spec: &Value| job(spec, before.clone());
    let stop = CancellationToken::new();
    let mut failures = Vec::new();
    for spec in stages {
        let report = engine.sync(&job(spec), Mode::Apply, &stop).await;
        failures.extend(report.shortfalls().cloned());
        ecr.archive(ACCOUNT, REGION, NAME, "1.27");
    }
    let Some(last) = stages.last() else { return failures };
    // A tag that a rule archived is restored.
    failures.extend(engine.sync(&job(last), Mode::Apply, &stop).await.failures().cloned());
    failures.extend(engine.delete(&job(last)).await.err());
    if failures.is_empty() {
        assert_eq!(ecr.repositories(ACCOUNT, REGION), Vec::<String>::new(), "deleted in the end");
    }
    failures
}

/// The policy for these specs, as the command prints it.
async fn printed(desk: &Desk, specs: &[Value]) -> Value {
    let manifests: Vec<_> = specs
        .iter()
        .enumerate()
        .map(|(index, spec)| {
            let manifest = json!({"apiVersion": "ecr-sync.io/v1alpha1", "kind": "EcrRepositorySync",
                                  "metadata": {"name": format!("stage-{index}")}, "spec": spec});
            desk.write(&format!("stage-{index}.json"), &manifest.to_string())
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    let mut all: Option<Value> = None;
    // One file at a time, because a duplicate repository is an error.
    for path in &manifests {
        let arguments = ["iam-policy", "--account-id", ACCOUNT, "--region", REGION, path];
        let printed = output(desk.command(&arguments)).await;
        assert!(printed.status.success(), "{printed:?}");
        let policy: Value = serde_json::from_slice(&printed.stdout).expect("JSON");
        match &mut all {
            None => all = Some(policy),
            Some(all) => {
                let more = policy["Statement"].as_array().expect("a list").clone();
                all["Statement"].as_array_mut().expect("a list").extend(more);
            }
        }
    }
    all.expect("a policy")
}

fn actions(policy: &Value) -> Vec<String> {
    let statements = policy["Statement"].as_array().expect("a list").iter();
    let actions =
        statements.flat_map(|statement| statement["Action"].as_array().expect("a list").iter());
    let mut actions: Vec<_> = actions.filter_map(Value::as_str).map(str::to_owned).collect();
    actions.sort_unstable();
    actions.dedup();
    actions
}

/// The policy without one action.
fn without(policy: &Value, action: &str) -> Value {
    let mut policy = policy.clone();
    for statement in policy["Statement"].as_array_mut().expect("a list") {
        statement["Action"].as_array_mut().expect("a list").retain(|other| other != action);
    }
    policy
}

#[tokio::test]
async fn the_printed_policy_is_enough_and_each_action_of_it_is_missed() {
    let sources = Sources::shared().await;
    let desk = Desk::before(sources.open.host()).await;
    let charts = ChartRepository::start(desk.folder.path().join("charts"), None)
        .await
        .expect("a chart repository");
    charts.package("stable", "nginx", "15.0.2").await.expect("helm packages it");
    charts.index("stable").await.expect("helm indexes it");
    let stages = stages(sources.open.host(), charts.host());
    let policy = printed(&desk, &stages).await;
    let failures = live(&stages, &policy).await;
    assert!(failures.is_empty(), "{failures:#?}");

    let actions = actions(&policy);
    assert!(actions.len() > 20, "{actions:?}");
    let (stages, policy) = (&stages, &policy);
    let missed = stream::iter(&actions).map(|action| async move {
        let failures = live(stages, &without(policy, action)).await;
        let words = format!("not authorized to perform: {action} on resource: ");
        let is_denial = |class| matches!(class, Class::AccessDenied | Class::PruneBlocked);
        let named = failures.iter().any(|f| is_denial(f.class) && f.message.contains(&words));
        assert!(named, "without {action}: {failures:#?}");
    });
    missed.buffer_unordered(4).collect::<Vec<()>>().await;
}

#[tokio::test]
async fn a_role_gets_its_actions_and_the_operator_the_permission_to_assume_it() {
    let sources = Sources::shared().await;
    let desk = Desk::before(sources.open.host()).await;
    let role = "arn:aws:iam::999999999999:role/sync";
    desk.write(
        "all.yaml",
        &format!(
            "apiVersion: ecr-sync.io/v1alpha1\nkind: EcrRepositorySync\n\
             metadata: {{name: theirs}}\n\
             spec: {{registry: {{roleArn: '{role}', region: us-east-1}}}}\n---\n- name: ours\n"
        ),
    );
    let run = async |flags: &[&str]| {
        let arguments =
            [&["iam-policy", "all.yaml", "--account-id", ACCOUNT, "--region", REGION], flags]
                .concat();
        let printed = output(desk.command(&arguments)).await;
        assert!(printed.status.success(), "{printed:?}");
        serde_json::from_slice::<Value>(&printed.stdout).expect("JSON")["Statement"].clone()
    };
    let basic = ["ecr:CreateRepository", "ecr:DescribeRepositories", "ecr:ListTagsForResource"];
    let ours = "arn:aws:ecr:eu-west-1:123456789012:repository/ours";
    assert_eq!(
        run(&["--one-shot"]).await,
        json!([{"Effect": "Allow", "Action": basic, "Resource": [ours]},
               {"Effect": "Allow", "Action": ["sts:AssumeRole"], "Resource": [role]}])
    );
    let marked = [&basic[..], &["ecr:TagResource"]].concat();
    let theirs = "arn:aws:ecr:us-east-1:999999999999:repository/theirs";
    assert_eq!(
        run(&["--role", role]).await,
        json!([{"Effect": "Allow", "Action": marked, "Resource": [theirs]}])
    );
}
