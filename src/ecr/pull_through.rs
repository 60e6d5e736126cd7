//! Pull-through cache rules: under the prefix of a rule, ECR itself creates repositories and writes
//! images.

use super::registry::{Registry, in_time};

/// Prefix of a rule for all repositories.
const ROOT: &str = "ROOT";

/// Whether a rule with this prefix covers the repository `name`.
fn covers(prefix: &str, name: &str) -> bool {
    prefix == ROOT || name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'))
}

impl Registry {
    /// Returns the prefix of the pull-through cache rule that covers the repository `name`, if the
    /// rules can be read. They are read once per process. Since the result is only used for advice,
    /// an error or timeout counts as no rule.
    pub async fn pull_through_rule(&self, name: &str) -> Option<&str> {
        let read = async {
            // A registry has at most 50 rules, a page has 100.
            let request =
                self.client.describe_pull_through_cache_rules().registry_id(&self.account).send();
            let answer = in_time(request, "cannot read pull-through cache rules").await;
            let rules = answer.and_then(|answer| answer.pull_through_cache_rules);
            let prefixes =
                rules.into_iter().flatten().filter_map(|rule| rule.ecr_repository_prefix);
            prefixes.collect()
        };

        let prefixes: &Vec<String> = self.pull_through.get_or_init(|| read).await;
        prefixes.iter().map(String::as_str).find(|prefix| covers(prefix, name))
    }
}

#[cfg(test)]
mod tests {
    use super::covers;

    #[test]
    fn a_rule_covers_repositories_under_its_prefix() {
        assert!(covers("docker-hub", "docker-hub/library/nginx") && covers("ROOT", "app"));
        assert!(!covers("docker-hub", "docker-hub2/nginx") && !covers("docker-hub", "docker-hub"));
        assert!(covers("a/b", "a/b/c") && !covers("a/b", "a/c"));
    }
}
