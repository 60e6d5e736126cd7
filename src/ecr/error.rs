//! Errors of AWS calls.

use aws_sdk_ecr::config::http::HttpResponse;
use aws_sdk_ecr::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

use crate::class::Class;

/// A call to AWS that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// AWS answered with an error.
    #[error("{operation} on {thing}: {code}: {message}")]
    Refused {
        /// The action, as IAM spells it: `ecr:CreateRepository`.
        operation: &'static str,
        /// The repository, ARN or registry it was for.
        thing: String,
        /// AWS's error code.
        code: String,
        /// AWS's text.
        message: String,
        /// The kind of failure.
        class: Class,
    },
    /// No answer: no credential, no connection, a timeout.
    #[error("{operation} on {thing}: {message}")]
    Unanswered {
        /// The action.
        operation: &'static str,
        /// The repository, ARN or registry it was for.
        thing: String,
        /// What the SDK says, with its causes.
        message: String,
        /// The kind of failure.
        class: Class,
    },
    /// AWS answered without a field that it documents as always there, or with one that cannot be
    /// read.
    #[error("{operation} on {thing}: the answer has no usable {field}")]
    Incomplete {
        /// The action.
        operation: &'static str,
        /// The repository, ARN or registry it was for.
        thing: String,
        /// The field.
        field: &'static str,
    },
    /// The cluster gives no token of a ServiceAccount.
    #[error("{message}")]
    NoToken {
        /// The kind of failure.
        class: Class,
        /// For people.
        message: String,
    },
    /// The host in `repositoryUri` is not one.
    #[error(transparent)]
    Endpoint(#[from] crate::registry::Error),
    /// The account or region is not known.
    #[error("{0}")]
    Unconfigured(String),
}

impl Error {
    /// From what the SDK returns.
    pub(super) fn from_sdk<E>(
        operation: &'static str,
        thing: &str,
        error: &SdkError<E, HttpResponse>,
    ) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        match error {
            SdkError::ServiceError(service) => {
                let code = service.err().code().unwrap_or("Unknown");
                let status = service.raw().status().as_u16();
                let message = service.err().message().unwrap_or("no message");
                let message = match advice(operation, code) {
                    Some(advice) => format!("{}: {advice}", message.trim_end_matches('.')),
                    None => message.to_owned(),
                };
                Self::Refused {
                    operation,
                    thing: thing.to_owned(),
                    code: code.to_owned(),
                    message,
                    class: class_of(operation, code, status),
                }
            }
            other => {
                if let Some(ours) = ours_within(other) {
                    // The keys could not be had: what STS said of that is what a person must know.
                    let (message, class) = (format!("no credentials: {ours}"), ours.class());
                    return Self::Unanswered { operation, thing: thing.to_owned(), message, class };
                }
                let message = DisplayErrorContext(other).to_string();
                // The SDK has no public type for "no credential": it comes as a dispatch failure
                // with this text.
                let class = if message.contains("redentials") {
                    Class::AuthenticationFailed
                } else {
                    Class::RegistryUnavailable
                };
                Self::Unanswered {
                    operation,
                    thing: thing.to_owned(),
                    message: without_debug(&message),
                    class,
                }
            }
        }
    }

    /// The kind of failure.
    #[must_use]
    pub const fn class(&self) -> Class {
        match self {
            Self::Refused { class, .. }
            | Self::Unanswered { class, .. }
            | Self::NoToken { class, .. } => *class,
            Self::Incomplete { .. } | Self::Endpoint(_) => Class::Internal,
            Self::Unconfigured(_) => Class::InvalidSpec,
        }
    }

    /// AWS's error code, where it gave one.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            _ => None,
        }
    }
}

/// Turns the error `code`, which says that the thing does not (or does already) exist, into `None`.
pub(super) fn none_if<T, E>(
    result: Result<T, SdkError<E, HttpResponse>>,
    code: &str,
    operation: &'static str,
    thing: &str,
) -> Result<Option<T>, Error>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match result {
        Ok(answer) => Ok(Some(answer)),
        Err(SdkError::ServiceError(error)) if error.err().code() == Some(code) => Ok(None),
        Err(error) => Err(Error::from_sdk(operation, thing, &error)),
    }
}

