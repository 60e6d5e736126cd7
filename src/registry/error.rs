//! Errors of the registry client: the failed step (read, write, list, look up), the manifest or
//! blob, and the error class.

use std::error::Error as StdError;
use std::time::Duration;

use super::answer::{Answer, Side};
use super::cause::Cause;
use crate::class::Class;

/// A failed step. The message names the thing and contains the whole reason; [`Error::class`] tells
/// the kind.
///
/// The same failure has the same message in every run: no durations, byte counts or request IDs,
/// which would change the status each time.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tag could not be resolved, or a manifest not be read.
    #[error("cannot read manifest of {subject}: {source}")]
    ReadManifest {
        /// `host/repository:tag` or `host/repository@digest`.
        subject: String,
        /// The cause.
        source: Box<Cause>,
    },
    /// A manifest could not be written.
    #[error("cannot write manifest of {subject}: {source}")]
    WriteManifest {
        /// `host/repository:tag` or `host/repository@digest`.
        subject: String,
        /// The cause.
        source: Box<Cause>,
    },
    /// Tags could not be listed.
    #[error("cannot read tags of {subject}: {source}")]
    ReadTags {
        /// `host/repository`.
        subject: String,
        /// The cause.
        source: Box<Cause>,
    },
    /// The existence of a manifest or blob could not be checked.
    #[error("cannot check whether {subject} exists: {source}")]
    Check {
        /// `host/repository@digest`.
        subject: String,
        /// The cause.
        source: Box<Cause>,
    },
    /// A blob could not be downloaded: the side that sends it failed.
    #[error("cannot read blob {subject}: {source}")]
    ReadBlob {
        /// `host/repository@digest`.
        subject: String,
        /// The cause.
        source: Box<Cause>,
    },
    /// A blob could not be uploaded: the side that receives it failed.
    #[error("cannot write blob {subject}: {source}")]
    WriteBlob {
        /// `host/repository@digest`.
        subject: String,
        /// The cause.
        source: Box<Cause>,
    },
    /// An [`Authenticator`](super::Authenticator) could not provide a credential.
    #[error("no credential for {host}: {source}")]
    Credential {
        /// The registry.
        host: String,
        /// The class of the cause.
        class: Class,
        /// The cause.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// A text is not a reference, tag or digest.
    #[error(transparent)]
    Parse(#[from] super::reference::ParseError),
    /// A certificate, key, proxy or docker config cannot be used.
    #[error("{0}")]
    Setup(String),
}

impl Error {
    /// Whether a manifest was refused because the registry lacks one of its blobs or child
    /// manifests.
    ///
    /// ECR does not document its codes on `/v2/`. Some of its texts name the documented exceptions
    /// of its API.
    #[must_use]
    pub fn is_missing_content(&self) -> bool {
        matches!(self, Self::WriteManifest { .. })
            && self.failure().and_then(Cause::answer).is_some_and(Answer::says_missing_content)
    }

    /// Whether the registry does not accept this kind of manifest, so that no retry helps. ECR
    /// answers so to manifests that it cannot parse, and to manifests without layers.
    #[must_use]
    pub fn refuses_manifest(&self) -> bool {
        let refuses = |answer: &Answer| {
            matches!(answer.status.as_u16(), 400 | 405 | 415 | 422)
                && answer.has_code(&["UNSUPPORTED", "MANIFEST_INVALID"])
        };
        matches!(self, Self::WriteManifest { .. })
            && !self.is_missing_content()
            && self.class() == Class::Internal
            && self.failure().and_then(Cause::answer).is_some_and(refuses)
    }

    /// The class of this error, for retries, condition reasons, events and metrics.
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
            | Self::Check { source, .. } => source.class(Side::Target),
        }
    }

    /// The wait that the registry asked for.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Credential { source, .. } => {
                source.downcast_ref::<Self>().and_then(Self::retry_after)
            }
            _ => self.failure().and_then(Cause::retry_after),
        }
    }

    /// Whether the same step may succeed when it is retried soon.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Credential { class, .. } => {
                matches!(class, Class::RateLimited | Class::RegistryUnavailable)
            }
            _ => self.failure().is_some_and(Cause::is_retryable),
        }
    }

    /// The HTTP status of the registry's answer, if there is one.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.failure().and_then(Cause::answer).map(|answer| answer.status.as_u16())
    }

    /// The cause, without the step.
    #[must_use]
    pub fn failure(&self) -> Option<&Cause> {
        match self {
            Self::ReadManifest { source, .. }
            | Self::WriteManifest { source, .. }
            | Self::ReadTags { source, .. }
            | Self::Check { source, .. }
            | Self::ReadBlob { source, .. }
            | Self::WriteBlob { source, .. } => Some(source),
            Self::Credential { .. } | Self::Parse(_) | Self::Setup(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;

    use super::*;

    fn answer(status: u16, anonymous: bool, body: &str) -> Cause {
        let status = StatusCode::from_u16(status).unwrap();
        Cause::Answer(Box::new(Answer::new(status, None, anonymous, body.as_bytes())))
    }

    fn read(failure: Cause) -> Error {
        failure.read_manifest("docker.io/library/nginx:1.27")
    }

    fn write(failure: Cause) -> Error {
        Error::WriteManifest { subject: "ecr/app:1".into(), source: Box::new(failure) }
    }

    #[test]
    fn message_says_step_thing_status_and_the_registrys_words() {
        let body = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your\n pull limit."}]}"#;
        assert_eq!(
            read(answer(429, false, body)).to_string(),
            "cannot read manifest of docker.io/library/nginx:1.27: 429 Too Many Requests \
             (TOOMANYREQUESTS: You have reached your pull limit.)"
        );
        assert!(
            read(answer(401, true, ""))
                .to_string()
                .ends_with("it is private and no credential was given"),
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
            (
                403,
                false,
                concat!(
                    r#"{"errors":[{"code":"DENIED","message":"#,
                    r#""Your authorization token has expired. Reauthenticate and try again."}]}"#
                ),
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
                concat!(
                    r#"{"errors":[{"code":"TAG_INVALID","message":"The image tag 'T' already exists "#,
                    r#"in the 'R' repository and cannot be overwritten because the tag is "#,
                    r#"immutable."}]}"#
                ),
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
            let failure =
                Cause::Token { realm: "auth".into(), source: Box::new(answer(status, false, "")) };
            assert_eq!(read(failure).class(), class, "{status}");
        }
    }
}
