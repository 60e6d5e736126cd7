//! Cases in which nothing is removed.

use testbed::traffic::{Fault, Match, Then};

use super::{AT_ONCE, Bench};
use crate::support::{ACCOUNT, REGION};

/// The response of a source to a list of its tags.
fn listings() -> Vec<(&'static str, Vec<Fault>)> {
    let list = |then| Fault::new(Match::operation("ListTags"), then);
    let page = |with_next: bool, body: &str| {
        let next =
            with_next.then(|| ("Link".to_owned(), "<?last=1&n=1000>; rel=\"next\"".to_owned()));
        Then::Status { code: 200, headers: next.into_iter().collect(), body: body.to_owned() }
    };
    vec![
        ("failed", vec![list(Then::status(500))]),
        ("refused", vec![list(Then::status(403))]),
        ("not there", vec![list(Then::status(404))]),
        ("cut off", vec![list(Then::Truncate(20))]),
        ("empty", vec![list(page(false, r#"{"name":"x","tags":[]}"#))]),
        ("null", vec![list(page(false, r#"{"name":"x","tags":null}"#))]),
        ("no list", vec![list(page(false, "<html>busy</html>"))]),
        (
            "partial",
            vec![
                Fault::new(Match::operation("ListTags").path("last="), Then::status(500)),
                list(page(true, r#"{"name":"x","tags":["1","2","3"]}"#)),
            ],
        ),
    ]
}

#[tokio::test]
async fn nothing_is_removed_if_the_list_failed_is_empty_or_incomplete() {
    let bench = Bench::with("listing", &["1", "2", "3"]).await;
    for (name, faults) in listings() {
        bench.desk.source.faults().clear();
        for fault in faults {
            bench.desk.source.faults().add(fault);
        }
        let mark = bench.desk.ecr.mark();
        for image in ["tags: [\"1\"]", "tag_selector: {latest: 1}"] {
            let run = bench.sync_image(image, AT_ONCE, &[]).await;
            assert_eq!(run.code, Some(1), "{name}, {image}: {}", run.text);
            let told = run.text.contains("! prune: PruneBlocked: nothing was pruned: ");
            assert!(told, "{name}, {image}: {}", run.text);
        }
        assert!(bench.desk.ecr.log_since(mark).iter().all(|request| !request.is_write()), "{name}");
        assert_eq!(bench.tags(), ["1", "2", "3"], "{name}");
    }
    bench.desk.source.faults().clear();
    assert!(bench.sync(&["1"], AT_ONCE, &[]).await.is_success());
    assert_eq!(bench.tags(), ["1"]);
}

#[tokio::test]
async fn tags_without_an_answer_of_the_source_are_kept_and_all_tags_while_a_wanted_one_is_missing()
{
    let bench = Bench::with("missing", &["1", "2", "3", "4"]).await;
    let head = Match::operation("HeadManifest").path("manifests/2");
    bench.desk.source.faults().add(Fault::new(head, Then::status(500)));
    let run = bench.sync(&["1", "3"], AT_ONCE, &[]).await;
    assert_eq!(run.code, Some(1), "{}", run.text);
    assert!(
        run.text
            .contains("! prune: PruneBlocked: some tags were not pruned: RegistryUnavailable: ")
    );
    assert_eq!(bench.tags(), ["1", "2", "3"], "4 could be asked for");
    bench.desk.source.faults().clear();
    assert!(bench.sync(&["1", "2"], AT_ONCE, &[]).await.is_success());

    let run = bench.sync(&["1", "9"], AT_ONCE, &[]).await;
    assert_eq!(run.code, Some(1));
    let why =
        "pruned: SourceNotFound: image tag 9 is wanted, but could not be copied: cannot read ";
    assert!(run.text.contains(why), "{}", run.text);
    // Detected only during the copy.
    bench.source.image_as("9", Some("9")).await;
    bench
        .desk
        .ecr
        .faults()
        .add(Fault::new(Match::operation("PutManifest"), Then::aws_error(400, "NO", "no")));
    let run = bench.sync(&["1", "9"], AT_ONCE, &[]).await;
    assert_eq!(run.code, Some(1));
    assert!(
        run.text.contains(": image tag 9 is wanted, but could not be copied: "),
        "{}",
        run.text
    );
    assert_eq!(bench.tags(), ["1", "2"]);
    bench.desk.ecr.faults().clear();
    assert!(bench.sync(&["1", "9"], AT_ONCE, &[]).await.is_success());
    assert_eq!(bench.tags(), ["1", "9"]);
}

#[tokio::test]
async fn a_selector_that_matches_nothing_removes_nothing() {
    let bench = Bench::with("slip", &["1.0.0", "2.0.0"]).await;
    let run = bench.sync_image("tag_selector: {latest: 5, semver: '>=20'}", AT_ONCE, &[]).await;
    assert_eq!(run.code, Some(1), "{}", run.text);
    assert!(
        run.text.contains("pruned: the selector finds none of the 2 image tags of "),
        "{}",
        run.text
    );
    assert!(run.text.contains("app: failed"), "{}", run.text);
    // Not even if there is also a tag.
    let run = bench
        .sync_image("tags: [1.0.0], tag_selector: {latest: 5, semver: '>=20'}", AT_ONCE, &[])
        .await;
    assert!(
        run.code == Some(1) && run.text.contains("pruned: the selector finds none of"),
        "{}",
        run.text
    );
    assert_eq!(bench.tags().len(), 2);
}

#[tokio::test]
async fn a_repository_that_an_operator_owns_is_not_pruned() {
    let bench = Bench::with("owned", &["1", "2"]).await;
    let owner = [("ecr-sync.io/owner".to_owned(), "cluster/ns/app".to_owned())];
    assert!(bench.desk.ecr.set_resource_tags(ACCOUNT, REGION, "app", owner.into()));
    let run = bench.sync(&["1"], AT_ONCE, &[]).await;
    assert_eq!(run.code, Some(1));
    assert!(run.text.contains("RepositoryNotOwned"), "{}", run.text);
    let run = bench.sync(&["1"], AT_ONCE, &["--take-over"]).await;
    assert_eq!(run.code, Some(1), "{}", run.text);
    assert!(
        run.text.contains(
            "pruned: an operator keeps the repository for cluster/ns/app, and must prune it"
        ),
        "{}",
        run.text
    );
    assert_eq!(bench.tags(), ["1", "2"]);
}
