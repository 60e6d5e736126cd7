//! The failures that a step of the registry client can have: connection, TLS, timeout, redirect,
//! wrong content, login, rate limit. [`Error`] adds the step and the thing.

use std::error::Error as StdError;
use std::time::Duration;

use reqwest::StatusCode;

use super::answer::{Answer, Side};
use super::digest::Digest;
use super::egress::Refused;
use super::error::Error;
use crate::causes::with_causes;
use crate::class::Class;
use crate::memory_budget::Shortage;

/// The cause of a failed step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// The registry answered with an error.
    #[error("{0}")]
    Answer(Box<Answer>),
    /// The credential expired while a body was sent. It was renewed; the body must be sent again.
    #[error("the credential expired during the upload: {0}")]
    Expired(Box<Answer>),
    /// The registry does not accept a blob in one piece; the next try is in parts.
    #[error("{0}")]
    WholeBlobRefused(Box<Answer>),
    /// The registry lost the offset of an upload in parts.
    #[error("{host} lost track of the upload offset; the blob will be sent again")]
    OffsetLost {
        /// Host and port.
        host: String,
    },
    /// No connection, or no TLS.
    #[error("cannot connect to {host}: {}", with_causes(.source))]
    Connect {
        /// Host and port.
        host: String,
        /// The error of the HTTP client.
        source: reqwest::Error,
    },
    /// The server's certificate is not trusted.
    #[error(
        "the TLS certificate of {host} is not trusted ({}); for a private certificate authority \
         set ca.crt in certSecretRef",
        with_causes(.source)
    )]
    Certificate {
        /// Host and port.
        host: String,
        /// The error of the HTTP client.
        source: reqwest::Error,
    },
    /// The server does not speak TLS.
    #[error(
        "{host} speaks plain HTTP, not TLS: set insecure: true for this source (or write http:// \
         for a chart repository)"
    )]
    PlainHttp {
        /// Host and port.
        host: String,
    },
    /// The connection broke.
    #[error("the connection to {host} broke: {}", with_causes(.source))]
    Broken {
        /// Host and port.
        host: String,
        /// The error of the HTTP client.
        source: reqwest::Error,
    },
    /// The body ended early.
    #[error("the body ended before all {expected} bytes were received")]
    Truncated {
        /// The number of bytes received.
        received: u64,
        /// The number of bytes announced.
        expected: u64,
    },
    /// No answer in time.
    #[error("{host} did not answer within {} s", .after.as_secs())]
    NoAnswer {
        /// Host and port.
        host: String,
        /// The timeout.
        after: Duration,
    },
    /// A body moves too slowly, or not at all.
    #[error("the transfer with {host} stalled for {} s", .window.as_secs())]
    Stalled {
        /// Host and port.
        host: String,
        /// The number of bytes in the window.
        bytes: u64,
        /// The window.
        window: Duration,
    },
    /// An address that must not be connected to.
    #[error("{0}")]
    Refused(String),
    /// A small body arrives too slowly.
    #[error("{host} sends its answer too slowly: gave up waiting")]
    TooSlow {
        /// Host and port.
        host: String,
    },
    /// A redirect or upload location that must not be followed.
    #[error("{0}")]
    Redirect(String),
    /// The content does not match its digest.
    // The digest of content that is no manifest or blob is not for a tenant: it would confirm a
    // guess of that content.
    #[error("the content does not have the digest {expected}")]
    Digest {
        /// The digest that was asked for.
        expected: Digest,
        /// The digest of the received bytes.
        actual: Digest,
    },
    /// The content does not match the size in its descriptor.
    #[error("content does not have the size of {expected} bytes that its descriptor states")]
    Size {
        /// The size in the descriptor.
        expected: u64,
        /// The size received or announced, at least.
        actual: u64,
    },
    /// The answer is larger than we are willing to read.
    #[error("the answer is larger than {limit} bytes")]
    TooLarge {
        /// The bound.
        limit: usize,
    },
    /// No memory can be reserved for the document.
    #[error("{0}")]
    Memory(#[from] Shortage),
    /// A document cannot be parsed.
    #[error("{0}")]
    Unreadable(String),
    /// The token server failed.
    #[error("cannot get a token from {realm}: {source}")]
    Token {
        /// Host of the token server.
        realm: String,
        /// The cause.
        source: Box<Self>,
    },
    /// No credential is available.
    #[error("{0}")]
    Credential(Box<Error>),
    /// The registry requires a login method that is not supported or not allowed.
    #[error("{0}")]
    Challenge(String),
    /// The registry asked for a pause, and the pause is not over.
    #[error("{host} asked to pause all requests")]
    Paused {
        /// The registry.
        host: String,
        /// The rest of the pause.
        wait: Duration,
    },
    /// The host was found not to answer; one request at a time probes whether it does again.
    #[error("{why}; other requests to {host} are held back until it answers")]
    Down {
        /// Host and port.
        host: String,
        /// The failure of the request that found it out.
        why: String,
    },
    /// The remaining pulls are reserved for other users of the login.
    #[error("{text}")]
    Reserved {
        /// The remaining pulls, the limit, and the time of the next attempt.
        text: String,
        /// The time until then.
        wait: Duration,
    },
    /// The answer does not follow the registry protocol.
    #[error("{0}")]
    Unexpected(String),
    /// A bug in this program, or a client that was shut down.
    #[error("{0}")]
    Internal(String),
}

