//! The owner of a repository: an ECR resource tag that names cluster, namespace and resource.

use crate::registry::Digest;

/// Key of the resource tag with the owner of a repository.
pub(crate) const OWNER_TAG: &str = "ecr-sync.io/owner";
/// Key of the resource tag on repositories that the operator created.
pub(crate) const CREATED_TAG: &str = "ecr-sync.io/created";

/// Longest value of a resource tag.
const MAX_VALUE: usize = 256;

/// One resource of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The cluster's ID: `--cluster-id`, by default the UID of the namespace kube-system.
    pub cluster: String,
    /// Namespace of the resource.
    pub namespace: String,
    /// Name of the resource.
    pub name: String,
}

impl Owner {
    /// Returns the value of [`OWNER_TAG`]: `cluster/namespace/name`, or its hash if that is longer
    /// than AWS allows.
    #[must_use]
    pub fn tag_value(&self) -> String {
        let plain = format!("{}/{}/{}", self.cluster, self.namespace, self.name);
        if plain.len() <= MAX_VALUE {
            return plain;
        }
        Digest::sha256_of(plain.as_bytes()).to_string()
    }

    /// Parses a tag value; `None` for a hash or any value that is not an owner.
    #[must_use]
    pub fn from_tag_value(value: &str) -> Option<Self> {
        let mut parts = value.rsplitn(3, '/');
        let name = parts.next()?;
        let namespace = parts.next()?;
        let cluster = parts.next()?;
        let complete = !(name.is_empty() || namespace.is_empty() || cluster.is_empty());
        complete.then(|| Self {
            cluster: cluster.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_survives_the_round_trip() {
        let owner = Owner {
            cluster: "c/1".to_owned(),
            namespace: "platform".to_owned(),
            name: "nginx".to_owned(),
        };
        assert_eq!(Owner::from_tag_value(&owner.tag_value()), Some(owner));
        assert_eq!(Owner::from_tag_value("somebody"), None);
    }

    #[test]
    fn a_long_owner_becomes_a_hash_that_aws_accepts() {
        let owner =
            Owner { cluster: "c".repeat(40), namespace: "n".repeat(63), name: "x".repeat(253) };
        assert_eq!(owner.tag_value().len(), 71);
        assert_eq!(owner.tag_value(), owner.clone().tag_value());
    }
}
