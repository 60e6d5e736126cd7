//! Lists: tags and referrers.

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use super::super::errors::{Error, Result};
use super::super::manifest::OCI_INDEX;
use super::super::origin;
use super::super::paging::page;
use super::super::store::ImageStatus;
use super::{Call, respond, set};

/// Pages of 100, at most 1000 (google/go-containerregistry#681), in no known order, with an opaque
/// token in `Link`.
pub(super) fn list(call: &Call<'_>) -> Result<Response> {
    let size = match call.query("n") {
        None => 100,
        Some(wanted) => match wanted.parse::<usize>() {
            Ok(size @ 1..=1000) => size,
            Ok(0) | Err(_) => {
                let message = "Invalid parameter at 'maxResults' failed to satisfy constraint: \
                               'Member must have value greater than or equal to 1'";
                return Err(Error::new(405, "UNSUPPORTED", message));
            }
            Ok(_) => {
                let message = "Invalid parameter at 'maxResults' failed to satisfy constraint: \
                               'Member must have value less than or equal to 1000'";
                return Err(Error::new(405, "UNSUPPORTED", message));
            }
        },
    };
    let name = &call.route.repository;
    let token = call.query("last");
    let mut state = call.state();
    let repository = call.repository(&mut state)?;
    let active = |digest: &String| {
        repository.images.get(digest).is_some_and(|image| image.status == ImageStatus::Active)
    };
    let tags = repository
        .tags
        .iter()
        .filter(|(_, digest)| active(digest))
        .map(|(tag, _)| (tag.clone(), tag.clone()));
    let (tags, next) = page(tags.collect(), token.as_deref(), size)
        .map_err(|_| Error::new(405, "UNSUPPORTED", "Invalid parameter at 'nextToken'"))?;
    let body = json!({"name": name, "tags": tags}).to_string();
    let mut response = respond(StatusCode::OK, "application/json; charset=utf-8", Body::from(body));
    if let Some(next) = next {
        let link = format!(
            "<{}/v2/{name}/tags/list?last={next}&n={size}>; rel=\"next\"",
            origin(call.host())
        );
        set(&mut response, "link", &link);
    }
    Ok(response)
}

/// An OCI index of the artifacts that name a digest as their subject; empty when there are none.
pub(super) fn referrers(call: &Call<'_>) -> Result<Response> {
    let subject = &call.route.reference;
    let wanted = call.query("artifactType");
    let mut state = call.state();
    let repository = call.repository(&mut state)?;
    let referrers = repository
        .images
        .iter()
        .filter(|(_, image)| image.manifest.subject.as_ref() == Some(subject));
    let shown = referrers
        .filter(|(_, image)| wanted.is_none() || wanted.as_deref() == image.manifest.shown_type());
    let manifests: Vec<_> = shown
        .map(|(digest, image)| {
            json!({
                "mediaType": image.manifest.media_type,
                "digest": digest,
                "size": image.body.len(),
                "artifactType": image.manifest.shown_type(),
                "annotations": image.manifest.annotations,
            })
        })
        .collect();
    let body =
        json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}).to_string();
    let mut response = respond(StatusCode::OK, OCI_INDEX, Body::from(body));
    if wanted.is_some() {
        set(&mut response, "oci-filters-applied", "artifactType");
    }
    Ok(response)
}