impl Cause {
    pub(crate) fn read_manifest(self, subject: impl Into<String>) -> Error {
        Error::ReadManifest { subject: subject.into(), source: Box::new(self) }
    }

    pub(crate) fn read_blob(self, subject: impl Into<String>) -> Error {
        Error::ReadBlob { subject: subject.into(), source: Box::new(self) }
    }

    pub(crate) fn write_blob(self, subject: impl Into<String>) -> Error {
        Error::WriteBlob { subject: subject.into(), source: Box::new(self) }
    }

    pub(crate) fn check(self, subject: impl Into<String>) -> Error {
        Error::Check { subject: subject.into(), source: Box::new(self) }
    }

    /// Classifies an error of the HTTP client. URLs are removed from it: they can be signed.
    pub(crate) fn from_reqwest(error: reqwest::Error, host: &str) -> Self {
        let host = host.to_owned();
        let source = error.without_url();
        let refused = causes(&source).find_map(|cause| cause.downcast_ref::<Refused>());
        if let Some(refused) = refused {
            return Self::Refused(refused.to_string());
        }
        if causes(&source).any(is_certificate) {
            Self::Certificate { host, source }
        } else if causes(&source).any(is_plain_http) {
            Self::PlainHttp { host }
        } else if source.is_connect() {
            Self::Connect { host, source }
        } else {
            Self::Broken { host, source }
        }
    }

    pub(crate) fn answer(&self) -> Option<&Answer> {
        match self {
            Self::Answer(answer) | Self::Expired(answer) | Self::WholeBlobRefused(answer) => {
                Some(answer)
            }
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

    pub(super) fn class(&self, side: Side) -> Class {
        match self {
            Self::Answer(answer) | Self::WholeBlobRefused(answer) => answer.class(side),
            Self::Token { source, .. } => match source.answer().map(|answer| answer.status) {
                Some(
                    StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN,
                ) => Class::AuthenticationFailed,
                // The token server is set up wrong; the image is not missing.
                Some(StatusCode::NOT_FOUND) => Class::RegistryUnavailable,
                _ => source.class(side),
            },
            Self::Credential(error) => error.class(),
            Self::Challenge(_) | Self::Expired(_) => Class::AuthenticationFailed,
            Self::Refused(_) => Class::AccessDenied,
            Self::Paused { .. } | Self::Reserved { .. } => Class::RateLimited,
            Self::Connect { .. }
            | Self::Certificate { .. }
            | Self::PlainHttp { .. }
            | Self::Broken { .. }
            | Self::Truncated { .. }
            | Self::NoAnswer { .. }
            | Self::Down { .. }
            | Self::Stalled { .. }
            | Self::TooSlow { .. }
            | Self::OffsetLost { .. }
            | Self::Redirect(_)
            | Self::Unexpected(_) => Class::RegistryUnavailable,
            Self::Digest { .. }
            | Self::Size { .. }
            | Self::TooLarge { .. }
            | Self::Unreadable(_) => Class::SourceInvalid,
            Self::Memory(shortage) => shortage.class(),
            Self::Internal(_) => Class::Internal,
        }
    }

    pub(super) fn is_retryable(&self) -> bool {
        match self {
            Self::Answer(answer) => answer.is_retryable(),
            Self::Token { source, .. } => source.is_retryable(),
            Self::Credential(error) => error.is_retryable(),
            Self::Expired(_)
            | Self::WholeBlobRefused(_)
            | Self::OffsetLost { .. }
            | Self::Connect { .. }
            | Self::Broken { .. }
            | Self::Truncated { .. }
            | Self::NoAnswer { .. }
            | Self::Down { .. }
            | Self::Stalled { .. }
            | Self::TooSlow { .. }
            | Self::Digest { .. }
            | Self::Paused { .. }
            | Self::Reserved { .. }
            | Self::Memory(Shortage::Busy { .. }) => true,
            Self::Certificate { .. }
            | Self::PlainHttp { .. }
            | Self::Refused(_)
            | Self::Redirect(_)
            | Self::Size { .. }
            | Self::TooLarge { .. }
            | Self::Memory(Shortage::TooLarge { .. })
            | Self::Unreadable(_)
            | Self::Challenge(_)
            | Self::Unexpected(_)
            | Self::Internal(_) => false,
        }
    }
}

/// An error and its causes. `io::Error::source` skips the error that it wraps, so this looks
/// inside.
pub(super) fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| {
        match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        }
    })
}

fn is_certificate(error: &(dyn StdError + 'static)) -> bool {
    matches!(
        error.downcast_ref::<rustls::Error>(),
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)
    )
}

/// Whether the first byte of the answer is not the start of a TLS record. Usually it is the `H` of
/// `HTTP/1.1 400 Bad Request`.
fn is_plain_http(error: &(dyn StdError + 'static)) -> bool {
    use rustls::InvalidMessage::InvalidContentType;
    matches!(
        error.downcast_ref::<rustls::Error>(),
        Some(rustls::Error::InvalidMessage(InvalidContentType))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_found_at_any_depth() {
        use rustls::CertificateError::UnknownIssuer;
        use std::io::Error as Io;
        let untrusted = rustls::Error::InvalidCertificate(UnknownIssuer);
        assert!(causes(&Io::other(Io::other(untrusted))).any(is_certificate));
        let other = Io::other(Io::other(rustls::Error::DecryptError));
        assert!(!causes(&other).any(is_certificate));
    }
}
