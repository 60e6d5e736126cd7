//! What went wrong, at which step, on which thing, and of what kind it is.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use reqwest::StatusCode;

use super::reference::{Digest, shortened};
use crate::class::Class;

/// A failed step. The message names the thing and holds the whole reason; [`Error::class`] says what kind it is.
///
/// The same failure has the same message at every run: no durations, byte counts or request ids, which would make
/// a status change for ever.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Resolving a tag, or reading a manifest.
    #[error("cannot read manifest of {subject}: {source}")]
    ReadManifest {
        /// `host/repository:tag` or `host/repository@digest`.
        subject: String,
        /// What happened.
        source: Box<Failure>,
    },
    /// Writing a manifest.
    #[error("cannot write manifest of {subject}: {source}")]
    WriteManifest {
        /// `host/repository:tag` or `host/repository@digest`.
        subject: String,
        /// What happened.
        source: Box<Failure>,
    },
    /// Listing tags.
    #[error("cannot read tags of {subject}: {source}")]
    ReadTags {
        /// `host/repository`.
        subject: String,
        /// What happened.
        source: Box<Failure>,
    },
    /// Listing referrers.
    #[error("cannot read referrers of {subject}: {source}")]
    ReadReferrers {
        /// `host/repository@digest`.
        subject: String,
        /// What happened.
        source: Box<Failure>,
    },
    /// Asking whether a manifest or blob is there.
    #[error("cannot look for {subject}: {source}")]
    Look {
        /// `host/repository@digest`.
        subject: String,
        /// What happened.
        source: Box<Failure>,
    },
    /// Downloading a blob: the side that sends it failed.
    #[error("cannot read blob {subject}: {source}")]
    ReadBlob {
        /// `host/repository@digest`.
        subject: String,
        /// What happened.
        source: Box<Failure>,
    },
    /// Uploading a blob: the side that receives it failed.
    #[error("cannot write blob {subject}: {source}")]
    WriteBlob {
        /// `host/repository@digest`.
        subject: String,
        /// What happened.
        source: Box<Failure>,
    },
    /// An [`Authenticator`](super::Authenticator) had no credential to give.
    #[error("no credential for {host}: {source}")]
    Credential {
        /// The registry.
        host: String,
        /// The kind of the failure, as its source knows it.
        class: Class,
        /// What happened.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// A text that is no reference, tag or digest.
    #[error(transparent)]
    Parse(#[from] super::reference::ParseError),
    /// A certificate, key, proxy or docker config that cannot be used.
    #[error("{0}")]
    Setup(String),
}

impl Error {
    /// Whether a manifest was refused because a blob or child manifest that it names is not there.
    ///
    /// ECR's codes on `/v2/` are not documented; the exceptions of its API are, and come through in some texts.
    #[must_use]
    pub fn is_missing_content(&self) -> bool {
        matches!(self, Self::WriteManifest { .. })
            && self.failure().and_then(Failure::answer).is_some_and(Answer::says_missing_content)
    }

    /// What kind of failure this is.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Credential { class, .. } => *class,
            Self::Parse(_) | Self::Setup(_) => Class::InvalidSpec,
            Self::ReadManifest { source, .. }
            | Self::ReadTags { source, .. }
            | Self::ReadReferrers { source, .. }
            | Self::ReadBlob { source, .. } => source.class(Side::Source),
            Self::WriteManifest { source, .. } | Self::WriteBlob { source, .. } | Self::Look { source, .. } => {
                source.class(Side::Target)
            }
        }
    }

    /// How long the registry asked to wait, if it did.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Credential { source, .. } => source.downcast_ref::<Self>().and_then(Self::retry_after),
            _ => self.failure().and_then(Failure::retry_after),
        }
    }

    /// Whether the same step may succeed when it is simply done again, soon.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Credential { class, .. } => matches!(class, Class::RateLimited | Class::RegistryUnavailable),
            _ => self.failure().is_some_and(Failure::is_retryable),
        }
    }

    /// The status that the registry answered with, if it answered.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.failure().and_then(Failure::answer).map(|answer| answer.status.as_u16())
    }

    /// The registry's own error code, for example `MANIFEST_UNKNOWN`.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.failure().and_then(Failure::answer).and_then(|answer| answer.code.as_deref())
    }

    /// The registry's own words about the error.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        self.failure().and_then(Failure::answer).and_then(|answer| answer.message.as_deref())
    }

    /// What happened, without the step.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::ReadManifest { source, .. }
            | Self::WriteManifest { source, .. }
            | Self::ReadTags { source, .. }
            | Self::ReadReferrers { source, .. }
            | Self::Look { source, .. }
            | Self::ReadBlob { source, .. }
            | Self::WriteBlob { source, .. } => Some(source),
            Self::Credential { .. } | Self::Parse(_) | Self::Setup(_) => None,
        }
    }
}

