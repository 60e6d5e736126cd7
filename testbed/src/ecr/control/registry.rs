//! The registry of an account: tokens and account settings.

use serde_json::{Value, json};

use super::super::errors::{Error, Result};
use super::super::origin;
use super::super::quantities::epoch;
use super::Call;

/// Settings, their values, and the default.
const SETTINGS: [(&str, &[&str], &str); 3] = [
    ("BLOB_MOUNTING", &["ENABLED", "DISABLED"], "DISABLED"),
    ("BASIC_SCAN_TYPE_VERSION", &["AWS_NATIVE", "CLAIR"], "AWS_NATIVE"),
    ("REGISTRY_POLICY_SCOPE", &["V1", "V2"], "V2"),
];

/// Returns a token with the caller's permissions in the region; the proxy endpoint is the caller's
/// own registry.
pub(super) fn token(call: &Call<'_>) -> Result<Value> {
    let ids = call.input.strings("registryIds", 0, 10)?;
    let ids = if ids.is_empty() { vec![call.account.as_str()] } else { ids };
    let mut data = Vec::new();
    for id in ids {
        let (token, expires) = call.shared.tokens.issue(call.caller.clone());
        let host = call.shared.registry(id, call.region());
        let host = host.map_err(|error| Error::new(500, "ServerException", error.to_string()))?;
        data.push(json!({
            "authorizationToken": token,
            "expiresAt": epoch(expires),
            "proxyEndpoint": origin(&host),
        }));
    }
    Ok(json!({"authorizationData": data}))
}

pub(super) fn get_setting(call: &Call<'_>) -> Result<Value> {
    let (name, _, default) = setting(call)?;
    let mut state = call.state();
    let registry = state.registry(&call.account, call.region());
    let value = registry.settings.get(name).map_or(default, String::as_str);
    Ok(json!({"name": name, "value": value}))
}

pub(super) fn put_setting(call: &Call<'_>) -> Result<Value> {
    let (name, values, _) = setting(call)?;
    let value = call.input.str("value")?;
    if !values.contains(&value) {
        let rule = format!("Member must satisfy enum value set: [{}]", values.join(", "));
        return Err(Error::invalid("value", rule));
    }
    let mut state = call.state();
    state
        .registry_mut(&call.account, call.region())
        .settings
        .insert(name.to_owned(), value.to_owned());
    Ok(json!({"name": name, "value": value}))
}

/// Returns the rules of `StandIn::add_pull_through_rule`; nothing is pulled through.
pub(super) fn pull_through_rules(call: &Call<'_>) -> Value {
    let mut state = call.state();
    let prefixes = &state.registry(&call.account, call.region()).pull_through;
    let rule = |prefix: &String| {
        json!({"ecrRepositoryPrefix": prefix, "upstreamRegistryUrl": "registry-1.docker.io",
            "upstreamRegistry": "docker-hub",
               "registryId": call.account})
    };
    json!({"pullThroughCacheRules": prefixes.iter().map(rule).collect::<Vec<_>>()})
}

pub(super) fn describe(call: &Call<'_>) -> Value {
    json!({"registryId": call.account, "replicationConfiguration": {"rules": []}})
}

fn setting(call: &Call<'_>) -> Result<(&'static str, &'static [&'static str], &'static str)> {
    let name = call.input.str("name")?;
    let known = SETTINGS.iter().find(|(known, ..)| *known == name).copied();
    known.ok_or_else(|| Error::invalid("name", format_args!("Unknown account setting '{name}'")))
}
