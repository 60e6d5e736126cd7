//! Settings of a repository: tag mutability, scan on push, encryption.

use aws_sdk_ecr::types::{
    EncryptionConfiguration, EncryptionType, ImageScanningConfiguration, ImageTagMutability,
    ImageTagMutabilityExclusionFilter, ImageTagMutabilityExclusionFilterType,
};

use crate::wildcard::matches_any;

/// The settings in a spec; `None` keeps the value in ECR.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Whether tags may be moved to another image.
    pub mutability: Option<Mutability>,
    /// Whether images are scanned when they are pushed.
    pub scan_on_push: Option<bool>,
    /// Encryption of images at rest. Can only be set when the repository is created.
    pub encryption: Option<Encryption>,
}

/// Whether tags may be moved to another image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mutability {
    /// All tags may be moved.
    #[default]
    Mutable,
    /// No tag may be moved.
    Immutable,
    /// Only tags that match a wildcard may be moved.
    ImmutableExcept(Vec<String>),
    /// All tags may be moved except those that match a wildcard.
    MutableExcept(Vec<String>),
}

impl Mutability {
    /// Whether `tag` may be moved to another image.
    #[must_use]
    pub fn may_move(&self, tag: &str) -> bool {
        match self {
            Self::Mutable => true,
            Self::Immutable => false,
            Self::ImmutableExcept(filters) => matches_any(filters, tag),
            Self::MutableExcept(filters) => !matches_any(filters, tag),
        }
    }

    /// Whether both let the same tags be moved. The order of the filters does not matter.
    #[must_use]
    pub fn means_the_same(&self, other: &Self) -> bool {
        let sorted = |filters: &[String]| {
            let mut filters = filters.to_vec();
            filters.sort();
            filters.dedup();
            filters
        };
        self.to_sdk() == other.to_sdk() && sorted(self.filters()) == sorted(other.filters())
    }

    pub(super) fn from_sdk(value: Option<&ImageTagMutability>, filters: Vec<String>) -> Self {
        match value {
            Some(ImageTagMutability::Immutable) => Self::Immutable,
            Some(ImageTagMutability::ImmutableWithExclusion) => Self::ImmutableExcept(filters),
            Some(ImageTagMutability::MutableWithExclusion) => Self::MutableExcept(filters),
            // A value that AWS adds later may forbid nothing: the PUT shows it.
            _ => Self::Mutable,
        }
    }

    pub(super) const fn to_sdk(&self) -> ImageTagMutability {
        match self {
            Self::Mutable => ImageTagMutability::Mutable,
            Self::Immutable => ImageTagMutability::Immutable,
            Self::ImmutableExcept(_) => ImageTagMutability::ImmutableWithExclusion,
            Self::MutableExcept(_) => ImageTagMutability::MutableWithExclusion,
        }
    }

    fn filters(&self) -> &[String] {
        match self {
            Self::Mutable | Self::Immutable => &[],
            Self::ImmutableExcept(filters) | Self::MutableExcept(filters) => filters,
        }
    }

    /// Converts the filters for the SDK; `None` if there are none, since ECR refuses an empty list.
    pub(super) fn filters_to_sdk(&self) -> Option<Vec<ImageTagMutabilityExclusionFilter>> {
        let filter = |filter: &String| {
            ImageTagMutabilityExclusionFilter::builder()
                .filter_type(ImageTagMutabilityExclusionFilterType::Wildcard)
                .filter(filter)
                .build()
                .ok()
        };
        let filters: Vec<_> = self.filters().iter().filter_map(filter).collect();
        (!filters.is_empty()).then_some(filters)
    }
}

/// As the spec spells it.
impl std::fmt::Display for Mutability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Mutable => f.write_str("Mutable"),
            Self::Immutable => f.write_str("Immutable"),
            Self::ImmutableExcept(filters) => {
                write!(f, "ImmutableWithExclusion ({})", filters.join(", "))
            }
            Self::MutableExcept(filters) => {
                write!(f, "MutableWithExclusion ({})", filters.join(", "))
            }
        }
    }
}

/// Encryption of images at rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encryption {
    /// `AES256`, `KMS`, `KMS_DSSE`, or a value that AWS adds.
    pub kind: String,
    /// The KMS key: an ID, an ARN or an alias.
    pub key: Option<String>,
}

impl Encryption {
    pub(super) fn from_sdk(configuration: Option<&EncryptionConfiguration>) -> Self {
        Self {
            kind: configuration.map_or("AES256", |c| c.encryption_type().as_str()).to_owned(),
            key: configuration.and_then(EncryptionConfiguration::kms_key).map(str::to_owned),
        }
    }

    pub(super) fn to_sdk(&self) -> Option<EncryptionConfiguration> {
        EncryptionConfiguration::builder()
            .encryption_type(EncryptionType::from(self.kind.as_str()))
            .set_kms_key(self.key.clone())
            .build()
            .ok()
    }

