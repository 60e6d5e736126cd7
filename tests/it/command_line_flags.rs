//! Flags, environment and exit codes of `ecr-sync sync`.

use std::process::Output;
use std::time::Duration;

use serde_json::{Value, json};
use testbed::process::Process;
use testbed::traffic::{Fault, Match, Plane, Then};

use crate::support::desk::{Desk, output};
use crate::support::{ACCOUNT, REGION, Sources, eventually};

async fn desk() -> Desk {
    Desk::before(Sources::shared().await.open.host()).await
}

async fn run(desk: &Desk, arguments: &[&str]) -> Output {
    output(desk.command(arguments)).await
}

async fn run_with(desk: &Desk, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = desk.command(arguments);
    command.envs(environment.iter().copied());
    output(command).await
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", out(output), err(output)))
}

#[tokio::test]
async fn the_environment_of_the_older_tool_is_read_and_flags_come_first() {
    let desk = desk().await;
    desk.write("there/all.yaml", "- name: from-there\n");
    desk.write("here/all.yaml", "- name: from-here\n");
    desk.write("repositories/all.yaml", "- name: from-default\n");
    let there = [
        ("REPOSITORIES_DIR", "there"),
        ("DRY_RUN", "true"),
        ("ECR_REGION", "us-east-1"),
        ("MAX_PARALLEL_OPERATIONS", "2"),
        ("CONTAINER_RUNTIME", "podman"),
        ("LOG_LEVEL", "WARNING"),
    ];
    let by_variables = run_with(&desk, &["sync", "--output", "json"], &there).await;
    assert!(by_variables.status.success(), "{}", err(&by_variables));
    assert_eq!(json(&by_variables)["repositories"][0]["name"], "from-there");
    assert_eq!(json(&by_variables)["dryRun"], true);
    let text = err(&by_variables);
    assert_eq!(text, "CONTAINER_RUNTIME=podman is not used: no container runtime is needed\n");
    assert_eq!(desk.ecr.count(|request| request.is_write()), 0);

    let flags = ["sync", "--config", "here", "--dry-run=false", "--region", REGION];
    let by_flags = run_with(&desk, &flags, &there).await;
    assert!(by_flags.status.success(), "{}", err(&by_flags));
    assert!(desk.ecr.repository(ACCOUNT, REGION, "from-here").is_some());
    assert!(desk.ecr.repository(ACCOUNT, "us-east-1", "from-there").is_none());

    let default = run(&desk, &["sync"]).await;
    assert!(default.status.success(), "{}", err(&default));
    assert!(desk.ecr.repository(ACCOUNT, REGION, "from-default").is_some());
}

#[tokio::test]
async fn wrong_usage_ends_with_64_and_help_with_0() {
    let desk = desk().await;
    for (arguments, hint) in [
        (&["sync", "--no-such-flag"][..], "--no-such-flag"),
        (&["sync", "--region", "nowhere"], "eu-west-1"),
        (&["sync", "--account-id", "12"], "12 digits"),
        (&["sync", "--timeout", "soon"], "90s"),
        (&["sync", "--config", "a", "b"], "cannot be used"),
        (&["sync", "nowhere"], "no such file"),
        (&["sync", "--report", "nowhere/report.json"], "there is no folder nowhere"),
        (&["sync", "--log-level", "chatty"], "error, warning, info"),
        (&["no-such-command"], "no-such-command"),
    ] {
        let output = run(&desk, arguments).await;
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {}", err(&output));
        assert!(err(&output).contains(hint), "{arguments:?}: {}", err(&output));
    }
    let missing = run(&desk, &["sync"]).await;
    assert_eq!(missing.status.code(), Some(64));
    assert!(
        err(&missing).contains("./repositories: no such file or directory"),
        "{}",
        err(&missing)
    );
    let help = run(&desk, &["sync", "--help"]).await;
    assert!(help.status.success());
    assert!(
        out(&help).contains("Exit codes:") && out(&help).contains("Examples:"),
        "{}",
        out(&help)
    );
    assert!(desk.ecr.log().is_empty());
}

#[tokio::test]
async fn only_selected_repositories_are_synced() {
    let desk = desk().await;
    desk.write("all.yaml", "- name: team/a\n- name: team/b\n- name: other\n");
    let output = run(&desk, &["sync", "all.yaml", "--selector", "team/*"]).await;
    assert!(output.status.success(), "{}", err(&output));
    assert!(out(&output).contains("Repositories Processed: 2\n"), "{}", out(&output));
    assert!(desk.ecr.repository(ACCOUNT, REGION, "other").is_none());
    let none = run(&desk, &["sync", "all.yaml", "--selector", "teams/*"]).await;
    assert_eq!(none.status.code(), Some(64));
    assert!(err(&none).contains("matches none of 3 repositories"), "{}", err(&none));
}

