//! Errors of AWS calls: which class of failure an AWS error code means, and advice where AWS's text
//! gives none.

use std::borrow::Cow;

use aws_sdk_ecr::config::http::HttpResponse;
use aws_sdk_ecr::error::{ProvideErrorMetadata, SdkError};

use super::identity::NoToken;
use crate::causes::with_causes;
use crate::class::Class;

/// A failed call to AWS.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// AWS answered with an error, or not at all: no credential, no connection, a timeout.
    #[error("{operation} on {thing}: {message}")]
    Failed {
        /// The action, as IAM spells it: `ecr:CreateRepository`.
        operation: &'static str,
        /// The repository, ARN or registry of the call.
        thing: String,
        /// AWS's error code and text, or the SDK's error with its causes.
        message: String,
        /// The kind of failure.
        class: Class,
    },
    /// AWS answered without a field that it documents as required, or with one that cannot be read.
    #[error("{operation} on {thing}: the answer has no usable {field}")]
    Incomplete {
        /// The action.
        operation: &'static str,
        /// The repository, ARN or registry of the call.
        thing: String,
        /// The field.
        field: &'static str,
    },
    /// The API server gives no token of a ServiceAccount.
    #[error(transparent)]
    NoToken(#[from] NoToken),
    /// The host in `repositoryUri` is not valid.
    #[error(transparent)]
    Endpoint(#[from] crate::registry::Error),
    /// The account or region is not known.
    #[error("{0}")]
    Unconfigured(Cow<'static, str>),
    /// This process has no AWS identity, or one that AWS refuses: no call can succeed.
    #[error("{0}")]
    NoIdentity(String),
    /// The last check of the identity of this process ended without a result.
    #[error("{message}")]
    Unchecked {
        /// The kind of failure.
        class: Class,
        /// Text for people.
        message: String,
    },
}

impl Error {
    /// Converts an error of the SDK.
    pub(super) fn from_sdk<E: ProvideErrorMetadata + std::error::Error + 'static>(
        operation: &'static str,
        thing: &str,
        error: &SdkError<E, HttpResponse>,
    ) -> Self {
        let (message, class) = match error {
            SdkError::ServiceError(service) => {
                let code = service.err().code().unwrap_or("Unknown");
                let text = service.err().message().unwrap_or("no message");
                let message = match advice(operation, code) {
                    Some(advice) => format!("{code}: {}: {advice}", text.trim_end_matches('.')),
                    None => format!("{code}: {text}"),
                };
                (message, class_of(operation, code, service.raw().status().as_u16()))
            }
            other => match own_cause(other) {
                Some(Self::NoIdentity(message)) => return Self::NoIdentity(message.clone()),
                // The role's credentials could not be fetched: show the answer of STS.
                Some(cause) => (format!("no credentials: {cause}"), cause.class()),
                // Credentials that will never load are `NoIdentity`.
                None => (unanswered(other), Class::RegistryUnavailable),
            },
        };

        Self::Failed { operation, thing: thing.to_owned(), message, class }
    }

    /// An answer without a usable `field`.
    pub(super) fn incomplete(operation: &'static str, thing: &str, field: &'static str) -> Self {
        Self::Incomplete { operation, thing: thing.to_owned(), field }
    }

    /// The kind of failure.
    #[must_use]
    pub const fn class(&self) -> Class {
        match self {
            Self::Failed { class, .. }
            | Self::NoToken(NoToken { class, .. })
            | Self::Unchecked { class, .. } => *class,
            Self::NoIdentity(_) => Class::AuthenticationFailed,
            Self::Incomplete { .. } | Self::Endpoint(_) => Class::Internal,
            Self::Unconfigured(_) => Class::InvalidSpec,
        }
    }
}

/// Turns the error `code`, which means that the thing does not (or already does) exist, into `None`.
pub(super) fn none_if<T, E: ProvideErrorMetadata + std::error::Error + 'static>(
    result: Result<T, SdkError<E, HttpResponse>>,
    code: &str,
    operation: &'static str,
    thing: &str,
) -> Result<Option<T>, Error> {
    match result {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.code() == Some(code) => Ok(None),
        Err(error) => Err(Error::from_sdk(operation, thing, &error)),
    }
}

