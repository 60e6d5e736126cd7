//! `ecr-sync sync` in the demo: the same engine from the command line, on a file of the older YAML
//! tool.

use std::process::Command;

use super::examples;
use super::narrator::Narrator;
use super::operator::Operator;
use super::stage::Stage;
use super::{ACCOUNT, REGION, shown};
use crate::Error;

const REPOSITORY: &str = "ci/nginx";
const TAG: &str = "1.26";

/// Runs `ecr-sync sync` on a file, and checks that the tag is in ECR.
pub(super) async fn show(stage: &Stage, narrator: &Narrator) -> Result<(), Error> {
    let file = stage.dir.join("repositories.yaml");
    let source = examples::docker_io(stage.upstream.host());
    let text = format!(
        "- name: {REPOSITORY}\n  image: {{pull_url: \"{source}library/nginx\", \
         tags: [\"{TAG}\"], insecure: true}}\n"
    );
    std::fs::write(&file, text).map_err(|e| format!("cannot write {}: {e}", file.display()))?;

    let mut command = Command::new(Operator::program()?);
    command.arg("sync").arg(&file).env("LOG_LEVEL", "WARNING");
    stage.shell.set_aws(&mut command);
    let output = tokio::task::spawn_blocking(move || command.output()).await?;
    let output = output.map_err(|e| format!("cannot run ecr-sync sync: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    narrator.shows(&format!("ecr-sync sync {}", shown(&file)), &text);
    if !output.status.success() {
        return Err(
            format!("ecr-sync sync failed: {}", String::from_utf8_lossy(&output.stderr)).into()
        );
    }

    let repository = stage.ecr.repository(ACCOUNT, REGION, REPOSITORY);
    if repository.is_some_and(|repository| repository.tags.contains_key(TAG)) {
        narrator.proven(format!(
            "{REPOSITORY}:{TAG} is in ECR; no cluster or container runtime was needed"
        ));
        Ok(())
    } else {
        Err(format!("ecr-sync sync succeeded, but {REPOSITORY}:{TAG} is not in ECR").into())
    }
}
