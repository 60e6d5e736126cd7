//! `examples/files`, in both formats of the older tool and with their charts, synced as in a
//! pipeline; and dry runs that detect whether changes are pending.

use std::process::Output;

use testbed::chart_repository::ChartRepository;

use crate::support::Sources;
use crate::support::desk::{Desk, output};

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn said(output: &Output) -> String {
    out(output) + &String::from_utf8_lossy(&output.stderr)
}

/// A desk with the open source, and a chart repository with these versions of the chart `web`.
async fn desk(versions: &[&str]) -> (Desk, ChartRepository) {
    let desk = Desk::before(Sources::shared().await.open.host()).await;
    let charts = ChartRepository::start(desk.folder.path().join("charts"), None)
        .await
        .expect("a chart repository");
    publish(&charts, versions).await;
    (desk, charts)
}

async fn publish(charts: &ChartRepository, versions: &[&str]) {
    for version in versions {
        charts.package("stable", "web", version).await.expect("helm packages");
    }
    charts.index("stable").await.expect("helm indexes");
}

async fn run(desk: &Desk, arguments: &[&str]) -> Output {
    output(desk.command(arguments)).await
}

#[tokio::test]
async fn the_examples_are_synced_in_both_shapes_with_their_charts() {
    let (desk, charts) = desk(&["1.2.0", "1.3.0"]).await;
    let host = desk.source.host();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/files");
    let mut shapes = [false; 2];
    for file in
        std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path())
    {
        let text = std::fs::read_to_string(&file).expect("a file");
        shapes[usize::from(text.contains("\nrepositories:\n"))] = true;
        // The image that stands for nginx has other tags, and the charts have another address.
        let text = text
            .replace("\"latest\", \"1.27\", \"1.26\"", "\"v1\", \"v2\"")
            .replace("[\"latest\"]", "[\"v1\"]");
        let text = text
            .replace("https://charts.example.com/", &format!("http://{}/stable/", charts.host()));
        let name = file.file_name().expect("a name").to_string_lossy();
        desk.write(&format!("examples/{name}"), &text);
    }
    assert_eq!(shapes, [true; 2], "a list, and a list under repositories:");
    let mirror = format!(
        "mirrors: [{{match: docker.io/library/nginx, rewrite: '{host}/team/app', insecure: \
         true}}]\n"
    );
    desk.write("mirrors.yaml", &mirror);
    let sync = ["sync", "examples", "--mirrors-file", "mirrors.yaml"];
    let dry_run = [&sync[..], &["--dry-run", "--exit-code"]].concat();
    assert_eq!(run(&desk, &dry_run).await.status.code(), Some(2));

    let first = run(&desk, &sync).await;
    assert!(first.status.success(), "{}", said(&first));
    assert!(
        out(&first).contains("├── Container Images: 2\n└── Helm Charts: 2\n"),
        "{}",
        out(&first)
    );
    let tags = |name: &str| desk.repository(name).tags.into_keys().collect::<Vec<_>>();
    assert_eq!(tags("nginx"), ["v1", "v2"]);
    assert_eq!(tags("web"), ["1.2.0", "1.3.0", "v1"], "image and chart in one repository");
    assert_eq!(tags("charts/web"), ["1.3.0"]);
    for name in ["nginx", "team/api", "team/worker", "web"] {
        assert!(desk.repository(name).lifecycle_policy.is_some(), "{name}");
    }
    let (image, chart) = (
        desk.repository("web").tags["1.3.0"].clone(),
        desk.repository("charts/web").tags["1.3.0"].clone(),
    );
    assert_eq!(image, chart, "the same archive is the same artifact");

    let after = run(&desk, &dry_run).await;
    assert_eq!(after.status.code(), Some(0), "nothing is to be done: {}", said(&after));
}

#[tokio::test]
async fn exit_code_is_honest_about_charts() {
    let (desk, charts) = desk(&["1.2.0"]).await;
    let url = format!("http://{}/stable/web", charts.host());
    let entry = |versions: &str, more: &str| {
        format!("- name: web\n  chart: {{pull_url: '{url}', tags: [{versions}]{more}}}\n")
    };
    let check = ["sync", "all.yaml", "--dry-run", "--exit-code"];
    let is_pending = async |text: &str| {
        desk.write("all.yaml", text);
        let mark = desk.ecr.mark();
        let output = run(&desk, &check).await;
        assert!(
            desk.ecr.log_since(mark).iter().all(|request| !request.is_write()),
            "a dry run writes nothing"
        );
        match output.status.code() {
            Some(0) => (false, out(&output)),
            Some(2) => (true, out(&output)),
            _ => panic!("{}", said(&output)),
        }
    };
    let one = entry("1.2.0", "");
    assert!(is_pending(&one).await.0, "no repository yet");
    assert!(run(&desk, &["sync", "all.yaml"]).await.status.success());
    let (pending, text) = is_pending(&one).await;
    assert!(!pending && text.contains("0 to change, 1 in sync"), "{text}");

    // A version that is missing.
    publish(&charts, &["1.3.0"]).await;
    let (pending, text) = is_pending(&entry("1.2.0, 1.3.0", "")).await;
    assert!(
        pending && text.contains("+ chart tag 1.3.0 from ") && !text.contains("tag 1.2.0"),
        "{text}"
    );

    // A version that was replaced at the source: kept and reported, unless the file says otherwise.
    publish(&charts, &["1.2.0"]).await;
    let (pending, text) = is_pending(&one).await;
    assert!(!pending && text.contains("was replaced in the source"), "{text}");
    let (pending, text) = is_pending(&entry("1.2.0", ", onSourceChange: Overwrite")).await;
    assert!(
        pending && text.contains("~ chart tag 1.2.0 sha256:") && text.contains(" -> sha256:"),
        "{text}"
    );
}