/// The role of the registry in the step that failed: a missing thing is the user's matter at the source only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Source,
    Target,
}

/// What happened in a step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The registry answered with an error.
    #[error("{0}")]
    Answer(Box<Answer>),
    /// The credential ended while a body was sent. It was renewed; the body must be sent again.
    #[error("the credential ended on the way: {0}")]
    Expired(Box<Answer>),
    /// No connection, or no TLS.
    #[error("cannot connect to {host}: {}", chain(.source))]
    Connect {
        /// Host and port.
        host: String,
        /// What the HTTP client said.
        source: reqwest::Error,
    },
    /// The server's certificate is not trusted.
    #[error("the TLS certificate of {host} is not accepted ({}); a private authority must be given (ca.crt)", chain(.source))]
    Certificate {
        /// Host and port.
        host: String,
        /// What the HTTP client said.
        source: reqwest::Error,
    },
    /// The connection broke.
    #[error("connection to {host} broke: {}", chain(.source))]
    Broken {
        /// Host and port.
        host: String,
        /// What the HTTP client said.
        source: reqwest::Error,
    },
    /// The body ended early.
    #[error("the body ended before its {expected} bytes had come")]
    Cut {
        /// Bytes that came.
        received: u64,
        /// Bytes that were promised.
        expected: u64,
    },
    /// No answer in time.
    #[error("{host} did not answer within {} s", .after.as_secs())]
    NoAnswer {
        /// Host and port.
        host: String,
        /// How long was waited.
        after: Duration,
    },
    /// A body that moves too slowly, or not at all.
    #[error("{host} stalled for {} s", .window.as_secs())]
    Stalled {
        /// Host and port.
        host: String,
        /// Bytes moved in the window.
        bytes: u64,
        /// The window.
        window: Duration,
    },
    /// A redirect or upload location that must not be followed.
    #[error("{0}")]
    Redirect(String),
    /// The content is not what its digest promised.
    #[error("content has digest {actual}, not {expected}")]
    Digest {
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// The content is not as long as its descriptor promised.
    #[error("content does not have the {expected} bytes that its descriptor says")]
    Size {
        /// What the descriptor says.
        expected: u64,
        /// What came, or was announced; at least.
        actual: u64,
    },
    /// More than we are willing to read.
    #[error("answer is larger than {limit} bytes")]
    TooLarge {
        /// The bound.
        limit: usize,
    },
    /// A document that cannot be understood.
    #[error("{0}")]
    Unreadable(String),
    /// The token server failed.
    #[error("no token from {realm}: {source}")]
    Token {
        /// Host of the token server.
        realm: String,
        /// What happened there.
        source: Box<Self>,
    },
    /// No credential could be had.
    #[error("{0}")]
    Credential(Box<Error>),
    /// The registry asks for a way to log in that we do not know or do not allow.
    #[error("{0}")]
    Challenge(String),
    /// The registry asked us to wait, and the wait is not over.
    #[error("{host} asked for a pause")]
    Paused {
        /// The registry.
        host: String,
        /// What is left.
        wait: Duration,
    },
    /// An answer that is no registry's.
    #[error("{0}")]
    Unexpected(String),
    /// A defect of ours, or a client that was shut down.
    #[error("{0}")]
    Internal(String),
}

impl Failure {
    pub(crate) fn read_manifest(self, subject: impl Into<String>) -> Error {
        Error::ReadManifest { subject: subject.into(), source: Box::new(self) }
    }

    pub(crate) fn read_blob(self, subject: impl Into<String>) -> Error {
        Error::ReadBlob { subject: subject.into(), source: Box::new(self) }
    }

    pub(crate) fn write_blob(self, subject: impl Into<String>) -> Error {
        Error::WriteBlob { subject: subject.into(), source: Box::new(self) }
    }

    pub(crate) fn look(self, subject: impl Into<String>) -> Error {
        Error::Look { subject: subject.into(), source: Box::new(self) }
    }

