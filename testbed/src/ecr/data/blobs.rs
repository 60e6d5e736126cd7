//! Blobs: reads of layers and configs.

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, RANGE};
use axum::response::Response;

use super::super::blob::Blob;
use super::super::errors::{Error, Result};
use super::{Call, presigned_url, respond, set};

/// HEAD finds every blob. GET finds only blobs that an image uses ("unassociated layers may be
/// cleaned up at any time") and answers 307 to the object store.
pub(super) fn read(call: &Call<'_>) -> Result<Response> {
    let digest = &call.route.reference;
    let head = call.route.operation == "HeadBlob";
    let (blob, associated) = {
        let mut state = call.state();
        let repository = call.repository(&mut state)?;
        (repository.blobs.get(digest).cloned(), repository.is_associated(digest))
    };
    let Some(blob) = blob.filter(|_| head || associated) else {
        return Err(Error::new(404, "BLOB_UNKNOWN", "blob unknown to registry"));
    };
    if head {
        let mut response = respond(StatusCode::OK, "application/octet-stream", Body::empty());
        set(&mut response, "content-length", &blob.size().to_string());
        set(&mut response, "docker-content-digest", digest);
        return Ok(response);
    }
    let site = call.site;
    if site.shared.config.redirect_blobs {
        let url = presigned_url(
            &site.shared,
            &site.account,
            &site.region,
            &call.route.repository,
            digest,
        );
        let mut response = respond(StatusCode::TEMPORARY_REDIRECT, "", Body::empty());
        set(&mut response, "location", &url);
        return Ok(response);
    }
    let mut response = content(&blob, call.header(RANGE))?;
    set(&mut response, "docker-content-digest", digest);
    Ok(response)
}

/// Returns the bytes, or the requested range of them.
pub(super) fn content(blob: &Blob, range: Option<&str>) -> Result<Response> {
    let size = blob.size();
    let wanted = range.map(|range| parse_range(range, size));
    let (status, start, end) = match wanted {
        None => (StatusCode::OK, 0, size),
        Some(Some((start, end))) => (StatusCode::PARTIAL_CONTENT, start, end),
        Some(None) => {
            return Err(Error::new(416, "RANGE_INVALID", "The requested range is not satisfiable"));
        }
    };
    let body =
        blob.body(start, end).map_err(|error| Error::new(500, "UNKNOWN", error.to_string()))?;
    let mut response = respond(status, "application/octet-stream", body);
    response.headers_mut().insert(CONTENT_LENGTH, (end - start).into());
    set(&mut response, "accept-ranges", "bytes");
    if status == StatusCode::PARTIAL_CONTENT {
        set(&mut response, "content-range", &format!("bytes {start}-{}/{size}", end - 1));
    }
    Ok(response)
}

/// Parses `bytes=5-`, `bytes=5-9`, `bytes=-3` as `start..end`.
fn parse_range(range: &str, size: u64) -> Option<(u64, u64)> {
    let (start, end) = range.strip_prefix("bytes=")?.split_once('-')?;
    let (start, end) = match (start.parse::<u64>().ok(), end.parse::<u64>().ok()) {
        (Some(start), Some(end)) => (start, end.saturating_add(1).min(size)),
        (Some(start), None) => (start, size),
        (None, Some(last)) => (size.saturating_sub(last), size),
        (None, None) => return None,
    };
    (start < end).then_some((start, end))
}
