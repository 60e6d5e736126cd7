//! The rules of the schema once more in Rust: files on a command line meet no API server, and an
//! object may be older than a rule.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::api::v1alpha1::{
    Chart, EcrRepositorySyncSpec, Encryption, EncryptionType, Image, ImageTagMutability,
    MAX_FILTERS, MAX_RESOURCE_TAGS, MAX_TAGS, Prune, SortBy, TagSelector, TagStrategy,
    VersionSelector,
};
use crate::ecr::RoleArn;
use crate::registry::{Digest, Platform, Reference, Tag};
use crate::selection::{self, Pin, Problem, Selector};
use crate::violation::Violation;

/// Shortest interval between two checks.
pub const MIN_INTERVAL: Duration = Duration::from_secs(60);
/// Longest interval: a year.
pub const MAX_INTERVAL: Duration = Duration::from_secs(8760 * 3600);

/// Everything that is wrong with `spec`, whose resource is called `name`. Policy documents are
/// checked by [`crate::ecr::policy`].
#[must_use]
pub fn validate(name: &str, spec: &EcrRepositorySyncSpec) -> Vec<Violation> {
    let mut violations = Vec::new();
    let repository = spec.repository(name);
    if !is_repository_name(repository) {
        violations.push(Violation::new(
            "repositoryName",
            format!(
                "{repository:?} is not an ECR repository name: write 2 to 256 lower-case letters and digits, separated by \
                 single . _ __ / or any number of -, for example platform/nginx"
            ),
        ));
    }
    if let Some(registry) = &spec.registry {
        if let Some(account) = &registry.account_id
            && !is_account_id(account)
        {
            violations.push(Violation::new(
                "registry.accountId",
                format!("{account:?} is not an AWS account id: write its 12 digits, in quotes"),
            ));
        }
        if let Some(region) = &registry.region
            && !is_region(region)
        {
            violations.push(Violation::new(
                "registry.region",
                format!("{region:?} is not an AWS region: write for example eu-west-1"),
            ));
        }
        if let Some(Err(error)) = registry.role_arn.as_deref().map(str::parse::<RoleArn>) {
            violations.push(Violation::new("registry.roleArn", error.to_string()));
        }
        if let Some(name) =
            registry.service_account_name.as_deref().filter(|name| !is_object_name(name))
        {
            let message = format!("{name:?} is not the name of a ServiceAccount");
            violations.push(Violation::new("registry.serviceAccountName", message));
        }
    }
    if let Some(image) = &spec.image {
        validate_image(image, &mut violations);
    }
    if let Some(chart) = &spec.chart {
        validate_chart(chart, spec.image.as_ref(), &mut violations);
    }
    violations.extend(spec.resource_tags.as_ref().map(resource_tags).unwrap_or_default());
    validate_settings(spec, &mut violations);
    violations.extend(
        [interval(spec), drift_interval(spec), timeout(spec)].into_iter().filter_map(Result::err),
    );
    if let Some(prune) = &spec.prune {
        violations.extend(min_unpulled(prune).err());
        if !(1..=100).contains(&prune.max_percent) {
            violations.push(Violation::new(
                "prune.maxPercent",
                format!(
                    "{} is no number from 1 to 100: write how much of the repository's tags is removed at a time; enabled: false \
                     removes none",
                    prune.max_percent
                ),
            ));
        }
    }
    violations
}

/// Everything that is wrong with these resource tags.
#[must_use]
pub fn resource_tags(tags: &BTreeMap<String, String>) -> Vec<Violation> {
    let mut violations = Vec::new();
    if tags.len() > MAX_RESOURCE_TAGS {
        violations.push(Violation::new(
            "resourceTags",
            format!(
                "{} tags: ECR allows 50, two of them are the operator's; name at most {MAX_RESOURCE_TAGS}",
                tags.len()
            ),
        ));
    }
    for (key, value) in tags {
        if key.is_empty() || key.chars().count() > 128 || value.chars().count() > 256 {
            violations.push(Violation::new(
                format!("resourceTags[{key:?}]"),
                "a key has 1 to 128 characters, a value at most 256",
            ));
        }
        if key.starts_with("aws:") || key.starts_with("ecr-sync.io/") {
            violations.push(Violation::new(
                format!("resourceTags[{key:?}]"),
                "keys that start with aws: or ecr-sync.io/ are reserved: use another prefix",
            ));
        }
    }
    violations
}