    /// Whether `live`, as ECR describes it, is what `self` asks for. Without a key in `self`, any
    /// key is right.
    #[must_use]
    pub fn is_met_by(&self, live: &Self) -> bool {
        let is_met =
            |wanted: &String| live.key.as_ref().is_some_and(|live| is_same_key(wanted, live));
        self.kind == live.kind && self.key.as_ref().is_none_or(is_met)
    }
}

impl std::fmt::Display for Encryption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.kind)?;
        self.key.iter().try_for_each(|key| write!(f, " with {key}"))
    }
}

/// A key's name in parts.
#[derive(Debug, PartialEq, Eq)]
struct Key<'a> {
    /// Region and account, if the name is an ARN.
    location: Option<(&'a str, &'a str)>,
    /// `alias/NAME`, or the ID.
    name: &'a str,
}

impl<'a> Key<'a> {
    fn parse(text: &'a str) -> Self {
        let parts: Vec<_> = text.splitn(6, ':').collect();
        let (location, resource) = match parts[..] {
            ["arn", _, "kms", region, account, resource] => (Some((region, account)), resource),
            _ => (None, text),
        };
        Self { location, name: resource.strip_prefix("key/").unwrap_or(resource) }
    }

    fn is_alias(&self) -> bool {
        self.name.starts_with("alias/")
    }
}

/// Whether two names mean the same key, as far as names show.
///
/// ECR stores the ARN of the key, whatever name was given. Only `kms:DescribeKey` resolves an
/// alias, a permission on a key that is often in another account, so it is not called: an alias and
/// a key count as the same unless their ARNs have different accounts or regions.
fn is_same_key(wanted: &str, live: &str) -> bool {
    let wanted = Key::parse(wanted);
    let live = Key::parse(live);

    let same_location = match (wanted.location, live.location) {
        (Some(wanted), Some(live)) => wanted == live,
        _ => true,
    };
    same_location && (wanted.name == live.name || wanted.is_alias() != live.is_alias())
}

pub(super) fn scanning(on_push: bool) -> ImageScanningConfiguration {
    ImageScanningConfiguration::builder().scan_on_push(on_push).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exclusion_filters_are_wildcards() {
        let except = |filters: &[&str]| {
            Mutability::ImmutableExcept(filters.iter().map(|&f| f.to_owned()).collect())
        };
        assert!(except(&["latest"]).may_move("latest"));
        assert!(except(&["1.*", "lat*st"]).may_move("latest"));
        assert!(!except(&["1.*"]).may_move("2.1"));
        assert!(except(&["*-dev*"]).may_move("1.0-dev.3"));
        assert!(!Mutability::MutableExcept(vec!["v*".to_owned()]).may_move("v1"));
        assert!(Mutability::MutableExcept(vec!["v*".to_owned()]).may_move("1"));
        assert!(!Mutability::Immutable.may_move("latest"));
    }

    #[test]
    fn the_order_of_filters_does_not_matter() {
        let except = |filters: &[&str]| {
            Mutability::ImmutableExcept(filters.iter().map(|&f| f.to_owned()).collect())
        };
        assert!(except(&["a", "b"]).means_the_same(&except(&["b", "a", "b"])));
        assert!(!except(&["a"]).means_the_same(&except(&["a", "b"])));
        assert!(!except(&["a"]).means_the_same(&Mutability::MutableExcept(vec!["a".to_owned()])));
        assert!(!Mutability::Mutable.means_the_same(&Mutability::Immutable));
    }

    #[test]
    fn alias_id_and_arn_of_one_key_are_equal() {
        let arn = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab";
        let kms = |key: &str| Encryption { kind: "KMS".to_owned(), key: Some(key.to_owned()) };
        for same in [
            arn,
            "1234abcd-12ab-34cd-56ef-1234567890ab",
            "alias/team",
            "arn:aws:kms:eu-west-1:123456789012:alias/team",
        ] {
            assert!(kms(same).is_met_by(&kms(arn)), "{same}");
        }

        for other in [
            "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab",
            "arn:aws:kms:eu-west-1:123456789012:key/0000abcd-12ab-34cd-56ef-1234567890ab",
            "0000abcd-12ab-34cd-56ef-1234567890ab",
            "arn:aws:kms:eu-west-1:210987654321:alias/team",
        ] {
            assert!(!kms(other).is_met_by(&kms(arn)), "{other}");
        }

        assert!(!kms("alias/one").is_met_by(&kms("alias/two")));
        let any_key = Encryption { kind: "KMS".to_owned(), key: None };
        assert!(any_key.is_met_by(&kms(arn)));

        let aes = Encryption { kind: "AES256".to_owned(), key: None };
        assert!(!any_key.is_met_by(&aes) && !kms(arn).is_met_by(&aes) && aes.is_met_by(&aes));
    }
}
