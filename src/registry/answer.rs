//! Error answers of registries and their error class: which status, code or text means a rate
//! limit, an expired token, an immutable tag, a missing image or a full quota.

use std::fmt;
use std::time::Duration;

use reqwest::StatusCode;

use super::grammar::shortened;
use crate::class::Class;
use crate::nesting;

/// The role of the registry in the failed step. A missing image is an error of the spec only at the
/// source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Source,
    Target,
}

/// An error answer of a registry or token server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    /// The registry's own code, for example `MANIFEST_UNKNOWN`.
    pub code: Option<String>,
    /// The registry's own message, shortened.
    pub message: Option<String>,
    /// The wait that the registry asked for.
    pub retry_after: Option<Duration>,
    /// Whether the request had no credential of a user.
    pub anonymous: bool,
    /// Whether code and message have the form of a registry's error. Only then they are shown: any
    /// server could be asked, and its words are not for the user who named its address.
    pub quotable: bool,
    /// The host that answered, if it is not the registry's own.
    pub host: Option<String>,
}

/// A quota that is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exhausted {
    /// The pull quota, over some hours.
    Pulls,
    /// The data transfer quota, over a day or a month.
    Bytes,
}

impl Exhausted {
    /// The wait if the registry asks for none: pulls come back within hours, bytes within days.
    fn default_wait(self) -> Duration {
        Duration::from_secs(match self {
            Self::Pulls => 15 * 60,
            Self::Bytes => 60 * 60,
        })
    }

    fn advice(self, anonymous: bool) -> &'static str {
        match (self, anonymous) {
            (Self::Pulls, true) => {
                "; the pull quota of this IP address is used up: log in, or wait some hours"
            }
            (Self::Pulls, false) => {
                "; the pull quota of this login is used up: use another login, or wait some hours"
            }
            (Self::Bytes, true) => {
                "; the data transfer quota of this IP address is used up and will not reset within \
                 minutes; log in or use a mirror"
            }
            (Self::Bytes, false) => {
                "; the data transfer quota of this login is used up and will not reset within \
                 minutes; use another login or a mirror"
            }
        }
    }
}

impl Answer {
    pub(crate) fn new(
        status: StatusCode,
        retry_after: Option<Duration>,
        anonymous: bool,
        body: &[u8],
    ) -> Self {
        let (code, message, quotable) = code_and_message(body);
        Self { status, code, message, retry_after, anonymous, quotable, host: None }
    }

    /// An answer of another host than the registry's own: its body is not read.
    pub(crate) const fn foreign(
        status: StatusCode,
        retry_after: Option<Duration>,
        host: Option<String>,
    ) -> Self {
        // `anonymous` is false: its text about missing images does not fit another server.
        Self {
            status,
            code: None,
            message: None,
            retry_after,
            anonymous: false,
            quotable: false,
            host,
        }
    }

    /// Whether the message says that the credential has expired. ECR answers 403 then
    /// (kcl-lang/kpm#698).
    pub(crate) fn says_expired(&self) -> bool {
        self.message.as_deref().is_some_and(|message| {
            let message = message.to_ascii_lowercase();
            message.contains("token has expired") || message.contains("token is expired")
        })
    }

    pub(crate) fn has_code(&self, codes: &[&str]) -> bool {
        self.code
            .as_deref()
            .is_some_and(|code| codes.iter().any(|known| code.eq_ignore_ascii_case(known)))
    }

    /// The quota of this login or IP address that is used up, if the registry says so. A retry soon
    /// would be refused too.
    pub(crate) fn exhausted(&self) -> Option<Exhausted> {
        let message =
            self.message.as_deref().filter(|_| self.status.as_u16() == 429)?.to_ascii_lowercase();
        // public.ecr.aws: "toomanyrequests: Data limit exceeded" lasts for hours; "Rate exceeded"
        // is over within a second. Docker Hub: "You have reached your unauthenticated pull rate
        // limit. https://www.docker.com/increase-rate-limit".
        if message.contains("data limit exceeded") {
            Some(Exhausted::Bytes)
        } else {
            message.contains("pull rate limit").then_some(Exhausted::Pulls)
        }
    }

