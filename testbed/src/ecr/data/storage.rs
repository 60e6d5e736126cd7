//! The object store behind blob reads: presigned URLs in the style of S3, on a separate port.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{AUTHORIZATION, RANGE};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::Response;

use super::super::origin;
use super::super::quantities::random_hex;
use super::super::shared::Shared;
use super::blobs::content;
use super::respond;
use crate::traffic::{Answered, Cut, Exchange, Plane, Record};

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new().fallback(handle).with_state(shared)
}

/// Returns a URL that reads one blob without a credential.
pub(crate) fn presigned_url(
    shared: &Shared,
    account: &str,
    region: &str,
    name: &str,
    digest: &str,
) -> String {
    format!(
        "{}/prod-{region}-starport-layer-bucket/{account}/{name}/{digest}\
         ?X-Amz-Algorithm=AWS4-HMAC-SHA256\
         &X-Amz-Expires=3600&X-Amz-SignedHeaders=host&X-Amz-Signature={}",
        origin(&shared.storage_host(region)),
        random_hex(32)
    )
}

/// The blob that the path of a presigned URL names.
struct Object<'a> {
    region: &'a str,
    account: &'a str,
    name: &'a str,
    digest: &'a str,
}

impl<'a> Object<'a> {
    fn parse(path: &'a str) -> Option<Self> {
        let (bucket, rest) = path.strip_prefix('/')?.split_once('/')?;
        let region = bucket.strip_prefix("prod-")?.strip_suffix("-starport-layer-bucket")?;
        let (account, rest) = rest.split_once('/')?;
        let (name, digest) = rest.rsplit_once('/')?;
        Some(Self { region, account, name, digest })
    }
}

pub(crate) async fn handle(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(cut): ConnectInfo<Cut>,
    request: Request,
) -> Response {
    shared.wait().await;
    let (parts, body) = request.into_parts();
    let object = Object::parse(parts.uri.path());
    let part = |part: fn(&Object<'_>) -> String| object.as_ref().map(part).unwrap_or_default();
    let record = Record {
        account: part(|object| object.account.to_owned()),
        region: part(|object| object.region.to_owned()),
        repository: part(|object| object.name.to_owned()),
        ..Record::arrived(
            Plane::Storage,
            if parts.method == Method::HEAD { "HeadObject" } else { "GetObject" },
            &parts,
        )
    };
    let exchange = Exchange { log: &shared.log, faults: &shared.faults, cut };
    exchange.run(record, body, |_| async { answer(&shared, object.as_ref(), &parts) }).await
}

fn answer(shared: &Shared, object: Option<&Object<'_>>, parts: &Parts) -> Response {
    // open-policy-agent/opa#6580: a client must not carry the registry's credential over.
    if parts.headers.contains_key(AUTHORIZATION) {
        let message = "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, \
                       Signature query string parameter or the Authorization header should be \
                       specified";
        return error(StatusCode::BAD_REQUEST, "InvalidArgument", message);
    }
    if !parts.uri.query().unwrap_or_default().contains("X-Amz-Signature=") {
        return error(StatusCode::FORBIDDEN, "AccessDenied", "Access Denied");
    }
    let blob = object.and_then(|object| {
        let mut state = shared.state();
        state
            .repository(object.account, object.region, object.name)?
            .blobs
            .get(object.digest)
            .cloned()
    });
    let Some(blob) = blob else {
        return error(StatusCode::NOT_FOUND, "NoSuchKey", "The specified key does not exist.");
    };
    let range = parts.headers.get(RANGE).and_then(|range| range.to_str().ok());
    content(&blob, range).unwrap_or_else(|_| {
        error(
            StatusCode::RANGE_NOT_SATISFIABLE,
            "InvalidRange",
            "The requested range is not satisfiable",
        )
    })
}

fn error(status: StatusCode, code: &str, message: &str) -> Response {
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    let mut response = respond(status, "application/xml", Body::from(xml));
    response.extensions_mut().insert(Answered(code.to_owned()));
    response
}
