//! An EcrRepositorySync as `kubectl get -o json` prints it: the fields that the demo reads.

use serde::Deserialize;
use serde_json::Value;

use super::examples::MISTAKE;

#[derive(Debug, Deserialize)]
pub(super) struct List {
    pub(super) items: Vec<Resource>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Resource {
    metadata: Metadata,
    pub(super) spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    name: String,
    generation: i64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec {
    image: Option<Image>,
    chart: Option<Chart>,
    pub(super) lifecycle_policy: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Image {
    pull_url: String,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    tag_strategy: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chart {
    #[serde(default)]
    tags: Vec<String>,
    version_selector: Option<VersionSelector>,
}

#[derive(Debug, Deserialize)]
struct VersionSelector {
    latest: usize,
}

#[derive(Debug, Default, Deserialize)]
struct Status {
    repository: Option<Repository>,
    image: Option<ArtifactStatus>,
    chart: Option<ArtifactStatus>,
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Debug, Deserialize)]
struct Repository {
    name: String,
    uri: String,
}

#[derive(Debug, Deserialize)]
struct ArtifactStatus {
    summary: String,
    #[serde(default)]
    failures: Vec<Failure>,
}

#[derive(Debug, Deserialize)]
struct Failure {
    tag: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    reason: String,
    message: String,
    #[serde(default)]
    observed_generation: i64,
}

/// A tag in the source and in ECR, as references.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Copy {
    pub(super) source: String,
    pub(super) target: String,
}

impl Resource {
    pub(super) fn name(&self) -> &str {
        &self.metadata.name
    }

    /// Returns the name of the repository in ECR, once it exists.
    pub(super) fn repository(&self) -> Option<&str> {
        self.status.repository.as_ref().map(|repository| repository.name.as_str())
    }

    /// Returns the URI to pull from, once the repository exists.
    pub(super) fn uri(&self) -> Option<&str> {
        self.status.repository.as_ref().map(|repository| repository.uri.as_str())
    }

    /// Whether the resource is Ready or, for the mistake, partially synced.
    pub(super) fn is_as_expected(&self) -> bool {
        let Some(ready) = self.ready() else { return false };

        let state = (ready.status.as_str(), ready.reason.as_str());
        let expected = if self.is_the_mistake() {
            let failed: Vec<_> = self.failed_tags().collect();
            state == ("False", "PartiallySynced") && failed == [MISTAKE.missing]
        } else {
            state == ("True", "Succeeded")
        };

        expected && ready.observed_generation == self.metadata.generation
    }

    pub(super) fn is_the_mistake(&self) -> bool {
        self.name() == MISTAKE.resource
    }

    /// Returns Ready, its reason and the summaries of image and chart in columns, and the message if
    /// Ready is False.
    pub(super) fn state(&self) -> String {
        let image = self.status.image.as_ref().map_or("", |image| image.summary.as_str());
        let chart = self
            .status
            .chart
            .as_ref()
            .map_or_else(String::new, |chart| format!("chart {}", chart.summary));

        match self.ready() {
            None => "waiting for the operator".to_owned(),
            Some(ready) => {
                let line =
                    format!("Ready={:<8} {:<16} {image:<7} {chart}", ready.status, ready.reason);
                let line = line.trim_end();
                if ready.status == "False" {
                    format!("{line}\n{}", ready.message)
                } else {
                    line.to_owned()
                }
            }
        }
    }

    /// Returns the chart versions that should be in ECR, the newest last. `published` has all
    /// versions.
    pub(super) fn versions<'a>(&self, published: &[&'a str]) -> Vec<&'a str> {
        let Some(chart) = &self.spec.chart else { return Vec::new() };
        let newest = match &chart.version_selector {
            None => published.len(),
            Some(VersionSelector { latest: 0 }) => 0,
            Some(selector) => published.len().saturating_sub(selector.latest),
        };

