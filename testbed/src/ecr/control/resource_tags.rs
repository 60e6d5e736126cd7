//! Tags of a repository as an AWS resource.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::errors::{Error, Result};
use super::super::store::Repository;
use super::Call;

/// Tags of one resource; `aws:` tags do not count, and cannot be set by callers.
const MOST: usize = 50;

pub(super) fn tag(call: &Call<'_>) -> Result<Value> {
    let tags = parse(call.input.list("tags")?)?;
    change(call, |repository| {
        let mut merged = repository.resource_tags.clone();
        merged.extend(tags);
        check_count(&merged)?;
        repository.resource_tags = merged;
        Ok(json!({}))
    })
}

/// Keys that do not exist are not an error (assumed; moto does so).
pub(super) fn untag(call: &Call<'_>) -> Result<Value> {
    let keys = call.input.strings("tagKeys", 0, 200)?;
    change(call, |repository| {
        repository.resource_tags.retain(|key, _| !keys.contains(&key.as_str()));
        Ok(json!({}))
    })
}

pub(super) fn list(call: &Call<'_>) -> Result<Value> {
    change(call, |repository| {
        // In an order that the caller cannot predict.
        let tags = repository
            .resource_tags
            .iter()
            .rev()
            .map(|(key, value)| json!({"Key": key, "Value": value}));
        Ok(json!({"tags": tags.collect::<Value>()}))
    })
}

fn change(call: &Call<'_>, with: impl FnOnce(&mut Repository) -> Result<Value>) -> Result<Value> {
    let arn = call.input.str("resourceArn")?;
    let parts: Vec<_> = arn.splitn(6, ':').collect();
    let ["arn", _, "ecr", region, account, resource] = parts[..] else { return Err(bad_arn(arn)) };
    let name = resource.strip_prefix("repository/").ok_or_else(|| bad_arn(arn))?;
    if region != call.region() {
        return Err(bad_arn(arn));
    }
    with(call.state().known(account, region, name)?)
}

fn bad_arn(arn: &str) -> Error {
    Error::invalid("resourceArn", format_args!("Invalid ARN '{arn}'"))
}

/// Checks keys and values; a key that is given twice is refused.
pub(super) fn parse(list: &[Value]) -> Result<BTreeMap<String, String>> {
    let invalid = |message: String| Error::api("InvalidTagParameterException", message);
    let mut tags = BTreeMap::new();
    for tag in list {
        let (Some(key), Some(value)) = (tag["Key"].as_str(), tag["Value"].as_str()) else {
            return Err(Error::invalid("tags", "Member must not be null"));
        };
        if !(1..=128).contains(&key.chars().count()) || value.chars().count() > 256 {
            let message = "Tag keys have 1 to 128 characters, tag values 0 to 256";
            return Err(invalid(message.to_owned()));
        }
        if key.to_ascii_lowercase().starts_with("aws:") {
            return Err(invalid(format!(
                "Tag key '{key}' is reserved: keys must not start with aws:"
            )));
        }
        let is_allowed =
            |c: char| c.is_alphanumeric() || c.is_whitespace() || "_.:/=+-@".contains(c);
        if !key.chars().chain(value.chars()).all(is_allowed) {
            return Err(invalid(format!("Tag '{key}' contains characters that are not allowed")));
        }
        if tags.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(invalid(format!("Tag key '{key}' is given more than once")));
        }
    }
    check_count(&tags)?;
    Ok(tags)
}

fn check_count(tags: &BTreeMap<String, String>) -> Result<()> {
    if tags.len() > MOST {
        let message =
            format!("The number of tags is {}, the maximum per resource is {MOST}", tags.len());
        return Err(Error::api("TooManyTagsException", message));
    }
    Ok(())
}
