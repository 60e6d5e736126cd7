//! Waits until every resource is in the expected state, and prints each change of state.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::narrator::Narrator;
use super::resource::{List, Resource};
use super::stage::Stage;
use crate::Error;

/// A few seconds are enough on two idle cores; the rest is for a machine that also compiles.
pub(super) const DEADLINE: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(200);

/// Returns the resources in their final state.
pub(super) async fn wait(stage: &Stage, narrator: &Narrator) -> Result<Vec<Resource>, Error> {
    let end = Instant::now() + DEADLINE;
    let mut printed: BTreeMap<String, String> = BTreeMap::new();

    loop {
        stage.operator.alive()?;
        let resources = list(stage).await?;
        for resource in &resources {
            let state = resource.state();
            if printed.get(resource.name()) != Some(&state) {
                show(resource.name(), &state, narrator);
                printed.insert(resource.name().to_owned(), state);
            }
        }

        if !resources.is_empty() && resources.iter().all(Resource::is_as_expected) {
            return Ok(resources);
        }
        if Instant::now() >= end {
            return Err(late(stage, &resources, narrator).await);
        }
        sleep(POLL).await;
    }
}

async fn list(stage: &Stage) -> Result<Vec<Resource>, Error> {
    let json = stage.cluster.kubectl(&["get", "ers", "--output", "json"]).await?;
    let list: List = serde_json::from_str(&json)
        .map_err(|e| format!("cannot parse the output of kubectl: {e}"))?;
    Ok(list.items)
}

fn show(name: &str, state: &str, narrator: &Narrator) {
    let mut lines = state.lines();
    narrator.say(format!("{name:<16} {}", lines.next().unwrap_or_default()));
    for message in lines {
        narrator.say(format!("{:<16} {message}", ""));
    }
}

/// Describes the resources that are not in the expected state.
async fn late(stage: &Stage, resources: &[Resource], narrator: &Narrator) -> Error {
    let late: Vec<_> = resources
        .iter()
        .filter(|resource| !resource.is_as_expected())
        .map(Resource::name)
        .collect();

    for name in &late {
        match stage.cluster.kubectl(&["describe", "ers", name]).await {
            Ok(text) => narrator.shows(&format!("kubectl describe ers {name}"), &text),
            Err(e) => narrator.say(e),
        }
    }

    match late[..] {
        [] => "there is no EcrRepositorySync in the cluster".into(),
        _ => {
            format!("not in the expected state after {} s: {}", DEADLINE.as_secs(), late.join(", "))
                .into()
        }
    }
}
