//! Selection of the tags of a source.

use serde_json::json;
use testbed::traffic::{Fault, Match, Then};

use crate::support::{Rig, condition};

/// `team/app` has v1, v2 and v3.
fn selecting(rig: &Rig, selector: serde_json::Value) -> serde_json::Value {
    let mut image = rig.image("team/app", &[]);
    image.as_object_mut().expect("an object").remove("tags");
    image["tagSelector"] = selector;
    json!({"image": image})
}

#[tokio::test]
async fn the_newest_versions_are_selected() {
    let rig = Rig::new("select").await;
    let _operator = rig.operator().await;
    let cases = [
        ("latest", json!({"latest": 2}), vec!["v2", "v3"]),
        ("constraint", json!({"latest": 0, "semver": "<3"}), vec!["v1", "v2"]),
        (
            "patterns",
            json!({"latest": 0, "include": ["^v[12]$"], "exclude": ["1"],
                "sortBy": "Alphabetical"}),
            vec!["v2"],
        ),
    ];
    for (name, selector, _) in &cases {
        rig.apply(name, selecting(&rig, selector.clone())).await;
    }
    for (name, _, tags) in &cases {
        rig.wait_synced(name).await;
        assert_eq!(rig.repository(name).tags.keys().collect::<Vec<_>>(), *tags, "{name}");
    }
}

#[tokio::test]
async fn listed_and_selected_tags_are_both_wanted() {
    let rig = Rig::new("select-both").await;
    let _operator = rig.operator().await;
    let mut spec = selecting(&rig, json!({"latest": 1}));
    spec["image"]["tags"] = json!(["v1"]);
    rig.apply("app", spec).await;
    let object = rig.wait_synced("app").await;
    assert_eq!(object.status.expect("a status").image.expect("an image").summary, "2/2");
    assert_eq!(rig.repository("app").tags.keys().collect::<Vec<_>>(), ["v1", "v3"]);
}

#[tokio::test]
async fn more_tags_than_allowed_is_an_invalid_spec_and_nothing_is_copied() {
    let rig = Rig::new("select-many").await;
    let _operator = rig.operator_with(&["--max-tags", "2"], &[]).await;
    rig.apply("app", selecting(&rig, json!({"latest": 0}))).await;
    let object = rig.wait_ready("app", "False", "InvalidSpec").await;
    let (_, _, message) = condition(&object, "Stalled").expect("a person must act");
    assert!(
        message.contains("3 tags are wanted") && message.contains("at most 2 are allowed"),
        "{message}"
    );
    assert_eq!(rig.ecr.count(|request| request.is_write()), 0);
}

#[tokio::test]
async fn a_selector_that_cannot_be_read_names_the_field() {
    let rig = Rig::new("select-bad").await;
    let _operator = rig.operator().await;
    rig.apply("app", selecting(&rig, json!({"latest": 1, "include": ["ok", "("]}))).await;
    let object = rig.wait_ready("app", "False", "InvalidSpec").await;
    let (_, _, message) = condition(&object, "Ready").expect("set");
    assert!(message.starts_with("image.tagSelector.include[1]: "), "{message}");
}

#[tokio::test]
async fn a_list_of_tags_that_fails_removes_nothing() {
    let rig = Rig::new("select-blind").await;
    let operator = rig.operator().await;
    rig.apply("app", selecting(&rig, json!({"latest": 2}))).await;
    let before = rig.wait_synced("app").await;
    assert_eq!(operator.terminate().await, 0);
    rig.source.faults().add(Fault::new(Match::operation("ListTags"), Then::status(500)));
    let _operator = rig.operator().await;
    let blind = rig
        .wait("app", "ImageSynced=Unknown", |object| {
            condition(object, "ImageSynced").is_some_and(|c| c.0 == "Unknown")
        })
        .await;
    assert_eq!(condition(&blind, "Ready"), condition(&before, "Ready"));
    assert_eq!(blind.status.expect("a status").image, before.status.expect("a status").image);
}

#[tokio::test]
async fn a_pinned_tag_is_kept_when_the_source_moves_it() {
    let rig = Rig::new("pinned").await;
    let _operator = rig.operator().await;
    let seeded = &rig.sources.seeded;
    let (old, new) = (seeded.digest("library/demo", "1.26"), seeded.digest("library/demo", "1.27"));
    rig.apply("right", json!({"image": rig.image("library/demo", &[&format!("1.26@{old}")])}))
        .await;
    rig.wait_synced("right").await;
    assert_eq!(rig.repository("right").tags["1.26"], old);

    rig.apply(
        "moved",
        json!({"image": rig.image("library/demo", &[&format!("1.26@{new}"), "1.27"])}),
    )
    .await;
    let object = rig.wait_ready("moved", "False", "PartiallySynced").await;
    let failure = object.status.expect("a status").image.expect("an image").failures.remove(0);
    assert_eq!((failure.tag.as_str(), failure.reason.as_str()), ("1.26", "SourceChanged"));
    assert!(failure.message.contains(new) && failure.message.contains(old), "{}", failure.message);
    assert_eq!(
        rig.repository("moved").tags.keys().collect::<Vec<_>>(),
        ["1.27"],
        "nothing else is copied under a pin"
    );
}
