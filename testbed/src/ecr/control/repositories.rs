//! Repositories and their settings.

use serde_json::{Value, json};

use super::super::deny::arn;
use super::super::errors::{Error, Result};
use super::super::paging::page;
use super::super::quantities::epoch;
use super::super::sigv4::partition;
use super::super::store::Repository;
use super::{Call, resource_tags};

pub(super) fn create(call: &Call<'_>) -> Result<Value> {
    let name = call.name()?;
    let tags = resource_tags::parse(call.input.list("tags")?)?;
    let (mutability, exclusions) = mutability(call)?;
    let encryption = encryption(call)?;
    let host = call.host()?;
    let mut state = call.state();
    let registry = state.registry_mut(&call.account, call.region());
    if registry.repositories.contains_key(name) {
        let message = format!(
            "The repository with name '{name}' already exists in the registry with id '{}'",
            call.account
        );
        return Err(Error::api("RepositoryAlreadyExistsException", message));
    }
    let mut repository = Repository::new(&call.account, call.region(), name);
    repository.resource_tags = tags;
    repository.mutability = mutability;
    repository.exclusions = exclusions;
    repository.encryption = encryption;
    repository.scan_on_push = call.input.json("imageScanningConfiguration")["scanOnPush"] == true;
    let output = json!({"repository": describe_one(&repository, &host)});
    registry.repositories.insert(name.to_owned(), repository);
    Ok(output)
}

pub(super) fn describe(call: &Call<'_>) -> Result<Value> {
    let host = call.host()?;
    let names = call.input.strings("repositoryNames", 0, 100)?;
    let token = call.input.next_token()?;
    let size = call.input.max_results(1000, 100)?;
    let mut state = call.state();
    if names.is_empty() {
        let registry = state.registry(&call.account, call.region());
        let rows = registry
            .repositories
            .iter()
            .map(|(name, one)| (name.clone(), describe_one(one, &host)))
            .collect();
        let (rows, next) = page(rows, token, size)?;
        return Ok(json!({"repositories": rows, "nextToken": next}));
    }
    if token.is_some() || !call.input.json("maxResults").is_null() {
        let message = "maxResults and nextToken cannot be used with repositoryNames";
        return Err(Error::api("InvalidParameterException", message));
    }
    // One unknown name fails the whole call: there is no list of failures.
    let mut repositories = Vec::new();
    for name in names {
        let repository = state.known(&call.account, call.region(), name)?;
        repositories.push(describe_one(repository, &host));
    }
    Ok(json!({"repositories": repositories}))
}

pub(super) fn delete(call: &Call<'_>) -> Result<Value> {
    let name = call.name()?;
    let force = call.input.bool("force")?;
    let host = call.host()?;
    let mut state = call.state();
    let repository = state.known(&call.account, call.region(), name)?;
    if !force && !repository.images.is_empty() {
        let message = format!(
            "The repository with name '{name}' in registry with id '{}' cannot be deleted because \
             it still contains images",
            call.account
        );
        return Err(Error::api("RepositoryNotEmptyException", message));
    }
    let output = json!({"repository": describe_one(repository, &host)});
    state.registry_mut(&call.account, call.region()).repositories.remove(name);
    Ok(output)
}

pub(super) fn put_mutability(call: &Call<'_>) -> Result<Value> {
    let name = call.name()?;
    call.input.str("imageTagMutability")?;
    let (mutability, exclusions) = mutability(call)?;
    let mut state = call.state();
    let repository = state.known(&call.account, call.region(), name)?;
    // All filters are replaced: those that are not sent are removed.
    repository.mutability.clone_from(&mutability);
    repository.exclusions = exclusions;
    let mut output = json!({"registryId": call.account, "repositoryName": name,
        "imageTagMutability": mutability});
    add_filters(&mut output, repository);
    Ok(output)
}

pub(super) fn put_scanning(call: &Call<'_>) -> Result<Value> {
    let name = call.name()?;
    let configuration = call.input.json("imageScanningConfiguration");
    if !configuration.is_object() {
        return Err(Error::invalid("imageScanningConfiguration", "Member must not be null"));
    }
    let scan = configuration["scanOnPush"] == true;
    let mut state = call.state();
    state.known(&call.account, call.region(), name)?.scan_on_push = scan;
    let configuration = json!({"scanOnPush": scan});
    Ok(json!({"registryId": call.account, "repositoryName": name,
            "imageScanningConfiguration": configuration}))
}

