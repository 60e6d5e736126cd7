//! Requests of a pass, counted at the servers, without logins.

use testbed::scratch;
use testbed::traffic::{Mark, Plane, Record};
use testbed::upstream::{Auth, Upstream};

use crate::support::corpus::Maker;
use crate::support::desk::Desk;

/// A new, empty source with a desk.
async fn bench(name: &str) -> (Upstream, Maker, Desk) {
    let upstream = Upstream::start(scratch::folder(name).expect("a folder"), Auth::None).await;
    let upstream = upstream.expect("a registry starts");
    let maker = Maker::new(upstream.host());
    let desk = Desk::before(upstream.host()).await;
    (upstream, maker, desk)
}

/// Requests of a pass.
#[derive(Debug)]
struct Spent {
    source: Vec<String>,
    /// Requests to `/v2/` of ECR, and to its blob store.
    target: Vec<String>,
    control: Vec<String>,
    writes: usize,
}

impl Spent {
    fn total(&self) -> usize {
        self.source.len() + self.target.len()
    }
}

fn names(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| record.operation.clone()).collect()
}

async fn spend(desk: &Desk, text: &str, flags: &[&str]) -> Spent {
    let (source, target): (Mark, Mark) = (desk.source.mark(), desk.ecr.mark());
    let run = desk.sync(text, flags).await;
    assert!(run.is_success(), "{}", run.text);
    let (control, target): (Vec<_>, Vec<_>) =
        desk.ecr.log_since(target).into_iter().partition(|record| record.plane == Plane::Control);
    let is_login = |record: &Record| {
        matches!(&*record.operation, "GetAuthorizationToken" | "GetCallerIdentity")
    };
    let writes = control.iter().chain(&target).filter(|record| record.is_write()).count();
    let control: Vec<_> = control.into_iter().filter(|record| !is_login(record)).collect();
    Spent {
        source: names(&desk.source.log_since(source)),
        target: names(&target),
        control: names(&control),
        writes,
    }
}

/// A first pass: tags that ECR lacks are read with GET, without a HEAD before. `most` includes the
/// ECR API.
fn assert_cold(cold: &Spent, most: usize) {
    assert!(!cold.source.iter().any(|operation| operation == "HeadManifest"), "{cold:?}");
    let all = cold.total() + cold.control.len();
    assert!(all <= most, "{all} requests, not {most}: {cold:?}");
}

/// A second pass: nothing is written, and there is no request to `/v2/` of ECR.
async fn assert_warm(desk: &Desk, text: &str, most: usize) {
    let warm = spend(desk, text, &[]).await;
    assert_eq!((warm.writes, &warm.target), (0, &Vec::new()), "{warm:?}");
    assert!(warm.total() <= most, "{} requests, {warm:?}", warm.total());
    // The repository, the wanted tags in batches of 100, and the children of an index.
    let of_indexes = usize::from(warm.source.iter().any(|operation| operation == "GetManifest"));
    assert!(warm.control.len() <= 1 + most.div_ceil(100) + of_indexes, "{:?}", warm.control);
}

#[tokio::test]
async fn twenty_tags_that_share_layers_cost_the_minimum() {
    let (_upstream, maker, desk) = bench("budget-tags").await;
    let tags = maker.tags_that_share("many/tags", 20, 7).await;
    let text = desk.entry("app", "many/tags", &tags);
    let cold = spend(&desk, &text, &["--put-image-rate=1000"]).await;
    let view = desk.repository("app");
    assert_eq!(
        (view.tags.len(), view.blobs.len()),
        (20, 47),
        "7 shared layers, 20 others, 20 configs"
    );
    assert_warm(&desk, &text, 20).await;
    assert_cold(&cold, 184);
}

#[tokio::test]
async fn an_index_of_five_platforms_costs_the_minimum() {
    let (_upstream, maker, desk) = bench("budget-index").await;
    let platforms =
        ["linux/amd64", "linux/arm64/v8", "linux/arm/v7", "linux/s390x", "linux/ppc64le"];
    maker.index("one/index", "1", &platforms, 10).await;
    let text = desk.entry("app", "one/index", &["1"]);
    let cold = spend(&desk, &text, &[]).await;
    let view = desk.repository("app");
    assert_eq!((view.images.len(), view.blobs.len()), (6, 55));
    assert_warm(&desk, &text, 2).await;
    assert_cold(&cold, 179);
}

/// 200 tags with 3 layers, 2 of them shared.
#[tokio::test]
async fn two_hundred_tags_cost_the_minimum() {
    let (_upstream, maker, desk) = bench("budget-many").await;
    let tags = maker.tags_that_share("many/more", 200, 2).await;
    let text = desk.entry("app", "many/more", &tags);
    let cold = spend(&desk, &text, &["--put-image-rate=1000"]).await;
    let view = desk.repository("app");
    assert_eq!((view.tags.len(), view.blobs.len()), (200, 402));
    assert_warm(&desk, &text, 200).await;
    assert_cold(&cold, 1_613);
}
