//! Forecast: how many wanted tags a lifecycle policy will expire or archive.
//!
//! AWS's evaluation (User Guide, "How lifecycle policies work"): all rules are evaluated at once
//! and applied by priority, the lowest number first. A rule counts every image that its selection
//! matches. But an image that matches a rule of higher priority is never expired or archived by a
//! later one, even if it counts there. Several entries of a tag list are ANDed: an image must have
//! a tag for each.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use super::Policy;
use crate::wildcard::matches as wildcard_matches;

/// The effect of one rule on the wanted tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// The rule's priority.
    pub rule: u64,
    /// Whether the rule archives images; else it expires them.
    pub archives: bool,
    /// Least number of wanted tags that the rule expires or archives. If a rule of higher priority
    /// protects some images, the number depends on which images are the oldest.
    pub at_least: usize,
    /// Greatest number of wanted tags that the rule may expire or archive.
    pub at_most: usize,
    /// Number of all wanted tags.
    pub wanted: usize,
    /// Condition for an image.
    pub when: When,
}

/// The condition under which a rule expires or archives an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// There are more images than the N that the rule keeps.
    TooMany(u64),
    /// N days after the push.
    SincePush(u64),
    /// After N days without a pull.
    Unpulled(u64),
    /// N days after the image was archived.
    InArchive(u64),
}

impl fmt::Display for Forecast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, archives, at_least, at_most, wanted, when } = self;
        let verb = if *archives { "archive" } else { "expire" };
        write!(f, "rule {rule} of lifecyclePolicy will {verb} ")?;

        if at_least == at_most {
            write!(f, "{at_most}")?;
        } else {
            write!(f, "{at_least} to {at_most}")?;
        }

        write!(f, " of the {wanted} wanted tags")?;
        match when {
            When::TooMany(1) => f.write_str(" (it keeps 1 image)"),
            When::TooMany(number) => write!(f, " (it keeps {number} images)"),
            When::SincePush(number) => write!(f, ", {} after they were pushed", days(*number)),
            When::Unpulled(number) => write!(f, " once they are not pulled for {}", days(*number)),
            When::InArchive(number) => write!(f, ", {} after they were archived", days(*number)),
        }
    }
}

fn days(number: u64) -> String {
    format!("{number} day{}", if number == 1 { "" } else { "s" })
}

/// One rule. A rule that cannot be read has no forecast: AWS validates it.
struct Rule<'a> {
    priority: u64,
    /// Tags that an image must have, as patterns; `None` selects every image.
    tags: Option<Vec<Pattern<'a>>>,
    in_archive: bool,
    archives: bool,
    when: When,
}

enum Pattern<'a> {
    Wildcard(&'a str),
    Prefix(&'a str),
}

impl Pattern<'_> {
    fn matches(&self, tag: &str) -> bool {
        match self {
            Self::Wildcard(pattern) => wildcard_matches(pattern, tag),
            Self::Prefix(prefix) => tag.starts_with(prefix),
        }
    }
}

impl<'a> Rule<'a> {
    fn read(rule: &'a Value) -> Option<Self> {
        let selection = rule.get("selection")?;
        let text = |value: &'a Value, key: &str| value.get(key).and_then(Value::as_str);
        let list = |key: &str| {
            let entries = selection.get(key).and_then(Value::as_array);
            entries.into_iter().flatten().filter_map(Value::as_str)
        };
        let tags = match text(selection, "tagStatus")? {
            "any" => None,
            "tagged" => Some(
                list("tagPatternList")
                    .map(Pattern::Wildcard)
                    .chain(list("tagPrefixList").map(Pattern::Prefix))
                    .collect::<Vec<_>>(),
            ),
            // Rules for untagged images: every wanted image has a tag.
            _ => return None,
        };

        let number = selection.get("countNumber").and_then(Value::as_u64)?;
        let when = match text(selection, "countType")? {
            "imageCountMoreThan" => When::TooMany(number),
            "sinceImagePushed" => When::SincePush(number),
            "sinceImagePulled" => When::Unpulled(number),
            "sinceImageTransitioned" => When::InArchive(number),
            _ => return None,
        };

        Some(Self {
            priority: rule.get("rulePriority").and_then(Value::as_u64)?,
            tags,
            in_archive: text(selection, "storageClass") == Some("archive"),
            archives: text(rule.get("action")?, "type")? == "transition",
            when,
        })
    }

