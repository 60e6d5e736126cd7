//! Lifecycle and repository policies.

use serde_json::{Value, json};

use super::super::errors::{Error, Result};
use super::super::quantities::epoch;
use super::super::{lifecycle, policy};
use super::Call;

pub(super) fn put_lifecycle(call: &Call<'_>) -> Result<Value> {
    let name = call.name()?;
    let text = call.input.text_within("lifecyclePolicyText", 100, 30_720)?;
    let mut parsed = lifecycle::parse(text)?;
    let mut state = call.state();
    let repository = state.known(&call.account, call.region(), name)?;
    if repository.rewrites {
        parsed["rules"][0]["description"] = "rewritten".into();
    }
    let text = lifecycle::read_back(&parsed);
    repository.lifecycle = Some(parsed);
    Ok(json!({"registryId": call.account, "repositoryName": name, "lifecyclePolicyText": text}))
}

pub(super) fn get_lifecycle(call: &Call<'_>) -> Result<Value> {
    let name = call.name()?;
    let mut state = call.state();
    let repository = state.known(&call.account, call.region(), name)?;
    let stored = repository.lifecycle.as_ref().ok_or_else(|| no_lifecycle(call, name))?;
    let (text, evaluated) = (lifecycle::read_back(stored), epoch(repository.created_at));
    Ok(json!({
        "registryId": call.account, "repositoryName": name, "lifecyclePolicyText": text,
        "lastEvaluatedAt": evaluated,
    }))
}

/// A second delete is an error, not a success.
pub(super) fn delete_lifecycle(call: &Call<'_>) -> Result<Value> {
    let name = call.name()?;
    let mut state = call.state();
    let repository = state.known(&call.account, call.region(), name)?;
    let evaluated = epoch(repository.created_at);
    let stored = repository.lifecycle.take().ok_or_else(|| no_lifecycle(call, name))?;
    let text = lifecycle::read_back(&stored);
    Ok(json!({
        "registryId": call.account, "repositoryName": name, "lifecyclePolicyText": text,
        "lastEvaluatedAt": evaluated,
    }))
}

pub(super) fn set_policy(call: &Call<'_>) -> Result<Value> {
    let name = call.name()?;
    let text = call.input.text_within("policyText", 0, 10_240)?;
    let mut parsed = policy::parse(text)?;
    let mut state = call.state();
    let repository = state.known(&call.account, call.region(), name)?;
    if repository.rewrites {
        let statement = if parsed["Statement"].is_array() {
            &mut parsed["Statement"][0]
        } else {
            &mut parsed["Statement"]
        };
        statement["Sid"] = "Rewritten".into();
    }
    repository.policy = Some(parsed);
    read_policy(call, repository)
}

pub(super) fn get_policy(call: &Call<'_>) -> Result<Value> {
    let name = call.name()?;
    let mut state = call.state();
    read_policy(call, state.known(&call.account, call.region(), name)?)
}

/// A second delete is an error, not a success.
pub(super) fn delete_policy(call: &Call<'_>) -> Result<Value> {
    let name = call.name()?;
    let mut state = call.state();
    let repository = state.known(&call.account, call.region(), name)?;
    let output = read_policy(call, repository)?;
    repository.policy = None;
    Ok(output)
}

fn read_policy(call: &Call<'_>, repository: &mut super::super::store::Repository) -> Result<Value> {
    let name = repository.name.clone();
    let Some(stored) = repository.policy.as_ref() else {
        let message = format!(
            "Repository policy does not exist for the repository with name '{name}' in the \
             registry with id '{}'",
            call.account
        );
        return Err(Error::api("RepositoryPolicyNotFoundException", message));
    };
    repository.reads += 1;
    let text = policy::read_back(stored, call.region(), repository.reads);
    Ok(json!({"registryId": call.account, "repositoryName": name, "policyText": text}))
}

fn no_lifecycle(call: &Call<'_>, name: &str) -> Error {
    let message = format!(
        "Lifecycle policy does not exist for the repository with name '{name}' in the registry \
         with id '{}'",
        call.account
    );
    Error::api("LifecyclePolicyNotFoundException", message)
}
