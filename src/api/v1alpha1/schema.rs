//! The parts of the schema that cannot be derived: CEL rules and hand-written property schemas.
//!
//! Every message has the correction. Patterns are CEL rules instead of `pattern`, because the API
//! server's message for a pattern only repeats the expression.

use kube::core::Rule;
use schemars::{Schema, SchemaGenerator, json_schema};

/// Grammar of an ECR repository name (`CreateRepository` in the ECR API reference).
pub(super) const REPOSITORY_NAME: &str =
    r"^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$";

/// `repositoryName`, or the name of the resource.
const NAME: &str =
    "(has(self.spec.repositoryName) ? self.spec.repositoryName : self.metadata.name)";

/// A reference that ends in `:tag`; a port (`localhost:5000/app`) is not a tag, since a slash
/// follows.
const TAGGED: &str = "self.pullUrl.matches('[^/:]+:[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$')";

/// Largest number of tags of one artifact.
pub(crate) const MAX_TAGS: usize = 500;

/// Largest number of resource tags. ECR allows 50; two are the operator's (owner, created).
pub(crate) const MAX_RESOURCE_TAGS: usize = 48;

/// Largest number of exclusion filters in ECR.
pub(crate) const MAX_FILTERS: usize = 5;

/// Largest number of regular expressions in `include`, and in `exclude`.
pub(crate) const MAX_PATTERNS: usize = 25;

/// Longest regular expression, in characters.
pub(crate) const LONGEST_PATTERN: usize = 256;

pub(super) fn name_grammar() -> Rule {
    Rule::new(format!("{NAME}.matches(r'{REPOSITORY_NAME}')")).message(
        "not an ECR repository name: write lower-case letters and digits, separated by single . _ \
         __ / or any number of -, for example platform/nginx (spec.repositoryName, or \
         metadata.name if that is absent)",
    )
}

pub(super) fn name_length() -> Rule {
    Rule::new(format!("{NAME}.size() >= 2 && {NAME}.size() <= 256"))
        .message("an ECR repository name has 2 to 256 characters: set spec.repositoryName")
}

pub(super) fn name_is_immutable() -> Rule {
    Rule::new(format!("{NAME} == {}", NAME.replace("self.", "oldSelf."))).message(
        "the repository name cannot be changed: create another EcrRepositorySync, or change \
         spec.repositoryName back",
    )
}

pub(super) fn image_has_a_tag() -> Rule {
    Rule::new(format!(
        "(has(self.tags) && self.tags.size() > 0) || has(self.tagSelector) || {TAGGED}"
    ))
    .message(
        "image names no tag: write tags: [\"1.27\"], a tagSelector, or a tag in pullUrl, for \
         example docker.io/library/nginx:1.27",
    )
}

pub(super) fn chart_has_a_version() -> Rule {
    Rule::new("(has(self.tags) && self.tags.size() > 0) || has(self.versionSelector)")
        .message("chart names no version: write tags: [\"15.0.2\"] or versionSelector: {latest: 3}")
}

/// Image tags and chart versions share the tags of one repository.
pub(super) fn tags_and_versions_are_disjoint() -> Rule {
    Rule::new(
        "!has(self.spec.image) || !has(self.spec.chart) || !has(self.spec.image.tags) || \
         !has(self.spec.chart.tags) || \
         !self.spec.chart.tags.exists(v, v.replace('+', '_') in self.spec.image.tags)",
    )
    .message(
        "an image tag and a chart version are the same tag of the repository: give the image tag \
         another name, or remove one of the two",
    )
}

pub(super) fn filters_go_with_exclusion() -> Rule {
    Rule::new(
        "(has(self.spec.imageTagMutability) && \
         self.spec.imageTagMutability.endsWith('WithExclusion')) == \
         (has(self.spec.imageTagMutabilityExclusionFilters) && \
         self.spec.imageTagMutabilityExclusionFilters.size() > 0)",
    )
    .message(
        "imageTagMutabilityExclusionFilters are required with imageTagMutability \
         MutableWithExclusion or ImmutableWithExclusion, and not allowed without: write one to \
         five filters, for example [\"latest\", \"1.*\"], or change imageTagMutability",
    )
}

