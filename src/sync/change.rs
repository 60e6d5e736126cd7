//! Actions as changes of a field, for the audit trail.

use std::collections::BTreeMap;

use super::action::Action;
use super::field::Field;
use super::observed::ObservedRepository;
use crate::ecr::policy::{self, Kind};
use crate::registry::{Digest, Tag};
use crate::writes::Change;

/// Returns the change that an action makes to the repository as it was observed.
pub(super) fn of(action: &Action, observed: Option<&ObservedRepository>) -> Change {
    let tags = observed.map(|observed| &observed.resource_tags);
    let live = |kind: &Kind| {
        let live = observed.and_then(|observed| match kind {
            Kind::Lifecycle => observed.lifecycle.clone(),
            Kind::Permission => observed.permission.clone(),
        });
        live.unwrap_or_default()
    };

    let (before, after) = match action {
        Action::CreateRepository { name, tags, .. } => {
            (String::new(), format!("{name} {}", pairs(tags.iter())))
        }
        Action::TagRepository { tags: wanted } => {
            let old = tags.into_iter().flatten().filter(|(key, _)| wanted.contains_key(*key));
            (pairs(old), pairs(wanted.iter()))
        }
        Action::UntagRepository { keys } => {
            let old = tags.into_iter().flatten().filter(|(key, _)| keys.contains(key));
            (pairs(old), String::new())
        }
        Action::SetMutability { wanted, replaces } => (replaces.to_string(), wanted.to_string()),
        Action::SetScanOnPush { wanted } => ((!wanted).to_string(), wanted.to_string()),
        Action::PutPolicy { kind, document, .. } => (live(kind), policy::text(document)),
        Action::DeletePolicy { kind } => (live(kind), String::new()),
        Action::RestoreTag { tag, digest, .. } => {
            (format!("{tag} archived"), format!("{tag}@{digest}"))
        }
        // Tags are written where their digest is known (`of_tag`).
        Action::CopyTag { .. } | Action::PruneTag { .. } => Default::default(),
    };
    Change { field: action.field().as_str(), before, after }
}

/// Returns the change of a tag.
pub(super) fn of_tag(field: Field, tag: &Tag, before: Option<&Digest>, after: &Digest) -> Change {
    let at = |digest: &Digest| format!("{tag}@{digest}");
    Change { field: field.as_str(), before: before.map(at).unwrap_or_default(), after: at(after) }
}

fn pairs<'a>(tags: impl Iterator<Item = (&'a String, &'a String)>) -> String {
    let tags: BTreeMap<_, _> = tags.collect();
    let tags: Vec<_> = tags.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    tags.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ecr::Mutability;

    #[test]
    fn a_change_has_the_value_before_and_after() {
        let table = [
            (
                Action::SetMutability {
                    wanted: Mutability::Immutable,
                    replaces: Mutability::Mutable,
                },
                ("imageTagMutability", "Mutable".to_owned(), "Immutable".to_owned()),
            ),
            (
                Action::SetScanOnPush { wanted: true },
                ("scanOnPush", "false".to_owned(), "true".to_owned()),
            ),
            (
                Action::UntagRepository { keys: vec!["team".to_owned()] },
                ("resourceTags", String::new(), String::new()),
            ),
        ];

        for (action, (field, before, after)) in table {
            assert_eq!(of(&action, None), Change { field, before, after }, "{action}");
        }

        let (old, new) = (Digest::sha256_of(b"old"), Digest::sha256_of(b"new"));
        let tag = "1".parse().expect("a tag");
        let (before, after) = (format!("1@{old}"), format!("1@{new}"));
        let change = Change { field: "imageTag", before, after };
        assert_eq!(of_tag(Field::ImageTag, &tag, Some(&old), &new), change);
    }
}