    /// The wait before the next request: as the registry asked for, else by the quota that is used
    /// up.
    pub(crate) fn asked_wait(&self) -> Option<Duration> {
        self.retry_after.or_else(|| self.exhausted().map(Exhausted::default_wait))
    }

    pub(crate) fn says_missing_content(&self) -> bool {
        self.has_code(&[
            "MANIFEST_BLOB_UNKNOWN",
            "BLOB_UNKNOWN",
            "MANIFEST_UNKNOWN",
            "LayersNotFoundException",
        ]) || self.message.as_deref().is_some_and(|message| {
            message.contains("LayersNotFound")
                    || message.contains("ReferencedImagesNotFound")
                    // "Images with digests '[…]' required for pushing image into repository … do
                    // not exist"
                    || (message.contains("required for pushing") && message.contains("not exist"))
        })
    }

    /// Whether the tag is immutable. ECR: `TAG_INVALID … because the tag is immutable`. Harbor,
    /// Quay and Artifact Registry use other codes, with "immutable" in the message.
    fn says_immutable(&self) -> bool {
        self.message
            .as_deref()
            .is_some_and(|message| message.to_ascii_lowercase().contains("immutable"))
    }

    fn says_quota(&self) -> bool {
        self.has_code(&["LIMIT_EXCEEDED", "LimitExceededException", "QUOTA_EXCEEDED"])
            || self.message.as_deref().is_some_and(|message| {
                let message = message.to_ascii_lowercase();
                // ECR: "…already has the maximum allowed number of images which is '100000'".
                ["limitexceeded", "quota exceeded", "maximum allowed number"]
                    .iter()
                    .any(|words| message.contains(words))
            })
    }

    pub(crate) fn class(&self, side: Side) -> Class {
        match self.status.as_u16() {
            429 => Class::RateLimited,
            401 => Class::AuthenticationFailed,
            408 | 425 | 500..=599 => Class::RegistryUnavailable,
            _ if self.has_code(&["TOOMANYREQUESTS"]) => Class::RateLimited,
            400..=499 if side == Side::Target && self.says_immutable() => Class::TagImmutable,
            400..=499 if side == Side::Target && self.says_quota() => Class::QuotaExceeded,
            // Docker Hub and GHCR answer in the same way for a missing and for a private image.
            403 if self.anonymous && side == Side::Source => Class::AuthenticationFailed,
            // The renewed credential was refused as expired too: still not a missing permission.
            403 if self.says_expired() => Class::AuthenticationFailed,
            403 => Class::AccessDenied,
            404 | 410 if side == Side::Source => Class::SourceNotFound,
            // The repository or upload session was deleted meanwhile: the next pass creates it.
            404 | 410 => Class::RegistryUnavailable,
            400..=499 if self.has_code(&["NAME_UNKNOWN", "MANIFEST_UNKNOWN", "BLOB_UNKNOWN"]) => {
                match side {
                    Side::Source => Class::SourceNotFound,
                    Side::Target => Class::RegistryUnavailable,
                }
            }
            // The name is valid here, so a registry that calls it malformed cannot have it.
            400 if side == Side::Source => Class::SourceNotFound,
            // The registry no longer has a layer or child manifest: the next pass copies it again.
            400..=499 if self.has_code(&["MANIFEST_BLOB_UNKNOWN", "MANIFEST_UNVERIFIED"]) => {
                Class::RegistryUnavailable
            }
            _ if self.lost_upload() => Class::RegistryUnavailable,
            _ => Class::Internal,
        }
    }