#[tokio::test]
async fn the_exit_code_shows_pending_changes() {
    let desk = desk().await;
    desk.write("all.yaml", "- name: app\n");
    let check = &["sync", "all.yaml", "--dry-run", "--exit-code"];
    assert_eq!(run(&desk, check).await.status.code(), Some(2));
    assert_eq!(run(&desk, &["sync", "all.yaml", "--exit-code"]).await.status.code(), Some(0));
    assert_eq!(run(&desk, check).await.status.code(), Some(0));
}

#[tokio::test]
async fn a_dry_run_is_a_diff_that_reads_no_image_of_ecr() {
    let desk = desk().await;
    let rules = |count: u32| {
        format!(
            "  lifecyclePolicy:\n    rules:\n    - {{rulePriority: 2, selection: {{tagStatus: any, \
             countType: imageCountMoreThan, countNumber: {count}}}, action: {{type: expire}}}}\n"
        )
    };
    let entry = desk.entry("app", "team/app", &["v1"]);
    let entry = |tags: &str, count: u32| {
        let body = entry.trim_start_matches("- {").trim_end_matches("}\n");
        format!(
            "- {}\n{}",
            body.replacen(", image", "\n  image", 1).replace("[\"v1\"]", tags),
            rules(count)
        )
    };
    let first = desk.sync(&entry("[v1]", 10), &[]).await;
    assert!(first.is_success(), "{}", first.text);

    desk.write("all.yaml", &entry("[v1, v2]", 20));
    let mark = desk.ecr.mark();
    let dry = run(&desk, &["sync", "all.yaml", "--dry-run"]).await;
    assert!(dry.status.success(), "{}", err(&dry));
    let text = out(&dry);
    assert!(
        text.starts_with(
            "app\n  ~ lifecyclePolicy (rule 2 countNumber 10 -> 20)\n  + image tag v2 sha256:"
        ),
        "{text}"
    );
    assert!(text.contains(" blob") && text.contains(" to send) from "), "{text}");
    assert!(text.contains("Repositories: 0 to create, 1 to change, 0 in sync\n"), "{text}");
    let requests = desk.ecr.log_since(mark);
    let pulls = ["BatchGetImage", "GetDownloadUrlForLayer"];
    assert!(
        requests.iter().all(|r| r.plane == Plane::Control
            && !r.is_write()
            && !pulls.contains(&r.operation.as_str())),
        "{requests:#?}"
    );
    assert!(requests.iter().any(|request| request.operation == "BatchCheckLayerAvailability"));

    let as_json = json(&run(&desk, &["sync", "all.yaml", "--dry-run", "-o", "json"]).await);
    assert_eq!(as_json["plan"]["imageTags"], 1);
    assert_eq!(as_json["plan"]["change"], 1);
    assert_eq!(
        as_json["repositories"][0]["diff"][0],
        "~ lifecyclePolicy (rule 2 countNumber 10 -> 20)"
    );
    let announced = as_json["plan"]["bytes"].as_u64().expect("a number");

    let second = run(&desk, &["sync", "all.yaml", "-o", "json"]).await;
    let done = json(&second);
    assert_eq!(done["summary"]["bytes"], announced, "what was announced is what was sent");
    assert_eq!(done["summary"]["policies"], 1);
    assert_eq!(done["repositories"][0]["status"], "updated");
}

