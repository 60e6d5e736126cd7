//! Tables: desired x observed -> actions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::api::v1alpha1::AdoptionPolicy;
use crate::ecr::policy::Wanted;
use crate::ecr::{Encryption, Images, Mutability, OWNER_TAG, Owner, Repository, Settings};
use crate::hash::Fingerprint;
use crate::registry::{
    Client, Credential, Endpoint, Options, Reference, Scheme, StaticAuthenticator, Transport,
    TransportOptions,
};
use crate::sync::artifact::{ArtifactKind, Derived, SourceTag};
use crate::sync::origin::Origin;
use crate::sync::ownership::{Claim, OwnerRules};

fn digest(content: &str) -> Digest {
    Digest::sha256_of(content.as_bytes())
}

fn tag(text: &str) -> Tag {
    text.parse().expect("a tag")
}

fn me() -> Claimant {
    let owner =
        Owner { cluster: "c".to_owned(), namespace: "ns".to_owned(), name: "app".to_owned() };
    let adoption = AdoptionPolicy::default();
    Claimant::Resource(Claim {
        owner,
        generation: 1,
        adoption,
        may_adopt: true,
        rules: OwnerRules::default(),
        recorded: None,
    })
}

fn desired() -> Desired {
    Desired { repository: "app".to_owned(), ..Desired::default() }
}

/// An image whose tags have this content in the source; `None` is a failure.
fn with_tags(tags: &[(&str, Option<&str>)]) -> Desired {
    let reference: Reference = "registry.example/team/app".parse().expect("a reference");
    let source = Client::new(
        Transport::new(&TransportOptions::default(), &Arc::default()).expect("a transport"),
        Endpoint { scheme: Scheme::Https, host: reference.host.clone() },
        Arc::new(StaticAuthenticator(Credential::Anonymous)),
        Options::default(),
    )
    .expect("a client");
    let tags = tags
        .iter()
        .map(|(name, content)| {
            let resolved = content.map(|content| SourceTag {
                label: format!("registry.example/team/app:{name}"),
                content: SourceContent::Manifest(digest(content)),
            });
            let source = resolved.ok_or_else(|| Failure::new(Class::RegistryUnavailable, "down"));
            (tag(name), WantedTag { pin: None, source })
        })
        .collect();

    let source =
        Source::Registry(Origin::new(source, Fingerprint::of(()), reference.repository.clone()));
    let kind = ArtifactKind::Image;
    let artifact = DesiredArtifact { source, tags, ..DesiredArtifact::new(kind, reference.name()) };
    Desired { artifacts: vec![artifact], ..desired() }
}

/// A repository of ours with these tags.
fn repository_with(tags: &[(&str, &str)]) -> ObservedRepository {
    let Claimant::Resource(Claim { owner, .. }) = me() else { unreachable!() };
    ObservedRepository {
        is_ours: true,
        configuration_read: true,
        expired: BTreeMap::new(),
        archived: BTreeMap::new(),
        repository: Repository {
            name: "app".to_owned(),
            arn: "arn".to_owned(),
            uri: "host/app".to_owned(),
            registry_id: "123456789012".to_owned(),
            mutability: Mutability::Mutable,
            scan_on_push: false,
            encryption: Encryption { kind: "AES256".to_owned(), key: None },
        },
        resource_tags: [(OWNER_TAG.to_owned(), owner.tag_value())].into(),
        lifecycle: None,
        permission: None,
        images: Images {
            tags: tags.iter().map(|(name, content)| (tag(name), digest(content))).collect(),
            ..Images::default()
        },
        incomplete: BTreeSet::new(),
        children: BTreeSet::new(),
        owner_is_gone: false,
    }
}

fn observed(repository: ObservedRepository) -> Observed {
    Observed { repository: Some(repository), ..Observed::default() }
}

