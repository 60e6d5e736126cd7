//! Checks of the demo with independent tools: crane, helm, the AWS CLI, kubectl.

use std::fs;
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};

use super::examples::{CHART, Chart, MISTAKE};
use super::narrator::Narrator;
use super::resource::Resource;
use super::stage::Stage;
use super::{ACCOUNT, NAMESPACE, REGION, convergence};
use crate::Error;

/// Checks that every wanted tag is in ECR, complete and with the source's digest.
pub(super) async fn of_the_copies(
    stage: &Stage,
    resources: &[Resource],
    narrator: &Narrator,
) -> Result<(), Error> {
    let copies: Vec<_> = resources.iter().flat_map(Resource::copies).collect();
    let mistake = resources.iter().filter(|resource| resource.is_the_mistake());
    let good = format!(":{}", MISTAKE.good);
    if !mistake.flat_map(Resource::copies).any(|copy| copy.target.ends_with(&good)) {
        return Err(
            format!("{} should have its tag {} in ECR", MISTAKE.resource, MISTAKE.good).into()
        );
    }

    for copy in &copies {
        let source = stage.shell.run("crane", &["digest", &copy.source]).await?;
        let target = stage.shell.run("crane", &["digest", &copy.target]).await?;
        if source != target {
            return Err(
                format!("{} is {source}, but {} is {target}", copy.source, copy.target).into()
            );
        }
        stage.shell.run("crane", &["validate", "--remote", &copy.target]).await?;

        let name = copy.target.split_once('/').map_or(copy.target.as_str(), |(_, name)| name);
        narrator.proven(format!("{name:<24} {}", source.get(..19).unwrap_or(&source)));
    }
    Ok(())
}

