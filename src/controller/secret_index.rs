//! Index of Secrets: the resources that refer to each, and its last known version. A changed Secret
//! starts a pass of its resources, which log in with the new password.

use std::collections::{HashMap, HashSet};

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::core::PartialObjectMeta;
use kube_runtime::watcher::Event;
use parking_lot::Mutex;

use super::key::Key as Resource;
use crate::api::v1alpha1::EcrRepositorySync;
use crate::spec::Secrets;

/// Namespace and name.
type Key = (String, String);

/// A resource that refers to a Secret: its UID and its name.
pub(super) type Referrer = (String, Resource);

#[derive(Debug, Default)]
struct Index {
    /// Secret -> UID of a resource -> the resource.
    referrers: HashMap<Key, HashMap<String, Resource>>,
    /// UID of a resource -> Secrets.
    secrets: HashMap<String, Vec<Key>>,
    /// Secret -> resource version at the last event.
    versions: HashMap<Key, String>,
    /// Secrets of a list that is being received.
    listing: HashSet<Key>,
}

/// The index. It holds names and versions of Secrets, never their values.
#[derive(Debug, Default)]
pub(super) struct SecretIndex(Mutex<Index>);

fn key(secret: &PartialObjectMeta<Secret>) -> Key {
    (secret.namespace().unwrap_or_default(), secret.name_any())
}

impl SecretIndex {
    /// Records the Secrets that a resource refers to.
    pub(super) fn record(&self, resource: &Resource, object: &EcrRepositorySync) {
        let uid = object.uid().unwrap_or_default();
        let namespace = object.namespace().unwrap_or_default();
        let wanted: Vec<Key> =
            Secrets::of(&object.spec).map(|name| (namespace.clone(), name)).collect();

        let mut index = self.0.lock();
        if index.secrets.get(&uid) == Some(&wanted) {
            return;
        }
        index.forget(&uid);

        for secret in &wanted {
            index
                .referrers
                .entry(secret.clone())
                .or_default()
                .insert(uid.clone(), resource.clone());
        }

        if !wanted.is_empty() {
            index.secrets.insert(uid, wanted);
        }
    }

    /// Forgets a resource.
    pub(super) fn forget(&self, uid: &str) {
        self.0.lock().forget(uid);
    }

    /// Forgets the resources that do not exist.
    pub(super) fn retain(&self, exists: impl Fn(&str) -> bool) {
        let mut index = self.0.lock();
        let gone: Vec<_> = index.secrets.keys().filter(|uid| !exists(uid)).cloned().collect();
        gone.iter().for_each(|uid| index.forget(uid));
    }

    /// Handles an event of the watch of Secrets. Returns the resources whose Secret changed.
    pub(super) fn observe(&self, event: &Event<PartialObjectMeta<Secret>>) -> Vec<Referrer> {
        let mut index = self.0.lock();
        match event {
            Event::Init => {
                index.listing.clear();
                Vec::new()
            }
            Event::InitApply(secret) => {
                let key = key(secret);
                index.listing.insert(key.clone());
                // The first list after the start is no change: every resource is checked anyway.
                let is_known = index.versions.contains_key(&key);
                let has_changed = index.update(&key, secret);
                if is_known && has_changed { index.referrers_of(&key) } else { Vec::new() }
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut index.listing);
                let gone: Vec<_> =
                    index.versions.keys().filter(|key| !listed.contains(*key)).cloned().collect();
                gone.iter().flat_map(|key| index.remove(key)).collect()
            }
            Event::Apply(secret) => {
                let key = key(secret);
                if index.update(&key, secret) { index.referrers_of(&key) } else { Vec::new() }
            }
            Event::Delete(secret) => index.remove(&key(secret)),
        }
    }
}

impl Index {
    fn forget(&mut self, uid: &str) {
        for secret in self.secrets.remove(uid).unwrap_or_default() {
            if let Some(referrers) = self.referrers.get_mut(&secret) {
                referrers.remove(uid);
                if referrers.is_empty() {
                    self.referrers.remove(&secret);
                }
            }
        }
    }

