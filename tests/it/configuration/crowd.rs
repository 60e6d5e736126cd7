//! Many repositories at the same time, within the rate limits of ECR.

use serde_json::json;

use crate::support::Sources;
use crate::support::desk::Desk;
use crate::support::policies::keep;

const REPOSITORIES: usize = 200;

/// ECR publishes no rates for these calls. This assumes a rate far below that of the command line.
const RATES: [(&str, f64, u32); 3] = [
    ("CreateRepository", 20.0, 20),
    ("PutLifecyclePolicy", 20.0, 20),
    ("SetRepositoryPolicy", 20.0, 20),
];

#[tokio::test]
async fn no_throttle_surfaces_when_many_repositories_are_created_at_once() {
    let desk = Desk::before(Sources::shared().await.open.host()).await;
    desk.ecr.limits_like_ecr();
    for (action, per_second, burst) in RATES {
        desk.ecr.limits(action, per_second, burst);
    }
    let lifecycle = keep(9);
    let permission = json!({"Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "ecr:BatchGetImage",
        "Principal": {"AWS": "210987654321"}}]});
    let entry = |n: usize| {
        json!({"name": format!("team/app-{n}"), "lifecyclePolicy": lifecycle,
            "permissionPolicy": permission,
               "resourceTags": {"number": n.to_string()}})
    };
    let text = json!((0..REPOSITORIES).map(entry).collect::<Vec<_>>()).to_string();
    let run = desk.sync(&text, &["--max-parallel-operations=100"]).await;
    assert!(run.is_success() && !run.text.contains("Throttling"), "{}", run.text);
    let created = |code: u16| {
        desk.ecr.count(|request| {
            request.operation == "CreateRepository" && request.status == Some(code)
        })
    };
    assert_eq!(created(200), REPOSITORIES, "each once");
    assert!(created(400) > 0, "the limit was felt");
    let last = desk.repository(&format!("team/app-{}", REPOSITORIES - 1));
    assert!(
        last.lifecycle_policy.is_some()
            && last.policy.is_some()
            && last.resource_tags.contains_key("number")
    );
}