    /// Sorts an error of the HTTP client. URLs are left out of it: they can be signed.
    pub(crate) fn from_reqwest(error: reqwest::Error, host: &str) -> Self {
        let (host, source) = (host.to_owned(), error.without_url());
        if has_cause(&source, is_certificate) {
            Self::Certificate { host, source }
        } else if source.is_connect() {
            Self::Connect { host, source }
        } else {
            Self::Broken { host, source }
        }
    }

    pub(crate) fn answer(&self) -> Option<&Answer> {
        match self {
            Self::Answer(answer) | Self::Expired(answer) => Some(answer),
            Self::Token { source, .. } => source.answer(),
            _ => None,
        }
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Paused { wait, .. } => Some(*wait),
            Self::Credential(error) => error.retry_after(),
            _ => self.answer().and_then(|answer| answer.retry_after),
        }
    }

    fn class(&self, side: Side) -> Class {
        match self {
            Self::Answer(answer) => answer.class(side),
            Self::Token { source, .. } => match source.answer().map(|answer| answer.status) {
                Some(StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                    Class::AuthenticationFailed
                }
                // A token server that has no such path is a set-up that is broken, not an image that is missing.
                Some(StatusCode::NOT_FOUND) => Class::RegistryUnavailable,
                _ => source.class(side),
            },
            Self::Credential(error) => error.class(),
            Self::Challenge(_) | Self::Expired(_) => Class::AuthenticationFailed,
            Self::Paused { .. } => Class::RateLimited,
            Self::Connect { .. }
            | Self::Certificate { .. }
            | Self::Broken { .. }
            | Self::Cut { .. }
            | Self::NoAnswer { .. }
            | Self::Stalled { .. }
            | Self::Redirect(_)
            | Self::Unexpected(_) => Class::RegistryUnavailable,
            Self::Digest { .. } | Self::Size { .. } | Self::TooLarge { .. } | Self::Unreadable(_) => {
                Class::SourceInvalid
            }
            Self::Internal(_) => Class::Internal,
        }
    }

    fn is_retryable(&self) -> bool {
        match self {
            Self::Answer(answer) => answer.is_retryable(),
            Self::Token { source, .. } => source.is_retryable(),
            Self::Credential(error) => error.is_retryable(),
            Self::Expired(_)
            | Self::Connect { .. }
            | Self::Broken { .. }
            | Self::Cut { .. }
            | Self::NoAnswer { .. }
            | Self::Stalled { .. }
            | Self::Digest { .. }
            | Self::Paused { .. } => true,
            Self::Certificate { .. }
            | Self::Redirect(_)
            | Self::Size { .. }
            | Self::TooLarge { .. }
            | Self::Unreadable(_)
            | Self::Challenge(_)
            | Self::Unexpected(_)
            | Self::Internal(_) => false,
        }
    }
}

/// An error answer of a registry or token server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    /// The registry's own code, for example `MANIFEST_UNKNOWN`.
    pub code: Option<String>,
    /// The registry's own words, shortened.
    pub message: Option<String>,
    /// How long the registry asked to wait.
    pub retry_after: Option<Duration>,
    /// Whether the request carried no credential of a user.
    pub anonymous: bool,
}

impl Answer {
    pub(crate) fn new(status: StatusCode, retry_after: Option<Duration>, anonymous: bool, body: &[u8]) -> Self {
        let (code, message) = code_and_message(body);
        Self { status, code, message, retry_after, anonymous }
    }

    /// Whether the registry says that the credential was good once: ECR says so with 403 (kcl-lang/kpm#698).
    pub(crate) fn says_expired(&self) -> bool {
        self.message.as_deref().is_some_and(|message| {
            let message = message.to_ascii_lowercase();
            message.contains("token has expired") || message.contains("token is expired")
        })
    }

    fn has_code(&self, codes: &[&str]) -> bool {
        self.code.as_deref().is_some_and(|code| codes.iter().any(|known| code.eq_ignore_ascii_case(known)))
    }

    fn says_missing_content(&self) -> bool {
        self.has_code(&["MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_UNKNOWN", "LayersNotFoundException"])
            || self.message.as_deref().is_some_and(|message| {
                message.contains("LayersNotFound")
                    || message.contains("ReferencedImagesNotFound")
                    // "Images with digests '[…]' required for pushing image into repository … do not exist"
                    || (message.contains("required for pushing") && message.contains("not exist"))
            })
    }

    /// ECR: `TAG_INVALID … because the tag is immutable`; Harbor, Quay, Artifact Registry use other codes and say
    /// "immutable" too.
    fn says_immutable(&self) -> bool {
        self.message.as_deref().is_some_and(|message| message.to_ascii_lowercase().contains("immutable"))
    }