    /// Records the version of a Secret. Returns whether it changed.
    fn update(&mut self, key: &Key, secret: &PartialObjectMeta<Secret>) -> bool {
        let version = secret.resource_version().unwrap_or_default();
        self.versions.insert(key.clone(), version.clone()) != Some(version)
    }

    fn remove(&mut self, key: &Key) -> Vec<Referrer> {
        self.versions.remove(key);
        self.referrers_of(key)
    }

    fn referrers_of(&self, key: &Key) -> Vec<Referrer> {
        let referrers = self.referrers.get(key).into_iter().flatten();
        referrers.map(|(uid, object)| (uid.clone(), object.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn resource(name: &str, secrets: &[&str]) -> EcrRepositorySync {
        let fields = ["secretRef", "certSecretRef", "proxySecretRef"];
        let mut image = json!({"pullUrl": "nginx:1"});
        for (field, secret) in fields.iter().zip(secrets) {
            image[field] = json!({"name": secret});
        }
        serde_json::from_value(json!({
            "apiVersion": "ecr-sync.io/v1alpha1", "kind": "EcrRepositorySync",
            "metadata": {"name": name, "namespace": "ns", "uid": name}, "spec": {"image": image}
        }))
        .expect("a resource")
    }

    fn record(index: &SecretIndex, name: &str, secrets: &[&str]) {
        let resource = resource(name, secrets);
        index.record(&Resource::of(&resource), &resource);
    }

    fn secret(namespace: &str, name: &str, version: &str) -> PartialObjectMeta<Secret> {
        serde_json::from_value(json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
            "metadata": {"name": name, "namespace": namespace, "resourceVersion": version}
        }))
        .expect("metadata")
    }

    fn woken(referrers: Vec<Referrer>) -> Vec<String> {
        let mut names: Vec<_> = referrers.into_iter().map(|(uid, _)| uid).collect();
        names.sort();
        names
    }

    #[test]
    fn a_changed_secret_wakes_those_that_refer_to_it() {
        let index = SecretIndex::default();
        record(&index, "a", &["login", "ca"]);
        record(&index, "b", &["login"]);
        record(&index, "c", &["other"]);

        assert_eq!(woken(index.observe(&Event::Apply(secret("ns", "login", "1")))), ["a", "b"]);
        assert_eq!(
            woken(index.observe(&Event::Apply(secret("ns", "login", "1")))),
            [""; 0],
            "no change"
        );
        assert_eq!(woken(index.observe(&Event::Apply(secret("ns", "ca", "7")))), ["a"]);
        assert_eq!(woken(index.observe(&Event::Apply(secret("elsewhere", "login", "9")))), [""; 0]);
        assert_eq!(woken(index.observe(&Event::Delete(secret("ns", "login", "2")))), ["a", "b"]);
    }

    #[test]
    fn a_secret_that_a_resource_no_longer_refers_to_does_not_wake_it() {
        let index = SecretIndex::default();
        record(&index, "a", &["login"]);
        record(&index, "a", &["other"]);
        assert_eq!(woken(index.observe(&Event::Apply(secret("ns", "login", "1")))), [""; 0]);
        index.forget("a");
        assert_eq!(woken(index.observe(&Event::Apply(secret("ns", "other", "1")))), [""; 0]);
        assert!(index.0.lock().referrers.is_empty());
    }

    #[test]
    fn a_list_after_a_gap_wakes_for_changed_and_deleted_secrets() {
        let index = SecretIndex::default();
        record(&index, "a", &["login"]);
        record(&index, "b", &["gone"]);
        for event in [
            Event::Init,
            Event::InitApply(secret("ns", "login", "1")),
            Event::InitApply(secret("ns", "gone", "1")),
            Event::InitDone,
        ] {
            assert_eq!(woken(index.observe(&event)), [""; 0], "the first list is no change");
        }

        index.observe(&Event::Init);
        assert_eq!(woken(index.observe(&Event::InitApply(secret("ns", "login", "2")))), ["a"]);
        assert_eq!(woken(index.observe(&Event::InitDone)), ["b"]);
    }
}
