//! Objects as the API server sends them, some of which cannot be decoded.

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::core::{DeserializeGuard, ObjectList, WatchEvent};

use super::*;
use crate::api::v1alpha1::EcrRepositorySync;

type Resources = ObjectList<Guarded<EcrRepositorySync>>;
type GuardedByKube = ObjectList<DeserializeGuard<EcrRepositorySync>>;

/// JSON that is nested this deep.
fn nested(depth: usize) -> String {
    format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth))
}

/// A resource with this content in `metadata.managedFields` and in `spec`.
fn object(name: &str, managed_fields: &str, spec: &str) -> String {
    format!(
        r#"{{"apiVersion": "ecr-sync.io/v1alpha1", "kind": "EcrRepositorySync",
             "metadata": {{"name": "{name}", "namespace": "ns", "uid": "uid-{name}",
               "resourceVersion": "12", "generation": 3, "labels": {{"a": "b"}},
               "managedFields": [{{"manager": "m", "operation": "Apply", "fieldsV1": {managed_fields}}}]}},
             "spec": {spec}, "status": {{"observedGeneration": 2}}}}"#
    )
}

fn list(objects: &[String]) -> String {
    format!(
        r#"{{"kind": "EcrRepositorySyncList", "apiVersion": "ecr-sync.io/v1alpha1",
             "metadata": {{"resourceVersion": "20"}}, "items": [{}]}}"#,
        objects.join(",")
    )
}

#[test]
fn one_object_of_a_list_cannot_fail_the_others() {
    for depth in [1, 16, 117, 125, 1_000, 100_000] {
        let policy = format!(r#"{{"permissionPolicy": {{"Statement": {}}}}}"#, nested(depth));
        let text = list(&[
            object("one", "{}", "{}"),
            object("deep", "{}", &policy),
            object("wrong", "{}", r#"{"image": 7}"#),
            object("two", "{}", "{}"),
        ]);
        // Without the guard, the parser fails for all of them: there are five more levels.
        let guarded_by_kube = serde_json::from_str::<GuardedByKube>(&text);
        assert_eq!(guarded_by_kube.is_ok(), depth + 5 <= 127, "{depth}");
        let list: Resources = serde_json::from_str(&text).expect("a list");

        assert_eq!(list.metadata.resource_version.as_deref(), Some("20"));
        let decodable: Vec<_> = list.items.iter().map(|object| object.0.is_ok()).collect();
        // The object, its spec and its policy are the first three levels of 127.
        assert_eq!(decodable, [true, depth + 3 <= 127, false, true], "{depth}");
        let names: Vec<_> = list.items.iter().map(ResourceExt::name_any).collect();
        assert_eq!(names, ["one", "deep", "wrong", "two"]);
    }
}

#[test]
fn an_undecodable_object_keeps_its_names_and_its_status() {
    let text = object("deep", "{}", &format!(r#"{{"permissionPolicy": {}}}"#, nested(1_000)));
    let Guarded::<EcrRepositorySync>(Err(object)) = serde_json::from_str(&text).expect("guarded")
    else {
        panic!("it is decoded")
    };
    let metadata = &object.metadata;
    assert_eq!(metadata.namespace.as_deref(), Some("ns"));
    assert_eq!(metadata.uid.as_deref(), Some("uid-deep"));
    assert_eq!(metadata.resource_version.as_deref(), Some("12"));
    assert_eq!(metadata.generation, Some(3));
    assert_eq!(object.status.as_deref().map(RawValue::get), Some(r#"{"observedGeneration": 2}"#));
    assert!(object.reason.starts_with("recursion limit exceeded"), "{}", object.reason);
}

#[test]
fn managed_fields_cannot_make_an_object_undecodable() {
    for depth in [1, 125, 1_000, 100_000] {
        let text = object("managed", &nested(depth), r#"{"repositoryName": "app"}"#);
        let Guarded::<EcrRepositorySync>(object) = serde_json::from_str(&text).expect("guarded");
        let object = object.unwrap_or_else(|error| panic!("{depth}: {error:?}"));
        assert_eq!(object.repository(), "app");
        assert_eq!(object.labels()["a"], "b");

        let text = format!(
            r#"{{"metadata": {{"name": "login", "namespace": "ns", "resourceVersion": "5",
                 "managedFields": [{{"fieldsV1": {}}}]}}}}"#,
            nested(depth)
        );
        let secret: Guarded<PartialObjectMeta<Secret>> =
            serde_json::from_str(&text).expect("guarded");
        assert_eq!(secret.0.expect("decoded").resource_version().as_deref(), Some("5"));
    }
}

#[test]
fn an_event_of_a_watch_is_guarded_too() {
    for (type_, is_added) in [("ADDED", true), ("MODIFIED", false), ("DELETED", false)] {
        let deep = object("deep", &nested(1_000), &format!(r#"{{"image": {}}}"#, nested(1_000)));
        // The API server sends the type first (metav1.WatchEvent); serde would otherwise buffer the
        // object.
        let text = format!(r#"{{"type": "{type_}", "object": {deep}}}"#);
        let event: WatchEvent<Guarded<EcrRepositorySync>> =
            serde_json::from_str(&text).expect("an event");
        assert_eq!(matches!(event, WatchEvent::Added(_)), is_added);
        let (WatchEvent::Added(object)
        | WatchEvent::Modified(object)
        | WatchEvent::Deleted(object)) = event
        else {
            panic!("another event")
        };
        assert!(object.0.is_err());
        assert_eq!(
            (object.name_any(), object.resource_version()),
            ("deep".into(), Some("12".into()))
        );
    }
}

#[test]
fn metadata_that_is_not_the_api_servers_is_left_out() {
    for text in ["{}", "[]", "7", r#"{"metadata": 7}"#, r#"{"metadata": {"name": 7}}"#] {
        let Guarded::<EcrRepositorySync>(object) = serde_json::from_str(text).expect("guarded");
        assert_eq!(object.expect_err(text).metadata, ObjectMeta::default(), "{text}");
    }
    assert!(serde_json::from_str::<Guarded<EcrRepositorySync>>("{").is_err(), "half an answer");
}

#[test]
fn the_reason_quotes_nothing_of_the_object() {
    for (spec, reason) in [
        (r#"{"image": "hunter2 \" hunter2"}"#, "invalid type: string …, expected struct Image"),
        (r#"{"image": {"pullUrl": 4711}}"#, "invalid type: integer …, expected a string"),
        (
            r#"{"deletionPolicy": "hunter2"}"#,
            "unknown variant …, expected one of `Retain`, `Delete`",
        ),
    ] {
        let text = object("wrong", "{}", spec);
        let Guarded::<EcrRepositorySync>(object) = serde_json::from_str(&text).expect("guarded");
        let object = object.expect_err(spec);
        assert!(object.reason.starts_with(reason), "{}", object.reason);
        let printed = format!("{object:?}");
        assert!(!printed.contains("hunter2") && !printed.contains("4711"), "{printed}");
    }
}
