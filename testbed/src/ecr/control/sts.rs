//! STS on the same endpoint: the caller's identity, and keys of roles.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;

use super::super::errors::{Error, Result};
use super::super::iam::{Ask, Iam, Session};
use super::super::quantities::uuid;
use super::super::sigv4::Caller;
use crate::traffic::{Answered, sts_error};

/// A form post.
#[derive(Debug, Default)]
pub(super) struct Form(HashMap<String, String>);

impl Form {
    pub(super) fn parse(body: &[u8]) -> Self {
        // A form is a query string without its question mark.
        let mut url = "http://form/".parse::<reqwest::Url>().ok();
        let pairs = url.as_mut().map(|url| {
            url.set_query(std::str::from_utf8(body).ok());
            url.query_pairs().into_owned().collect()
        });
        Self(pairs.unwrap_or_default())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// Answers `GetCallerIdentity`, `AssumeRole` and `AssumeRoleWithWebIdentity`.
pub(super) fn answer(iam: &Iam, action: &str, form: &Form, caller: Result<Caller>) -> Response {
    let assumed = match (action, caller) {
        ("AssumeRoleWithWebIdentity", _) => ask(form).and_then(|ask| {
            iam.assume_with_token(form.get("WebIdentityToken").unwrap_or_default(), &ask)
        }),
        ("AssumeRole", Ok(caller)) => ask(form).and_then(|ask| iam.assume(&caller, &ask)),
        ("GetCallerIdentity", Ok(caller)) => {
            let (account, arn) = (&caller.account, caller.arn());
            let result = format!(
                "<Arn>{arn}</Arn><UserId>AROATESTBED:session</UserId><Account>{account}</Account>"
            );
            return success(action, &result);
        }
        (_, Err(error)) => Err(error),
        _ => {
            let message = format!("Could not find operation {action} for version 2011-06-15");
            Err(Error::new(400, "InvalidAction", message))
        }
    };
    match assumed {
        Ok(session) => success(action, &keys(&session)),
        // The query protocol has other names for the exceptions of the JSON protocol.
        Err(error) => match error.code {
            "UnrecognizedClientException" => refusal(403, "InvalidClientTokenId", &error.message),
            "MissingAuthenticationTokenException" => {
                refusal(403, "MissingAuthenticationToken", &error.message)
            }
            "IncompleteSignatureException" => refusal(403, "IncompleteSignature", &error.message),
            code => refusal(error.status, code, &error.message),
        },
    }
}

fn ask(form: &Form) -> Result<Ask<'_>> {
    let wrong = |message: String| Error::new(400, "ValidationError", message);
    let role = form.get("RoleArn").unwrap_or_default();
    let parts: Vec<_> = role.splitn(6, ':').collect();
    if !matches!(parts[..], ["arn", _, "iam", "", _, _]) {
        return Err(wrong(format!("{role} is invalid")));
    }
    let session_name = form.get("RoleSessionName").unwrap_or_default();
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
    if !(2..=64).contains(&session_name.len()) || !session_name.chars().all(is_allowed) {
        let message = "Value at 'roleSessionName' failed to satisfy constraint: Member must \
                       satisfy regular expression pattern: [\\w+=,.@-]* and have length between 2 \
                       and 64";
        return Err(wrong(message.to_owned()));
    }
    let seconds = form
        .get("DurationSeconds")
        .map_or(Ok(3600), str::parse)
        .ok()
        .filter(|s| (900..=43_200).contains(s));
    let seconds = seconds.ok_or_else(|| {
        wrong("Value at 'durationSeconds' must be between 900 and 43200".to_owned())
    })?;
    Ok(Ask {
        role,
        session_name,
        external_id: form.get("ExternalId"),
        life: Duration::from_secs(seconds),
    })
}

fn keys(session: &Session) -> String {
    let Session { key, secret, token, expires, arn, .. } = session;
    let (expires, name) = (rfc3339(*expires), arn.rsplit('/').next().unwrap_or_default());
    format!(
        "<Credentials><AccessKeyId>{key}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>\
         <SessionToken>{token}</SessionToken><Expiration>{expires}</Expiration></Credentials>\
         <AssumedRoleUser><AssumedRoleId>AROATESTBED:{name}</AssumedRoleId>\
         <Arn>{arn}</Arn></AssumedRoleUser>"
    )
}

fn success(action: &str, result: &str) -> Response {
    let id = uuid();
    xml(
        200,
        format!(
            "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
             <{action}Result>{result}</{action}Result>\
             <ResponseMetadata><RequestId>{id}</RequestId></ResponseMetadata></{action}Response>"
        ),
    )
}

fn refusal(status: u16, code: &str, message: &str) -> Response {
    let mut response = xml(status, sts_error(code, message, &uuid()));
    response.extensions_mut().insert(Answered(code.to_owned()));
    response
}

fn xml(status: u16, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/xml"));
    response
}

/// `2026-01-31T10:20:30Z`. Days to date by Howard Hinnant's `civil_from_days`.
fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_sts_writes_them() {
        let at = |seconds| rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(1_790_000_000), "2026-09-21T14:13:20Z");
    }
}
