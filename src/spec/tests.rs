//! Rules of the whole spec.

use std::time::Duration;

use super::{Spec, parse, parse_for_deletion};
use crate::api::v1alpha1::{
    EcrRepositorySyncSpec, Encryption, EncryptionType, Image, ImageTagMutability, Prune,
    TagStrategy,
};
use crate::ecr::policy::Wanted;

fn spec(change: impl FnOnce(&mut EcrRepositorySyncSpec)) -> EcrRepositorySyncSpec {
    let mut spec = EcrRepositorySyncSpec {
        image: Some(Image {
            pull_url: "docker.io/library/nginx:1.27".to_owned(),
            ..Image::default()
        }),
        ..EcrRepositorySyncSpec::default()
    };
    change(&mut spec);
    spec
}

fn parsed(value: serde_json::Value) -> Spec {
    let spec: EcrRepositorySyncSpec = serde_json::from_value(value).expect("a spec");
    parse("platform/nginx", &spec).expect("no violations")
}

fn paths(spec: &EcrRepositorySyncSpec) -> Vec<String> {
    let violations = parse("nginx", spec).err().unwrap_or_default();
    violations.into_iter().map(|violation| violation.path).collect()
}

#[test]
fn each_wrong_field_is_named() {
    assert_eq!(paths(&spec(|_| {})), Vec::<String>::new());
    assert_eq!(paths(&spec(|s| s.repository_name = Some("Bad".to_owned()))), ["repositoryName"]);
    assert_eq!(paths(&spec(|s| s.interval = "10s".to_owned())), ["interval"]);
    assert_eq!(paths(&spec(|s| s.drift_interval = "1d".to_owned())), ["driftInterval"]);
    assert_eq!(paths(&spec(|s| s.timeout = "forever".to_owned())), ["timeout"]);
    assert_eq!(
        paths(
            &spec(|s| s.image = Some(Image { pull_url: "nginx".to_owned(), ..Image::default() }))
        ),
        ["image"]
    );
    assert_eq!(
        paths(&spec(|s| {
            s.image.as_mut().unwrap().tags =
                vec!["ok".to_owned(), "a:b".to_owned(), "ok".to_owned()];
        })),
        ["image.tags[1]", "image.tags[2]"]
    );
    assert_eq!(
        paths(&spec(|s| s.image.as_mut().unwrap().tag_strategy = TagStrategy::Retag)),
        ["image.tagStrategy"]
    );
    let filters = |count: usize| (0..count).map(|n| format!("v{n}.*")).collect::<Vec<_>>();
    assert_eq!(
        paths(&spec(|s| s.image_tag_mutability_exclusion_filters = filters(1))),
        ["imageTagMutabilityExclusionFilters"]
    );
    let with_filters = |filters: Vec<String>| {
        paths(&spec(|s| {
            s.image_tag_mutability = Some(ImageTagMutability::ImmutableWithExclusion);
            s.image_tag_mutability_exclusion_filters = filters;
        }))
    };
    assert_eq!(with_filters(filters(5)), Vec::<String>::new());
    assert_eq!(with_filters(filters(0)), ["imageTagMutabilityExclusionFilters"]);
    assert_eq!(with_filters(filters(6)), ["imageTagMutabilityExclusionFilters"]);
    assert_eq!(with_filters(vec!["a b".to_owned()]), ["imageTagMutabilityExclusionFilters[0]"]);
    assert_eq!(
        paths(&spec(|s| {
            s.encryption = Some(Encryption {
                type_: EncryptionType::Aes256,
                kms_key: Some("alias/x".to_owned()),
            });
        })),
        ["encryption.kmsKey"]
    );
    assert_eq!(
        paths(&spec(|s| s.resource_tags = Some([("aws:x".to_owned(), String::new())].into()))),
        ["resourceTags[\"aws:x\"]"]
    );
    let with_prune = |max_percent, min_unpulled: &str| {
        let prune = Prune { enabled: true, max_percent, min_unpulled: min_unpulled.to_owned() };
        paths(&spec(|s| s.prune = Some(prune.clone())))
    };
    assert_eq!(with_prune(0, "8761h"), ["prune.minUnpulled", "prune.maxPercent"]);
    assert_eq!(with_prune(101, "30d"), ["prune.minUnpulled", "prune.maxPercent"]);
    assert_eq!(with_prune(1, "0s"), [""; 0]);
    assert_eq!(with_prune(100, "8760h"), [""; 0]);
}