/// Returns the [`Error`] among the causes: the SDK asked us for credentials, and that failed.
fn own_cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Error> {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.into_iter().find_map(|cause| cause.downcast_ref())
}

/// Returns the text of a call that AWS did not answer. It holds no ID of a request, which would make
/// every message of a condition different.
fn unanswered(error: &(dyn std::error::Error + 'static)) -> String {
    let text = with_causes(error);
    // A region that does not exist has no host.
    let advice = if text.contains("dns error") { ": check the region and the network" } else { "" };
    text + advice
}

/// Says what to change, where AWS's own text does not.
fn advice(operation: &str, code: &str) -> Option<&'static str> {
    Some(match (operation, code) {
        (_, "KmsException") => {
            "set spec.encryption.kmsKey to an enabled key in this region that the operator's role \
             may use (kms:DescribeKey, kms:CreateGrant), or leave it out"
        }
        (_, "TooManyTagsException") => {
            "ECR allows 50 resource tags: remove keys from spec.resourceTags or the default tags, \
             or other tags from the repository"
        }
        (_, "InvalidTagParameterException") => "correct spec.resourceTags or the default tags",
        ("ecr:CreateRepository", "LimitExceededException") => {
            "request a higher quota of repositories (Service Quotas, Amazon ECR), or delete unused \
             repositories"
        }
        (_, "LimitExceededException") => {
            "request a higher quota (Service Quotas, Amazon ECR), or let a lifecycle policy expire \
             unused images"
        }
        ("ecr:PutLifecyclePolicy", "InvalidParameterException" | "ValidationException") => {
            "correct lifecyclePolicy; aws ecr start-lifecycle-policy-preview tests it"
        }
        ("ecr:SetRepositoryPolicy", "InvalidParameterException" | "ValidationException") => {
            "correct permissionPolicy: every principal must exist, every action must start with \
             ecr:, and Resource is not allowed"
        }
        // The identity itself is checked by STS, in its own region.
        (operation, "UnrecognizedClientException") if operation.starts_with("ecr:") => {
            "check the region of the repository, and whether it is enabled for the account"
        }
        (_, code) if has(UNKNOWN_CALL, code) => {
            "ECR does not have this call in this region: remove the field that needs it from the \
             spec"
        }
        _ => return None,
    })
}

/// Codes that say that a region does not have the call.
const UNKNOWN_CALL: &str = "UnknownOperationException UnsupportedOperationException \
                            UnsupportedCommandException InvalidAction";

/// Error codes of AWS by the class of failure that they mean.
const CLASSES: [(Class, &str); 9] = [
    (
        Class::AccessDenied,
        "AccessDeniedException AccessDenied KmsException BlockedByOrganizationPolicyException \
         RegionDisabledException",
    ),
    (
        Class::AuthenticationFailed,
        "ExpiredTokenException ExpiredToken InvalidSignatureException SignatureDoesNotMatch \
         UnrecognizedClientException InvalidClientTokenId MissingAuthenticationTokenException \
         MissingAuthenticationToken IncompleteSignature InvalidAccessKeyId InvalidIdentityToken \
         IDPRejectedClaim OptInRequired",
    ),
    (
        Class::RateLimited,
        "ThrottlingException Throttling RequestLimitExceeded TooManyRequestsException \
         RequestThrottled SlowDown",
    ),
    (Class::QuotaExceeded, "LimitExceededException"),
    (Class::RepositoryNotEmpty, "RepositoryNotEmptyException"),
    (Class::TagImmutable, "ImageTagAlreadyExistsException"),
    (
        Class::InvalidSpec,
        "InvalidParameterException ValidationException ValidationError \
         InvalidTagParameterException TooManyTagsException",
    ),
    (Class::InvalidSpec, UNKNOWN_CALL),
    // Somebody deleted or made something between two calls, or an upstream of ECR's own is away:
    // the next run sees.
    (
        Class::RegistryUnavailable,
        "RepositoryNotFoundException RepositoryAlreadyExistsException \
         LifecyclePolicyNotFoundException RepositoryPolicyNotFoundException \
         ImageNotFoundException LayersNotFoundException ReferencedImagesNotFoundException \
         UploadNotFoundException LayerInaccessibleException UnableToGetUpstreamImageException \
         UnableToGetUpstreamLayerException ServerException InternalFailure InternalServerError \
         IDPCommunicationError ServiceUnavailable ServiceUnavailableException",
    ),
];

