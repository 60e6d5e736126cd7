//! Upload sessions.

use std::sync::Arc;

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::CONTENT_RANGE;
use axum::response::Response;
use futures::StreamExt;
use tokio::sync::Mutex;

use super::super::blob::Sink;
use super::super::errors::{Error, Result};
use super::super::origin;
use super::super::quantities::uuid;
use super::super::store::Upload;
use super::{Call, respond, set};
use crate::traffic::cut;

/// Minimum size of a part, except the last.
const LEAST_PART: u64 = 5 << 20;

/// POST: always a session, even for a blob that is there (go-containerregistry's comment in
/// `remote/write.go`); 201 only for a mount that ECR grants.
pub(super) fn start(call: &Call<'_>) -> Result<Response> {
    // A push to a repository that does not exist is not refused: the connection is closed
    // (dotnet/sdk-container-builds PR#279).
    if !call.repository_exists() {
        return Ok(cut(&call.cut));
    }
    if let (Some(digest), Some(from)) = (call.query("mount"), call.query("from"))
        && mount(call, &digest, &from)
    {
        return Ok(created(call, &digest));
    }
    let session = uuid();
    let sink =
        if call.site.shared.config.keep_blobs { Sink::default() } else { Sink::discarding() };
    let upload = Arc::new(Mutex::new(Upload { sink, ..Upload::default() }));
    let mut state = call.state();
    call.repository(&mut state)?.uploads.insert(session.clone(), upload);
    let mut response = respond(StatusCode::ACCEPTED, "", Body::empty());
    describe(call, &mut response, &session, None);
    Ok(response)
}

/// A mount is granted if the account setting is on, the source is in the same registry, a manifest
/// there uses the blob (aws/containers-roadmap#2860), and the encryption is the same.
fn mount(call: &Call<'_>, digest: &str, from: &str) -> bool {
    let (account, region) = (&call.site.account, &call.site.region);
    let mut state = call.state();
    let setting = state.registry(account, region).settings.get("BLOB_MOUNTING");
    if setting.is_none_or(|setting| setting != "ENABLED") {
        return false;
    }
    let Some(source) = state.repository(account, region, from) else { return false };
    let Some(blob) = source.blobs.get(digest).filter(|_| source.is_associated(digest)).cloned()
    else {
        return false;
    };
    let encryption = source.encryption.clone();
    let Ok(target) = call.repository(&mut state) else { return false };
    let same = target.encryption == encryption;
    if same {
        target.blobs.insert(digest.to_owned(), blob);
    }
    same
}

/// PATCH: 201, where other registries answer 202 (openai/tart#273); a `Range` that keeps the first
/// chunk's end (aws/containers-roadmap#2831); 416 for a chunk that does not start where the last
/// one ended.
pub(super) async fn patch(call: &Call<'_>, body: Body) -> Result<Response> {
    let upload = session(call)?;
    let mut upload = upload.lock().await;
    let (start, before) = (upload.sink.size(), upload.short_chunk);
    if let Some(range) = call.header(CONTENT_RANGE) {
        let first = range
            .trim_start_matches("bytes ")
            .split('-')
            .next()
            .and_then(|first| first.parse::<u64>().ok());
        if first != Some(start) {
            let mut response =
                Error::new(416, "BLOB_UPLOAD_INVALID", "Requested range not satisfiable").data();
            describe(call, &mut response, &call.route.reference, upload.first_end);
            return Ok(response);
        }
    }
    receive(&mut upload, body).await?;
    let received = upload.sink.size() - start;
    if received > 0 {
        upload.too_small |= before;
        upload.short_chunk = received < LEAST_PART;
        let end = start + received - 1;
        upload.first_end.get_or_insert(end);
    }
    let mut response = respond(StatusCode::CREATED, "", Body::empty());
    describe(call, &mut response, &call.route.reference, upload.first_end);
    Ok(response)
}

/// PUT with `?digest=`: the last chunk, or the whole blob.
pub(super) async fn put(call: &Call<'_>, body: Body) -> Result<Response> {
    let Some(expected) = call.query("digest") else {
        return Err(Error::new(400, "DIGEST_INVALID", "Invalid parameter at 'digest'"));
    };
    let upload = session(call)?;
    let mut upload = upload.lock().await;
    let (start, short) = (upload.sink.size(), upload.short_chunk);
    receive(&mut upload, body).await?;
    if upload.too_small || (short && upload.sink.size() > start) {
        return Err(Error::new(
            400,
            "BLOB_UPLOAD_INVALID",
            "Layer parts must be at least 5 MiB in size.",
        ));
    }
    let (digest, blob) = std::mem::take(&mut upload.sink).finish();
    let mut state = call.state();
    let repository = call.repository(&mut state)?;
    repository.uploads.remove(&call.route.reference);
    if digest != expected {
        let message = "None of the provided layer digests match the calculated layer digest";
        return Err(Error::new(400, "BLOB_UPLOAD_INVALID", message));
    }
    repository.blobs.insert(digest.clone(), blob);
    Ok(created(call, &digest))
}

/// GET on a session: 204 with the same stale range (assumed).
pub(super) async fn status(call: &Call<'_>) -> Result<Response> {
    let upload = session(call)?;
    let first_end = upload.lock().await.first_end;
    let mut response = respond(StatusCode::NO_CONTENT, "", Body::empty());
    describe(call, &mut response, &call.route.reference, first_end);
    Ok(response)
}

/// DELETE on a session (assumed).
pub(super) fn cancel(call: &Call<'_>) -> Result<Response> {
    let mut state = call.state();
    let gone = call.repository(&mut state)?.uploads.remove(&call.route.reference);
    gone.map(|_| respond(StatusCode::NO_CONTENT, "", Body::empty())).ok_or_else(unknown)
}

fn session(call: &Call<'_>) -> Result<Arc<Mutex<Upload>>> {
    let mut state = call.state();
    call.repository(&mut state)?.uploads.get(&call.route.reference).cloned().ok_or_else(unknown)
}

fn unknown() -> Error {
    Error::new(
        404,
        "BLOB_UPLOAD_UNKNOWN",
        "The upload could not be found. It may have expired or been completed.",
    )
}

/// Adds a whole body to the session or nothing: the rest of an earlier broken request is removed
/// first.
async fn receive(upload: &mut Upload, body: Body) -> Result<()> {
    let failed = |error: std::io::Error| Error::new(500, "UNKNOWN", error.to_string());
    upload.sink.roll_back().map_err(failed)?;
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk =
            chunk.map_err(|error| Error::new(400, "BLOB_UPLOAD_INVALID", error.to_string()))?;
        upload.sink.write(&chunk).map_err(failed)?;
    }
    upload.sink.commit();
    Ok(())
}

/// `Location` (absolute, on the host that the client used), session id and range.
fn describe(call: &Call<'_>, response: &mut Response, session: &str, first_end: Option<u64>) {
    let location =
        format!("{}/v2/{}/blobs/uploads/{session}", origin(call.host()), call.route.repository);
    set(response, "location", &location);
    set(response, "docker-upload-uuid", session);
    set(response, "range", &format!("0-{}", first_end.unwrap_or(0)));
}

fn created(call: &Call<'_>, digest: &str) -> Response {
    let mut response = respond(StatusCode::CREATED, "", Body::empty());
    let location = format!("{}/v2/{}/blobs/{digest}", origin(call.host()), call.route.repository);
    set(&mut response, "location", &location);
    set(&mut response, "docker-content-digest", digest);
    response
}
