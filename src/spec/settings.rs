//! Settings of the repository, resource tags, and the bounds of pruning.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Violations;
use super::duration::{MAX_INTERVAL, parse_duration};
use crate::api::v1alpha1::{
    self, EcrRepositorySyncSpec, EncryptionType, ImageTagMutability, MAX_FILTERS, MAX_RESOURCE_TAGS,
};
use crate::ecr::{Encryption, Mutability, Settings};
use crate::violation::Violation;

/// Bounds of pruning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prune {
    /// Per cent of the repository's tags that one pass may remove.
    pub(crate) max_percent: i64,
    /// The time that an image must be unused.
    pub(crate) min_unpulled: Duration,
}

pub(super) fn prune(prune: &v1alpha1::Prune, violations: &mut Violations) -> Option<Prune> {
    let v1alpha1::Prune { enabled: _, max_percent, min_unpulled } = prune;

    let unpulled = parse_duration(min_unpulled).filter(|duration| *duration <= MAX_INTERVAL);
    if unpulled.is_none() {
        let advice = "is not a duration from 0s to 8760h: write for example 720h, or 0s";
        violations.push("prune.minUnpulled", format!("{min_unpulled:?} {advice}"));
    }
    if !(1..=100).contains(max_percent) {
        violations.push(
            "prune.maxPercent",
            format!(
                "{max_percent} is not a number from 1 to 100: write the percentage of the \
                 repository's tags that one pass may remove; enabled: false removes none"
            ),
        );
    }

    Some(Prune { max_percent: *max_percent, min_unpulled: unpulled? })
}

/// Violations of resource tags.
pub(crate) fn resource_tags(tags: &BTreeMap<String, String>) -> Vec<Violation> {
    let mut violations = Violations::default();

    if tags.len() > MAX_RESOURCE_TAGS {
        violations.push(
            "resourceTags",
            format!(
                "{} tags: ECR allows 50, two of them are the operator's; name at most \
                 {MAX_RESOURCE_TAGS}",
                tags.len()
            ),
        );
    }
    for (key, value) in tags {
        let path = format!("resourceTags[{key:?}]");
        if key.is_empty() || key.chars().count() > 128 || value.chars().count() > 256 {
            violations.push(&path, "a key has 1 to 128 characters, a value at most 256");
        }
        if key.starts_with("aws:") || key.starts_with("ecr-sync.io/") {
            let advice = "keys that start with aws: or ecr-sync.io/ are reserved";
            violations.push(&path, format!("{advice}: use another prefix"));
        }
    }

    violations.0
}

pub(super) fn parse(spec: &EcrRepositorySyncSpec, violations: &mut Violations) -> Settings {
    check_filters(spec, violations);
    if let Some(v1alpha1::Encryption { type_: EncryptionType::Aes256, kms_key: Some(_) }) =
        &spec.encryption
    {
        violations.push(
            "encryption.kmsKey",
            "needs type KMS or KMS_DSSE: change the type, or remove the key",
        );
    }

    let filters = || spec.image_tag_mutability_exclusion_filters.clone();
    Settings {
        mutability: spec.image_tag_mutability.map(|mutability| match mutability {
            ImageTagMutability::Mutable => Mutability::Mutable,
            ImageTagMutability::Immutable => Mutability::Immutable,
            ImageTagMutability::MutableWithExclusion => Mutability::MutableExcept(filters()),
            ImageTagMutability::ImmutableWithExclusion => Mutability::ImmutableExcept(filters()),
        }),
        scan_on_push: spec.scan_on_push,
        encryption: spec.encryption.as_ref().map(|wanted| Encryption {
            kind: wanted.type_.to_string(),
            key: wanted.kms_key.clone(),
        }),
    }
}

/// Writes settings to the fields that [`parse`] reads. An encryption type that AWS adds is left
/// out.
pub(crate) fn write(settings: Settings, spec: &mut EcrRepositorySyncSpec) {
    let Settings { mutability, scan_on_push, encryption } = settings;

    let (mutability, filters) = match mutability {
        None => (None, Vec::new()),
        Some(Mutability::Mutable) => (Some(ImageTagMutability::Mutable), Vec::new()),
        Some(Mutability::Immutable) => (Some(ImageTagMutability::Immutable), Vec::new()),
        Some(Mutability::MutableExcept(filters)) => {
            (Some(ImageTagMutability::MutableWithExclusion), filters)
        }
        Some(Mutability::ImmutableExcept(filters)) => {
            (Some(ImageTagMutability::ImmutableWithExclusion), filters)
        }
    };
    spec.image_tag_mutability = mutability;
    spec.image_tag_mutability_exclusion_filters = filters;

    spec.scan_on_push = scan_on_push;
    spec.encryption = encryption.and_then(|Encryption { kind, key }| {
        Some(v1alpha1::Encryption { type_: kind.parse().ok()?, kms_key: key })
    });
}

fn check_filters(spec: &EcrRepositorySyncSpec, violations: &mut Violations) {
    use ImageTagMutability::{ImmutableWithExclusion, MutableWithExclusion};
    const FILTERS: &str = "imageTagMutabilityExclusionFilters";
    let filters = &spec.image_tag_mutability_exclusion_filters;

    let with_exclusion =
        matches!(spec.image_tag_mutability, Some(MutableWithExclusion | ImmutableWithExclusion));
    if with_exclusion == filters.is_empty() {
        violations.push(
            FILTERS,
            "required with imageTagMutability MutableWithExclusion or ImmutableWithExclusion, and \
             not allowed without: write one to five filters, for example [\"latest\", \"1.*\"], or \
             change imageTagMutability",
        );
    }
    if filters.len() > MAX_FILTERS {
        let message = format!("{} filters: ECR accepts at most {MAX_FILTERS}", filters.len());
        violations.push(FILTERS, message);
    }
    for (index, filter) in filters.iter().enumerate() {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._*-".contains(&byte);
        if !(1..=128).contains(&filter.len()) || !filter.bytes().all(is_allowed) {
            let advice = "write letters, digits, dots, underscores, dashes and *, for example 1.*";
            let message = format!("{filter:?} is not a filter of tags: {advice}");
            violations.push(format!("{FILTERS}[{index}]"), message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_written_as_they_are_read() {
        let filters = vec!["latest".to_owned()];
        let mutabilities = [
            None,
            Some(Mutability::Mutable),
            Some(Mutability::Immutable),
            Some(Mutability::MutableExcept(filters.clone())),
            Some(Mutability::ImmutableExcept(filters)),
        ];
        let key = Some("alias/ecr".to_owned());
        for mutability in mutabilities {
            for encryption in [None, Some(Encryption { kind: "KMS".to_owned(), key: key.clone() })]
            {
                let settings = Settings {
                    mutability: mutability.clone(),
                    scan_on_push: Some(true),
                    encryption,
                };
                let mut spec = EcrRepositorySyncSpec::default();
                write(settings.clone(), &mut spec);
                let mut violations = Violations::default();
                assert_eq!(parse(&spec, &mut violations), settings);
                assert!(violations.0.is_empty(), "{:?}", violations.0);
            }
        }
    }
}