/// Whether AWS says with `code` that it does not accept the credentials.
pub(super) fn is_refusal_of_credentials(code: &str) -> bool {
    class_of("", code, 400) == Class::AuthenticationFailed
}

fn has(codes: &str, code: &str) -> bool {
    codes.split(' ').any(|known| known == code)
}

/// Returns the class of an AWS error code.
///
/// The SDK does not model ThrottlingException, AccessDeniedException and expired sessions per
/// operation, so the class depends on the code. `LimitExceededException` is a hard quota in ECR,
/// although the SDK treats it as throttling.
pub(super) fn class_of(operation: &str, code: &str, status: u16) -> Class {
    let about_a_policy = matches!(
        operation,
        "ecr:PutLifecyclePolicy"
            | "ecr:SetRepositoryPolicy"
            | "ecr:DeleteLifecyclePolicy"
            | "ecr:DeleteRepositoryPolicy"
    );

    match CLASSES.iter().find(|(_, codes)| has(codes, code)) {
        Some(_) if about_a_policy && has("InvalidParameterException ValidationException", code) => {
            Class::PolicyRejected
        }
        Some((class, _)) => *class,
        None if status == 429 => Class::RateLimited,
        None if status >= 500 => Class::RegistryUnavailable,
        None => Class::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error codes of ECR's service model (botocore, `ecr/2015-09-21`), and those of any AWS
    /// service.
    #[test]
    fn every_error_code_of_ecr_has_a_class() {
        use Class::{
            AccessDenied, AuthenticationFailed, Internal, InvalidSpec, QuotaExceeded, RateLimited,
            RegistryUnavailable, RepositoryNotEmpty, TagImmutable,
        };

        let table = [
            (
                InvalidSpec,
                "InvalidParameterException InvalidTagParameterException TooManyTagsException ValidationException \
                 UnknownOperationException UnsupportedOperationException",
            ),
            (QuotaExceeded, "LimitExceededException"),
            (
                AccessDenied,
                "KmsException AccessDeniedException AccessDenied BlockedByOrganizationPolicyException",
            ),
            (TagImmutable, "ImageTagAlreadyExistsException"),
            (RepositoryNotEmpty, "RepositoryNotEmptyException"),
            (
                RegistryUnavailable,
                "RepositoryNotFoundException RepositoryAlreadyExistsException LifecyclePolicyNotFoundException \
                 RepositoryPolicyNotFoundException ImageNotFoundException LayersNotFoundException \
                 ReferencedImagesNotFoundException UploadNotFoundException LayerInaccessibleException \
                 UnableToGetUpstreamImageException UnableToGetUpstreamLayerException ServerException InternalFailure \
                 InternalServerError ServiceUnavailable ServiceUnavailableException",
            ),
            (
                AuthenticationFailed,
                "ExpiredTokenException ExpiredToken UnrecognizedClientException \
                 InvalidClientTokenId InvalidAccessKeyId InvalidSignatureException \
                 SignatureDoesNotMatch MissingAuthenticationTokenException \
                 MissingAuthenticationToken IncompleteSignature OptInRequired \
                 InvalidIdentityToken",
            ),
            (
                RateLimited,
                "ThrottlingException Throttling TooManyRequestsException RequestLimitExceeded \
                 RequestThrottled SlowDown",
            ),
            // Errors of calls that are never made: a defect if one comes.
            (
                Internal,
                "LifecyclePolicyPreviewInProgressException \
                 LifecyclePolicyPreviewNotFoundException ImageAlreadyExistsException \
                 ImageDigestDoesNotMatchException InvalidLayerPartException \
                 InvalidLayerException LayerPartTooSmallException LayerAlreadyExistsException \
                 EmptyUploadException ImageArchivedException \
                 ImageStorageClassUpdateNotSupportedException RegistryPolicyNotFoundException \
                 ScanNotFoundException UnsupportedImageTypeException \
                 TemplateAlreadyExistsException TemplateNotFoundException \
                 PullThroughCacheRuleAlreadyExistsException \
                 PullThroughCacheRuleNotFoundException SecretNotFoundException \
                 UnableToAccessSecretException UnableToDecryptSecretValueException \
                 UnsupportedUpstreamRegistryException \
                 UnableToListUpstreamImageReferrersException ExclusionAlreadyExistsException \
                 ExclusionNotFoundException SigningConfigurationNotFoundException \
                 ReplicationBackfillInProgressException \
                 ReplicationBackfillInvalidStatusException ReplicationBackfillNotFoundException",
            ),
        ];

        for (class, codes) in table {
            for code in codes.split_whitespace() {
                assert_eq!(class_of("ecr:CreateRepository", code, 400), class, "{code}");
            }
        }
    }

    #[test]
    fn errors_that_a_spec_can_fix_come_with_advice() {
        for (operation, code, part) in [
            ("ecr:CreateRepository", "KmsException", "spec.encryption.kmsKey"),
            ("ecr:CreateRepository", "LimitExceededException", "quota of repositories"),
            ("ecr:TagResource", "TooManyTagsException", "spec.resourceTags"),
            ("ecr:DescribeImages", "UnrecognizedClientException", "whether it is enabled"),
            ("ecr:PutLifecyclePolicy", "InvalidParameterException", "correct lifecyclePolicy"),
            ("ecr:SetRepositoryPolicy", "InvalidParameterException", "every principal must exist"),
            (
                "ecr:PutImageTagMutability",
                "UnknownOperationException",
                "remove the field that needs it from the spec",
            ),
        ] {
            assert!(
                advice(operation, code).is_some_and(|advice| advice.contains(part)),
                "{operation} {code}"
            );
        }

        assert_eq!(
            advice("ecr:PutLifecyclePolicy", "AccessDeniedException"),
            None,
            "AWS names the missing permission"
        );
    }

    #[test]
    fn the_class_depends_on_call_and_status_too() {
        let table = [
            ("ecr:CreateRepository", "AccessDeniedException", 400, Class::AccessDenied),
            ("ecr:CreateRepository", "ThrottlingException", 400, Class::RateLimited),
            ("ecr:CreateRepository", "LimitExceededException", 400, Class::QuotaExceeded),
            ("ecr:CreateRepository", "InvalidParameterException", 400, Class::InvalidSpec),
            ("ecr:CreateRepository", "TooManyTagsException", 400, Class::InvalidSpec),
            ("ecr:PutLifecyclePolicy", "InvalidParameterException", 400, Class::PolicyRejected),
            ("ecr:PutLifecyclePolicy", "ValidationException", 400, Class::PolicyRejected),
            ("ecr:SetRepositoryPolicy", "InvalidParameterException", 400, Class::PolicyRejected),
            ("ecr:DescribeImages", "ExpiredTokenException", 400, Class::AuthenticationFailed),
            ("ecr:DescribeImages", "UnrecognizedClientException", 400, Class::AuthenticationFailed),
            ("ecr:DescribeImages", "RepositoryNotFoundException", 400, Class::RegistryUnavailable),
            ("ecr:DescribeImages", "ServerException", 500, Class::RegistryUnavailable),
            ("ecr:DescribeImages", "Whatever", 503, Class::RegistryUnavailable),
            ("ecr:DescribeImages", "Whatever", 429, Class::RateLimited),
            ("ecr:DescribeImages", "Whatever", 400, Class::Internal),
        ];
        for (operation, code, status, class) in table {
            assert_eq!(class_of(operation, code, status), class, "{operation} {code} {status}");
        }
    }
}