    fn says_quota(&self) -> bool {
        self.has_code(&["LIMIT_EXCEEDED", "LimitExceededException", "QUOTA_EXCEEDED"])
            || self.message.as_deref().is_some_and(|message| {
                let message = message.to_ascii_lowercase();
                message.contains("limitexceeded") || message.contains("quota exceeded")
            })
    }

    fn class(&self, side: Side) -> Class {
        match self.status.as_u16() {
            429 => Class::RateLimited,
            401 => Class::AuthenticationFailed,
            408 | 425 | 500..=599 => Class::RegistryUnavailable,
            _ if self.has_code(&["TOOMANYREQUESTS"]) => Class::RateLimited,
            400..=499 if side == Side::Target && self.says_immutable() => Class::TagImmutable,
            400..=499 if side == Side::Target && self.says_quota() => Class::QuotaExceeded,
            // Docker Hub and GHCR refuse what does not exist and what may not be seen in the same way.
            403 if self.anonymous && side == Side::Source => Class::AuthenticationFailed,
            403 => Class::AccessDenied,
            404 | 410 if side == Side::Source => Class::SourceNotFound,
            // A repository or upload session that went away under us: the next run makes it again.
            404 | 410 => Class::RegistryUnavailable,
            400..=499 if self.has_code(&["NAME_UNKNOWN", "MANIFEST_UNKNOWN", "BLOB_UNKNOWN"]) => match side {
                Side::Source => Class::SourceNotFound,
                Side::Target => Class::RegistryUnavailable,
            },
            // Only what exists is asked for; a registry that calls the request malformed has no such thing.
            400 if side == Side::Source => Class::SourceNotFound,
            // A layer or child manifest that the registry no longer has: the next run moves it again.
            400..=499 if self.has_code(&["MANIFEST_BLOB_UNKNOWN", "MANIFEST_UNVERIFIED"]) => Class::RegistryUnavailable,
            _ if self.lost_upload() => Class::RegistryUnavailable,
            _ => Class::Internal,
        }
    }

    /// The upload session is gone or confused; a new one may do. Codes of the distribution spec.
    fn lost_upload(&self) -> bool {
        self.has_code(&["BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID", "DIGEST_INVALID", "SIZE_INVALID"])
    }

    fn is_retryable(&self) -> bool {
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
            (Some(code), Some(message)) => write!(f, " ({code}: {message})")?,
            (Some(text), None) | (None, Some(text)) => write!(f, " ({text})")?,
            (None, None) => {}
        }
        if self.anonymous && matches!(self.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            f.write_str("; it does not exist, or it is private and no credential was given")?;
        }
        Ok(())
    }
}

/// Statuses that pass by themselves. 52x is what CDNs send for their origin.
pub(crate) fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 425 | 429 | 500 | 502..=504 | 520..=524 | 529 | 530)
}

/// The first entry of `{"errors": [{"code", "message", "detail"}]}`, or what comes near it, or the text itself.
fn code_and_message(body: &[u8]) -> (Option<String>, Option<String>) {
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => tidy(text),
        serde_json::Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let Ok(json) = serde_json::from_slice::<serde_json::Value>(body) else {
        let body = String::from_utf8_lossy(body);
        // Error pages of proxies say nothing that the status does not.
        let is_page = body.trim_start().starts_with('<');
        return (None, if is_page { None } else { tidy(&body) });
    };
    let first = json.get("errors").and_then(|errors| errors.get(0)).unwrap_or(&json);
    let code = ["code", "error", "__type"].iter().find_map(|key| first.get(key).and_then(text));
    let message = ["message", "error_description", "details", "Message", "detail"]
        .iter()
        .find_map(|key| first.get(key).and_then(text));
    (code, message)
}

/// One line without control characters, of bounded length.
fn tidy(text: &str) -> Option<String> {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
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

/// The message of an error and of its sources, each said once.
fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let more = source.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = source.source();
    }
    text
}

fn has_cause(error: &(dyn StdError + 'static), test: fn(&(dyn StdError + 'static)) -> bool) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        // An io::Error shows the source of what it wraps, not what it wraps.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if test(error) || wrapped.is_some_and(|inner| test(inner)) {
            return true;
        }
        next = error.source();
    }
    false
}

