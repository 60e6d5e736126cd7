//! Metrics of AWS calls: counts each attempt by operation and error code.

use std::sync::Arc;

use aws_sdk_ecr::config::http::HttpResponse;
use aws_sdk_ecr::config::interceptors::{
    BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef,
};
use aws_sdk_ecr::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_ecr::error::BoxError;
use aws_smithy_runtime_api::client::orchestrator::Metadata;

use crate::meter::Meter;
use crate::place;

/// Longest error code in a metric label; AWS's are shorter.
const LONGEST_CODE: usize = 64;

/// Reports each attempt to a [`Meter`], retries included: AWS counts attempts.
#[derive(Clone, Debug)]
pub(super) struct Counting(pub(super) Arc<dyn Meter>);

impl Intercept for Counting {
    fn name(&self) -> &'static str {
        "Counting"
    }

    fn read_before_attempt(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        place::calls_aws();
        Ok(())
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.aws_request(operation_of(config), &result_of(context.response()));

        Ok(())
    }
}

/// Returns the name of the operation. The request no longer exists after an attempt; its metadata
/// does.
pub(super) fn operation_of(config: &ConfigBag) -> &str {
    config.load::<Metadata>().map_or("Unknown", |operation| operation.name())
}

/// Returns `OK`, or the error code of an answer.
pub(super) fn result_of(response: Option<&HttpResponse>) -> String {
    match response {
        None => "NoAnswer".to_owned(),
        Some(response) if response.status().is_success() => "OK".to_owned(),
        Some(response) => {
            code_of(response).unwrap_or_else(|| format!("HTTP{}", response.status().as_u16()))
        }
    }
}

/// Returns the error code of an answer, if it has one.
pub(super) fn code_of(response: &HttpResponse) -> Option<String> {
    if response.status().is_success() {
        return None;
    }
    let header = response.headers().get("x-amzn-errortype").map(str::to_owned);
    header.or_else(|| code_in(response.body().bytes()?)).map(|code| bare(&code))
}

/// Returns `__type` of a JSON error body, or `<Code>` of the XML of STS.
fn code_in(body: &[u8]) -> Option<String> {
    match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(body) => body.get("__type")?.as_str().map(str::to_owned),
        Err(_) => {
            let (_, rest) = std::str::from_utf8(body).ok()?.split_once("<Code>")?;
            Some(rest.split_once("</Code>")?.0.to_owned())
        }
    }
}

/// Turns `com.amazonaws.ecr#ImageNotFoundException:http://…` into `ImageNotFoundException`. Text
/// that is not an error code becomes `Other`, to keep the set of label values small.
fn bare(code: &str) -> String {
    let code = code.split(':').next().unwrap_or_default();
    let code = code.rsplit('#').next().unwrap_or_default();
    let is_code = !code.is_empty()
        && code.len() <= LONGEST_CODE
        && code.bytes().all(|b| b.is_ascii_alphanumeric());
    if is_code { code.to_owned() } else { "Other".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_in_all_their_forms() {
        assert_eq!(bare("ImageNotFoundException"), "ImageNotFoundException");
        assert_eq!(
            bare("com.amazonaws.ecr#ThrottlingException:http://internal/"),
            "ThrottlingException"
        );
        assert_eq!(bare("<html>"), "Other");
        assert_eq!(
            code_in(br#"{"__type":"ServerException","message":"x"}"#).as_deref(),
            Some("ServerException")
        );
        assert_eq!(
            code_in(b"<ErrorResponse><Error><Code>ExpiredToken</Code></Error></ErrorResponse>"),
            Some("ExpiredToken".to_owned())
        );
        assert_eq!(code_in(b"not JSON"), None);
    }
}