/// The actions in words.
fn actions(desired: &Desired, observed: &Observed) -> Vec<String> {
    plan(desired, observed, &me(), &Earlier::default())
        .expect("a plan")
        .actions
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn document(value: Value) -> Wanted {
    match value {
        Value::Object(policy) => Wanted::Document(policy),
        other => panic!("{other} is not an object"),
    }
}

#[test]
fn a_missing_repository_is_created_with_everything() {
    let wanted = Desired {
        lifecycle: document(json!({"rules": [{"rulePriority": 1}]})),
        permission: Wanted::None,
        resource_tags: [("team".to_owned(), "platform".to_owned())].into(),
        ..with_tags(&[("1", Some("one"))])
    };
    let planned = plan(&wanted, &Observed::default(), &me(), &Earlier::default()).expect("a plan");
    let Action::CreateRepository { tags, .. } = &planned.actions[0] else { panic!("{planned:?}") };
    assert_eq!(tags.keys().collect::<Vec<_>>(), [CREATED_TAG, OWNER_TAG, "team"]);
    let words: Vec<_> = planned.actions.iter().map(ToString::to_string).collect();
    assert_eq!(words[0], "create repository app");
    assert_eq!(words[1], "set lifecyclePolicy");
    assert_eq!(words[2], format!("copy registry.example/team/app:1 ({}) to tag 1", digest("one")));
    assert_eq!(words.len(), 3, "a new repository has no policy to remove");
}

#[test]
fn a_repository_in_sync_needs_no_action() {
    let wanted = with_tags(&[("1", Some("one")), ("2", Some("two"))]);
    assert_eq!(
        actions(&wanted, &observed(repository_with(&[("1", "one"), ("2", "two")]))),
        [""; 0]
    );
}

#[test]
fn policies_by_spec_and_ecr() {
    let policy = json!({"rules": [{"rulePriority": 1}]});
    let other = json!({"rules": [{"rulePriority": 2}]}).to_string();
    let same = "{ \"rules\": [ {\"rulePriority\":1} ] }".to_owned();
    let table: [(Wanted, Option<String>, &[&str]); 8] = [
        (Wanted::Unmanaged, None, &[]),
        (Wanted::Unmanaged, Some(other.clone()), &[]),
        (Wanted::None, None, &[]),
        (Wanted::None, Some(other.clone()), &["remove lifecyclePolicy"]),
        (document(policy.clone()), None, &["set lifecyclePolicy"]),
        (document(policy.clone()), Some(same), &[]),
        (document(policy.clone()), Some(other), &["replace lifecyclePolicy"]),
        (document(policy), Some("no json".to_owned()), &["replace lifecyclePolicy"]),
    ];

    for (lifecycle, live, wanted) in table {
        let case = format!("{lifecycle:?} x {live:?}");
        let desired = Desired { lifecycle, ..desired() };
        let observed = observed(ObservedRepository { lifecycle: live, ..repository_with(&[]) });
        assert_eq!(actions(&desired, &observed), wanted, "{case}");
    }
}

#[test]
fn resource_tags_touch_only_the_keys_named() {
    let mut repository = repository_with(&[]);
    repository.resource_tags.insert("other".to_owned(), "kept".to_owned());
    repository.resource_tags.insert("same".to_owned(), "1".to_owned());
    repository.resource_tags.insert("moved".to_owned(), "old".to_owned());
    let tags = [("same", "1"), ("moved", "new"), ("added", "x")];
    let resource_tags = tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let desired = Desired { resource_tags, ..desired() };
    assert_eq!(actions(&desired, &observed(repository)), ["set resource tags added=x, moved=new"]);
}

#[test]
fn tags_by_source_target_and_mutability() {
    let immutable_but_latest = Mutability::ImmutableExcept(vec!["latest".to_owned()]);
    // tag, source, target, mutability -> copied, or the state it settles in
    let table = [
        ("1", Some("a"), None, Mutability::Mutable, "copy"),
        ("1", Some("a"), Some("a"), Mutability::Mutable, "Synced"),
        ("1", Some("a"), Some("b"), Mutability::Mutable, "copy"),
        ("1", Some("a"), None, Mutability::Immutable, "copy"),
        ("1", Some("a"), Some("a"), Mutability::Immutable, "Synced"),
        ("1", Some("a"), Some("b"), Mutability::Immutable, "TagImmutable"),
        ("1", Some("a"), Some("b"), immutable_but_latest.clone(), "TagImmutable"),
        ("latest", Some("a"), Some("b"), immutable_but_latest, "copy"),
        ("1", None, None, Mutability::Mutable, "RegistryUnavailable"),
        ("1", None, Some("b"), Mutability::Mutable, "Unverified"),
    ];

    for (name, source, target, mutability, wanted) in table {
        let case = format!("{name} {source:?} {target:?} {mutability:?}");
        let target: Vec<_> = target.iter().map(|content| (name, *content)).collect();
        let mut repository = repository_with(&target);
        repository.repository.mutability = mutability;
        let planned =
            plan(&with_tags(&[(name, source)]), &observed(repository), &me(), &Earlier::default())
                .expect("a plan");
        let shown =
            match (planned.actions.first(), planned.settled.get(&(ArtifactKind::Image, tag(name))))
            {
                (Some(Action::CopyTag { .. }), None) => "copy",
                (None, Some(TagState::Synced(_))) => "Synced",
                (None, Some(TagState::Unverified { .. })) => "Unverified",
                (None, Some(TagState::Failed(failure))) => failure.class.reason(),
                other => panic!("{case}: {other:?}"),
            };
        assert_eq!(shown, wanted, "{case}");
    }
}

#[test]
fn a_pinned_digest_in_ecr_needs_no_source() {
    let mut wanted = with_tags(&[("1", None)]);
    let pinned = wanted.artifacts[0].tags.get_mut(&tag("1")).expect("wanted");
    pinned.pin = Some(digest("a"));
    let planned =
        plan(&wanted, &observed(repository_with(&[("1", "a")])), &me(), &Earlier::default())
            .expect("a plan");
    assert_eq!(planned.settled[&(ArtifactKind::Image, tag("1"))], TagState::Synced(digest("a")));
}

#[test]
fn a_tag_that_moves_names_its_old_digest() {
    let words =
        actions(&with_tags(&[("1", Some("new"))]), &observed(repository_with(&[("1", "old")])));
    let expected = format!(
        "copy registry.example/team/app:1 ({}) to tag 1, which points to {}",
        digest("new"),
        digest("old")
    );
    assert_eq!(words, [expected]);
}

#[test]
fn ownership_decides_who_may_touch_a_repository() {
    let foreign = "other-cluster/ns/app";
    let mine = "c/ns/app";
    // owner tag, whether it is gone, claimant -> None if refused, else whether our tag is written
    let table = [
        (None, false, me(), Some(true)),
        (Some(mine), false, me(), Some(false)),
        (Some(foreign), false, me(), None),
        (Some("c/ns/renamed"), false, me(), None),
        (Some("c/ns/renamed"), true, me(), Some(true)),
        (None, false, Claimant::CommandLine { take_over: false }, Some(false)),
        (Some(mine), false, Claimant::CommandLine { take_over: false }, None),
    ];

    for (owner, owner_is_gone, claimant, wanted) in table {
        let case = format!("{owner:?} gone: {owner_is_gone} {claimant:?}");
        let resource_tags =
            owner.map(|owner| (OWNER_TAG.to_owned(), owner.to_owned())).into_iter().collect();
        let repository =
            ObservedRepository { resource_tags, owner_is_gone, ..repository_with(&[]) };
        let writes = match plan(&desired(), &observed(repository), &claimant, &Earlier::default()) {
            Ok(planned) => Some(!planned.actions.is_empty()),
            Err(failure) => {
                assert_eq!(failure.class, Class::RepositoryNotOwned, "{case}");
                None
            }
        };
        assert_eq!(writes, wanted, "{case}");
    }
}

#[test]
fn the_command_line_leaves_no_mark() {
    let planned = plan(
        &desired(),
        &Observed::default(),
        &Claimant::CommandLine { take_over: false },
        &Earlier::default(),
    )
    .expect("a plan");
    let create = Action::CreateRepository {
        name: "app".to_owned(),
        tags: BTreeMap::new(),
        settings: Settings::default(),
    };
    assert_eq!(planned.actions, [create]);
}

fn archive(digest: Option<&str>, derived: Option<(&str, &str)>) -> SourceContent {
    SourceContent::Archive {
        digest: digest.map(self::digest),
        derived: derived.map(|(archive, manifest)| Derived {
            archive: self::digest(archive),
            provenance: false,
            manifest: self::digest(manifest),
        }),
    }
}

#[test]
fn charts_by_index_memory_and_target() {
    // what the index and an earlier pass say, target, keep -> what happens
    let table = [
        (archive(Some("tgz"), None), None, true, "copy"),
        (archive(Some("tgz"), None), Some("made"), true, "compare"),
        (archive(Some("tgz"), Some(("tgz", "made"))), Some("made"), true, "Synced"),
        (archive(None, Some(("tgz", "made"))), Some("made"), true, "Synced"),
        (archive(Some("new"), Some(("tgz", "made"))), Some("made"), true, "Kept"),
        (archive(Some("new"), Some(("tgz", "made"))), Some("made"), false, "compare"),
        (archive(Some("tgz"), Some(("tgz", "made"))), Some("other"), true, "compare"),
        (archive(Some("tgz"), Some(("tgz", "made"))), None, true, "copy"),
        (SourceContent::Manifest(digest("a")), Some("b"), true, "Kept"),
        (SourceContent::Manifest(digest("a")), Some("b"), false, "copy"),
    ];

    for (content, target, keep, wanted) in table {
        let case = format!("{content:?} {target:?} keep: {keep}");
        let mut desired = with_tags(&[("1.0.0", Some("unused"))]);
        let chart = &mut desired.artifacts[0];
        (chart.kind, chart.keep) = (ArtifactKind::Chart, keep);
        let source =
            Ok(SourceTag { label: "nginx 1.0.0 of https://charts.example".to_owned(), content });
        chart.tags.insert(tag("1.0.0"), WantedTag { pin: None, source });
        let target: Vec<_> = target.iter().map(|content| ("1.0.0", *content)).collect();
        let planned =
            plan(&desired, &observed(repository_with(&target)), &me(), &Earlier::default())
                .expect("a plan");

        let settled = planned.settled.get(&(ArtifactKind::Chart, tag("1.0.0")));
        let shown = match (planned.actions.first().map(ToString::to_string), settled) {
            (Some(words), None) => words.split(' ').next().unwrap_or_default().to_owned(),
            (None, Some(TagState::Synced(_))) => "Synced".to_owned(),
            (None, Some(TagState::Kept { .. })) => "Kept".to_owned(),
            other => panic!("{case}: {other:?}"),
        };
        assert_eq!(shown, wanted, "{case}");
    }
}

#[test]
fn a_tag_that_image_and_chart_want_is_copied_for_neither() {
    let mut desired = with_tags(&[("1.0.0", Some("a")), ("latest", Some("a"))]);
    let mut chart = with_tags(&[("1.0.0", Some("b")), ("2.0.0", Some("b"))]).artifacts.remove(0);
    chart.kind = ArtifactKind::Chart;
    desired.artifacts.push(chart);
    let planned = plan(&desired, &observed(repository_with(&[])), &me(), &Earlier::default())
        .expect("a plan");
    for kind in [ArtifactKind::Image, ArtifactKind::Chart] {
        let TagState::Failed(failure) = &planned.settled[&(kind, tag("1.0.0"))] else {
            panic!("{planned:?}")
        };
        assert_eq!(failure.class, Class::TagCollision);
    }
    assert_eq!(planned.actions.len(), 2, "the rest is copied");
}

#[test]
fn settings_are_written_before_policies_and_tags() {
    let wanted = Desired {
        settings: Settings {
            mutability: Some(Mutability::Mutable),
            scan_on_push: Some(true),
            encryption: Some(Encryption {
                kind: "KMS".to_owned(),
                key: Some("alias/team".to_owned()),
            }),
        },
        lifecycle: document(json!({"rules": [{"rulePriority": 1}]})),
        resource_tags: [("team".to_owned(), "platform".to_owned())].into(),
        ..with_tags(&[("1", Some("new"))])
    };

    let mut repository = repository_with(&[("1", "old")]);
    repository.repository.mutability = Mutability::Immutable;
    let planned = plan(&wanted, &observed(repository), &me(), &Earlier::default()).expect("a plan");
    let words: Vec<_> = planned.actions.iter().map(ToString::to_string).collect();
    assert_eq!(
        words,
        [
            "set resource tags team=platform".to_owned(),
            "change imageTagMutability from Immutable to Mutable".to_owned(),
            "set scanOnPush to true".to_owned(),
            "set lifecyclePolicy".to_owned(),
            format!(
                "copy registry.example/team/app:1 ({}) to tag 1, which points to {}",
                digest("new"),
                digest("old")
            ),
        ],
        "the tag may move, since the setting comes first"
    );

    let drift: Vec<_> = planned.drift.iter().map(ToString::to_string).collect();
    assert_eq!(drift.len(), 1, "{drift:?}");
    assert!(drift[0].starts_with(
        "encryption is AES256, not KMS with alias/team: encryption can be set only when a \
         repository is created"
    ));
}

#[test]
fn only_resource_tags_that_we_set_are_removed() {
    let tags = |tags: &[(&str, &str)]| -> BTreeMap<String, String> {
        tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let earlier = |keys: &[&str]| Earlier {
        managed_tag_keys: keys.iter().map(|&key| key.to_owned()).collect(),
        ..Earlier::default()
    };
    // wanted, live, keys that we set -> actions
    type Tags<'a> = &'a [(&'a str, &'a str)];
    let table: [(Tags<'_>, Tags<'_>, &[&str], &[&str]); 6] = [
        (&[("a", "1")], &[("a", "1"), ("b", "2")], &[], &[]),
        (&[("a", "1")], &[("a", "1"), ("b", "2")], &["a", "b"], &["remove resource tags b"]),
        (&[], &[("a", "1"), ("b", "2")], &["a"], &["remove resource tags a"]),
        (&[], &[("b", "2")], &["a"], &[]),
        (
            &[("a", "2")],
            &[("a", "1"), ("c", "3")],
            &["c"],
            &["set resource tags a=2", "remove resource tags c"],
        ),
        (&[], &[(OWNER_TAG, "c/ns/app")], &[OWNER_TAG], &[]),
    ];

    for (wanted, live, keys, actions) in table {
        let desired = Desired { resource_tags: tags(wanted), ..desired() };
        let mut repository = repository_with(&[]);
        repository.resource_tags.extend(tags(live));
        let planned = plan(&desired, &observed(repository), &me(), &earlier(keys)).expect("a plan");
        let words: Vec<_> = planned.actions.iter().map(ToString::to_string).collect();
        assert_eq!(words, actions, "{wanted:?} x {live:?}, set by us: {keys:?}");
    }
}

#[test]
fn only_an_index_that_lacks_an_image_is_copied_again() {
    let desired = with_tags(&[("1.26", Some("a")), ("1.27", Some("b"))]);
    let mut repository = repository_with(&[("1.26", "a"), ("1.27", "b")]);
    repository.incomplete = BTreeSet::from([digest("b")]);
    let expected = format!(
        "complete tag 1.27, an index that lacks some of its images, from \
         registry.example/team/app:1.27 ({})",
        digest("b")
    );
    assert_eq!(actions(&desired, &observed(repository)), [expected]);
}
