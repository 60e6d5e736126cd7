//! Resources of this cluster that want the same repository. The oldest wins.

use std::collections::{BTreeMap, HashMap};

use kube::ResourceExt;
use parking_lot::Mutex;

use super::key::Key;
use crate::api::v1alpha1::EcrRepositorySync;
use crate::spec::Registry;

/// The claim of a resource to a repository.
#[derive(Clone, Debug)]
struct Contender {
    /// Creation time in seconds.
    created: i64,
    key: Key,
    uid: String,
    /// Registry of the spec. The account or region that it leaves out may become known later.
    registry: Registry,
}

impl Contender {
    fn of(object: &EcrRepositorySync) -> Self {
        Self {
            created: object
                .metadata
                .creation_timestamp
                .as_ref()
                .map_or(i64::MAX, |time| time.0.as_second()),
            key: Key::of(object),
            uid: object.uid().unwrap_or_default(),
            registry: Registry::of(object.spec.registry.as_ref()),
        }
    }

    /// Returns the order of claims: by age, then by namespace and name. The first wins.
    fn rank(&self) -> (i64, &Key, &str) {
        (self.created, &self.key, &self.uid)
    }

    fn object(&self) -> Key {
        self.key.clone()
    }
}

/// All claims, by repository name.
#[derive(Debug, Default)]
pub(super) struct Claims(Mutex<HashMap<String, BTreeMap<String, Contender>>>);

impl Claims {
    /// Records the claim of a resource.
    pub(super) fn record(&self, object: &EcrRepositorySync) {
        let claim = Contender::of(object);
        let mut claims = self.0.lock();
        claims.entry(object.repository().to_owned()).or_default().insert(claim.uid.clone(), claim);
    }

    /// Forgets a resource. Returns the resources that want the same repository and may win now.
    pub(super) fn forget(&self, object: &EcrRepositorySync) -> Vec<Key> {
        let mut claims = self.0.lock();
        let repository = object.repository();
        let Some(same) = claims.get_mut(repository) else { return Vec::new() };
        same.remove(&object.uid().unwrap_or_default());
        let waiting = same.values().map(Contender::object).collect();
        if same.is_empty() {
            claims.remove(repository);
        }
        waiting
    }

    /// Forgets the resources that do not exist. Returns the resources that may win now.
    pub(super) fn retain(&self, exists: impl Fn(&str) -> bool) -> Vec<Key> {
        let mut claims = self.0.lock();
        let mut waiting = Vec::new();
        claims.retain(|_, same| {
            let before = same.len();
            same.retain(|uid, _| exists(uid));
            if same.len() < before {
                waiting.extend(same.values().map(Contender::object));
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
        let mine = Contender::of(object);
        let location_of = |claim: &Contender| resolve(claim.key.namespace(), &claim.registry);
        let location = location_of(&mine);

        let claims = self.0.lock();
        let rivals = claims.get(object.repository())?.values();
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
        claims.record(&new);
        assert_eq!(claims.winner_over(&new, resolve), None);
        claims.record(&old);
        assert_eq!(claims.winner_over(&new, resolve), Some("ns/b".to_owned()));
        assert_eq!(claims.winner_over(&old, resolve), None);
        assert_eq!(claims.forget(&old), [Key::new("ns", "app")]);
        assert_eq!(claims.winner_over(&new, resolve), None);
    }

    #[test]
    fn a_list_without_the_winner_wakes_the_next() {
        let claims = Claims::default();
        for (name, repository) in [("b", "app"), ("app", "app"), ("c", "other")] {
            claims.record(&object(name, Some(repository), None, "2026-01-01T00:00:00Z"));
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
        claims.record(&old);
        claims.record(&new);
        assert_eq!(claims.winner_over(&new, resolve), None);
    }

    #[test]
    fn equal_age_is_decided_by_name() {
        let claims = Claims::default();
        let a = object("a", Some("app"), None, "2026-01-01T00:00:00Z");
        let b = object("b", Some("app"), None, "2026-01-01T00:00:00Z");
        claims.record(&a);
        claims.record(&b);
        assert_eq!(claims.winner_over(&a, resolve), None);
        assert_eq!(claims.winner_over(&b, resolve), Some("ns/a".to_owned()));
    }
}