/// A DNS subdomain, as Kubernetes names most things.
fn is_object_name(name: &str) -> bool {
    let is_end = |byte: Option<&u8>| {
        byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let is_allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
    let bytes = name.as_bytes();
    bytes.len() <= 253
        && is_end(bytes.first())
        && is_end(bytes.last())
        && name.bytes().all(is_allowed)
}

fn validate_settings(spec: &EcrRepositorySyncSpec, violations: &mut Vec<Violation>) {
    use ImageTagMutability::{ImmutableWithExclusion, MutableWithExclusion};
    const FILTERS: &str = "imageTagMutabilityExclusionFilters";
    let filters = &spec.image_tag_mutability_exclusion_filters;
    let with_exclusion =
        matches!(spec.image_tag_mutability, Some(MutableWithExclusion | ImmutableWithExclusion));
    if with_exclusion == filters.is_empty() {
        violations.push(Violation::new(
            FILTERS,
            "go with imageTagMutability MutableWithExclusion or ImmutableWithExclusion, and those need one to five of them, \
             for example [\"latest\", \"1.*\"]",
        ));
    }
    if filters.len() > MAX_FILTERS {
        violations.push(Violation::new(
            FILTERS,
            format!("{} filters: ECR takes at most {MAX_FILTERS}", filters.len()),
        ));
    }
    for (index, filter) in filters.iter().enumerate() {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._*-".contains(&byte);
        if !(1..=128).contains(&filter.len()) || !filter.bytes().all(is_allowed) {
            let advice = "write letters, digits, dots, underscores, dashes and *, for example 1.*";
            let message = format!("{filter:?} is not a filter of tags: {advice}");
            violations.push(Violation::new(format!("{FILTERS}[{index}]"), message));
        }
    }
    if let Some(Encryption { type_: EncryptionType::Aes256, kms_key: Some(_) }) = &spec.encryption {
        violations.push(Violation::new(
            "encryption.kmsKey",
            "goes with type KMS or KMS_DSSE: change the type, or leave the key out",
        ));
    }
}

fn validate_image(image: &Image, violations: &mut Vec<Violation>) {
    match image.pull_url.parse::<Reference>() {
        Err(error) => violations.push(Violation::new("image.pullUrl", error.to_string())),
        Ok(reference) if reference.digest.is_some() => violations.push(Violation::new(
            "image.pullUrl",
            "may not carry a digest: write repository or repository:tag",
        )),
        Ok(reference) => {
            if image.tags.is_empty() && image.tag_selector.is_none() && reference.tag.is_none() {
                let advice = "write tags, a tagSelector, or a tag in pullUrl, for example docker.io/library/nginx:1.27";
                violations.push(Violation::new("image", format!("names no tag: {advice}")));
            }
            let can_retag =
                !image.tags.is_empty() && image.tag_selector.is_none() && reference.tag.is_some();
            if image.tag_strategy == TagStrategy::Retag && !can_retag {
                violations.push(Violation::new(
                    "image.tagStrategy",
                    "Retag needs tags and a tag in pullUrl, which is pushed as every tag in tags, and no tagSelector",
                ));
            }
        }
    }
    for (index, text) in image.platforms.iter().enumerate() {
        if let Err(error) = text.parse::<Platform>() {
            violations.push(Violation::new(format!("image.platforms[{index}]"), error.to_string()));
        }
    }
    if image.tags.len() > MAX_TAGS {
        violations.push(Violation::new(
            "image.tags",
            format!("{} tags: at most {MAX_TAGS} are allowed", image.tags.len()),
        ));
    }
    if let Err(problem) = Pin::list(image.tags.iter().map(String::as_str)) {
        violations.push(Violation::new(format!("image.tags{}", problem.path), problem.message));
    }
    let mut seen = BTreeSet::new();
    for (index, text) in image.tags.iter().enumerate() {
        let pin = Pin::parse(text);
        let digest = pin.digest.map(str::parse::<Digest>).transpose();
        for error in [pin.tag.parse::<Tag>().err(), digest.err()].into_iter().flatten() {
            violations.push(Violation::new(format!("image.tags[{index}]"), error.to_string()));
        }
        if !seen.insert(text) {
            violations.push(Violation::new(
                format!("image.tags[{index}]"),
                format!("{text:?} is named twice"),
            ));
        }
    }
    if let Some(selector) = &image.tag_selector
        && let Err(problem) = compile(selector)
    {
        violations
            .push(Violation::new(format!("image.tagSelector.{}", problem.path), problem.message));
    }
}

fn validate_chart(chart: &Chart, image: Option<&Image>, violations: &mut Vec<Violation>) {
    let mut wrong = |path: &str, message: String| {
        violations.push(Violation::new(format!("chart.{path}"), message))
    };
    let rest = ["https://", "http://", "oci://"]
        .iter()
        .find_map(|scheme| chart.pull_url.strip_prefix(scheme));
    if rest.is_none_or(|rest| rest.is_empty() || rest.contains(['@', ' '])) {
        let advice = "write https://charts.example.com/bitnami/nginx or oci://registry.example.com/charts/nginx";
        wrong("pullUrl", format!("{:?} is not the address of a chart: {advice}", chart.pull_url));
    }
    if chart.tags.is_empty() && chart.version_selector.is_none() {
        wrong(
            "tags",
            "no version is named: write tags: [\"15.0.2\"] or versionSelector: {latest: 3}"
                .to_owned(),
        );
    }
    if chart.tags.len() > MAX_TAGS {
        wrong("tags", format!("{} versions: at most {MAX_TAGS} are allowed", chart.tags.len()));
    }
    let image_tags: BTreeSet<_> =
        image.iter().flat_map(|image| &image.tags).map(|tag| Pin::parse(tag).tag).collect();
    let mut seen = BTreeSet::new();
    for (index, version) in chart.tags.iter().enumerate() {
        let tag = selection::tag_of(version);
        if tag.parse::<Tag>().is_err() {
            wrong(
                &format!("tags[{index}]"),
                format!("{version:?} is not a chart version: write for example 15.0.2"),
            );
        }
        if !seen.insert(tag.to_string()) {
            wrong(
                &format!("tags[{index}]"),
                format!("{version:?} is named twice (as a tag it is {tag})"),
            );
        }
        if image_tags.contains(tag.as_ref()) {
            wrong(
                &format!("tags[{index}]"),
                format!("{version:?} is a tag of the image too: one repository has one of each"),
            );
        }
    }
    if let Some(selector) = &chart.version_selector
        && let Err(problem) = compile_versions(selector)
    {
        wrong(&format!("versionSelector.{}", problem.path), problem.message);
    }
}

/// The selector of chart versions, ready to select.
///
/// # Errors
/// The field that is wrong, as a path from the selector.
pub fn compile_versions(selector: &VersionSelector) -> Result<Selector, Problem> {
    compile(&TagSelector {
        latest: selector.latest,
        semver: selector.semver.clone(),
        ..TagSelector::default()
    })
}

/// The selector, ready to select.
///
/// # Errors
/// The field that is wrong, as a path from the selector.
pub fn compile(selector: &TagSelector) -> Result<Selector, Problem> {
    let latest = usize::try_from(selector.latest).map_err(|_| Problem {
        path: "latest".to_owned(),
        message: format!(
            "{} is no number of tags: write 5, or 0 for all that match",
            selector.latest
        ),
    })?;
    Selector::new(selection::Spec {
        latest: Some(latest),
        semver: selector.semver.as_deref(),
        include: &selector.include,
        exclude: &selector.exclude,
        sort_by: match selector.sort_by {
            SortBy::Semver => selection::SortBy::Semver,
            SortBy::Numeric => selection::SortBy::Numeric,
            SortBy::Alphabetical => selection::SortBy::Alphabetical,
        },
    })
}

/// `spec.interval` as a duration.
///
/// # Errors
/// When it is not a duration from [`MIN_INTERVAL`] to [`MAX_INTERVAL`].
pub fn interval(spec: &EcrRepositorySyncSpec) -> Result<Duration, Violation> {
    bounded_duration("interval", &spec.interval)
}

/// `spec.driftInterval` as a duration.
///
/// # Errors
/// When it is not a duration from [`MIN_INTERVAL`] to [`MAX_INTERVAL`].
pub fn drift_interval(spec: &EcrRepositorySyncSpec) -> Result<Duration, Violation> {
    bounded_duration("driftInterval", &spec.drift_interval)
}

/// `spec.timeout` as a duration.
///
/// # Errors
/// When it is not a duration from [`MIN_INTERVAL`] to [`MAX_INTERVAL`].
pub fn timeout(spec: &EcrRepositorySyncSpec) -> Result<Duration, Violation> {
    bounded_duration("timeout", &spec.timeout)
}

/// `prune.minUnpulled` as a duration.
///
/// # Errors
/// When it is not a duration up to [`MAX_INTERVAL`].
pub fn min_unpulled(prune: &Prune) -> Result<Duration, Violation> {
    let text = &prune.min_unpulled;
    parse_duration(text).filter(|duration| *duration <= MAX_INTERVAL).ok_or_else(|| {
        let advice = "is not a duration from 0s to 8760h: write for example 720h, or 0s";
        Violation::new("prune.minUnpulled", format!("{text:?} {advice}"))
    })
}

fn bounded_duration(field: &str, text: &str) -> Result<Duration, Violation> {
    parse_duration(text)
        .filter(|duration| (MIN_INTERVAL..=MAX_INTERVAL).contains(duration))
        .ok_or_else(|| {
            let advice = "is not a duration from 1m to 8760h: write for example 90s, 30m or 1h30m";
            Violation::new(field, format!("{text:?} {advice}"))
        })
}

/// Reads `1h30m`, `90s`: whole numbers with the units h, m and s.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut total = 0_u64;
    let mut digits = String::new();
    for c in text.chars() {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        let unit = match c {
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        total = total.checked_add(digits.parse::<u64>().ok()?.checked_mul(unit)?)?;
        digits.clear();
    }
    (digits.is_empty() && !text.is_empty()).then(|| Duration::from_secs(total))
}

/// Whether ECR takes this for a repository name: `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`, joined by
/// `/`, 2 to 256 long.
#[must_use]
pub fn is_repository_name(name: &str) -> bool {
    (2..=256).contains(&name.len()) && name.split('/').all(is_path_component)
}

fn is_path_component(component: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !component.starts_with(is_word) || !component.ends_with(is_word) {
        return false;
    }
    // Between two words stands one separator: ".", "_", "__" or any number of "-".
    component.split(is_word).filter(|separator| !separator.is_empty()).all(|separator| {
        matches!(separator, "." | "_" | "__") || separator.chars().all(|c| c == '-')
    })
}

/// Twelve digits.
#[must_use]
pub fn is_account_id(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

/// `eu-west-1`, `us-gov-east-1`.
#[must_use]
pub fn is_region(text: &str) -> bool {
    let parts: Vec<_> = text.split('-').collect();
    let Some((number, words)) = parts.split_last() else { return false };
    words.len() >= 2
        && words[0].len() >= 2
        && words.iter().all(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase()))
        && !number.is_empty()
        && number.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::{LONGEST_PATTERN, MAX_PATTERNS};

    #[test]
    fn the_schema_has_the_bounds_of_selectors() {
        assert_eq!(MAX_PATTERNS, selection::MOST_PATTERNS);
        assert_eq!(LONGEST_PATTERN, selection::LONGEST_PATTERN);
    }

    #[test]
    fn repository_names_follow_ecrs_grammar() {
        for good in [
            "ab",
            "platform/nginx",
            "a--b",
            "a__b",
            "0a",
            "a.b",
            "a-.b".trim_end_matches("-.b").repeat(2).as_str(),
        ] {
            assert!(is_repository_name(good), "{good}");
        }
        for bad in [
            "a",
            "",
            "a___b",
            "a//b",
            "/ab",
            "ab/",
            "Upper/x",
            "-ab",
            "ab-",
            "a..b",
            "a-.b",
            "a b",
            &"a".repeat(257),
        ] {
            assert!(!is_repository_name(bad), "{bad}");
        }
    }

    #[test]
    fn durations_are_read_as_kubernetes_users_write_them() {
        assert_eq!(parse_duration("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(parse_duration("90s"), Some(Duration::from_secs(90)));
        for bad in ["", "1", "h", "1d", "-1m", "1.5h", "99999999999999999999h"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn regions_of_every_partition_pass() {
        for good in
            ["eu-west-1", "us-gov-east-1", "cn-north-1", "ap-southeast-12", "eusc-de-east-1"]
        {
            assert!(is_region(good), "{good}");
        }
        for bad in ["", "eu", "eu-west", "EU-west-1", "eu-west-x", "-west-1"] {
            assert!(!is_region(bad), "{bad}");
        }
    }

    fn spec(change: impl FnOnce(&mut EcrRepositorySyncSpec)) -> EcrRepositorySyncSpec {
        let mut spec = EcrRepositorySyncSpec {
            interval: "1h".to_owned(),
            timeout: "30m".to_owned(),
            image: Some(Image {
                pull_url: "docker.io/library/nginx:1.27".to_owned(),
                ..Image::default()
            }),
            ..EcrRepositorySyncSpec::default()
        };
        change(&mut spec);
        spec
    }

    #[test]
    fn each_wrong_field_is_named() {
        let paths = |spec: &EcrRepositorySyncSpec| {
            validate("nginx", spec).into_iter().map(|violation| violation.path).collect::<Vec<_>>()
        };
        assert_eq!(paths(&spec(|_| {})), Vec::<String>::new());
        assert_eq!(
            paths(&spec(|s| s.repository_name = Some("Bad".to_owned()))),
            ["repositoryName"]
        );
        assert_eq!(paths(&spec(|s| s.interval = "10s".to_owned())), ["interval"]);
        assert_eq!(paths(&spec(|s| s.drift_interval = "1d".to_owned())), ["driftInterval"]);
        assert_eq!(paths(&spec(|s| s.timeout = "forever".to_owned())), ["timeout"]);
        assert_eq!(
            paths(&spec(
                |s| s.image = Some(Image { pull_url: "nginx".to_owned(), ..Image::default() })
            )),
            ["image"]
        );
        assert_eq!(
            paths(&spec(|s| {
                s.image.as_mut().unwrap().tags =
                    vec!["ok".to_owned(), "a:b".to_owned(), "ok".to_owned()];
            })),
            ["image.tags[1]", "image.tags[2]"]
        );
        assert_eq!(
            paths(&spec(|s| s.image.as_mut().unwrap().tag_strategy = TagStrategy::Retag)),
            ["image.tagStrategy"]
        );
        let filters = |count: usize| (0..count).map(|n| format!("v{n}.*")).collect::<Vec<_>>();
        assert_eq!(
            paths(&spec(|s| s.image_tag_mutability_exclusion_filters = filters(1))),
            ["imageTagMutabilityExclusionFilters"]
        );
        let with_filters = |filters: Vec<String>| {
            paths(&spec(|s| {
                s.image_tag_mutability = Some(ImageTagMutability::ImmutableWithExclusion);
                s.image_tag_mutability_exclusion_filters = filters;
            }))
        };
        assert_eq!(with_filters(filters(5)), Vec::<String>::new());
        assert_eq!(with_filters(filters(0)), ["imageTagMutabilityExclusionFilters"]);
        assert_eq!(with_filters(filters(6)), ["imageTagMutabilityExclusionFilters"]);
        assert_eq!(with_filters(vec!["a b".to_owned()]), ["imageTagMutabilityExclusionFilters[0]"]);
        assert_eq!(
            paths(&spec(|s| {
                s.encryption = Some(Encryption {
                    type_: EncryptionType::Aes256,
                    kms_key: Some("alias/x".to_owned()),
                });
            })),
            ["encryption.kmsKey"]
        );
        assert_eq!(
            paths(&spec(|s| s.resource_tags = Some([("aws:x".to_owned(), String::new())].into()))),
            ["resourceTags[\"aws:x\"]"]
        );
        let with_prune = |max_percent, min_unpulled: &str| {
            let prune = Prune { enabled: true, max_percent, min_unpulled: min_unpulled.to_owned() };
            paths(&spec(|s| s.prune = Some(prune.clone())))
        };
        assert_eq!(with_prune(0, "8761h"), ["prune.minUnpulled", "prune.maxPercent"]);
        assert_eq!(with_prune(101, "30d"), ["prune.minUnpulled", "prune.maxPercent"]);
        assert_eq!(with_prune(1, "0s"), [""; 0]);
        assert_eq!(with_prune(100, "8760h"), [""; 0]);
    }
}