    /// Whether the upload session is lost or broken, so that a new one may succeed. Codes of the
    /// distribution spec.
    fn lost_upload(&self) -> bool {
        self.has_code(&[
            "BLOB_UPLOAD_UNKNOWN",
            "BLOB_UPLOAD_INVALID",
            "DIGEST_INVALID",
            "SIZE_INVALID",
        ])
    }

    pub(crate) fn is_retryable(&self) -> bool {
        is_transient(self.status) || self.has_code(&["TOOMANYREQUESTS"]) || self.lost_upload()
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status.as_u16())?;
        if let Some(reason) = self.status.canonical_reason() {
            write!(f, " {reason}")?;
        }

        match (&self.code, &self.message) {
            (Some(code), Some(message)) if self.quotable => write!(f, " ({code}: {message})")?,
            (Some(code), None) if self.quotable => write!(f, " ({code})")?,
            _ => {}
        }
        if let Some(host) = &self.host {
            write!(f, " from {host}")?;
        }

        if let Some(exhausted) = self.exhausted() {
            f.write_str(exhausted.advice(self.anonymous))?;
        }
        if self.anonymous && matches!(self.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
        {
            f.write_str("; it does not exist, or it is private and no credential was given")?;
        }
        Ok(())
    }
}

/// Whether a retry may succeed. CDNs send 52x for failures of their origin.
pub(crate) fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 425 | 429 | 500 | 502..=504 | 520..=524 | 529 | 530)
}

/// Reads the first entry of `{"errors": [{"code", "message", "detail"}]}` or of a similar document,
/// or the text itself, and returns whether it has the form that the distribution spec gives to
/// errors.
fn code_and_message(body: &[u8]) -> (Option<String>, Option<String>, bool) {
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => tidy(text),
        serde_json::Value::Number(number) => Some(number.to_string()),
        _ => None,
    };

    let json = nesting::check_json(body).ok().and_then(|()| serde_json::from_slice(body).ok());
    let Some(json): Option<serde_json::Value> = json else {
        let body = String::from_utf8_lossy(body);
        // Error pages of proxies add nothing to the status.
        let is_page = body.trim_start().starts_with('<');
        return (None, if is_page { None } else { tidy(&body) }, false);
    };

    let of_registry = json.get("errors").and_then(|errors| errors.get(0));
    let first = of_registry.unwrap_or(&json);
    let code = ["code", "error", "__type"].iter().find_map(|key| first.get(key).and_then(text));
    let message = ["message", "error_description", "details", "Message", "detail"]
        .iter()
        .find_map(|key| first.get(key).and_then(text));
    let has_form = of_registry.is_some_and(|error| {
        let is_code = |code: &str| {
            let is_allowed = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
            (1..=64).contains(&code.len()) && code.chars().all(is_allowed)
        };
        error.get("code").and_then(serde_json::Value::as_str).is_some_and(is_code)
    });
    (code, message, has_form)
}

