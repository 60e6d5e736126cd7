//! Times of pruning, its memory, and its messages.

use ecr_sync::class::Class;
use ecr_sync::sync::{Earlier, Engine, Mode, Report};
use serde_json::{Value, json};
use testbed::chart_repository::ChartRepository;
use testbed::ecr::{self, StandIn};
use testbed::proxy::Proxy;
use testbed::traffic::{Fault, Match, Record, Then};
use tokio_util::sync::CancellationToken;

use super::Bench;
use crate::support::engine::{engine, job};
use crate::support::{ACCOUNT, REGION, Rig, condition};

/// A pass over `spec`, by an operator that does or does not check indexes and candidates.
async fn pass(engine: &Engine, spec: &Value, inspects: bool) -> Report {
    let job = job(spec, Earlier { inspects, ..Earlier::default() });
    engine.sync(&job, Mode::Apply, &CancellationToken::new()).await
}

#[tokio::test]
async fn a_pass_that_does_not_look_for_it_costs_nothing_for_pruning() {
    let bench = Bench::with("looks", &["1", "2"]).await;
    let url = format!("{}/{}", bench.desk.source.host(), bench.name);
    let spec = json!({"image": {"pullUrl": url, "tags": ["1"], "insecure": true},
                      "prune": {"enabled": true, "maxPercent": 100, "minUnpulled": "0s"}});
    const OWNER: &str = "ListTagsForResource";
    let owned = pass(&engine(&bench.desk.ecr), &spec, false).await;
    assert!(owned.is_success() && owned.pruning.is_none(), "{owned:?}");
    let (source, target) = (bench.desk.source.mark(), bench.desk.ecr.mark());
    let report = pass(&engine(&bench.desk.ecr), &spec, false).await;
    assert!(
        report.is_success() && report.pruning.is_none() && report.changes.is_empty(),
        "{report:?}"
    );
    let asked = |log: Vec<Record>| -> Vec<String> {
        // Read once by each engine; here, each pass has its own.
        let is_first = |record: &Record| {
            matches!(&*record.operation, "DescribePullThroughCacheRules" | "GetCallerIdentity")
        };
        let mut asked: Vec<_> =
            log.into_iter().filter(|r| !is_first(r)).map(|record| record.operation).collect();
        asked.sort();
        asked
    };
    assert_eq!(asked(bench.desk.source.log_since(source)), ["HeadManifest"]);
    assert_eq!(
        asked(bench.desk.ecr.log_since(target)),
        ["DescribeImages", "DescribeRepositories", OWNER]
    );

    let (source, target) = (bench.desk.source.mark(), bench.desk.ecr.mark());
    let report = pass(&engine(&bench.desk.ecr), &spec, true).await;
    assert!(report.is_success() && report.pruned() == 1, "{report:?}");
    assert_eq!(
        asked(bench.desk.source.log_since(source)),
        ["HeadManifest", "HeadManifest", "ListTags"]
    );
    let looks = ["DescribeImages"; 3];
    let with =
        [&["BatchDeleteImage"][..], &looks, &["DescribeRepositories", OWNER, OWNER]].concat();
    assert_eq!(asked(bench.desk.ecr.log_since(target)), with);
    assert_eq!(bench.tags(), ["1"]);
}

#[tokio::test]
async fn images_that_ecr_keeps_for_an_index_are_not_retried_each_time() {
    let bench = Bench::new("named").await;
    let child = bench.source.image_as("amd64", Some("1-amd64")).await;
    bench.source.index(&[&child], Some("1")).await;
    assert!(bench.sync(&["1", "1-amd64"], "{}", &[]).await.is_success());
    let engine = engine(&bench.desk.ecr);
    let url = format!("{}/{}", bench.desk.source.host(), bench.name);
    let spec = json!({"image": {"pullUrl": url, "tags": ["1"], "insecure": true,
        "checkPolicy": "IfNotPresent"},
                      "prune": {"enabled": true, "maxPercent": 100, "minUnpulled": "0s"}});
    let report = pass(&engine, &spec, true).await;
    assert!(report.warnings.iter().any(|warning| warning.contains("ECR keeps it")), "{report:?}");
    let mark = bench.desk.ecr.mark();
    let report = pass(&engine, &spec, true).await;
    assert!(report.is_success() && report.warnings.is_empty(), "{report:?}");
    assert!(bench.desk.ecr.log_since(mark).iter().all(|request| !request.is_write()));
}

#[tokio::test]
async fn an_archive_that_was_read_once_is_read_again_before_its_version_is_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    let ecr = StandIn::start(ecr::Config::default()).await.expect("the stand-in starts");
    let charts = ChartRepository::start(folder.path(), None).await.expect("a chart repository");
    let mut archives = Vec::new();
    for version in ["1.0.0", "1.1.0", "2.0.0"] {
        archives.push(charts.package("stable", "app", version).await.expect("helm packages"));
    }
    charts.index("stable").await.expect("helm indexes");
    let proxy = Proxy::start(charts.host()).await.expect("a proxy");
    let url = format!("http://{}/stable/app", proxy.host());
    let spec = |versions: &[&str]| {
        json!({"chart": {"pullUrl": url, "tags": versions},
               "prune": {"enabled": true, "maxPercent": 100, "minUnpulled": "0s"}})
    };
    let downloads =
        |since| proxy.log_since(since).iter().filter(|r| r.path.ends_with(".tgz")).count();
    assert!(pass(&engine(&ecr), &spec(&["1.0.0", "1.1.0", "2.0.0"]), false).await.is_success());
    // An engine that has not read the index yet.
    let engine = engine(&ecr);
    charts.package("stable", "app", "1.0.0").await.expect("helm packages it again");
    charts.index("stable").await.expect("helm indexes");

    // 1.0.0 has changed, which is known since the first look; 1.1.0 would be removed, but not yet.
    ecr.deny("ecr:BatchDeleteImage", "app");
    let mark = proxy.mark();
    let report = pass(&engine, &spec(&["2.0.0"]), true).await;
    assert_eq!(
        report.pruning_blocked().map(|failure| failure.class),
        Some(Class::PruneBlocked),
        "{report:?}"
    );
    ecr.allow_all();
    std::fs::remove_file(&archives[1]).expect("it was there");
    // Without the record in the status, the archive of the wanted version is read, too.
    assert_eq!(downloads(mark), 3);
    let mark = proxy.mark();
    let report = pass(&engine, &spec(&["2.0.0"]), true).await;
    assert!(report.pruned() == 0 && report.pruning_blocked().is_none(), "{report:?}");
    let asked: Vec<_> =
        proxy.log_since(mark).into_iter().map(|record| (record.path, record.status)).collect();
    assert_eq!(downloads(mark), 2, "not that of which it is known to be another one: {asked:?}");
    assert_eq!(ecr.repository(ACCOUNT, REGION, "app").expect("there").tags.len(), 3);
}

