//! The data plane: the `/v2/` API of one registry.

mod blobs;
mod manifests;
mod storage;
mod tags;
mod uploads;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::Response;

use super::errors::{Error, Result, not_authorized};
use super::shared::Shared;
use super::token::{Checked, Token};
use super::{limits, public, state};
use crate::traffic::{Cut, Exchange, Plane, Record, Route};

pub(crate) use storage::{handle as storage_handle, presigned_url, router as storage_router};

/// The registry of `account` in `region`.
pub(crate) fn router(shared: Arc<Shared>, account: &str, region: &str) -> Router {
    Router::new().fallback(handle).with_state(Site::new(shared, account, region))
}

/// A registry.
#[derive(Debug)]
pub(crate) struct Site {
    shared: Arc<Shared>,
    account: String,
    region: String,
}

impl Site {
    pub(crate) fn new(shared: Arc<Shared>, account: &str, region: &str) -> Arc<Self> {
        Arc::new(Self { shared, account: account.to_owned(), region: region.to_owned() })
    }
}

/// One request to a registry, authorized.
struct Call<'a> {
    site: &'a Site,
    route: Route,
    headers: HeaderMap,
    uri: Uri,
    cut: Cut,
}

impl Call<'_> {
    fn state(&self) -> parking_lot::MutexGuard<'_, state::State> {
        self.site.shared.state()
    }

    /// The host that the client used.
    fn host(&self) -> &str {
        host(&self.headers)
    }

    fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn query(&self, name: &str) -> Option<String> {
        let url: reqwest::Url = format!("http://query/?{}", self.uri.query()?).parse().ok()?;
        url.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
    }

    /// The repository of the path, or NAME_UNKNOWN.
    fn repository<'s>(
        &self,
        state: &'s mut state::State,
    ) -> Result<&'s mut super::store::Repository> {
        state.known(&self.site.account, &self.site.region, &self.route.repository)
    }

    fn repository_exists(&self) -> bool {
        self.repository(&mut self.state()).is_ok()
    }
}

pub(crate) async fn handle(
    State(site): State<Arc<Site>>,
    ConnectInfo(cut): ConnectInfo<Cut>,
    request: Request,
) -> Response {
    site.shared.wait().await;
    let (parts, body) = request.into_parts();
    let route = Route::parse(parts.method.as_str(), parts.uri.path());
    let is_token = site.account == public::ACCOUNT && parts.uri.path().starts_with("/token");
    let operation = if is_token { "Token" } else { route.operation };
    let record = Record {
        account: site.account.clone(),
        region: site.region.clone(),
        repository: route.repository.clone(),
        ..Record::arrived(Plane::Data, operation, &parts)
    };
    let exchange =
        Exchange { log: &site.shared.log, faults: &site.shared.faults, cut: cut.clone() };
    let call = Call { site: &site, route, headers: parts.headers, uri: parts.uri, cut };
    exchange
        .run(record, body, |body| async {
            if is_token {
                site.shared.public.token(&call.headers)
            } else {
                answer(call, parts.method.as_str(), body).await
            }
        })
        .await
}

async fn answer(call: Call<'_>, method: &str, body: Body) -> Response {
    let refusal = if call.site.account == public::ACCOUNT {
        call.site.shared.public.refuse(method, call.host(), &call.headers)
    } else {
        refuse(&call)
    };
    if let Some(refusal) = refusal {
        return refusal;
    }
    let answer = match call.route.operation {
        "Ping" => Ok(Response::new(Body::from("{}"))),
        "HeadBlob" | "GetBlob" => blobs::read(&call),
        "StartUpload" => uploads::start(&call),
        "PatchUpload" => uploads::patch(&call, body).await,
        "PutBlob" => uploads::put(&call, body).await,
        "UploadStatus" => uploads::status(&call).await,
        "CancelUpload" => uploads::cancel(&call),
        "HeadManifest" | "GetManifest" => manifests::read(&call),
        "PutManifest" => manifests::put(&call, body).await,
        "DeleteManifest" => manifests::delete(&call),
        "ListTags" => tags::list(&call),
        "ListReferrers" => tags::referrers(&call),
        // No catalog, no DELETE of blobs.
        _ => Err(Error::new(405, "UNSUPPORTED", "The operation is unsupported.")),
    };
    let mut response = answer.unwrap_or_else(|error| error.data());
    set(&mut response, "docker-distribution-api-version", "registry/2.0");
    response
}

/// Returns the refusal of a request to the registry of an account, if any.
fn refuse(call: &Call<'_>) -> Option<Response> {
    match call.site.shared.tokens.check(call.header(AUTHORIZATION)) {
        Checked::Unknown => Some(not_authorized(call.host())),
        Checked::Expired => {
            // Whether ECR answers 401 or 403 here is not known; 403 is the one that clients forget.
            let message = "Your authorization token has expired. Reauthenticate and try again.";
            Some(Error::new(403, "DENIED", message).data())
        }
        Checked::Valid(token) => authorize(call, &token).err().map(|error| error.data()),
    }
}

/// A token is bound to its region (User Guide, "HTTP 403 errors or no basic auth credentials").
fn authorize(call: &Call<'_>, token: &Token) -> Result<()> {
    let site = call.site;
    let caller = &token.caller;
    if caller.region != site.region {
        let message =
            format!("Your authorization token is not valid in the region {}", site.region);
        return Err(Error::new(403, "DENIED", message));
    }
    let Some(action) = limits::action(call.route.operation) else { return Ok(()) };
    site.shared.limits.take(&site.account, &site.region, action)?;
    site.shared.permit(caller, &site.account, action, &call.route.repository)?;
    // Assumed: a PUT with the blob counts as uploading a part and completing the upload.
    let has_body = call.header(CONTENT_LENGTH).is_none_or(|length| length != "0");
    if call.route.operation == "PutBlob" && has_body {
        site.shared.permit(caller, &site.account, "UploadLayerPart", &call.route.repository)?;
    }
    Ok(())
}

fn host(headers: &HeaderMap) -> &str {
    headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1")
}

/// Returns an answer with a body and its length, as registries send.
fn respond(status: StatusCode, kind: &str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    if !kind.is_empty() {
        set(&mut response, "content-type", kind);
    }
    response
}

fn set(response: &mut Response, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::try_from(value) {
        response.headers_mut().insert(HeaderName::from_static(name), value);
    }
}