/// Makes one line without control characters, of bounded length.
fn tidy(text: &str) -> Option<String> {
    let words =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let mut line = String::new();
    for word in words {
        if line.len() > 1000 {
            break;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    (!line.is_empty()).then(|| shortened(&line).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &str) -> Answer {
        Answer::new(StatusCode::FORBIDDEN, None, false, body.as_bytes())
    }

    #[test]
    fn bodies_of_any_shape_are_tolerated() {
        for (body, code, message) in [
            ("", None, None),
            ("null", None, None),
            ("[]", None, None),
            ("\"x\"", None, None),
            ("{\"errors\":[]}", None, None),
            ("{\"errors\":[{\"code\":\"A\",\"message\":\"\"}]}", Some("A"), None),
            (
                "{\"error\":\"invalid_grant\",\"error_description\":\"no\"}",
                Some("invalid_grant"),
                Some("no"),
            ),
            (
                "{\"details\":\"incorrect username or password\"}",
                None,
                Some("incorrect username or password"),
            ),
            ("404 page not found\n", None, Some("404 page not found")),
            ("<html><h1>502</h1></html>", None, None),
            ("a\u{1b}[31mb", None, Some("a [31mb")),
        ] {
            let (c, m, _) = code_and_message(body.as_bytes());
            assert_eq!((c.as_deref(), m.as_deref()), (code, message), "{body}");
        }

        let (_, message, _) = code_and_message("x".repeat(60_000).as_bytes());
        assert!(message.unwrap().len() < 400);
        code_and_message(&[0xff, 0xfe, 0x00]);
    }

    #[test]
    fn only_words_in_the_form_of_a_registrys_error_are_shown() {
        for (body, shown) in [
            (r#"{"errors":[{"code":"DENIED","message":"no access"}]}"#, " (DENIED: no access)"),
            (r#"{"errors":[{"code":"DENIED"}]}"#, " (DENIED)"),
            (r#"{"errors":[{"code":"secret of a vault","message":"x"}]}"#, ""),
            (r#"{"errors":[{"message":"secret"}]}"#, ""),
            (r#"{"errors":["secret"]}"#, ""),
            (r#"{"code":"DENIED","message":"secret"}"#, ""),
            (r#"{"error":"secret","error_description":"secret"}"#, ""),
            ("secret", ""),
        ] {
            assert_eq!(answer(body).to_string(), format!("403 Forbidden{shown}"), "{body}");
        }
        let foreign = Answer::foreign(StatusCode::FORBIDDEN, None, Some("cdn.example".into()));
        assert_eq!(foreign.to_string(), "403 Forbidden from cdn.example");
    }

    #[test]
    fn quotas_of_hours_are_told_from_short_rate_limits() {
        let hub = "You have reached your unauthenticated pull rate limit. https://www.docker.com/increase-rate-limit";
        for (status, message, exhausted, wait, words) in [
            (429, hub, Some(Exhausted::Pulls), Some(15 * 60), "pull quota of this login"),
            (
                429,
                "You have reached your pull rate limit as 'me': x",
                Some(Exhausted::Pulls),
                Some(900),
                "some hours",
            ),
            (
                429,
                "Data limit exceeded",
                Some(Exhausted::Bytes),
                Some(3600),
                "data transfer quota of this login",
            ),
            (429, "Rate exceeded", None, None, "(TOOMANYREQUESTS: Rate exceeded)"),
            (503, "Data limit exceeded", None, None, "503"),
        ] {
            let body =
                format!(r#"{{"errors":[{{"code":"TOOMANYREQUESTS","message":"{message}"}}]}}"#);
            let answer =
                Answer::new(StatusCode::from_u16(status).unwrap(), None, false, body.as_bytes());
            assert_eq!(
                (answer.exhausted(), answer.asked_wait().map(|w| w.as_secs())),
                (exhausted, wait),
                "{message}"
            );
            assert!(answer.to_string().contains(words), "{answer}");
            let with_wait = Answer { retry_after: Some(Duration::from_secs(7)), ..answer };
            assert_eq!(with_wait.asked_wait(), Some(Duration::from_secs(7)));
        }

        // public.ecr.aws answers with plain text.
        let answer = Answer::new(
            StatusCode::TOO_MANY_REQUESTS,
            None,
            true,
            b"toomanyrequests: Data limit exceeded\n",
        );
        assert_eq!(answer.exhausted(), Some(Exhausted::Bytes));

        assert!(
            answer.to_string().contains("this IP address") && answer.to_string().contains("log in"),
            "{answer}"
        );
    }

    #[test]
    fn expiry_is_read_from_the_text() {
        let body = concat!(
            r#"{"errors":[{"code":"DENIED","message":"#,
            r#""Your authorization token has expired. Reauthenticate and try again."}]}"#
        );
        assert!(answer(body).says_expired());
        assert!(!answer("{}").says_expired());
    }
}
