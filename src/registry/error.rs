//! What went wrong, at which step, on which thing, and of what kind it is.

use std::error::Error as StdError;
use std::time::Duration;

use reqwest::StatusCode;

use super::answer::{Answer, Side};
use super::digest::Digest;
use crate::causes::with_causes;
use crate::class::Class;

/// A failed step. The message names the thing and holds the whole reason; [`Error::class`] says
/// what kind it is.
///
/// The same failure has the same message at every run: no durations, byte counts or request ids,
/// which would make a status change for ever.
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
    /// ECR's codes on `/v2/` are not documented; the exceptions of its API are, and come through in
    /// some texts.
    #[must_use]
    pub fn is_missing_content(&self) -> bool {
        matches!(self, Self::WriteManifest { .. })
            && self.failure().and_then(Failure::answer).is_some_and(Answer::says_missing_content)
    }

    /// Whether a manifest was refused for what it is: no second try, and no other time, will do
    /// better. ECR says so of whatever it cannot parse, and of manifests without layers.
    #[must_use]
    pub fn refuses_manifest(&self) -> bool {
        let refuses = |answer: &Answer| {
            matches!(answer.status.as_u16(), 400 | 405 | 415 | 422)
                && answer.has_code(&["UNSUPPORTED", "MANIFEST_INVALID"])
        };
        matches!(self, Self::WriteManifest { .. })
            && !self.is_missing_content()
            && self.class() == Class::Internal
            && self.failure().and_then(Failure::answer).is_some_and(refuses)
    }

    /// What kind of failure this is.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Credential { class, .. } => *class,
            Self::Parse(_) | Self::Setup(_) => Class::InvalidSpec,
            Self::ReadManifest { source, .. }
            | Self::ReadTags { source, .. }
            | Self::ReadBlob { source, .. } => source.class(Side::Source),
            Self::WriteManifest { source, .. }
            | Self::WriteBlob { source, .. }
            | Self::Look { source, .. } => source.class(Side::Target),
        }
    }

    /// How long the registry asked to wait, if it did.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Credential { source, .. } => {
                source.downcast_ref::<Self>().and_then(Self::retry_after)
            }
            _ => self.failure().and_then(Failure::retry_after),
        }
    }

    /// Whether the same step may succeed when it is simply done again, soon.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Credential { class, .. } => {
                matches!(class, Class::RateLimited | Class::RegistryUnavailable)
            }
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
            | Self::Look { source, .. }
            | Self::ReadBlob { source, .. }
            | Self::WriteBlob { source, .. } => Some(source),
            Self::Credential { .. } | Self::Parse(_) | Self::Setup(_) => None,
        }
    }
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
    /// The registry does not take a blob in one piece; the next try is in parts.
    #[error("{0}")]
    InOnePiece(Box<Answer>),
    /// The registry lost count of the parts of a blob.
    #[error("{host} wants other bytes of the blob than come next")]
    OutOfStep {
        /// Host and port.
        host: String,
    },
    /// No connection, or no TLS.
    #[error("cannot connect to {host}: {}", with_causes(.source))]
    Connect {
        /// Host and port.
        host: String,
        /// What the HTTP client said.
        source: reqwest::Error,
    },
    /// The server's certificate is not trusted.
    #[error("the TLS certificate of {host} is not accepted ({}); a private authority must be given (ca.crt)", with_causes(.source))]
    Certificate {
        /// Host and port.
        host: String,
        /// What the HTTP client said.
        source: reqwest::Error,
    },
    /// What answers there speaks no TLS.
    #[error(
        "{host} speaks plain HTTP, not TLS: set insecure where it is named (or write http:// for a chart repository)"
    )]
    PlainHttp {
        /// Host and port.
        host: String,
    },
    /// The connection broke.
    #[error("connection to {host} broke: {}", with_causes(.source))]
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
    /// What the registry still allows is kept for others.
    #[error("{text}")]
    Reserved {
        /// What is left, of what, and when it is asked again.
        text: String,
        /// Until then.
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
        } else if has_cause(&source, is_no_tls) {
            Self::PlainHttp { host }
        } else if source.is_connect() {
            Self::Connect { host, source }
        } else {
            Self::Broken { host, source }
        }
    }

    pub(crate) fn answer(&self) -> Option<&Answer> {
        match self {
            Self::Answer(answer) | Self::Expired(answer) | Self::InOnePiece(answer) => Some(answer),
            Self::Token { source, .. } => source.answer(),
            _ => None,
        }
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Paused { wait, .. } | Self::Reserved { wait, .. } => Some(*wait),
            Self::Credential(error) => error.retry_after(),
            _ => self.answer().and_then(Answer::asked_wait),
        }
    }

    fn class(&self, side: Side) -> Class {
        match self {
            Self::Answer(answer) | Self::InOnePiece(answer) => answer.class(side),
            Self::Token { source, .. } => match source.answer().map(|answer| answer.status) {
                Some(
                    StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN,
                ) => Class::AuthenticationFailed,
                // A token server that has no such path is a set-up that is broken, not an image
                // that is missing.
                Some(StatusCode::NOT_FOUND) => Class::RegistryUnavailable,
                _ => source.class(side),
            },
            Self::Credential(error) => error.class(),
            Self::Challenge(_) | Self::Expired(_) => Class::AuthenticationFailed,
            Self::Paused { .. } | Self::Reserved { .. } => Class::RateLimited,
            Self::Connect { .. }
            | Self::Certificate { .. }
            | Self::PlainHttp { .. }
            | Self::Broken { .. }
            | Self::Cut { .. }
            | Self::NoAnswer { .. }
            | Self::Stalled { .. }
            | Self::OutOfStep { .. }
            | Self::Redirect(_)
            | Self::Unexpected(_) => Class::RegistryUnavailable,
            Self::Digest { .. }
            | Self::Size { .. }
            | Self::TooLarge { .. }
            | Self::Unreadable(_) => Class::SourceInvalid,
            Self::Internal(_) => Class::Internal,
        }
    }

    fn is_retryable(&self) -> bool {
        match self {
            Self::Answer(answer) => answer.is_retryable(),
            Self::Token { source, .. } => source.is_retryable(),
            Self::Credential(error) => error.is_retryable(),
            Self::Expired(_)
            | Self::InOnePiece(_)
            | Self::OutOfStep { .. }
            | Self::Connect { .. }
            | Self::Broken { .. }
            | Self::Cut { .. }
            | Self::NoAnswer { .. }
            | Self::Stalled { .. }
            | Self::Digest { .. }
            | Self::Paused { .. }
            | Self::Reserved { .. } => true,
            Self::Certificate { .. }
            | Self::PlainHttp { .. }
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

fn has_cause(
    error: &(dyn StdError + 'static),
    test: fn(&(dyn StdError + 'static)) -> bool,
) -> bool {
    // An io::Error gives the source of what it wraps, not what it wraps; and one may wrap another
    // one.
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    test(error)
        || wrapped.is_some_and(|inner| has_cause(inner, test))
        || error.source().is_some_and(|source| has_cause(source, test))
}

fn is_certificate(error: &(dyn StdError + 'static)) -> bool {
    matches!(
        error.downcast_ref::<rustls::Error>(),
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)
    )
}

/// The first byte of the answer begins no TLS record: `H` of `HTTP/1.1 400 Bad Request`, as a rule.
fn is_no_tls(error: &(dyn StdError + 'static)) -> bool {
    use rustls::InvalidMessage::InvalidContentType;
    matches!(
        error.downcast_ref::<rustls::Error>(),
        Some(rustls::Error::InvalidMessage(InvalidContentType))
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
            read(answer(401, true, ""))
                .to_string()
                .ends_with("it is private and no credential was given"),
            "both possibilities"
        );
    }

    #[test]
    fn causes_are_found_however_deep_they_are_wrapped() {
        use rustls::CertificateError::UnknownIssuer;
        use std::io::Error as Io;
        let untrusted = rustls::Error::InvalidCertificate(UnknownIssuer);
        assert!(has_cause(&Io::other(Io::other(untrusted)), is_certificate));
        assert!(!has_cause(&Io::other(Io::other(rustls::Error::DecryptError)), is_certificate));
    }

    #[test]
    fn every_answer_has_its_class() {
        use Class::*;
        for (status, anonymous, body, source, target) in [
            (401, true, "", AuthenticationFailed, AuthenticationFailed),
            (401, false, "", AuthenticationFailed, AuthenticationFailed),
            (403, true, r#"{"errors":[{"code":"DENIED"}]}"#, AuthenticationFailed, AccessDenied),
            (403, false, r#"{"errors":[{"code":"DENIED"}]}"#, AccessDenied, AccessDenied),
            (
                403,
                false,
                r#"{"errors":[{"code":"DENIED","message":"Your authorization token has expired. Reauthenticate and try again."}]}"#,
                AuthenticationFailed,
                AuthenticationFailed,
            ),
            (404, false, "", SourceNotFound, RegistryUnavailable),
            (
                400,
                false,
                r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#,
                SourceNotFound,
                RegistryUnavailable,
            ),
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
                404,
                false,
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#,
                SourceNotFound,
                RegistryUnavailable,
            ),
            (
                404,
                false,
                r#"{"errors":[{"code":"BLOB_UNKNOWN"}]}"#,
                SourceNotFound,
                RegistryUnavailable,
            ),
            (
                400,
                false,
                r#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}"#,
                SourceNotFound,
                RegistryUnavailable,
            ),
            (
                400,
                false,
                r#"{"errors":[{"code":"BLOB_UPLOAD_INVALID"}]}"#,
                SourceNotFound,
                RegistryUnavailable,
            ),
            (
                416,
                false,
                r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}"#,
                RegistryUnavailable,
                RegistryUnavailable,
            ),
            (400, false, r#"{"errors":[{"code":"MANIFEST_INVALID"}]}"#, SourceNotFound, Internal),
            (400, false, r#"{"errors":[{"code":"TOOMANYREQUESTS"}]}"#, RateLimited, RateLimited),
            (401, false, "Not Authorized", AuthenticationFailed, AuthenticationFailed),
            (
                403,
                false,
                r#"{"errors":[{"code":"DENIED","message":"LimitExceededException"}]}"#,
                AccessDenied,
                QuotaExceeded,
            ),
        ] {
            assert_eq!(
                read(answer(status, anonymous, body)).class(),
                source,
                "source {status} {body}"
            );
            assert_eq!(
                write(answer(status, anonymous, body)).class(),
                target,
                "target {status} {body}"
            );
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
            let failure = Failure::Token {
                realm: "auth".into(),
                source: Box::new(answer(status, false, "")),
            };
            assert_eq!(read(failure).class(), class, "{status}");
        }
    }
}
