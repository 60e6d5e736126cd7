//! `ecr-sync sync` and `crd`, as a user runs them.

use std::process::Output;

use serde_json::json;
use testbed::traffic::{Fault, Match, Plane, Then};
use testbed::upstream::User;

use crate::support::desk::{Desk, output};
use crate::support::{ACCOUNT, REGION, Sources};

/// A desk whose source needs no login, and the sources.
async fn desk() -> (Desk, &'static Sources) {
    let sources = Sources::shared().await;
    (Desk::before(sources.open.host()).await, sources)
}

async fn run(desk: &Desk, arguments: &[&str]) -> Output {
    output(desk.command(arguments)).await
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Files of the older tool. Sources with plain HTTP are written as manifests, which have a field
/// for it.
fn files(host: &str) -> String {
    format!(
        r#"
- name: team/app
  image: {{pull_url: "{host}/team/app", tags: ["v1", "v2"], insecure: true}}
  lifecyclePolicy:
    rules:
      - rulePriority: 1
        selection: {{tagStatus: any, countType: imageCountMoreThan, countNumber: 10}}
        action: {{type: expire}}
- name: empty
---
apiVersion: ecr-sync.io/v1alpha1
kind: EcrRepositorySync
metadata: {{name: demo}}
spec:
  image: {{pullUrl: "{host}/library/demo:1.27", insecure: true}}
"#
    )
}

#[tokio::test]
async fn files_become_repositories_and_a_second_run_changes_nothing() {
    let (desk, sources) = desk().await;
    desk.write("repositories/all.yaml", &files(sources.open.host()));

    let dry = run(&desk, &["sync", "--dry-run", "repositories"]).await;
    assert!(dry.status.success(), "{}", err(&dry));
    let text = out(&dry);
    assert!(
        text.contains(
            "team/app\n  + repository team/app\n  + lifecyclePolicy (1 rule)\n  + image tag v1 "
        ),
        "{text}"
    );
    assert!(
        text.contains("Repositories: 3 to create, 0 to change, 0 in sync\nTo copy: 3 image tags"),
        "{text}"
    );
    assert!(text.contains("Policies to apply: 1\nDry run: nothing was written."), "{text}");
    assert_eq!(desk.ecr.count(|request| request.is_write()), 0, "a dry run writes nothing");

    let first = run(&desk, &["sync", "repositories"]).await;
    assert!(first.status.success(), "{}{}", out(&first), err(&first));
    assert!(out(&first).contains("team/app: created, 2/2 image tags"), "{}", out(&first));
    let app = desk.ecr.repository(ACCOUNT, REGION, "team/app").expect("created");
    assert_eq!(app.tags["v2"], sources.seeded.digest("team/app", "v2"));
    assert!(app.lifecycle_policy.is_some());
    assert!(app.resource_tags.is_empty(), "the command line leaves no mark");
    assert!(desk.ecr.repository(ACCOUNT, REGION, "empty").is_some());
    let demo = desk.ecr.repository(ACCOUNT, REGION, "demo").expect("created");
    assert_eq!(demo.tags["1.27"], sources.seeded.digest("library/demo", "1.27"));

    let mark = desk.ecr.mark();
    let second = run(&desk, &["sync", "repositories"]).await;
    assert!(second.status.success());
    assert!(out(&second).contains("team/app: in sync, 2/2 image tags"), "{}", out(&second));
    let requests = desk.ecr.log_since(mark);
    assert!(
        requests.iter().all(|request| request.plane == Plane::Control && !request.is_write()),
        "{requests:#?}"
    );
}

#[tokio::test]
async fn a_typo_names_file_line_and_field_and_nothing_is_done() {
    let (desk, _) = desk().await;
    desk.write("a.yaml", "- name: app\n  imag: {pull_url: nginx, tags: [\"1\"]}\n");
    desk.write("b.yaml", "- name: other\n  image: {pull_url: nginx, tags: [1.20]}\n");
    let output = run(&desk, &["sync", "."]).await;
    assert_eq!(output.status.code(), Some(64));
    let text = err(&output);
    assert!(
        text.contains("a.yaml:2:3: ") && text.contains("`imag`") && text.contains("`image`"),
        "{text}"
    );
    assert!(
        text.contains("b.yaml:2:") && text.contains("quote"),
        "all problems of all files: {text}"
    );
    assert!(text.contains("2 problems in the input; nothing was done"), "{text}");
    assert!(desk.ecr.log().is_empty());
}

#[tokio::test]
async fn a_failure_is_reported_and_the_others_are_synced() {
    let (desk, sources) = desk().await;
    let host = sources.open.host();
    let text = format!(
        "- name: bad\n  image: {{pull_url: \"{host}/team/app\", tags: [\"nope\", \"v1\"], \
         insecure: true}}\n\
         - name: good\n  image: {{pull_url: \"{host}/team/app\", tags: [\"v1\"], insecure: true}}\n"
    );
    desk.write("all.yaml", &text);
    let output = run(&desk, &["sync", "all.yaml"]).await;
    assert_eq!(output.status.code(), Some(1));
    let text = out(&output);
    assert!(text.contains("bad: created (incomplete), 1/2 image tags"), "{text}");
    assert!(text.contains("good: created, 1/1 image tags"), "{text}");
    assert!(
        text.contains(
            "Repositories Processed: 2\n├── Created: 2\n├── Updated: 0\n└── Skipped: 0\n"
        ),
        "{text}"
    );
    assert!(text.contains("├── Container Images: 2\n└── Helm Charts: 0\n"), "{text}");
    // Two repositories and two tags, of five actions.
    assert!(text.contains("Overall Success Rate: 80.0%"), "{text}");
    let failures = text.split("\nFailures:\n").nth(1).expect("failures");
    assert!(
        failures
            .starts_with("bad (all.yaml:1:3)\n  ! image tag nope: SourceNotFound: cannot read "),
        "{failures}"
    );
    assert!(failures.contains("\n    -> check image and tag"), "{failures}");
    let log = err(&output);
    let line = |status: &str, details: &str| {
        log.lines().any(|line| line.contains(status) && line.contains(details))
    };
    assert!(line("status=\"success\"", "created repository good"), "{log}");
    assert!(line("status=\"success\"", "copied tag v1 (sha256:"), "{log}");
    assert!(line("status=\"failed\"", "SourceNotFound: "), "{log}");
}

#[tokio::test]
async fn sources_are_read_with_the_docker_config() {
    let (desk, sources) = desk().await;
    let host = sources.token.host();
    let text = format!(
        "- name: app\n  image: {{pull_url: \"{host}/team/app\", tags: [\"v1\"], insecure: true}}\n"
    );
    desk.write("all.yaml", &text);
    let without = run(&desk, &["sync", "all.yaml"]).await;
    assert_eq!(without.status.code(), Some(1));
    assert!(out(&without).contains("AuthenticationFailed"), "{}", out(&without));

    let user = User::Reader;
    let config = json!({"auths": {host: {"username": user.name(), "password": user.password()}}});
    desk.write(".docker/config.json", &config.to_string());
    let with = run(&desk, &["sync", "all.yaml"]).await;
    assert!(with.status.success(), "{}{}", out(&with), err(&with));
}

#[tokio::test]
async fn credential_helpers_are_asked() {
    use std::os::unix::fs::PermissionsExt;
    let (desk, sources) = desk().await;
    let host = sources.basic.host();
    let user = User::Reader;
    let answer = json!({"ServerURL": host, "Username": user.name(), "Secret": user.password()});
    let helper = desk.write(
        "bin/docker-credential-test",
        &format!("#!/bin/sh\nread host\ntest \"$1 $host\" = 'get {host}' && echo '{answer}'\n"),
    );
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).expect("executable");
    desk.write(".docker/config.json", &json!({"credHelpers": {host: "test"}}).to_string());
    let text = format!(
        "- name: app\n  image: {{pull_url: \"{host}/team/app\", tags: [\"v1\"], insecure: true}}\n"
    );
    desk.write("all.yaml", &text);
    let path = format!("{}:/usr/bin:/bin", desk.folder.path().join("bin").display());
    let mut command = desk.command(&["sync", "all.yaml"]);
    command.env("PATH", path);
    let output = output(command).await;
    assert!(output.status.success(), "{}{}", out(&output), err(&output));
}