#[tokio::test]
async fn a_repository_without_or_with_another_owner_tag_is_not_pruned() {
    let bench = Bench::with("marks", &["1", "2"]).await;
    let url = format!("{}/{}", bench.desk.source.host(), bench.name);
    let spec = json!({"image": {"pullUrl": url, "tags": ["1"], "insecure": true},
                      "prune": {"enabled": true, "maxPercent": 100, "minUnpulled": "0s"}});
    let blocked =
        |report: &Report| report.pruning_blocked().map(|f| f.message.clone()).unwrap_or_default();
    bench.desk.ecr.deny("ecr:TagResource", "app");
    let report = pass(&engine(&bench.desk.ecr), &spec, true).await;
    assert!(
        blocked(&report).ends_with("pruned: the repository could not be marked as ours"),
        "{report:?}"
    );
    bench.desk.ecr.allow_all();
    // Another client changes the tag after our check.
    let tags = json!({"tags": [{"Key": "ecr-sync.io/owner", "Value": "other/ns/app"}]}).to_string();
    let second = Then::Status { code: 200, headers: Vec::new(), body: tags };
    bench
        .desk
        .ecr
        .faults()
        .add(Fault::new(Match::operation("ListTagsForResource"), second).after(1));
    let report = pass(&engine(&bench.desk.ecr), &spec, true).await;
    assert!(
        blocked(&report)
            .ends_with("pruned: the repository's resource tag ecr-sync.io/owner has changed"),
        "{report:?}"
    );
    assert_eq!(bench.tags(), ["1", "2"]);
    bench.desk.ecr.faults().clear();
    assert_eq!(pass(&engine(&bench.desk.ecr), &spec, true).await.pruned(), 1);
}

#[tokio::test]
async fn the_operator_prunes_in_a_forced_check_and_reports_blocked_pruning() {
    let rig = Rig::new("pruning").await;
    let operator = rig.operator().await;
    let image = |tags: &[&str]| rig.image("library/demo", tags);
    let prune = json!({"enabled": true, "maxPercent": 100, "minUnpulled": "0s"});
    rig.apply("app", json!({"image": image(&["1.26", "1.27"]), "prune": prune})).await;
    rig.wait_synced("app").await;
    rig.apply("app", json!({"image": image(&["1.27"]), "prune": prune})).await;
    rig.wait_synced("app").await;
    assert_eq!(rig.repository("app").tags.len(), 2, "not with the change: it may be a mistake");

    rig.ecr.deny("ecr:BatchDeleteImage", "app");
    let object = rig.force("app", "denied").await;
    let (status, reason, message) = condition(&object, "ConfigurationSynced").expect("a condition");
    assert_eq!((status, reason), ("False", "PruneBlocked"), "{message}");
    assert!(
        message.starts_with("nothing was pruned: AccessDenied: ecr:BatchDeleteImage on app: "),
        "{message}"
    );
    assert_eq!(
        condition(&object, "Ready").map(|c| c.0),
        Some("True"),
        "all that is wanted is there"
    );
    assert_eq!(rig.told("PruneBlocked").await[0].0, "Warning");

    rig.ecr.allow_all();
    let object = rig.force("app", "allowed").await;
    assert_eq!(
        condition(&object, "ConfigurationSynced").map(|(status, reason, _)| (status, reason)),
        Some(("True", "Succeeded"))
    );
    assert_eq!(rig.repository("app").tags.keys().collect::<Vec<_>>(), ["1.27"]);
    let changes = &object.status.as_ref().expect("a status").history[0].changes;
    assert!(changes.starts_with("pruned tag 1.26 (sha256:"), "{changes}");
    let (_, page) = operator.get("/metrics").await.expect("an answer");
    assert!(page.contains("ecrsync_tags_pruned_total 1\n"), "{page}");
    assert!(page.contains("ecrsync_drift_corrected_total{field=\"imageTag\"} 0\n"), "{page}");

    // A dry run shows it at every pass, not only after a new check.
    rig.apply("app", json!({"image": image(&["1.26", "1.27"])})).await;
    rig.wait_synced("app").await;
    rig.apply("app", json!({"image": image(&["1.27"]), "prune": prune, "dryRun": true})).await;
    let object = rig.wait_ready("app", "Unknown", "DryRun").await;
    let plan = object.status.expect("a status").plan;
    assert!(plan.len() == 1 && plan[0].starts_with("prune tag 1.26 (sha256:"), "{plan:?}");
    assert_eq!(rig.repository("app").tags.len(), 2);
}