fn is_certificate(error: &(dyn StdError + 'static)) -> bool {
    matches!(
        error.downcast_ref::<rustls::Error>(),
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, anonymous: bool, body: &str) -> Failure {
        let status = StatusCode::from_u16(status).unwrap();
        Failure::Answer(Box::new(Answer::new(status, None, anonymous, body.as_bytes())))
    }

    fn read(failure: Failure) -> Error {
        failure.read_manifest("docker.io/library/nginx:1.27")
    }

    fn write(failure: Failure) -> Error {
        Error::WriteManifest { subject: "ecr/app:1".into(), source: Box::new(failure) }
    }

    #[test]
    fn message_says_step_thing_status_and_the_registrys_words() {
        let body = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your\n pull limit."}]}"#;
        assert_eq!(
            read(answer(429, false, body)).to_string(),
            "cannot read manifest of docker.io/library/nginx:1.27: 429 Too Many Requests (TOOMANYREQUESTS: You have reached your pull limit.)"
        );
        assert!(
            read(answer(401, true, "")).to_string().ends_with("it is private and no credential was given"),
            "both possibilities"
        );
    }

    #[test]
    fn every_answer_has_its_class() {
        use Class::*;
        for (status, anonymous, body, source, target) in [
            (401, true, "", AuthenticationFailed, AuthenticationFailed),
            (401, false, "", AuthenticationFailed, AuthenticationFailed),
            (403, true, r#"{"errors":[{"code":"DENIED"}]}"#, AuthenticationFailed, AccessDenied),
            (403, false, r#"{"errors":[{"code":"DENIED"}]}"#, AccessDenied, AccessDenied),
            (404, false, "", SourceNotFound, RegistryUnavailable),
            (400, false, r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#, SourceNotFound, RegistryUnavailable),
            (408, false, "", RegistryUnavailable, RegistryUnavailable),
            (425, false, "", RegistryUnavailable, RegistryUnavailable),
            (429, false, "<html>", RateLimited, RateLimited),
            (500, false, "", RegistryUnavailable, RegistryUnavailable),
            (503, false, "Slow Down", RegistryUnavailable, RegistryUnavailable),
            (524, false, "", RegistryUnavailable, RegistryUnavailable),
            (
                400,
                false,
                r#"{"errors":[{"code":"TAG_INVALID","message":"The image tag 'T' already exists in the 'R' repository and cannot be overwritten because the tag is immutable."}]}"#,
                SourceNotFound,
                TagImmutable,
            ),
            (405, false, r#"{"errors":[{"code":"UNSUPPORTED"}]}"#, Internal, Internal),
            (
                403,
                false,
                r#"{"errors":[{"code":"DENIED","message":"LimitExceededException"}]}"#,
                AccessDenied,
                QuotaExceeded,
            ),
        ] {
            assert_eq!(read(answer(status, anonymous, body)).class(), source, "source {status} {body}");
            assert_eq!(write(answer(status, anonymous, body)).class(), target, "target {status} {body}");
        }
    }

    #[test]
    fn token_server_failures_are_not_taken_for_missing_images() {
        use Class::*;
        for (status, class) in [
            (401, AuthenticationFailed),
            (403, AuthenticationFailed),
            (400, AuthenticationFailed),
            (429, RateLimited),
            (404, RegistryUnavailable),
            (503, RegistryUnavailable),
        ] {
            let failure = Failure::Token { realm: "auth".into(), source: Box::new(answer(status, false, "")) };
            assert_eq!(read(failure).class(), class, "{status}");
        }
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
            ("{\"error\":\"invalid_grant\",\"error_description\":\"no\"}", Some("invalid_grant"), Some("no")),
            ("{\"details\":\"incorrect username or password\"}", None, Some("incorrect username or password")),
            ("404 page not found\n", None, Some("404 page not found")),
            ("<html><h1>502</h1></html>", None, None),
            ("a\u{1b}[31mb", None, Some("a [31mb")),
        ] {
            let (c, m) = code_and_message(body.as_bytes());
            assert_eq!((c.as_deref(), m.as_deref()), (code, message), "{body}");
        }
        let (_, message) = code_and_message("x".repeat(60_000).as_bytes());
        assert!(message.unwrap().len() < 400);
        code_and_message(&[0xff, 0xfe, 0x00]);
    }

    #[test]
    fn expiry_is_read_from_the_text() {
        let body = r#"{"errors":[{"code":"DENIED","message":"Your authorization token has expired. Reauthenticate and try again."}]}"#;
        assert!(answer(403, false, body).answer().unwrap().says_expired());
        assert!(!answer(403, false, "{}").answer().unwrap().says_expired());
    }
}