#[tokio::test]
async fn a_repository_of_an_operator_is_not_changed() {
    let (desk, _) = desk().await;
    let owner = ("ecr-sync.io/owner".to_owned(), "cluster/ns/app".to_owned());
    desk.ecr.create_repository(ACCOUNT, REGION, "app", [owner].into());
    desk.write("all.yaml", "- name: app\n");
    let output = run(&desk, &["sync", "all.yaml"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        out(&output).contains("RepositoryNotOwned") && out(&output).contains("cluster/ns/app"),
        "{}",
        out(&output)
    );
    assert_eq!(desk.ecr.count(|request| request.is_write()), 0);

    desk.write("all.yaml", "- name: app\n  resourceTags: {team: a}\n");
    let output = run(&desk, &["sync", "--take-over", "all.yaml"]).await;
    assert!(output.status.success(), "{}{}", out(&output), err(&output));
    let tags = desk.ecr.repository(ACCOUNT, REGION, "app").expect("there").resource_tags;
    assert_eq!(
        (tags["team"].as_str(), tags["ecr-sync.io/owner"].as_str()),
        ("a", "cluster/ns/app"),
        "the mark stays"
    );
}

/// The owner of a repository is not read if there is nothing to write.
#[tokio::test]
async fn a_synced_repository_of_an_operator_is_not_a_failure() {
    let desk = Desk::before(Sources::shared().await.open.host()).await;
    assert!(desk.sync(&desk.entry("app", "library/demo", &["1.26"]), &[]).await.is_success());
    let owner = ("ecr-sync.io/owner".to_owned(), "cluster/ns/app".to_owned());
    assert!(desk.ecr.set_resource_tags(ACCOUNT, REGION, "app", [owner].into()));
    let mark = desk.ecr.mark();
    let run = desk.sync(&desk.entry("app", "library/demo", &["1.26"]), &[]).await;
    assert!(run.is_success(), "{}", run.text);
    assert!(
        desk.ecr.log_since(mark).iter().all(|request| request.operation != "ListTagsForResource")
    );
    for flags in [&[][..], &["--dry-run"]] {
        let run = desk.sync(&desk.entry("app", "library/demo", &["1.26", "1.27"]), flags).await;
        assert!(
            run.text.contains("RepositoryNotOwned") && run.text.contains("cluster/ns/app"),
            "{}",
            run.text
        );
    }
    assert!(desk.ecr.log_since(mark).iter().all(|request| !request.is_write()));
}

#[tokio::test]
async fn an_interrupt_ends_it_and_says_so() {
    let (desk, _) = desk().await;
    desk.source.faults().add(Fault::new(Match::operation("GetBlob"), Then::StallAfter(1)));
    let text = format!(
        "- name: app\n  image: {{pull_url: \"{}/team/app\", tags: [\"v1\"], insecure: true}}\n",
        desk.source.host()
    );
    desk.write("all.yaml", &text);
    let command = desk.command(&["sync", "all.yaml"]);
    let log = desk.folder.path().join("log");
    let process = testbed::process::Process::spawn("ecr-sync", &command, &log).expect("it starts");
    crate::support::eventually("copying", async || {
        desk.source.count(|request| request.operation == "GetBlob") > 0
    })
    .await;
    process.signal("INT");
    assert_eq!(process.wait(std::time::Duration::from_secs(10)).await.expect("it ends"), 1);
    let text = process.tail(usize::MAX);
    assert!(
        text.contains("ECR SYNC SUMMARY")
            && text.contains("Repositories Processed: 1\n├── Created: 1"),
        "{text}"
    );
    assert!(text.contains("stopped before it was done") && text.contains("-> run again"), "{text}");
    assert!(text.contains("stopped early: 0 of 1 repository finished"), "{text}");
}

#[tokio::test]
async fn crd_prints_the_content_of_crds() {
    let (desk, _) = desk().await;
    let output = run(&desk, &["crd"]).await;
    let committed =
        concat!(env!("CARGO_MANIFEST_DIR"), "/crds/ecrrepositorysyncs.ecr-sync.io.yaml");
    assert_eq!(out(&output), std::fs::read_to_string(committed).expect("crds/"));
}

#[tokio::test]
async fn ecr_is_reached_where_a_flag_says() {
    let (desk, _) = desk().await;
    desk.write("all.yaml", "- name: app\n");
    let endpoint = desk.ecr.endpoint();
    // The account is given, so STS is not called; no other setting has the AWS endpoint.
    let mut command = desk.command(&[
        "sync",
        "all.yaml",
        "--ecr-endpoint-url",
        &endpoint,
        "--account-id",
        ACCOUNT,
        "--region",
        REGION,
    ]);
    command.env_remove("AWS_ENDPOINT_URL");
    let output = output(command).await;
    assert!(output.status.success(), "{}{}", out(&output), err(&output));
    assert!(desk.ecr.repository(ACCOUNT, REGION, "app").is_some());
}