pub(super) fn key_goes_with_kms() -> Rule {
    Rule::new("!has(self.kmsKey) || self.type != 'AES256'")
        .message("encryption.kmsKey needs type KMS or KMS_DSSE: change the type, or remove the key")
}

pub(super) fn exclusion_filters(_: &mut SchemaGenerator) -> Schema {
    let message = "not a filter of tags: write letters, digits, dots, underscores, dashes and *, \
                   for example 1.*";
    set_of(MAX_FILTERS, 128, "^[0-9a-zA-Z._*-]{1,128}$", message)
}

pub(super) fn versions(_: &mut SchemaGenerator) -> Schema {
    let message =
        "not a chart version: write it as in Chart.yaml, for example 15.0.2 or 1.2.3+build";
    set_of(MAX_TAGS, 128, "^[A-Za-z0-9][A-Za-z0-9.+_-]{0,127}$", message)
}

pub(super) fn retag_needs_both() -> Rule {
    Rule::new(format!(
        "!has(self.tagStrategy) || self.tagStrategy != 'Retag' || (has(self.tags) && \
         self.tags.size() > 0 && !has(self.tagSelector) && {TAGGED})"
    ))
    .message(
        "tagStrategy Retag pushes the tag in pullUrl (for example docker.io/library/nginx:1.27) as \
         every tag in tags: write both, and no tagSelector",
    )
}

pub(super) fn platforms(_: &mut SchemaGenerator) -> Schema {
    let message =
        "not a platform: write for example linux/amd64, linux/arm/v7 or windows/amd64:10.0.20348";
    set_of(32, 100, "^[a-z0-9_]+/[a-z0-9_]+(/[a-z0-9_]+)?(:[0-9.]+)?$", message)
}

pub(super) fn tags(_: &mut SchemaGenerator) -> Schema {
    let message = "not a tag: a tag has at most 128 letters, digits, dots, underscores and dashes \
                   and does not start with a dot or dash; write 1.27 or 1.27@sha256:<64 digits>, \
                   not repository:1.27";
    set_of(MAX_TAGS, 200, "^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}(@sha256:[a-f0-9]{64})?$", message)
}

pub(super) fn patterns(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": MAX_PATTERNS,
        "x-kubernetes-list-type": "atomic",
        "items": { "type": "string", "minLength": 1, "maxLength": LONGEST_PATTERN }
    })
}

pub(super) fn lifecycle_policy(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "x-kubernetes-map-type": "atomic",
        "x-kubernetes-preserve-unknown-fields": true,
        "minProperties": 1,
        "properties": {
            "rules": {
                "description": "The rules; an empty list removes the policy.",
                "type": "array",
                "x-kubernetes-list-type": "atomic",
                "maxItems": 50,
                "items": {
                    "type": "object",
                    "x-kubernetes-preserve-unknown-fields": true,
                    "properties": {
                        "rulePriority": {
                            "description": "Order in which rules are applied, lowest first. Each \
                                            rule of a policy needs its own.",
                            "type": "integer",
                            "format": "int64"
                        },
                        "description": { "description": "Purpose of the rule.", "type": "string" },
                        "selection": {
                            "description": "Images that the rule selects.",
                            "type": "object",
                            "x-kubernetes-preserve-unknown-fields": true,
                            "properties": {
                                "tagStatus": {
                                    "description": "Images with a tag, without one, or all: \
                                                    tagged, untagged or any.",
                                    "type": "string"
                                },
                                "tagPatternList": {
                                    "description": "For tagged images: patterns of tags, in which \
                                                    * matches any characters. An image must match \
                                                    all of them.",
                                    "type": "array",
                                    "items": { "type": "string" }
                                },
                                "tagPrefixList": {
                                    "description": "For tagged images: prefixes of tags. An image \
                                                    must have a tag for each of them.",
                                    "type": "array",
                                    "items": { "type": "string" }
                                },
                                "storageClass": {
                                    "description": "Storage class of the images: standard or archive.",
                                    "type": "string"
                                },
                                "countType": {
                                    "description": "Quantity that is counted: imageCountMoreThan, \
                                                    sinceImagePushed, sinceImagePulled or \
                                                    sinceImageTransitioned.",
                                    "type": "string"
                                },
                                "countUnit": {
                                    "description": "Unit of countNumber if time is counted: days.",
                                    "type": "string"
                                },
                                "countNumber": {
                                    "description": "Number of images to keep, or age in days: \
                                                    images beyond this number, or older, are \
                                                    selected.",
                                    "type": "integer",
                                    "format": "int64"
                                }
                            }
                        },
                        "action": {
                            "description": "Action on the selected images.",
                            "type": "object",
                            "x-kubernetes-preserve-unknown-fields": true,
                            "properties": {
                                "type": { "description": "expire or transition.", "type": "string" },
                                "targetStorageClass": {
                                    "description": "Target of a transition: archive.",
                                    "type": "string"
                                }
                            }
                        }
                    }
                }
            }
        },
        "x-kubernetes-validations": [{
            "rule": "has(self.rules)",
            "message": "lifecyclePolicy has no rules: write rules: [...]; rules: [] removes the \
                        policy; without lifecyclePolicy the policy is not managed"
        }]
    })
}

