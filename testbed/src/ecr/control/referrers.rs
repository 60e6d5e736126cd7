//! Artifacts that name an image as their subject.

use serde_json::{Value, json};

use super::super::errors::{Error, Result};
use super::super::paging::page;
use super::Call;

/// Pages of 20, at most 50.
pub(super) fn list(call: &Call<'_>) -> Result<Value> {
    let name = call.name()?;
    let subject = call.input.json("subjectId")["imageDigest"].as_str();
    let subject = subject.ok_or_else(|| Error::invalid("subjectId", "Member must not be null"))?;
    let size = call.input.max_results(50, 20)?;
    let token = call.input.next_token()?;
    let kinds = call.input.json("filter")["artifactTypes"].as_array().cloned().unwrap_or_default();
    let mut state = call.state();
    let repository = state.known(&call.account, call.region(), name)?;
    let referrers = repository
        .images
        .iter()
        .filter(|(_, image)| image.manifest.subject.as_deref() == Some(subject));
    let wanted =
        |kind: Option<&str>| kinds.is_empty() || kinds.iter().any(|wanted| wanted.as_str() == kind);
    let rows = referrers
        .filter(|(_, image)| wanted(image.manifest.shown_type()))
        .map(|(digest, image)| {
            let row = json!({
                "digest": digest,
                "mediaType": image.manifest.media_type,
                "artifactType": image.manifest.shown_type(),
                "size": image.body.len(),
                "annotations": image.manifest.annotations,
                "artifactStatus": image.status.as_str(),
            });
            (digest.clone(), row)
        })
        .collect();
    let (rows, next) = page(rows, token, size)?;
    Ok(json!({"referrers": rows, "nextToken": next}))
}