#[tokio::test]
async fn the_report_says_all_in_json() {
    let desk = desk().await;
    let text = format!("{}- name: empty\n", desk.entry("bad", "team/app", &["v1", "nope"]));
    desk.write("all.yaml", &text);
    let output = run(&desk, &["sync", "all.yaml", "--report", "report.json", "--quiet"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(out(&output).starts_with("====="), "quiet shows the summary only: {}", out(&output));
    assert!(!err(&output).contains(" INFO "), "and what failed: {}", err(&output));
    let text = std::fs::read_to_string(desk.folder.path().join("report.json")).expect("a report");
    let report: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(report["summary"]["processed"], 2);
    assert_eq!(report["summary"]["created"], 2);
    let bad = &report["repositories"][0];
    assert_eq!((&bad["name"], &bad["place"]), (&json!("bad"), &json!("all.yaml:1:3")));
    assert_eq!(bad["image"]["tags"]["v1"]["status"], "synced");
    assert_eq!(bad["image"]["tags"]["nope"]["status"], "failed");
    assert_eq!(bad["failures"][0]["reason"], "SourceNotFound");
    assert_eq!(bad["failures"][0]["what"], "image tag nope");
    let actions = report["actions"].as_array().expect("a list");
    assert!(
        actions
            .iter()
            .all(|action| action["time"].as_str().is_some_and(|time| time.ends_with('Z')))
    );
    assert!(actions.iter().any(|a| a["repository"] == "empty"
        && a["field"] == "repository"
        && a["status"] == "success"));
}

#[tokio::test]
async fn fail_fast_begins_nothing_after_a_failure() {
    let desk = desk().await;
    let text =
        format!("{}- name: second\n- name: third\n", desk.entry("bad", "team/app", &["nope"]));
    desk.write("all.yaml", &text);
    let output =
        run(&desk, &["sync", "all.yaml", "--fail-fast", "--max-parallel-operations", "1"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(desk.ecr.repository(ACCOUNT, REGION, "third").is_none());
    assert!(
        out(&output).contains("└── Skipped: 2") || out(&output).contains("├── Skipped: 2"),
        "{}",
        out(&output)
    );
}

#[tokio::test]
async fn the_timeout_ends_the_run_with_its_summary() {
    let desk = desk().await;
    desk.source.faults().add(Fault::new(Match::operation("GetBlob"), Then::StallAfter(1)));
    desk.write("all.yaml", &desk.entry("app", "team/app", &["v1"]));
    let output = run(&desk, &["sync", "all.yaml", "--timeout", "2s"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(out(&output).contains("ECR SYNC SUMMARY"), "{}", out(&output));
    assert!(err(&output).contains("time is up (--timeout)"), "{}", err(&output));
}

#[tokio::test]
async fn a_second_interrupt_does_not_wait() {
    let desk = desk().await;
    desk.write("all.yaml", "- name: app\n");
    let fifo = desk.folder.path().join("report");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().expect("mkfifo").success());
    // Nobody reads the report, so writing it blocks forever.
    let command = desk.command(&["sync", "all.yaml", "--report", "report"]);
    let log = desk.folder.path().join("log");
    let process = Process::spawn("ecr-sync", &command, &log).expect("it starts");
    eventually("at its end", async || process.tail(usize::MAX).contains("ECR SYNC SUMMARY")).await;
    process.signal("INT");
    process.signal("TERM");
    assert_eq!(process.wait(Duration::from_secs(10)).await.expect("it ends"), 130);
}

#[tokio::test]
async fn logins_per_host_come_from_the_environment() {
    let sources = Sources::shared().await;
    let (desk, user) = (desk().await, testbed::upstream::User::Reader);
    let host = sources.basic.host();
    let text = format!(
        "- name: app\n  image: {{pull_url: \"{host}/team/app\", tags: [v1], insecure: true}}\n"
    );
    desk.write("all.yaml", &text);
    let name = |what: &str| format!("ECR_SYNC_{what}_{}", host.replace(['.', ':'], "_"));
    let (username, password) = (name("USERNAME"), name("PASSWORD"));
    let half = run_with(&desk, &["sync", "all.yaml"], &[(&username, user.name())]).await;
    assert_eq!(half.status.code(), Some(64));
    assert!(err(&half).contains("a login needs both"), "{}", err(&half));
    let both = [(username.as_str(), user.name()), (password.as_str(), user.password())];
    let whole = run_with(&desk, &["sync", "all.yaml"], &both).await;
    assert!(whole.status.success(), "{}{}", out(&whole), err(&whole));
    assert!(!err(&whole).contains(user.password()) && !out(&whole).contains(user.password()));
}

#[tokio::test]
async fn retag_pushes_the_tag_of_the_url_as_every_tag() {
    let desk = desk().await;
    let host = desk.source.host();
    let text = format!(
        "- name: app\n  image: {{pull_url: \"{host}/team/app:v1\", tags: [stable, v2], insecure: \
         true}}\n"
    );
    desk.write("all.yaml", &text);
    let output = run(&desk, &["sync", "all.yaml", "--tag-strategy", "retag"]).await;
    assert!(output.status.success(), "{}{}", out(&output), err(&output));
    let app = desk.repository("app");
    let v1 = Sources::shared().await.seeded.digest("team/app", "v1");
    assert_eq!((app.tags["stable"].as_str(), app.tags["v2"].as_str()), (v1, v1));
}

#[tokio::test]
async fn version_and_completions_are_printed() {
    let desk = desk().await;
    let version = run(&desk, &["version"]).await;
    assert_eq!(out(&version), format!("ecr-sync {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(
        json(&run(&desk, &["version", "-o", "json"]).await)["version"],
        env!("CARGO_PKG_VERSION")
    );
    for (shell, hint) in
        [("bash", "complete"), ("zsh", "#compdef ecr-sync"), ("fish", "complete -c ecr-sync")]
    {
        let script = out(&run(&desk, &["completions", shell]).await);
        assert!(script.contains(hint) && script.contains("dry-run"), "{shell}");
    }
}

#[tokio::test]
async fn images_are_read_from_mirrors_and_both_places_are_named() {
    let desk = desk().await;
    let host = desk.source.host();
    let table = format!(
        "mirrors:\n- {{match: docker.io/team, rewrite: {host}/team, insecure: true}}\n\
         - {{match: docker.io, rewrite: '127.0.0.1:1/nowhere', insecure: true}}\n"
    );
    desk.write("mirrors.yaml", &table);
    desk.write("all.yaml", "- name: app\n  image: {pull_url: 'team/app:v1', tags: [v1]}\n");
    let output = run(
        &desk,
        &["sync", "all.yaml", "--mirrors-file", "mirrors.yaml", "--report", "report.json"],
    )
    .await;
    assert!(output.status.success(), "{}{}", out(&output), err(&output));
    let line =
        format!("app: created, 1/1 image tags of {host}/team/app (mirror of docker.io/team/app)");
    assert!(out(&output).contains(&line), "{}", out(&output));
    let report = std::fs::read_to_string(desk.folder.path().join("report.json")).expect("a report");
    let report: Value = serde_json::from_str(&report).expect("JSON");
    let image = &report["repositories"][0]["image"];
    assert_eq!(
        (&image["original"], &image["source"]),
        (&json!("docker.io/team/app"), &json!(format!("{host}/team/app")))
    );
}

#[tokio::test]
async fn a_failed_mirror_is_passed_over_only_by_choice() {
    let desk = desk().await;
    let host = desk.source.host();
    desk.write(
        "mirrors.yaml",
        &format!("mirrors:\n- {{match: '{host}', rewrite: '{host}/nowhere', insecure: true}}\n"),
    );
    desk.write("all.yaml", &desk.entry("app", "team/app", &["v1"]));
    let sync = ["sync", "all.yaml", "--mirrors-file", "mirrors.yaml"];
    let strict = run(&desk, &sync).await;
    assert_eq!(strict.status.code(), Some(1), "{}", out(&strict));
    let lenient = run(&desk, &[&sync[..], &["--mirror-fallback"]].concat()).await;
    assert!(lenient.status.success(), "{}{}", out(&lenient), err(&lenient));
    let told = format!(
        "warning: app: {host}/team/app was read from its original registry, since its mirror \
         {host}/nowhere/team/app failed: "
    );
    assert_eq!(err(&lenient).matches(&told).count(), 1, "{}", err(&lenient));
    assert!(
        out(&lenient).contains(&format!("1/1 image tags of {host}/team/app\n")),
        "{}",
        out(&lenient)
    );
}

#[tokio::test]
async fn gitlabs_proxy_is_used_with_its_login() {
    let sources = Sources::shared().await;
    let (desk, user) = (desk().await, testbed::upstream::User::Reader);
    // A real proxy uses HTTPS. The failure names its host, which shows that the proxy was used.
    desk.write("all.yaml", "- name: app\n  image: {pull_url: 'team/app', tags: [v1]}\n");
    let prefix = format!("{}/proxy", sources.basic.host());
    let mut variables = vec![
        ("CI_DEPENDENCY_PROXY_USER", user.name()),
        ("CI_DEPENDENCY_PROXY_PASSWORD", user.password()),
        ("CI_DEPENDENCY_PROXY_SERVER", sources.basic.host()),
        ("CI_DEPENDENCY_PROXY_DIRECT_GROUP_IMAGE_PREFIX", prefix.as_str()),
    ];
    let whole = run_with(&desk, &["sync", "all.yaml"], &variables).await;
    assert!(
        out(&whole).contains(&format!("{prefix}/team/app (mirror of docker.io/team/app)")),
        "{}",
        out(&whole)
    );
    variables.pop();
    let text =
        err(&run_with(&desk, &["sync", "all.yaml", "--dry-run", "--timeout", "1s"], &variables)
            .await);
    let warnings =
        text.lines().filter(|line| line.contains("dependency proxy is not used")).count();
    assert_eq!(warnings, 1, "{text}");
    assert!(!text.contains(user.password()));
}
