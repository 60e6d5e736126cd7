//! Which resources have metrics of their own (`--resource-metrics`), and what metrics show of a
//! resource.

use std::collections::BTreeMap;
use std::str::FromStr;

use kube::Resource;
use kube::core::{Expression, Selector, SelectorExt};

use super::options::Options;
use super::reason::Reason;
use crate::api::v1alpha1::{EcrRepositorySync, EcrRepositorySyncStatus as Status};
use crate::telemetry::{Condition, State};

/// The resources that have metrics of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum ResourceMetrics {
    /// None: series are by namespace and reason.
    #[default]
    None,
    All,
    /// The resources in one of the namespaces (in any if there are none) that have all labels.
    Chosen {
        namespaces: Vec<String>,
        labels: Selector,
    },
}

impl ResourceMetrics {
    fn selects(&self, namespace: &str, labels: Option<&BTreeMap<String, String>>) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Chosen { namespaces, labels: selector } => {
                (namespaces.is_empty() || namespaces.iter().any(|each| each == namespace))
                    && selector.matches(labels.unwrap_or(&BTreeMap::new()))
            }
        }
    }
}

impl FromStr for ResourceMetrics {
    type Err = String;

    /// Parses `none`, `all`, or namespaces and labels (`key=value`, `key!=value`) in any order.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => return Ok(Self::None),
            "all" => return Ok(Self::All),
            _ => {}
        }

        let (mut namespaces, mut labels) = (Vec::new(), Selector::default());
        for item in text.split(',').map(str::trim) {
            if item.contains('=') {
                labels.extend(requirement(item)?);
            } else if is_namespace(item) {
                namespaces.push(item.to_owned());
            } else {
                return Err(format!(
                    "{item:?} is neither a namespace nor a label: write none, all, or a list such \
                     as team-a,team-b,tier=gold"
                ));
            }
        }

        Ok(Self::Chosen { namespaces, labels })
    }
}

/// Parses `key=value`, `key==value` or `key!=value`.
fn requirement(text: &str) -> Result<Expression, String> {
    let (key, value) = text.split_once('=').unwrap_or_default();
    let (key, is_equal) = key.strip_suffix('!').map_or((key, true), |key| (key, false));
    let (key, value) = (key.trim(), value.strip_prefix('=').unwrap_or(value).trim());

    let is_part = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let is_key = !key.is_empty() && key.chars().all(|c| is_part(c) || c == '/');
    if !is_key || value.len() > 63 || !value.chars().all(is_part) {
        return Err(format!("{text:?} is not a label: write key=value or key!=value"));
    }

    let (key, value) = (key.to_owned(), value.to_owned());
    Ok(if is_equal { Expression::Equal(key, value) } else { Expression::NotEqual(key, value) })
}

/// Whether a text can be the name of a namespace.
fn is_namespace(text: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&text.len())
        && text.chars().all(is_allowed)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

impl Options {
    /// Returns what metrics show of a resource with this status.
    pub(super) fn state<'a>(&self, object: &'a EcrRepositorySync, status: &Status) -> State<'a> {
        let metadata = object.meta();
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        let is_chosen = self.resource_metrics.selects(namespace, metadata.labels.as_ref());
        let artifacts = || [&status.image, &status.chart].into_iter().flatten();
        let conditions = status.conditions.iter();

        State {
            namespace,
            name: metadata.name.as_deref().unwrap_or_default(),
            repository: is_chosen.then(|| object.repository()),
            suspended: object.spec.suspend,
            synced: artifacts().map(|artifact| artifact.synced).sum(),
            failed: artifacts().map(|artifact| artifact.desired - artifact.synced).sum(),
            conditions: conditions
                .filter_map(|each| Condition::of(each, Reason::known(&each.reason)))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::condition;
    use crate::telemetry::ConditionType;

    #[test]
    fn metrics_of_resources_are_chosen_by_namespace_and_label() {
        let table = [
            ("none", false, false, false),
            ("all", true, true, true),
            ("a", true, true, false),
            ("a,b", true, true, true),
            ("tier=gold", true, false, true),
            ("tier==gold", true, false, true),
            ("tier!=gold", false, true, false),
            ("a, tier=gold", true, false, false),
            ("tier=gold,example.com/team=x", false, false, true),
        ];
        let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let gold = labels(&[("tier", "gold")]);
        let both = labels(&[("tier", "gold"), ("example.com/team", "x")]);

        for (text, gold_in_a, plain_in_a, both_in_b) in table {
            let chosen: ResourceMetrics = text.parse().expect(text);
            let selected = [
                chosen.selects("a", Some(&gold)),
                chosen.selects("a", None),
                chosen.selects("b", Some(&both)),
            ];
            assert_eq!(selected, [gold_in_a, plain_in_a, both_in_b], "{text}");
        }
    }

    #[test]
    fn a_list_that_cannot_be_used_is_refused() {
        for (text, problem) in [
            ("", "\"\" is neither a namespace nor a label"),
            ("a,", "\"\" is neither"),
            ("Team", "\"Team\" is neither"),
            ("tier in (gold)", "\"tier in (gold)\" is neither"),
            ("=gold", "\"=gold\" is not a label: write key=value or key!=value"),
            ("tier=a b", "\"tier=a b\" is not a label"),
            ("tier=größe", "is not a label"),
        ] {
            let error = text.parse::<ResourceMetrics>().expect_err(text);
            assert!(error.contains(problem), "{text}: {error}");
        }
    }

    #[test]
    fn the_metrics_know_every_type_of_condition() {
        for type_ in [
            condition::READY,
            condition::RECONCILING,
            condition::STALLED,
            condition::REPOSITORY_READY,
            condition::CONFIGURATION_SYNCED,
            condition::IMAGE_SYNCED,
            condition::CHART_SYNCED,
        ] {
            assert!(type_.parse::<ConditionType>().is_ok(), "{type_}");
        }
    }

    #[test]
    fn a_reason_that_is_not_ours_is_not_a_label() {
        assert_eq!(Reason::known("PartiallySynced"), "PartiallySynced");
        assert_eq!(Reason::known("AccessDenied"), "AccessDenied");
        assert_eq!(Reason::known("whatever a user wrote"), "Other");
    }
}
