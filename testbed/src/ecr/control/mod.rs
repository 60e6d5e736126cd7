//! The control plane: AWS JSON 1.1 by `X-Amz-Target` for ECR, form posts for STS.

mod images;
mod input;
mod layers;
mod policies;
mod put_image;
mod referrers;
mod registry;
mod repositories;
mod resource_tags;
mod sts;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use serde_json::Value;

use super::errors::{Error, Result};
use super::quantities::uuid;
use super::shared::Shared;
use super::sigv4::Caller;
use super::{public, state};
use crate::traffic::{Cut, Exchange, Plane, REQUEST_ID, Record};
use input::Input;

const TARGET: &str = "AmazonEC2ContainerRegistry_V20150921.";

/// Well above the largest request that ECR accepts, a manifest of 4 MiB escaped in JSON.
const MAX_BODY: usize = 24 << 20;

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new().fallback(handle).with_state(shared)
}

/// One call: the caller, and the registry.
struct Call<'a> {
    shared: &'a Arc<Shared>,
    caller: &'a Caller,
    /// The registry's account: `registryId`, else the caller's. Calls into another account are
    /// allowed here; real ones need a repository policy.
    account: String,
    input: Input<'a>,
}

impl Call<'_> {
    fn region(&self) -> &str {
        &self.caller.region
    }

    fn state(&self) -> parking_lot::MutexGuard<'_, state::State> {
        self.shared.state()
    }

    /// `repositoryName`, checked.
    fn name(&self) -> Result<&str> {
        self.input.repository_name("repositoryName")
    }

    /// `127.0.0.1:PORT` of the registry.
    fn host(&self) -> Result<String> {
        let host = self.shared.registry(&self.account, self.region());
        host.map_err(|error| Error::new(500, "ServerException", error.to_string()))
    }
}

pub(crate) async fn handle(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(cut): ConnectInfo<Cut>,
    request: Request,
) -> Response {
    shared.wait().await;
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, MAX_BODY).await else {
        return Error::new(413, "RequestEntityTooLargeException", "Request is too large").control();
    };
    let target = parts
        .headers
        .get("x-amz-target")
        .and_then(|target| target.to_str().ok())
        .map(str::to_owned);
    let token = parts.headers.get("x-amz-security-token").and_then(|token| token.to_str().ok());
    let caller = Caller::of(&parts.headers).and_then(|caller| shared.iam.identify(caller, token));
    let json: Value = if target.is_some() {
        serde_json::from_slice(&body).unwrap_or_default()
    } else {
        Value::Null
    };
    let form = if target.is_none() { sts::Form::parse(&body) } else { sts::Form::default() };
    let operation = match &target {
        Some(target) if target.strip_prefix(public::TARGET) == Some("GetAuthorizationToken") => {
            public::TOKEN_CALL.to_owned()
        }
        Some(target) => target.strip_prefix(TARGET).unwrap_or(target).to_owned(),
        None => form.get("Action").unwrap_or("Unknown").to_owned(),
    };
    let (account, region) = match &caller {
        Ok(caller) => {
            let account = json["registryId"].as_str().unwrap_or(&caller.account).to_owned();
            (account, caller.region.clone())
        }
        Err(_) => Default::default(),
    };
    let record = Record {
        account: account.clone(),
        region,
        repository: repository_of(&json),
        ..Record::arrived(Plane::Control, operation.clone(), &parts)
    };
    let repository = record.repository.clone();
    let exchange = Exchange { log: &shared.log, faults: &shared.faults, cut };
    exchange
        .run(record, Body::from(body), |body| async {
            // Read again only to count it in the log.
            let _ = axum::body::to_bytes(body, MAX_BODY).await;
            if target.is_none() {
                return sts::answer(&shared.iam, &operation, &form, caller);
            }
            let answer = caller.and_then(|caller| {
                if operation == public::TOKEN_CALL {
                    return public::authorization_token(&shared, &caller);
                }
                authorize(&shared, &caller, &account, &operation, &repository, &json)?;
                dispatch(
                    &operation,
                    &Call { shared: &shared, caller: &caller, account, input: Input::new(&json) },
                )
            });
            let mut response = match answer {
                Ok(output) => success(&output),
                Err(error) => error.control(),
            };
            if let Ok(id) = HeaderValue::from_str(&uuid()) {
                response.headers_mut().insert(REQUEST_ID, id);
            }
            response
        })
        .await
}

