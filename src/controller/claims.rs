//! Resources of this cluster that want the same repository. The oldest wins.

use std::collections::HashMap;

use kube::ResourceExt;
use parking_lot::Mutex;

use super::key::Key;
use crate::api::v1alpha1::EcrRepositorySync;
use crate::spec::Registry;

/// The claim of a resource to a repository. There is one for each resource, so it is small.
#[derive(Clone, Debug)]
struct Claim {
    /// Creation time in seconds.
    created: i64,
    key: Key,
    uid: Box<str>,
    /// Registry of the spec, if it says anything. The account or region that it leaves out may become
    /// known later.
    registry: Option<Box<Registry>>,
}

impl Claim {
    fn of(key: Key, object: &EcrRepositorySync) -> Self {
        let registry = Registry::of(object.spec.registry.as_ref());
        Self {
            created: object
                .metadata
                .creation_timestamp
                .as_ref()
                .map_or(i64::MAX, |time| time.0.as_second()),
            key,
            uid: object.uid().unwrap_or_default().into(),
            registry: (registry != Registry::default()).then(|| Box::new(registry)),
        }
    }

    /// Returns the order of claims: by age, then by namespace and name. The first wins.
    fn rank(&self) -> (i64, &Key, &str) {
        (self.created, &self.key, &self.uid)
    }
}

/// All claims, by repository name.
#[derive(Debug, Default)]
pub(super) struct Claims(Mutex<HashMap<Box<str>, Vec<Claim>>>);

impl Claims {
    /// Records the claim of a resource.
    pub(super) fn record(&self, key: &Key, object: &EcrRepositorySync) {
        let claim = Claim::of(key.clone(), object);
        let mut claims = self.0.lock();
        let Some(same) = claims.get_mut(object.repository()) else {
            claims.insert(object.repository().into(), vec![claim]);
            return;
        };
        match same.iter_mut().find(|other| other.uid == claim.uid) {
            Some(last) => *last = claim,
            None => same.push(claim),
        }
    }

    /// Forgets a resource. Returns the resources that want the same repository and may win now.
    pub(super) fn forget(&self, object: &EcrRepositorySync) -> Vec<Key> {
        let mut claims = self.0.lock();
        let repository = object.repository();
        let Some(same) = claims.get_mut(repository) else { return Vec::new() };
        let uid = object.uid().unwrap_or_default();
        same.retain(|claim| *claim.uid != *uid);
        let waiting = same.iter().map(|claim| claim.key.clone()).collect();
        if same.is_empty() {
            claims.remove(repository);
        }
        waiting
    }

    /// Returns the resources that want a repository for which `is_wanted` says so.
    pub(super) fn of(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<Key> {
        let claims = self.0.lock();
        let wanted = claims.iter().filter(|(repository, _)| is_wanted(repository));
        wanted.flat_map(|(_, same)| same.iter().map(|claim| claim.key.clone())).collect()
    }

    /// Forgets the resources that do not exist. Returns the resources that may win now.
    pub(super) fn retain(&self, exists: impl Fn(&str) -> bool) -> Vec<Key> {
        let mut claims = self.0.lock();
        let mut waiting = Vec::new();
        claims.retain(|_, same| {
            let before = same.len();
            same.retain(|claim| exists(&claim.uid));
            if same.len() < before {
                waiting.extend(same.iter().map(|claim| claim.key.clone()));
            }
            !same.is_empty()
        });
        waiting
    }

    /// Returns the resource that wins over this one, as `namespace/name`. `resolve` returns account
    /// and region of a registry that a resource of a namespace names.
    pub(super) fn winner_over<P: PartialEq>(
        &self,
        object: &EcrRepositorySync,
        resolve: impl Fn(&str, &Registry) -> P,
    ) -> Option<String> {
        let mine = Claim::of(Key::of(object), object);
        let own = Registry::default();
        let location_of = |claim: &Claim| {
            resolve(claim.key.namespace(), claim.registry.as_deref().unwrap_or(&own))
        };
        let location = location_of(&mine);

        let claims = self.0.lock();
        let rivals = claims.get(object.repository())?.iter();
        let first = rivals
            .filter(|claim| location_of(claim) == location)
            .min_by(|a, b| a.rank().cmp(&b.rank()))?;
        (first.rank() < mine.rank() && first.uid != mine.uid).then(|| first.key.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ecr::Location;

    fn object(
        name: &str,
        repository: Option<&str>,
        region: Option<&str>,
        created: &str,
    ) -> EcrRepositorySync {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "ecr-sync.io/v1alpha1", "kind": "EcrRepositorySync",
            "metadata": {
                "name": name, "namespace": "ns", "uid": name, "creationTimestamp": created
            },
            "spec": {"repositoryName": repository, "registry": {"region": region}}
        }))
        .expect("an object")
    }

    fn record(claims: &Claims, object: &EcrRepositorySync) {
        claims.record(&Key::of(object), object);
    }

    /// Resolves as an operator of one account in eu-west-1 does.
    fn resolve(_: &str, registry: &Registry) -> (String, String) {
        let Location { account, region } = registry.location.clone();
        let account = account.unwrap_or_else(|| "123456789012".to_owned());
        (account, region.unwrap_or_else(|| "eu-west-1".to_owned()))
    }

    #[test]
    fn the_oldest_claim_wins_and_its_end_wakes_the_next() {
        let claims = Claims::default();
        let old = object("b", Some("app"), Some("eu-west-1"), "2026-01-01T00:00:00Z");
        let new = object("app", None, None, "2026-01-02T00:00:00Z");
        record(&claims, &new);
        assert_eq!(claims.winner_over(&new, resolve), None);
        record(&claims, &old);
        assert_eq!(claims.winner_over(&new, resolve), Some("ns/b".to_owned()));
        assert_eq!(claims.winner_over(&old, resolve), None);
        assert_eq!(claims.forget(&old), [Key::new("ns", "app")]);
        assert_eq!(claims.winner_over(&new, resolve), None);
    }

    #[test]
    fn a_list_without_the_winner_wakes_the_next() {
        let claims = Claims::default();
        for (name, repository) in [("b", "app"), ("app", "app"), ("c", "other")] {
            record(&claims, &object(name, Some(repository), None, "2026-01-01T00:00:00Z"));
        }
        assert_eq!(claims.retain(|_| true), []);
        assert_eq!(claims.retain(|uid| uid != "b"), [Key::new("ns", "app")]);
        assert_eq!(claims.retain(|uid| uid == "c"), []);
    }

    #[test]
    fn another_region_is_another_repository() {
        let claims = Claims::default();
        let old = object("b", Some("app"), Some("us-east-1"), "2026-01-01T00:00:00Z");
        let new = object("app", None, None, "2026-01-02T00:00:00Z");
        record(&claims, &old);
        record(&claims, &new);
        assert_eq!(claims.winner_over(&new, resolve), None);
    }

    #[test]
    fn equal_age_is_decided_by_name() {
        let claims = Claims::default();
        let a = object("a", Some("app"), None, "2026-01-01T00:00:00Z");
        let b = object("b", Some("app"), None, "2026-01-01T00:00:00Z");
        record(&claims, &a);
        record(&claims, &b);
        assert_eq!(claims.winner_over(&a, resolve), None);
        assert_eq!(claims.winner_over(&b, resolve), Some("ns/a".to_owned()));
    }
}