/// An error of ours among the causes: that of a role's keys, which the SDK asked us for.
fn ours_within<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Error> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(ours) = error.downcast_ref::<Error>() {
            return Some(ours);
        }
        cause = error.source();
    }
    None
}

/// `DisplayErrorContext` ends with the whole `Debug` text in parentheses: useful in a log, not in a
/// condition, and it holds request ids that would make every message different.
fn without_debug(message: &str) -> String {
    message.split(" (").next().unwrap_or(message).to_owned()
}

/// What to change, where AWS's own text does not say it.
fn advice(operation: &str, code: &str) -> Option<&'static str> {
    Some(match (operation, code) {
        (_, "KmsException") => {
            "name a key in spec.encryption.kmsKey that is enabled, in this region, and that the operator's role may use \
             (kms:DescribeKey, kms:CreateGrant), or leave it out"
        }
        (_, "TooManyTagsException") => {
            "ECR allows 50 resource tags: take keys out of spec.resourceTags or the default tags, or remove others from the \
             repository"
        }
        (_, "InvalidTagParameterException") => "correct spec.resourceTags or the default tags",
        ("ecr:CreateRepository", "LimitExceededException") => {
            "have the quota of repositories raised (Service Quotas, Amazon ECR), or delete repositories that nobody needs"
        }
        (_, "LimitExceededException") => {
            "have the quota raised (Service Quotas, Amazon ECR), or let a lifecycle policy remove images that nobody needs"
        }
        ("ecr:PutLifecyclePolicy", "InvalidParameterException" | "ValidationException") => {
            "correct lifecyclePolicy; aws ecr start-lifecycle-policy-preview tries it out"
        }
        ("ecr:SetRepositoryPolicy", "InvalidParameterException" | "ValidationException") => {
            "correct permissionPolicy: every principal must exist, actions start with ecr:, and there is no Resource"
        }
        (_, code) if is_unknown_call(code) => {
            "ECR does not know this call in this region: take the field that needs it out of the spec"
        }
        _ => return None,
    })
}

/// AWS's words for a call that a region does not have.
fn is_unknown_call(code: &str) -> bool {
    matches!(
        code,
        "UnknownOperationException"
            | "UnsupportedOperationException"
            | "UnsupportedCommandException"
            | "InvalidAction"
    )
}