fn authorize(
    shared: &Shared,
    caller: &Caller,
    account: &str,
    operation: &str,
    repository: &str,
    json: &Value,
) -> Result<()> {
    shared.limits.take(account, &caller.region, operation)?;
    shared.permit(caller, account, operation, repository)?;
    // Tags at creation need a separate permission (estahn/k8s-image-swapper#416).
    if operation == "CreateRepository"
        && json["tags"].as_array().is_some_and(|tags| !tags.is_empty())
    {
        shared.permit(caller, account, "TagResource", repository)?;
    }
    // A customer managed key: "creator needs kms:CreateGrant, kms:RetireGrant, kms:DescribeKey"
    // (User Guide, encryption at rest).
    if let ("CreateRepository", Some(key)) =
        (operation, json["encryptionConfiguration"]["kmsKey"].as_str())
    {
        let arn = repositories::key_arn(&caller.region, account, key);
        for action in ["kms:DescribeKey", "kms:CreateGrant", "kms:RetireGrant"] {
            shared
                .iam
                .check_on(caller, action, &arn)
                .map_err(|error| Error::api("KmsException", error.message))?;
        }
    }
    Ok(())
}

fn dispatch(operation: &str, call: &Call<'_>) -> Result<Value> {
    match operation {
        "CreateRepository" => repositories::create(call),
        "DescribeRepositories" => repositories::describe(call),
        "DeleteRepository" => repositories::delete(call),
        "PutImageTagMutability" => repositories::put_mutability(call),
        "PutImageScanningConfiguration" => repositories::put_scanning(call),
        "PutLifecyclePolicy" => policies::put_lifecycle(call),
        "GetLifecyclePolicy" => policies::get_lifecycle(call),
        "DeleteLifecyclePolicy" => policies::delete_lifecycle(call),
        "SetRepositoryPolicy" => policies::set_policy(call),
        "GetRepositoryPolicy" => policies::get_policy(call),
        "DeleteRepositoryPolicy" => policies::delete_policy(call),
        "TagResource" => resource_tags::tag(call),
        "UntagResource" => resource_tags::untag(call),
        "ListTagsForResource" => resource_tags::list(call),
        "DescribeImages" => images::describe(call),
        "ListImages" => images::list(call),
        "BatchGetImage" => images::batch_get(call),
        "BatchDeleteImage" => images::batch_delete(call),
        "PutImage" => put_image::put(call),
        "UpdateImageStorageClass" => put_image::update_storage_class(call),
        "ListImageReferrers" => referrers::list(call),
        "BatchCheckLayerAvailability" => layers::check(call),
        "GetDownloadUrlForLayer" => layers::download_url(call),
        "GetAuthorizationToken" => registry::token(call),
        "GetAccountSetting" => registry::get_setting(call),
        "PutAccountSetting" => registry::put_setting(call),
        "DescribePullThroughCacheRules" => Ok(registry::pull_through_rules(call)),
        "DescribeRegistry" => Ok(registry::describe(call)),
        _ => Err(Error::api("UnknownOperationException", "")),
    }
}

fn success(output: &Value) -> Response {
    let mut response = Response::new(Body::from(output.to_string()));
    let headers: &mut HeaderMap = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.1"));
    response
}

/// The repository that a request is about, for the log and for IAM.
fn repository_of(json: &Value) -> String {
    let named = json["repositoryName"].as_str().or_else(|| json["repositoryNames"][0].as_str());
    let by_arn = || {
        json["resourceArn"]
            .as_str()
            .and_then(|arn| arn.split_once(":repository/"))
            .map(|(_, name)| name)
    };
    named.or_else(by_arn).unwrap_or_default().to_owned()
}