#[test]
fn tags_have_the_digests_that_they_are_pinned_to() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let tags = |tags: &[&str]| {
        let spec = parsed(serde_json::json!({"image": {"pullUrl": "nginx:1.27", "tags": tags}}));
        let tags = spec.image.expect("an image").tags.into_iter();
        tags.map(|(tag, digest)| (tag.to_string(), digest.map(|d| d.to_string())))
            .collect::<Vec<_>>()
    };
    assert_eq!(tags(&[]), [("1.27".to_owned(), None)]);
    assert_eq!(tags(&["b", "a"]), [("a".to_owned(), None), ("b".to_owned(), None)]);
    // A tag that stands there with and without a digest is pinned, in either order.
    let pinned = format!("a@{digest}");
    let expected = [("a".to_owned(), Some(digest))];
    assert_eq!(tags(&[&pinned, "a"]), expected);
    assert_eq!(tags(&["a", &pinned]), expected);
}

#[test]
fn a_tag_has_one_digest() {
    let [first, other] = ["a", "b"].map(|digit| format!("sha256:{}", digit.repeat(64)));
    let tags = vec![format!("a@{first}"), "b".to_owned(), format!("a@{other}")];
    let spec = spec(|s| s.image.as_mut().unwrap().tags = tags);
    let violations = parse("nginx", &spec).unwrap_err();
    assert_eq!(
        violations[0].to_string(),
        format!("image.tags[2]: the tag a is already pinned to {first}: write one digest for it")
    );
}

#[test]
fn retag_keeps_the_tag_of_pull_url() {
    let spec = parsed(serde_json::json!({
        "image": {"pullUrl": "nginx:1.27", "tags": ["stable"], "tagStrategy": "Retag"}
    }));
    let image = spec.image.expect("an image");
    assert_eq!(image.retag.map(|tag| tag.to_string()).as_deref(), Some("1.27"));
    let mirror = parsed(serde_json::json!({"image": {"pullUrl": "nginx:1.27"}}));
    assert_eq!(mirror.image.expect("an image").retag, None);
}

#[test]
fn a_wrong_document_costs_itself_only() {
    let spec = parsed(serde_json::json!({
        "lifecyclePolicy": {"rules": [{}]}, "permissionPolicy": {"Statement": []}
    }));
    assert!(spec.lifecycle.is_err());
    assert_eq!(spec.permission, Ok(Wanted::None));
    assert_eq!(spec.refused().count(), 1);
}

#[test]
fn pruning_is_absent_unless_it_is_enabled() {
    let prune = |enabled: bool| {
        let prune = serde_json::json!({"enabled": enabled, "minUnpulled": "24h"});
        parsed(serde_json::json!({"prune": prune})).prune
    };
    assert_eq!(prune(false), None);
    let bounds = prune(true).expect("bounds");
    assert_eq!((bounds.max_percent, bounds.min_unpulled), (25, Duration::from_secs(24 * 3600)));
}

#[test]
fn a_wrong_source_does_not_keep_a_resource_from_being_deleted() {
    let wrong = spec(|spec| {
        spec.image.as_mut().expect("an image").pull_url = "https://nginx".to_owned();
        spec.interval = "soon".to_owned();
    });
    assert_eq!(paths(&wrong), ["image.pullUrl", "interval"]);
    assert!(parse_for_deletion("nginx", &wrong).is_ok());
}