        let is_wanted = |(at, version): &(usize, &&str)| {
            *at >= newest || chart.tags.iter().any(|tag| tag == *version)
        };
        published.iter().enumerate().filter(is_wanted).map(|(_, version)| *version).collect()
    }

    /// Returns the tags that are in ECR according to the status.
    pub(super) fn copies(&self) -> Vec<Copy> {
        let (Some(image), Some(uri)) = (&self.spec.image, self.uri()) else { return Vec::new() };

        // The colon of a port is followed by a slash later on.
        let (repository, tag) = match image.pull_url.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
            _ => (image.pull_url.as_str(), None),
        };
        let wanted: Vec<&str> = if image.tags.is_empty() {
            tag.into_iter().collect()
        } else {
            image.tags.iter().map(String::as_str).collect()
        };

        let is_retag = image.tag_strategy == "Retag";
        wanted
            .into_iter()
            .filter(|wanted| self.failed_tags().all(|failed| failed != *wanted))
            .map(|wanted| {
                let from = tag.filter(|_| is_retag).unwrap_or(wanted);
                Copy { source: format!("{repository}:{from}"), target: format!("{uri}:{wanted}") }
            })
            .collect()
    }

    fn failed_tags(&self) -> impl Iterator<Item = &str> {
        self.status
            .image
            .iter()
            .flat_map(|image| &image.failures)
            .map(|failure| failure.tag.as_str())
    }

    fn ready(&self) -> Option<&Condition> {
        self.status.conditions.iter().find(|condition| condition.kind == "Ready")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn resource(name: &str, image: &Value, ready: [&str; 2], failures: &[&str]) -> Resource {
        let failures: Vec<_> =
            failures.iter().map(|tag| json!({"tag": tag, "reason": "r", "message": "m"})).collect();
        let [status, reason] = ready;
        let json = json!({
            "metadata": {"name": name, "generation": 2},
            "spec": {"image": image},
            "status": {
                "repository": {"name": "app", "uri": "ecr:1/app"},
                "image": {"summary": "1/2", "failures": failures},
                "conditions": [{
                    "type": "Ready", "status": status, "reason": reason, "message": "m",
                    "observedGeneration": 2,
                }],
            },
        });
        serde_json::from_value(json).unwrap()
    }

    fn copies(image: &Value, failures: &[&str]) -> Vec<(String, String)> {
        let copies = resource("app", image, ["True", "Succeeded"], failures).copies();
        copies.into_iter().map(|copy| (copy.source, copy.target)).collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected
            .iter()
            .map(|(source, target)| ((*source).to_owned(), (*target).to_owned()))
            .collect()
    }

    #[test]
    fn each_copy_has_its_source() {
        let mirror =
            json!({"pullUrl": "reg:5/nginx", "tags": ["1", "2", "3"], "tagStrategy": "Mirror"});
        assert_eq!(
            copies(&mirror, &["2"]),
            pairs(&[("reg:5/nginx:1", "ecr:1/app:1"), ("reg:5/nginx:3", "ecr:1/app:3")])
        );
        let tagged = json!({"pullUrl": "reg:5/nginx:1"});
        assert_eq!(copies(&tagged, &[]), pairs(&[("reg:5/nginx:1", "ecr:1/app:1")]));
        let retag = json!({"pullUrl": "reg:5/nginx:1", "tags": ["a", "b"], "tagStrategy": "Retag"});
        assert_eq!(
            copies(&retag, &[]),
            pairs(&[("reg:5/nginx:1", "ecr:1/app:a"), ("reg:5/nginx:1", "ecr:1/app:b")])
        );
    }

    #[test]
    fn versions_are_those_of_the_list_and_the_newest() {
        let versions = |chart: Value| {
            let json =
                json!({"metadata": {"name": "web", "generation": 1}, "spec": {"chart": chart}});
            serde_json::from_value::<Resource>(json).unwrap().versions(&["1", "2", "3"])
        };
        assert_eq!(versions(json!({"versionSelector": {"latest": 2}})), ["2", "3"]);
        assert_eq!(versions(json!({"versionSelector": {"latest": 1}, "tags": ["1"]})), ["1", "3"]);
        assert_eq!(versions(json!({"versionSelector": {"latest": 0}})), ["1", "2", "3"]);
        assert_eq!(versions(json!({"tags": ["2"]})), ["2"]);
        assert!(versions(Value::Null).is_empty());
    }

    #[test]
    fn only_the_mistake_may_fail_and_only_in_its_own_way() {
        let image = json!({"pullUrl": "reg/nginx", "tags": ["1"]});
        let is_as_expected = |name: &str, ready, failures: &[&str]| {
            resource(name, &image, ready, failures).is_as_expected()
        };
        assert!(is_as_expected("app", ["True", "Succeeded"], &[]));
        assert!(!is_as_expected("app", ["False", "PartiallySynced"], &["1"]));
        assert!(is_as_expected(MISTAKE.resource, ["False", "PartiallySynced"], &[MISTAKE.missing]));
        assert!(!is_as_expected(MISTAKE.resource, ["False", "PartiallySynced"], &[MISTAKE.good]));
        assert!(!is_as_expected(MISTAKE.resource, ["True", "Succeeded"], &[]));
    }
}
