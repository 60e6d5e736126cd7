//! Writing images through the API.

use bytes::Bytes;
use serde_json::{Value, json};

use super::super::errors::{Error, Result};
use super::super::store::ImageStatus;
use super::Call;

/// Putting an image that exists is an error, unlike a push.
pub(super) fn put(call: &Call<'_>) -> Result<Value> {
    let name = call.name()?;
    let body = call.input.text_within("imageManifest", 1, 4_194_304)?;
    let tag = call.input.opt_str("imageTag")?;
    let expected = call.input.opt_str("imageDigest")?;
    let json: Value = serde_json::from_str(body).unwrap_or_default();
    // Required if the body does not have it, as in charts that Helm pushed.
    let kind = call.input.opt_str("imageManifestMediaType")?.or_else(|| json["mediaType"].as_str());
    let quotas = call.shared.quotas();
    let mut state = call.state();
    let repository = state.known(&call.account, call.region(), name)?;
    let put = repository.put(Bytes::copy_from_slice(body.as_bytes()), kind, tag, expected, quotas);
    let put = put.map_err(|error| match error.code {
        // The registry's code for an invalid parameter of the API.
        "UNSUPPORTED" => Error::invalid("ImageManifest", error.message),
        _ => error,
    })?;
    if put.unchanged {
        let tag = tag.unwrap_or("null");
        let message = format!(
            "Image with digest '{}' and tag '{tag}' already exists in the repository with name \
             '{name}' in registry with id '{}'",
            put.digest, call.account
        );
        return Err(Error::api("ImageAlreadyExistsException", message));
    }
    let mut id = json!({"imageDigest": put.digest});
    if let Some(tag) = tag {
        id["imageTag"] = tag.into();
    }
    let mut image = json!({"registryId": call.account, "repositoryName": name, "imageId": id,
        "imageManifest": body});
    if let Some(kind) = kind {
        image["imageManifestMediaType"] = kind.into();
    }
    Ok(json!({"image": image}))
}

/// Moves an image to the archive or back at once; ECR takes its time.
pub(super) fn update_storage_class(call: &Call<'_>) -> Result<Value> {
    let name = call.name()?;
    let id = call.input.json("imageId");
    let reference =
        id["imageDigest"].as_str().or_else(|| id["imageTag"].as_str()).unwrap_or_default();
    let status = match call.input.str("targetStorageClass")? {
        "ARCHIVE" => ImageStatus::Archived,
        "STANDARD" => ImageStatus::Active,
        _ => {
            return Err(Error::invalid(
                "targetStorageClass",
                "Member must satisfy enum value set: [STANDARD, ARCHIVE]",
            ));
        }
    };
    let mut state = call.state();
    let repository = state.known(&call.account, call.region(), name)?;
    let image = repository.find_mut(reference);
    let image =
        image.ok_or_else(|| Error::api("ImageNotFoundException", "Requested image not found"))?;
    image.status = status;
    Ok(json!({
        "registryId": call.account, "repositoryName": name, "imageId": id,
        "imageStatus": status.as_str(),
    }))
}