    fn selects(&self, image: &BTreeSet<&str>) -> bool {
        let Some(patterns) = &self.tags else { return true };
        !patterns.is_empty()
            && patterns.iter().all(|pattern| image.iter().any(|tag| pattern.matches(tag)))
    }
}

/// Returns the effects of `policy` on `images`, each given by its wanted tags, once all of them are
/// in the repository. Other images in it, and the untagged parts of indexes, can only raise the
/// numbers of rules that count images.
#[must_use]
pub(crate) fn forecast(policy: &Policy, images: &[BTreeSet<&str>]) -> Vec<Forecast> {
    let rules = policy.get("rules").and_then(Value::as_array);
    let mut rules: Vec<_> = rules.into_iter().flatten().filter_map(Rule::read).collect();
    rules.sort_by_key(|rule| rule.priority);

    let wanted = images.iter().map(BTreeSet::len).sum();
    let mut forecasts = Vec::new();

    // Rules apply to one storage class each. Images get into the archive through a rule for the
    // standard class, so that class comes first.
    let mut archived = vec![false; images.len()];
    for in_archive in [false, true] {
        let mut claimed = vec![false; images.len()];
        for rule in rules.iter().filter(|rule| rule.in_archive == in_archive) {
            let selected =
                |index: &usize| rule.selects(&images[*index]) && (!in_archive || archived[*index]);
            let selected: Vec<usize> = (0..images.len()).filter(selected).collect();
            let mut free: Vec<usize> =
                selected.iter().copied().filter(|index| !claimed[*index]).collect();

            let (least, most) = match rule.when {
                When::TooMany(keeps) => {
                    let keeps = usize::try_from(keeps).unwrap_or(usize::MAX);
                    let surplus = selected.len().saturating_sub(keeps);
                    (surplus.saturating_sub(selected.len() - free.len()), surplus.min(free.len()))
                }
                _ => (free.len(), free.len()),
            };

            if most > 0 {
                free.sort_by_key(|index| images[*index].len());
                let tags = |some: &[usize]| some.iter().map(|index| images[*index].len()).sum();
                forecasts.push(Forecast {
                    rule: rule.priority,
                    archives: rule.archives,
                    at_least: tags(&free[..least]),
                    at_most: tags(&free[free.len() - most..]),
                    wanted,
                    when: rule.when,
                });
                if rule.archives {
                    free.iter().for_each(|index| archived[*index] = true);
                }
            }

            selected.iter().for_each(|index| claimed[*index] = true);
        }
    }
    forecasts
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Returns the forecasts for images, each given by its tags, separated by spaces.
    fn forecasts(rules: &Value, images: &[&str]) -> Vec<String> {
        let Value::Object(policy) = json!({"rules": rules}) else { panic!("an object") };
        let images: Vec<BTreeSet<&str>> =
            images.iter().map(|tags| tags.split(' ').collect()).collect();
        forecast(&policy, &images).iter().map(ToString::to_string).collect()
    }

    fn rule(priority: u32, tags: &Value, count: (&str, u32)) -> Value {
        let mut selection = json!({"countType": count.0, "countNumber": count.1});
        match tags {
            Value::Null => selection["tagStatus"] = json!("any"),
            Value::String(status) => selection["tagStatus"] = json!(status),
            patterns => {
                selection["tagStatus"] = json!("tagged");
                selection["tagPatternList"] = patterns.clone();
            }
        }
        json!({"rulePriority": priority, "selection": selection, "action": {"type": "expire"}})
    }

    const MANY: &str = "imageCountMoreThan";

    #[test]
    fn a_rule_that_keeps_fewer_images_than_are_wanted_has_a_forecast() {
        let images: Vec<String> = (0..20).map(|n| format!("1.{n}")).collect();
        let images: Vec<&str> = images.iter().map(String::as_str).collect();
        assert_eq!(
            forecasts(&json!([rule(2, &json!(["1.*"]), (MANY, 13))]), &images),
            ["rule 2 of lifecyclePolicy will expire 7 of the 20 wanted tags (it keeps 13 images)"]
        );
        assert!(forecasts(&json!([rule(2, &json!(["1.*"]), (MANY, 20))]), &images).is_empty());
        assert!(forecasts(&json!([rule(2, &json!(["2.*"]), (MANY, 1))]), &images).is_empty());
        assert!(forecasts(&json!([rule(2, &json!("untagged"), (MANY, 1))]), &images).is_empty());
    }

    #[test]
    fn a_rule_by_age_expires_all_images_that_it_selects() {
        let rules = json!([
            rule(1, &json!(["v*"]), ("sinceImagePushed", 14)),
            rule(2, &Value::Null, ("sinceImagePulled", 1)),
        ]);
        assert_eq!(
            forecasts(&rules, &["v1", "v2 latest", "x"]),
            [
                "rule 1 of lifecyclePolicy will expire 3 of the 4 wanted tags, 14 days after they were pushed",
                "rule 2 of lifecyclePolicy will expire 1 of the 4 wanted tags once they are not pulled for 1 day",
            ]
        );
    }

    /// The example of the User Guide: A (beta-1, prod-1), B (beta-2, prod-2), C (beta-3), oldest
    /// first. Rule 1 expires A; rule 2 would take A and B, but both are rule 1's.
    #[test]
    fn a_rule_counts_images_of_an_earlier_rule_but_never_expires_them() {
        let rules =
            json!([rule(1, &json!(["prod*"]), (MANY, 1)), rule(2, &json!(["beta*"]), (MANY, 1))]);
        assert_eq!(
            forecasts(&rules, &["beta-1 prod-1", "beta-2 prod-2", "beta-3"]),
            [
                "rule 1 of lifecyclePolicy will expire 2 of the 5 wanted tags (it keeps 1 image)",
                "rule 2 of lifecyclePolicy will expire 0 to 1 of the 5 wanted tags (it keeps 1 image)",
            ]
        );
    }

    #[test]
    fn entries_of_a_tag_list_are_anded_over_the_tags_of_an_image() {
        let rules = json!([rule(1, &json!(["v*", "*-prod"]), ("sinceImagePushed", 1))]);
        assert_eq!(forecasts(&rules, &["v1 blue-prod", "v2", "red-prod"]).len(), 1);
        assert!(forecasts(&rules, &["v2", "red-prod"]).is_empty());
        let mut prefixes = rule(1, &json!("tagged"), ("sinceImagePushed", 1));
        prefixes["selection"]["tagPrefixList"] = json!(["v", "b"]);
        assert_eq!(forecasts(&json!([prefixes]), &["v1 blue", "v2"]).len(), 1);
    }

    #[test]
    fn archived_images_may_expire_in_the_archive() {
        let mut to_archive = rule(1, &Value::Null, ("sinceImagePulled", 30));
        to_archive["action"] = json!({"type": "transition", "targetStorageClass": "archive"});
        let mut from_archive = rule(2, &Value::Null, ("sinceImageTransitioned", 90));
        from_archive["selection"]["storageClass"] = json!("archive");
        assert_eq!(
            forecasts(&json!([to_archive, from_archive.clone()]), &["a", "b"]),
            [
                "rule 1 of lifecyclePolicy will archive 2 of the 2 wanted tags once they are not pulled for 30 days",
                "rule 2 of lifecyclePolicy will expire 2 of the 2 wanted tags, 90 days after they were archived",
            ]
        );
        assert!(
            forecasts(&json!([from_archive]), &["a", "b"]).is_empty(),
            "no wanted image gets into the archive"
        );
    }

    #[test]
    fn a_policy_that_cannot_be_read_has_no_forecast() {
        for rules in [
            json!("text"),
            json!([1, {}, {"selection": {}}]),
            json!([rule(1, &Value::Null, ("new", 1))]),
        ] {
            assert!(forecasts(&rules, &["a"]).is_empty(), "{rules}");
        }
    }
}