/// The kind of failure that an AWS error code stands for.
///
/// ThrottlingException, AccessDeniedException and expired sessions are not modelled per operation,
/// so this goes by code. `LimitExceededException` is a hard quota in ECR, although the SDK counts
/// it as throttling.
fn class_of(operation: &str, code: &str, status: u16) -> Class {
    let about_a_policy = matches!(
        operation,
        "ecr:PutLifecyclePolicy"
            | "ecr:SetRepositoryPolicy"
            | "ecr:DeleteLifecyclePolicy"
            | "ecr:DeleteRepositoryPolicy"
    );
    match code {
        "AccessDeniedException"
        | "AccessDenied"
        | "KmsException"
        | "BlockedByOrganizationPolicyException"
        | "RegionDisabledException" => Class::AccessDenied,
        "ExpiredTokenException"
        | "ExpiredToken"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "MissingAuthenticationTokenException"
        | "MissingAuthenticationToken"
        | "IncompleteSignature"
        | "InvalidAccessKeyId"
        | "InvalidIdentityToken"
        | "IDPRejectedClaim"
        | "OptInRequired" => Class::AuthenticationFailed,
        "ThrottlingException"
        | "Throttling"
        | "RequestLimitExceeded"
        | "TooManyRequestsException"
        | "RequestThrottled"
        | "SlowDown" => Class::RateLimited,
        "LimitExceededException" => Class::QuotaExceeded,
        "RepositoryNotEmptyException" => Class::RepositoryNotEmpty,
        "ImageTagAlreadyExistsException" => Class::TagImmutable,
        "InvalidParameterException" | "ValidationException" if about_a_policy => {
            Class::PolicyRejected
        }
        "InvalidParameterException"
        | "ValidationException"
        | "ValidationError"
        | "InvalidTagParameterException"
        | "TooManyTagsException" => Class::InvalidSpec,
        code if is_unknown_call(code) => Class::InvalidSpec,
        // Somebody deleted or made something between two calls, or an upstream of ECR's own is
        // away: the next run sees.
        "RepositoryNotFoundException"
        | "RepositoryAlreadyExistsException"
        | "LifecyclePolicyNotFoundException"
        | "RepositoryPolicyNotFoundException"
        | "ImageNotFoundException"
        | "LayersNotFoundException"
        | "ReferencedImagesNotFoundException"
        | "UploadNotFoundException"
        | "LayerInaccessibleException"
        | "UnableToGetUpstreamImageException"
        | "UnableToGetUpstreamLayerException"
        | "ServerException"
        | "InternalFailure"
        | "InternalServerError"
        | "IDPCommunicationError"
        | "ServiceUnavailable"
        | "ServiceUnavailableException" => Class::RegistryUnavailable,
        _ if status == 429 => Class::RateLimited,
        _ if status >= 500 => Class::RegistryUnavailable,
        _ => Class::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The errors that ECR's service model names (botocore, `ecr/2015-09-21`), and those that any
    /// AWS service may give.
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
                "ExpiredTokenException ExpiredToken UnrecognizedClientException InvalidClientTokenId InvalidAccessKeyId \
                 InvalidSignatureException SignatureDoesNotMatch MissingAuthenticationTokenException \
                 MissingAuthenticationToken IncompleteSignature OptInRequired InvalidIdentityToken",
            ),
            (
                RateLimited,
                "ThrottlingException Throttling TooManyRequestsException RequestLimitExceeded RequestThrottled SlowDown",
            ),
            // Of calls that are never made, or answers to what is never sent: a defect if one
            // comes.
            (
                Internal,
                "LifecyclePolicyPreviewInProgressException LifecyclePolicyPreviewNotFoundException \
                 ImageAlreadyExistsException ImageDigestDoesNotMatchException InvalidLayerPartException InvalidLayerException \
                 LayerPartTooSmallException LayerAlreadyExistsException EmptyUploadException ImageArchivedException \
                 ImageStorageClassUpdateNotSupportedException RegistryPolicyNotFoundException ScanNotFoundException \
                 UnsupportedImageTypeException TemplateAlreadyExistsException TemplateNotFoundException \
                 PullThroughCacheRuleAlreadyExistsException PullThroughCacheRuleNotFoundException SecretNotFoundException \
                 UnableToAccessSecretException UnableToDecryptSecretValueException UnsupportedUpstreamRegistryException \
                 UnableToListUpstreamImageReferrersException ExclusionAlreadyExistsException ExclusionNotFoundException \
                 SigningConfigurationNotFoundException ReplicationBackfillInProgressException \
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
    fn what_a_spec_can_change_is_said() {
        for (operation, code, part) in [
            ("ecr:CreateRepository", "KmsException", "spec.encryption.kmsKey"),
            ("ecr:CreateRepository", "LimitExceededException", "quota of repositories"),
            ("ecr:TagResource", "TooManyTagsException", "spec.resourceTags"),
            ("ecr:PutLifecyclePolicy", "InvalidParameterException", "correct lifecyclePolicy"),
            ("ecr:SetRepositoryPolicy", "InvalidParameterException", "every principal must exist"),
            (
                "ecr:PutImageTagMutability",
                "UnknownOperationException",
                "take the field that needs it out of the spec",
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
            "AWS names the right"
        );
    }

    #[test]
    fn the_call_and_the_status_count_too() {
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
