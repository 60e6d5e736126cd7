//! Targets of the fuzzer: the policies of a spec, compared with the ones in ECR.

use std::collections::BTreeSet;

use super::{
    Kind, Policy, Wanted, canonical_live, canonical_text, changes, difference, forecast,
    means_the_same, text,
};
use crate::fuzzing::Target;

pub(crate) const TARGETS: [Target; 2] =
    [("lifecycle_policy", lifecycle), ("permission_policy", permission)];

fn lifecycle(data: &[u8]) {
    let Some(policy) = check(Kind::Lifecycle, data) else { return };
    let images = [&["1.27", "latest"][..], &["v1"], &["1.26"]];
    let images = images.map(|tags| BTreeSet::from_iter(tags.iter().copied()));
    for rule in forecast(&policy, &images) {
        assert!(rule.at_least <= rule.at_most && rule.at_most <= rule.wanted && rule.wanted == 4);
        assert!(!rule.to_string().is_empty());
    }
}

fn permission(data: &[u8]) {
    check(Kind::Permission, data);
}

/// Reads a policy, and after a NUL another one, and compares them. Returns the first one.
fn check(kind: Kind, data: &[u8]) -> Option<Policy> {
    let mut documents = data.splitn(2, |byte| *byte == 0);
    let wanted = read(kind, documents.next()?)?;
    let live = text(&wanted);

    assert!(live.len() <= kind.max_length());
    assert!(means_the_same(kind, &wanted, &live));
    assert_eq!(difference(kind, &wanted, &live), "");
    assert_eq!(changes(kind, &wanted, &live), Vec::<String>::new());
    let canonical = canonical_text(kind, &wanted);
    assert_eq!(canonical_live(kind, &canonical), canonical, "canonical twice");
    assert!(means_the_same(kind, &wanted, &canonical));

    if let Some(other) = documents.next().and_then(|text| read(kind, text)) {
        let is_same = means_the_same(kind, &wanted, &text(&other));
        assert_eq!(means_the_same(kind, &other, &live), is_same, "in both directions");
        assert_eq!(canonical_text(kind, &other) == canonical, is_same);
        assert_eq!(difference(kind, &wanted, &text(&other)).is_empty(), is_same);
        assert_eq!(changes(kind, &wanted, &text(&other)).is_empty(), is_same);
    }
    Some(wanted)
}

/// The policy of a spec, if it is valid and not empty.
fn read(kind: Kind, text: &[u8]) -> Option<Policy> {
    let policy = serde_json::from_slice(text).ok()?;
    let read_again = serde_json::from_str(&super::text(&policy)).ok();
    assert_eq!(read_again.as_ref(), Some(&policy), "decimals are exact");
    match Wanted::read(kind, Some(&policy)) {
        Ok(Wanted::Document(document)) => {
            assert_eq!(document, policy);
            Some(policy)
        }
        Ok(_) => None,
        Err(violations) => {
            assert!(!violations.is_empty());
            assert!(violations.iter().all(|violation| violation.path.starts_with(kind.field())));
            None
        }
    }
}
