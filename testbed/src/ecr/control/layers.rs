//! Layers of a repository: availability, uploads, download URLs.

use serde_json::{Value, json};

use super::super::data::presigned_url;
use super::super::errors::{Error, Result};
use super::super::store::{ImageStatus, Repository};
use super::Call;

pub(super) fn check(call: &Call<'_>) -> Result<Value> {
    let name = call.name()?;
    let digests = call.input.strings("layerDigests", 1, 100)?;
    let mut state = call.state();
    let repository = state.known(&call.account, call.region(), name)?;
    let (mut layers, mut failures) = (Vec::new(), Vec::new());
    for digest in digests {
        let well_formed = digest.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64);
        if !well_formed {
            failures.push(json!({
                "layerDigest": digest,
                "failureCode": "InvalidLayerDigest",
                "failureReason": "Invalid layer digest",
            }));
            continue;
        }
        let mut layer = json!({"layerDigest": digest, "layerAvailability": "UNAVAILABLE"});
        if let Some(blob) = repository.blobs.get(digest) {
            let archived = is_archived(repository, digest);
            layer["layerAvailability"] = if archived { "ARCHIVED" } else { "AVAILABLE" }.into();
            layer["layerSize"] = blob.size().into();
        }
        layers.push(layer);
    }
    Ok(json!({"layers": layers, "failures": failures}))
}

/// A layer is in the archive when every image that uses it is.
fn is_archived(repository: &Repository, digest: &str) -> bool {
    let uses = |used: &Vec<String>| used.iter().any(|used| used == digest);
    let mut users =
        repository.images.values().filter(|image| uses(&image.manifest.blobs)).peekable();
    users.peek().is_some() && users.all(|image| image.status == ImageStatus::Archived)
}

/// Refused for layers that no image uses yet.
pub(super) fn download_url(call: &Call<'_>) -> Result<Value> {
    let name = call.name()?;
    let digest = call.input.str("layerDigest")?;
    let mut state = call.state();
    let repository = state.known(&call.account, call.region(), name)?;
    if !repository.blobs.contains_key(digest) {
        let message = format!(
            "The layer with digest '{digest}' does not exist in the repository with name '{name}' \
             in the registry with id '{}'",
            call.account
        );
        return Err(Error::api("LayersNotFoundException", message));
    }
    if !repository.is_associated(digest) {
        let message = format!(
            "The layer with digest '{digest}' is not associated with an image. Unassociated layers \
             may be cleaned up at any time."
        );
        return Err(Error::api("LayerInaccessibleException", message));
    }
    let url = presigned_url(call.shared, &call.account, call.region(), name, digest);
    Ok(json!({"downloadUrl": url, "layerDigest": digest}))
}
