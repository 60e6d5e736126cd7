//! Manifests: reads, writes and deletes.

use std::time::SystemTime;

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::Response;

use super::super::errors::{Error, Result};
use super::super::manifest::{MAX_MANIFEST, converted};
use super::super::quantities::digest;
use super::super::store::ImageStatus;
use super::{Call, respond, set};

/// HEAD and GET: both are pulls (aws/containers-roadmap#2390; HEAD is assumed). Images in the
/// archive are not found.
///
/// By tag, a client whose `Accept` does not name the stored type gets the same image converted to
/// another type, with another digest, or nothing. Without `Accept` the stored type is served
/// (assumed).
pub(super) fn read(call: &Call<'_>) -> Result<Response> {
    let reference = &call.route.reference;
    let head = call.route.operation == "HeadManifest";
    let by_digest = reference.contains(':');
    if !by_digest && !is_tag(reference) {
        // bazel-contrib/rules_oci#720: no body.
        return if head {
            Ok(respond(StatusCode::BAD_REQUEST, "", Body::empty()))
        } else {
            Err(bad_tag(reference))
        };
    }
    let mut state = call.state();
    let repository = call.repository(&mut state)?;
    let image = repository.find_mut(reference).filter(|image| image.status == ImageStatus::Active);
    let image = image.ok_or_else(unknown)?;
    image.last_pull = Some(SystemTime::now());
    let media_type = &image.manifest.media_type;
    let accept = accepted(call);
    let as_is = by_digest
        || accept.is_empty()
        || accept.iter().any(|kind| kind == media_type || kind == "*/*");
    let (body, media_type) = if as_is {
        (image.body.clone(), media_type.clone())
    } else {
        let (body, kind) = converted(&image.body, media_type, &accept).ok_or_else(unknown)?;
        (body.into(), kind)
    };
    let (length, digest) = (body.len(), digest(&body));
    let mut response =
        respond(StatusCode::OK, &media_type, if head { Body::empty() } else { Body::from(body) });
    response.headers_mut().insert(CONTENT_LENGTH, length.into());
    set(&mut response, "docker-content-digest", &digest);
    Ok(response)
}

/// PUT: 201 with the digest and without `Location`.
pub(super) async fn put(call: &Call<'_>, body: Body) -> Result<Response> {
    let reference = &call.route.reference;
    let by_digest = reference.contains(':');
    if !by_digest && !is_tag(reference) {
        return Err(bad_tag(reference));
    }
    // One byte more shows that the body is too long.
    let body = axum::body::to_bytes(body, MAX_MANIFEST + 1).await.map_err(|_| {
        let rule = format!("Member must have length less than or equal to {MAX_MANIFEST}");
        Error::invalid("imageManifest", rule)
    })?;
    let (tag, expected) =
        if by_digest { (None, Some(reference.as_str())) } else { (Some(reference.as_str()), None) };
    let quotas = call.site.shared.quotas();
    let mut state = call.state();
    let repository = call.repository(&mut state)?;
    let put = repository.put(body, call.header(CONTENT_TYPE), tag, expected, quotas)?;
    let mut response = respond(StatusCode::CREATED, "", Body::empty());
    set(&mut response, "docker-content-digest", &put.digest);
    if let Some(subject) = &put.subject {
        // Sent even before the referrers API worked (sigstore/sigstore-js PR#1183).
        set(&mut response, "oci-subject", subject);
    }
    Ok(response)
}

/// DELETE by digest; by tag it is refused (assumed). A child outlives its index.
pub(super) fn delete(call: &Call<'_>) -> Result<Response> {
    let reference = &call.route.reference;
    if !reference.contains(':') {
        return Err(Error::new(405, "UNSUPPORTED", "The operation is unsupported."));
    }
    let mut state = call.state();
    let repository = call.repository(&mut state)?;
    if let Some(parent) =
        repository.parent(reference).filter(|_| repository.images.contains_key(reference))
    {
        // DIAGNijmegen/rse-grand-challenge#2848.
        let message = format!("Requested image referenced by manifest list: [{parent}]");
        return Err(Error::new(405, "UNSUPPORTED", message));
    }
    if repository.remove_image(reference) {
        Ok(respond(StatusCode::ACCEPTED, "", Body::empty()))
    } else {
        Err(unknown())
    }
}

/// The OCI grammar of a tag; `+` is not in it.
fn is_tag(reference: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    reference.len() <= 128
        && reference.bytes().next().is_some_and(word)
        && reference.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

fn bad_tag(tag: &str) -> Error {
    let message = format!(
        "Invalid parameter at 'imageTag' failed to satisfy constraint: '{tag}' must satisfy \
         [a-zA-Z0-9_.-]+"
    );
    Error::new(400, "TAG_INVALID", message)
}

fn unknown() -> Error {
    Error::new(404, "MANIFEST_UNKNOWN", "Requested image not found")
}

/// The media types of every `Accept` header, without parameters.
fn accepted(call: &Call<'_>) -> Vec<String> {
    let headers = call.headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let kinds = headers
        .flat_map(|value| value.split(','))
        .map(|kind| kind.split(';').next().unwrap_or(kind).trim());
    kinds.filter(|kind| !kind.is_empty()).map(str::to_owned).collect()
}