pub(super) fn permission_policy(_: &mut SchemaGenerator) -> Schema {
    // Statement may be an object or an array, so it has no type here; the controller checks the
    // document.
    json_schema!({
        "type": "object",
        "x-kubernetes-map-type": "atomic",
        "x-kubernetes-preserve-unknown-fields": true,
        "minProperties": 1,
        "properties": {
            "Version": {
                "description": "Version of the policy language: 2012-10-17, in quotes.",
                "type": "string"
            },
            "Id": { "description": "A name for the policy.", "type": "string" },
            "Statement": {
                "description": "One statement or a list of statements; an empty list removes the \
                                policy.",
                "x-kubernetes-preserve-unknown-fields": true
            }
        }
    })
}

pub(super) fn resource_tags(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "x-kubernetes-map-type": "granular",
        "maxProperties": MAX_RESOURCE_TAGS,
        "additionalProperties": { "type": "string", "maxLength": 256 },
        "x-kubernetes-validations": [
            {
                "rule": "self.all(k, k.size() >= 1 && k.size() <= 128)",
                "message": "a resource tag key has 1 to 128 characters"
            },
            {
                "rule": "self.all(k, !k.startsWith('aws:') && !k.startsWith('ecr-sync.io/'))",
                "message": "resource tag keys that start with aws: or ecr-sync.io/ are reserved: \
                            use another prefix"
            }
        ]
    })
}

pub(super) fn interval(_: &mut SchemaGenerator) -> Schema {
    duration("interval", "1h")
}

pub(super) fn drift_interval(_: &mut SchemaGenerator) -> Schema {
    duration("driftInterval", "6h")
}

pub(super) fn timeout(_: &mut SchemaGenerator) -> Schema {
    duration("timeout", "30m")
}

pub(super) fn min_unpulled(_: &mut SchemaGenerator) -> Schema {
    duration_from("0s", "prune.minUnpulled", "720h")
}

pub(super) fn max_percent(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "integer",
        "format": "int64",
        "default": 25,
        "x-kubernetes-validations": [{
            "rule": "self >= 1 && self <= 100",
            "message": "prune.maxPercent is a percentage of the repository's tags, from 1 to 100; \
                        enabled: false removes none"
        }]
    })
}

fn duration(field: &str, default: &str) -> Schema {
    duration_from("1m", field, default)
}

fn duration_from(shortest: &str, field: &str, default: &str) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 32,
        "default": default,
        "x-kubernetes-validations": [{
            // `duration` fails on bad input; the pattern in front of it turns that into our text.
            "rule": format!(
                "self.matches('^([0-9]{{1,6}}(s|m|h))+$') && duration(self) >= \
                 duration('{shortest}') && duration(self) <= duration('8760h')"
            ),
            "message": format!(
                "{field} is a duration from {shortest} to 8760h, written like 90s, 30m or 1h30m"
            )
        }]
    })
}

/// A set of strings, each of which matches a regular expression.
fn set_of(max_items: usize, max_length: usize, pattern: &str, message: &str) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": max_items,
        "x-kubernetes-list-type": "set",
        "items": {
            "type": "string",
            "maxLength": max_length,
            "x-kubernetes-validations": [{
                "rule": format!("self.matches('{pattern}')"),
                "message": message
            }]
        }
    })
}