fn describe_one(repository: &Repository, host: &str) -> Value {
    let mut output = json!({
        "repositoryArn": arn(&repository.account, &repository.region, &repository.name),
        "registryId": repository.account,
        "repositoryName": repository.name,
        "repositoryUri": format!("{host}/{}", repository.name),
        "createdAt": epoch(repository.created_at),
        "imageTagMutability": repository.mutability,
        "imageScanningConfiguration": {"scanOnPush": repository.scan_on_push},
        "encryptionConfiguration": repository.encryption,
    });
    add_filters(&mut output, repository);
    output
}

fn add_filters(output: &mut Value, repository: &Repository) {
    if repository.exclusions.is_empty() {
        return;
    }
    let filter = |filter: &String| json!({"filterType": "WILDCARD", "filter": filter});
    output["imageTagMutabilityExclusionFilters"] =
        repository.exclusions.iter().map(filter).collect();
}

/// Reads mutability and exclusion filters; filters are required exactly for `*_WITH_EXCLUSION`.
fn mutability(call: &Call<'_>) -> Result<(String, Vec<String>)> {
    const KNOWN: [&str; 4] =
        ["MUTABLE", "IMMUTABLE", "IMMUTABLE_WITH_EXCLUSION", "MUTABLE_WITH_EXCLUSION"];
    let mutability = call.input.opt_str("imageTagMutability")?.unwrap_or("MUTABLE");
    if !KNOWN.contains(&mutability) {
        let rule = format!("Member must satisfy enum value set: [{}]", KNOWN.join(", "));
        return Err(Error::invalid("imageTagMutability", rule));
    }
    let member = "imageTagMutabilityExclusionFilters";
    let wanted = mutability.ends_with("_WITH_EXCLUSION");
    let mut filters = Vec::new();
    for filter in call.input.list_within(member, usize::from(wanted), 5)? {
        let text = filter["filter"].as_str().unwrap_or_default();
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._*-".contains(&byte);
        if filter["filterType"] != "WILDCARD"
            || !(1..=128).contains(&text.len())
            || !text.bytes().all(is_allowed)
        {
            return Err(Error::invalid(
                member,
                "must satisfy regular expression '^[0-9a-zA-Z._*-]{1,128}$'",
            ));
        }
        filters.push(text.to_owned());
    }
    if !wanted && !filters.is_empty() {
        return Err(Error::invalid(
            member,
            format_args!("must be empty when imageTagMutability is {mutability}"),
        ));
    }
    Ok((mutability.to_owned(), filters))
}

/// Reads the encryption, which cannot be changed later. A key is named by alias or ID and returned
/// as its ARN.
fn encryption(call: &Call<'_>) -> Result<Value> {
    let wanted = call.input.json("encryptionConfiguration");
    if wanted.is_null() {
        return Ok(json!({"encryptionType": "AES256"}));
    }
    let key = wanted["kmsKey"].as_str();
    match wanted["encryptionType"].as_str() {
        Some("AES256") if key.is_none() => Ok(json!({"encryptionType": "AES256"})),
        Some(kind @ ("KMS" | "KMS_DSSE")) => {
            let key = key.unwrap_or("alias/aws/ecr");
            if key.contains("missing") {
                return Err(Error::api("KmsException", format!("Key '{key}' does not exist")));
            }
            let key = key_arn(call.region(), &call.account, key);
            Ok(json!({"encryptionType": kind, "kmsKey": key}))
        }
        _ => Err(Error::invalid(
            "encryptionConfiguration",
            "Member must satisfy enum value set: [AES256, KMS, KMS_DSSE], kmsKey only with KMS",
        )),
    }
}

pub(super) fn key_arn(region: &str, account: &str, key: &str) -> String {
    if key.starts_with("arn:") && key.contains(":key/") {
        return key.to_owned();
    }
    // An ID is kept; an alias stands for one key, here with an ID made from its name.
    let id = key.rsplit("alias/").next().unwrap_or(key);
    let id = if key.contains("alias/") {
        format!("key-of-{}", id.replace('/', "-"))
    } else {
        id.to_owned()
    };
    format!("arn:{}:kms:{region}:{account}:key/{id}", partition(region))
}