/// Checks that exactly the wanted versions of the chart are in ECR, and that helm pulls the same
/// archives as the chart repository has.
pub(super) async fn of_the_charts(
    stage: &Stage,
    resources: &[Resource],
    narrator: &Narrator,
) -> Result<(), Error> {
    let Chart { folder, name, versions: published } = CHART;
    let pulled = stage.dir.join("pulled");
    fs::create_dir_all(&pulled).map_err(|e| format!("cannot create {}: {e}", pulled.display()))?;
    let to = pulled.display().to_string();
    for resource in resources {
        let (Some(uri), wanted) = (resource.uri(), resource.versions(&published)) else { continue };
        if wanted.is_empty() {
            continue;
        }
        let address = format!("oci://{uri}");
        for version in &wanted {
            let chart_args = [address.as_str(), "--version", version, "--plain-http"];
            let show = [&["show", "chart"], &chart_args[..]].concat();
            let chart = stage.shell.run("helm", &show).await?;
            for line in [format!("name: {name}"), format!("version: {version}")] {
                if !chart.lines().any(|other| other == line) {
                    return Err(format!(
                        "helm show chart {address} --version {version} has no `{line}`: {chart}"
                    )
                    .into());
                }
            }

            let pull = [&["pull", "--destination", &to], &chart_args[..]].concat();
            stage.shell.run("helm", &pull).await?;
            let file = format!("{name}-{version}.tgz");
            let path = pulled.join(&file);
            let archive =
                fs::read(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
            let [target, source] = [archive, stage.charts.read(&format!("{folder}/{file}"))?]
                .map(|bytes| sha256(&bytes));
            if source != target {
                return Err(format!(
                    "{file} is sha256:{source}, but from {address} it is sha256:{target}"
                )
                .into());
            }

            let label = format!("{}:{version}", resource.repository().unwrap_or_default());
            narrator.proven(format!("{label:<24} {file} sha256:{}", &source[..12]));
        }

        let tags = stage.shell.run("crane", &["ls", uri]).await?;
        if let Some(tag) = tags.lines().find(|tag| published.contains(tag) && !wanted.contains(tag))
        {
            return Err(format!("{uri} has version {tag}, which is not wanted").into());
        }
    }
    Ok(())
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Shows the output of kubectl.
pub(super) async fn for_a_user(stage: &Stage, narrator: &Narrator) -> Result<(), Error> {
    let all = stage.cluster.kubectl(&["get", "ers", "--all-namespaces"]).await?;
    narrator.shows("kubectl get ers -A", &all);
    let text = stage.cluster.kubectl(&["describe", "ers", MISTAKE.resource]).await?;
    let status = text.find("\nStatus:").map_or(text.as_str(), |at| &text[at + 1..]);
    narrator.shows(
        &format!("kubectl describe ers {} -n {NAMESPACE}   (from Status on)", MISTAKE.resource),
        status,
    );
    Ok(())
}

/// Checks that the lifecycle policies in ECR are those of the specs.
pub(super) fn of_the_policies(
    stage: &Stage,
    resources: &[Resource],
    narrator: &Narrator,
) -> Result<(), Error> {
    for resource in resources {
        let (Some(written), Some(repository)) =
            (&resource.spec.lifecycle_policy, resource.repository())
        else {
            continue;
        };
        let view = stage.ecr.repository(ACCOUNT, REGION, repository);
        let policy = view.and_then(|view| view.lifecycle_policy).unwrap_or_default();
        if !contains(&policy, written) {
            return Err(format!(
                "{repository}: spec.lifecyclePolicy is {written}, ECR has {policy}"
            )
            .into());
        }

        let description = &policy["rules"][0]["description"];
        narrator.proven(format!("{repository:<24} {}", description.as_str().unwrap_or_default()));
    }
    Ok(())
}

/// Whether `answer` contains everything in `written`. ECR adds defaults to a policy, such as a rule's
/// storage class.
fn contains(answer: &Value, written: &Value) -> bool {
    match (answer, written) {
        (Value::Object(answer), Value::Object(written)) => written
            .iter()
            .all(|(key, written)| answer.get(key).is_some_and(|answer| contains(answer, written))),
        (Value::Array(answer), Value::Array(written)) => {
            answer.len() == written.len()
                && answer.iter().zip(written).all(|(answer, written)| contains(answer, written))
        }
        _ => answer == written,
    }
}

/// Checks that `/readyz` and `/metrics` answer, and that the metrics count the copies.
pub(super) async fn of_the_server(
    stage: &Stage,
    resources: &[Resource],
    narrator: &Narrator,
) -> Result<(), Error> {
    let operator = &stage.operator;
    operator.page("/readyz").await?;
    let metrics = operator.page("/metrics").await?;
    let wanted = count(resources);
    let copied = value(&metrics, "ecrsync_tags_copied_total").unwrap_or_default();
    if copied < wanted {
        return Err(format!("/metrics counts {copied} copied tags; {wanted} are in ECR").into());
    }
    narrator.proven(format!(
        "http://{}/metrics: ecrsync_tags_copied_total {copied}",
        operator.address()
    ));
    Ok(())
}

/// Returns the number of tags in ECR, of images and of charts.
pub(super) fn count(resources: &[Resource]) -> usize {
    resources
        .iter()
        .map(|resource| resource.copies().len() + resource.versions(&CHART.versions).len())
        .sum()
}

/// Returns the value of a metric without labels.
fn value(metrics: &str, name: &str) -> Option<usize> {
    metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

/// Checks that a pass over a repository in sync writes nothing.
pub(super) async fn of_the_no_op(
    stage: &Stage,
    resources: &[Resource],
    narrator: &Narrator,
) -> Result<(), Error> {
    let Some(resource) =
        resources.iter().filter(|r| !r.is_the_mistake()).max_by_key(|r| r.copies().len())
    else {
        return Ok(());
    };

    let mark = stage.ecr.mark();
    let change = r#"{"spec":{"interval":"45m"}}"#;
    let patch = ["patch", "ers", resource.name(), "--type", "merge", "--patch", change];
    stage.cluster.kubectl(&patch).await?;

    let end = Instant::now() + convergence::DEADLINE;
    let get = ["get", "ers", resource.name(), "--output", "json"];
    loop {
        stage.operator.alive()?;
        let json = stage.cluster.kubectl(&get).await?;
        let now: Resource = serde_json::from_str(&json)
            .map_err(|e| format!("cannot parse the output of kubectl: {e}"))?;
        if now.is_as_expected() {
            break;
        }
        if Instant::now() >= end {
            return Err(format!(
                "{} was not checked again in time: {}",
                resource.name(),
                now.state()
            )
            .into());
        }
        sleep(Duration::from_millis(200)).await;
    }

    let repository = resource.repository().unwrap_or_default();
    let requests = stage.ecr.log_since(mark);
    let requests: Vec<_> =
        requests.iter().filter(|request| request.repository == repository).collect();
    let writes: Vec<_> = requests
        .iter()
        .filter(|request| request.is_write())
        .map(|request| request.operation.as_str())
        .collect();
    if !writes.is_empty() {
        return Err(format!(
            "a pass over {repository}, which was in sync, wrote: {}",
            writes.join(", ")
        )
        .into());
    }

    let count = requests.len();
    narrator.proven(format!(
        "another pass over {repository}, already in sync: {count} requests to ECR, no writes"
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn defaults_that_ecr_adds_to_a_policy_are_no_difference() {
        let written = json!({"rules": [{"rulePriority": 1, "selection": {"countNumber": 14}}]});
        let selection = json!({"storageClass": "standard", "countNumber": 14});
        let answer = json!({"rules": [{"selection": selection, "rulePriority": 1}]});
        assert!(contains(&answer, &written));
        assert!(!contains(&answer, &json!({"rules": [{"rulePriority": 2}]})));
        assert!(!contains(&answer, &json!({"rules": []})));
        assert!(!contains(&json!({}), &written));
    }
}
