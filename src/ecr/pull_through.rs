//! Pull-through cache rules: below the prefix of one, ECR itself makes repositories and writes
//! images.

use std::time::Duration;

use aws_sdk_ecr::error::ProvideErrorMetadata;

use super::registry::Registry;

/// The prefix of a rule that takes every repository.
const ROOT: &str = "ROOT";

/// Whether a rule with this prefix is for the repository `name`.
fn covers(prefix: &str, name: &str) -> bool {
    prefix == ROOT || name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'))
}

impl Registry {
    /// The prefix of the pull-through cache rule that the repository `name` lies under, if the
    /// rules can be read. They are asked for once per process, and never a reason to fail or to
    /// wait: what comes of it is advice.
    pub async fn pull_through_rule(&self, name: &str) -> Option<&str> {
        /// Nobody waits longer for advice.
        const PATIENCE: Duration = Duration::from_secs(5);
        let ask = async {
            // A registry has 50 rules at most, a page 100.
            let asked =
                self.client.describe_pull_through_cache_rules().registry_id(&self.account).send();
            match tokio::time::timeout(PATIENCE, asked).await {
                Ok(Ok(answer)) => {
                    let rules = answer.pull_through_cache_rules().iter();
                    rules
                        .filter_map(|rule| rule.ecr_repository_prefix().map(str::to_owned))
                        .collect()
                }
                Ok(Err(error)) => {
                    tracing::debug!(code = ?error.code(), "whether there are pull-through cache rules is not known");
                    Vec::new()
                }
                Err(_) => Vec::new(),
            }
        };
        let prefixes: &Vec<String> = self.pull_through.get_or_init(|| ask).await;
        prefixes.iter().map(String::as_str).find(|prefix| covers(prefix, name))
    }
}

#[cfg(test)]
mod tests {
    use super::covers;

    #[test]
    fn a_rule_is_for_what_lies_below_its_prefix() {
        assert!(covers("docker-hub", "docker-hub/library/nginx") && covers("ROOT", "app"));
        assert!(!covers("docker-hub", "docker-hub2/nginx") && !covers("docker-hub", "docker-hub"));
        assert!(covers("a/b", "a/b/c") && !covers("a/b", "a/c"));
    }
}
