//! Which resources refer to which Secret, and which version of it was seen last.

use std::collections::{HashMap, HashSet};

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::core::PartialObjectMeta;
use kube_runtime::reflector::ObjectRef;
use kube_runtime::watcher::Event;
use parking_lot::{Mutex, MutexGuard};

use super::secrets;
use crate::api::v1alpha1::EcrRepositorySync;

/// Namespace and name.
type Key = (String, String);

/// A resource that refers to a Secret: its uid, and the way to it.
pub(super) type Referrer = (String, ObjectRef<EcrRepositorySync>);

#[derive(Debug, Default)]
struct Index {
    /// Secret -> uid of a resource -> the resource.
    referrers: HashMap<Key, HashMap<String, ObjectRef<EcrRepositorySync>>>,
    /// Uid of a resource -> Secrets.
    secrets: HashMap<String, Vec<Key>>,
    /// Secret -> resource version, as of the last event.
    versions: HashMap<Key, String>,
    /// Secrets of a list that is being received.
    listing: HashSet<Key>,
}

/// The reverse index. Values of Secrets never come here: only their names and versions.
#[derive(Debug, Default)]
pub(super) struct SecretIndex(Mutex<Index>);

fn key(secret: &PartialObjectMeta<Secret>) -> Key {
    (secret.namespace().unwrap_or_default(), secret.name_any())
}

impl SecretIndex {
    /// Notes what a resource refers to.
    pub(super) fn note(&self, object: &EcrRepositorySync) {
        let uid = object.uid().unwrap_or_default();
        let namespace = object.namespace().unwrap_or_default();
        let wanted: Vec<Key> =
            secrets::references(object).map(|name| (namespace.clone(), name.to_owned())).collect();
        let mut index = self.lock();
        if index.secrets.get(&uid) == Some(&wanted) {
            return;
        }
        index.forget(&uid);
        for secret in &wanted {
            index
                .referrers
                .entry(secret.clone())
                .or_default()
                .insert(uid.clone(), ObjectRef::from_obj(object));
        }
        if !wanted.is_empty() {
            index.secrets.insert(uid, wanted);
        }
    }

    /// Forgets a resource.
    pub(super) fn forget(&self, uid: &str) {
        self.lock().forget(uid);
    }

    /// Forgets all resources but these.
    pub(super) fn retain(&self, is_there: impl Fn(&str) -> bool) {
        let mut index = self.lock();
        let gone: Vec<_> = index.secrets.keys().filter(|uid| !is_there(uid)).cloned().collect();
        gone.iter().for_each(|uid| index.forget(uid));
    }

    /// Takes in an event of the Secrets' watch; returns the resources that it is news for.
    pub(super) fn observe(&self, event: &Event<PartialObjectMeta<Secret>>) -> Vec<Referrer> {
        let mut index = self.lock();
        match event {
            Event::Init => {
                index.listing.clear();
                Vec::new()
            }
            Event::InitApply(secret) => {
                let key = key(secret);
                index.listing.insert(key.clone());
                // The first list after the start tells nothing new: every resource is looked at
                // anyway.
                let known = index.versions.contains_key(&key);
                let changed = index.see(&key, secret);
                if known && changed { index.referrers_of(&key) } else { Vec::new() }
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut index.listing);
                let gone: Vec<_> =
                    index.versions.keys().filter(|key| !listed.contains(*key)).cloned().collect();
                gone.iter().flat_map(|key| index.lose(key)).collect()
            }
            Event::Apply(secret) => {
                let key = key(secret);
                if index.see(&key, secret) { index.referrers_of(&key) } else { Vec::new() }
            }
            Event::Delete(secret) => index.lose(&key(secret)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        self.0.lock()
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

    /// Whether the version is another one than before.
    fn see(&mut self, key: &Key, secret: &PartialObjectMeta<Secret>) -> bool {
        let version = secret.resource_version().unwrap_or_default();
        self.versions.insert(key.clone(), version.clone()) != Some(version)
    }

    fn lose(&mut self, key: &Key) -> Vec<Referrer> {
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
        let references = SecretIndex::default();
        references.note(&resource("a", &["login", "ca"]));
        references.note(&resource("b", &["login"]));
        references.note(&resource("c", &["other"]));
        assert_eq!(
            woken(references.observe(&Event::Apply(secret("ns", "login", "1")))),
            ["a", "b"]
        );
        assert_eq!(
            woken(references.observe(&Event::Apply(secret("ns", "login", "1")))),
            [""; 0],
            "nothing new"
        );
        assert_eq!(woken(references.observe(&Event::Apply(secret("ns", "ca", "7")))), ["a"]);
        assert_eq!(
            woken(references.observe(&Event::Apply(secret("elsewhere", "login", "9")))),
            [""; 0]
        );
        assert_eq!(
            woken(references.observe(&Event::Delete(secret("ns", "login", "2")))),
            ["a", "b"]
        );
    }

    #[test]
    fn what_a_resource_no_longer_refers_to_does_not_wake_it() {
        let references = SecretIndex::default();
        references.note(&resource("a", &["login"]));
        references.note(&resource("a", &["other"]));
        assert_eq!(woken(references.observe(&Event::Apply(secret("ns", "login", "1")))), [""; 0]);
        references.forget("a");
        assert_eq!(woken(references.observe(&Event::Apply(secret("ns", "other", "1")))), [""; 0]);
        assert!(references.lock().referrers.is_empty());
    }

    #[test]
    fn a_list_after_a_gap_tells_what_changed_and_what_is_gone() {
        let references = SecretIndex::default();
        references.note(&resource("a", &["login"]));
        references.note(&resource("b", &["gone"]));
        for event in [
            Event::Init,
            Event::InitApply(secret("ns", "login", "1")),
            Event::InitApply(secret("ns", "gone", "1")),
            Event::InitDone,
        ] {
            assert_eq!(woken(references.observe(&event)), [""; 0], "the first list is no news");
        }
        references.observe(&Event::Init);
        assert_eq!(woken(references.observe(&Event::InitApply(secret("ns", "login", "2")))), ["a"]);
        assert_eq!(woken(references.observe(&Event::InitDone)), ["b"]);
    }
}
