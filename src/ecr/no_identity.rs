//! A missing AWS identity, in one line: which errors mean that this process has no identity that
//! AWS accepts, and what the reader should do about it.

use std::error::Error as _;
use std::path::Path;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_sts::operation::assume_role::AssumeRoleError;
use aws_sdk_sts::operation::assume_role_with_web_identity::AssumeRoleWithWebIdentityError;
use aws_smithy_runtime_api::client::result::ConnectorError;

use super::error::{Error, class_of};
use crate::causes::with_causes;
use crate::class::Class;

/// The reader of the advice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    /// The administrator of the operator.
    Cluster,
    /// A person at a terminal, or the author of a pipeline.
    Terminal,
}

/// The environment that the advice depends on.
#[derive(Clone, Debug)]
pub(super) struct Advice {
    reader: Reader,
    /// AWS_PROFILE.
    profile: Option<String>,
    /// AWS_ROLE_ARN: the role of a web identity, as with IRSA.
    role: Option<String>,
    /// AWS_WEB_IDENTITY_TOKEN_FILE.
    token_file: Option<String>,
}

impl Advice {
    /// The advice for this process; `in_cluster` for the operator.
    pub(super) fn of_process(in_cluster: bool) -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            reader: if in_cluster { Reader::Cluster } else { Reader::Terminal },
            profile: variable("AWS_PROFILE"),
            role: variable("AWS_ROLE_ARN"),
            token_file: variable("AWS_WEB_IDENTITY_TOKEN_FILE"),
        }
    }

    /// Returns the line for a failed load of credentials; `None` if the next attempt may succeed
    /// without a correction.
    pub(super) fn without_credentials(&self, error: &CredentialsError) -> Option<String> {
        if matches!(error, CredentialsError::CredentialsNotLoaded(_)) {
            return Some(self.no_credentials());
        }

        let refusal = causes(error).find_map(|cause| {
            let by_token = cause.downcast_ref::<AssumeRoleWithWebIdentityError>();
            let by_token = by_token.map(|error| (BY_TOKEN, error.meta()));
            let by_keys = cause.downcast_ref::<AssumeRoleError>();
            by_token.or(by_keys.map(|error| ("sts:AssumeRole", error.meta())))
        });
        if let Some((operation, answer)) = refusal {
            let code = answer.code().unwrap_or("Unknown");
            let message = answer.message().unwrap_or("no message");
            let is_definite = !is_transient(class_of(operation, code, 400));
            return is_definite.then(|| self.refused(operation, &format!("{code}: {message}")));
        }

        let is_definite = !causes(error).any(is_network);
        is_definite.then(|| self.unusable(error))
    }

    /// Turns the answer to sts:GetCallerIdentity into [`Error::NoIdentity`] if it means that.
    pub(super) fn judged(&self, error: Error) -> Error {
        match error {
            // AccessDenied, which the policy of a VPC endpoint may cause, says nothing about the
            // identity.
            Error::Failed { operation, message, class: Class::AuthenticationFailed, .. } => {
                Error::NoIdentity(self.refused(operation, &message))
            }
            error => error,
        }
    }

    /// Returns the line for a process without a region.
    pub(super) fn no_region(&self) -> String {
        match (self.reader, &self.profile) {
            (Reader::Cluster, _) => {
                "the operator has no AWS region: set --region (aws.region in the Helm chart) or \
                 AWS_REGION in its environment, or spec.registry.region in every resource"
                    .to_owned()
            }
            (Reader::Terminal, None) => {
                "no AWS region: set AWS_REGION, choose a profile that has one (AWS_PROFILE), or \
                 use --region"
                    .to_owned()
            }
            (Reader::Terminal, Some(profile)) => format!(
                "no AWS region in the profile {profile:?} (AWS_PROFILE): set AWS_REGION, choose \
                 another profile, or use --region"
            ),
        }
    }

    fn no_credentials(&self) -> String {
        match (self.reader, &self.profile) {
            (Reader::Cluster, _) => {
                "the operator has no AWS identity: annotate its ServiceAccount with \
                 eks.amazonaws.com/role-arn, or create an EKS Pod Identity association; then \
                 restart it"
                    .to_owned()
            }
            (Reader::Terminal, None) => {
                "no AWS credentials: log in (aws sso login), choose a profile (AWS_PROFILE), or \
                 set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
                    .to_owned()
            }
            (Reader::Terminal, Some(profile)) => format!(
                "no AWS credentials in the profile {profile:?} (AWS_PROFILE): log in \
                 (aws sso login --profile {profile}), or choose another profile"
            ),
        }
    }

    /// AWS answered that the identity is not valid.
    fn refused(&self, operation: &str, answer: &str) -> String {
        let role = self.role.as_ref().filter(|_| operation == BY_TOKEN);
        let role = role.map(|role| format!(" on {role}")).unwrap_or_default();
        let identity = match self.reader {
            Reader::Cluster => "AWS refuses the operator's identity",
            Reader::Terminal => "AWS refuses the credentials",
        };
        let advice = match (self.reader, operation) {
            (Reader::Cluster, BY_TOKEN) => {
                "the role's trust policy must allow the cluster's OIDC provider and the \
                 operator's ServiceAccount"
                    .to_owned()
            }
            (Reader::Terminal, BY_TOKEN) => {
                "the role's trust policy must allow the token in AWS_WEB_IDENTITY_TOKEN_FILE"
                    .to_owned()
            }
            (Reader::Cluster, _) => "renew the credentials in its environment, or annotate its \
                 ServiceAccount with eks.amazonaws.com/role-arn"
                .to_owned(),
            (Reader::Terminal, _) => self.log_in(),
        };

        let answer = answer.trim_end_matches('.');
        format!("{identity}: {operation}{role}: {answer}: {advice}")
    }

    /// The credentials exist, but cannot be used.
    fn unusable(&self, error: &CredentialsError) -> String {
        let cause = error.source().map_or_else(|| error.to_string(), with_causes);
        // The causes have it once more, for the provider that a profile names.
        let cause = cause.trim_start_matches("an error occurred while loading credentials: ");
        let cause = cause.trim_end_matches([' ', ':', '.']);
        // The SDK does not name the file.
        let file = self.token_file.as_ref().filter(|file| !Path::new(file).exists());
        let file = file.map(|file| format!("{file} (AWS_WEB_IDENTITY_TOKEN_FILE): "));
        let cause = format!("{}{cause}", file.unwrap_or_default());

        match self.reader {
            Reader::Cluster => format!(
                "the operator has no AWS identity: its credentials cannot be loaded: {cause}"
            ),
            Reader::Terminal => {
                format!("the AWS credentials cannot be loaded: {cause}: {}", self.log_in())
            }
        }
    }

    fn log_in(&self) -> String {
        let profile = self.profile.as_ref().map(|profile| format!(" --profile {profile}"));
        format!(
            "log in again (aws sso login{}), or choose another profile (AWS_PROFILE)",
            profile.unwrap_or_default()
        )
    }
}

/// The call that turns a token into credentials: IRSA, and OIDC in pipelines.
const BY_TOKEN: &str = "sts:AssumeRoleWithWebIdentity";

const fn is_transient(class: Class) -> bool {
    matches!(class, Class::RateLimited | Class::RegistryUnavailable | Class::Timeout)
}

/// Whether this cause is the network's.
fn is_network(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.is::<ConnectorError>()
        || matches!(cause.downcast_ref(), Some(CredentialsError::ProviderTimedOut(_)))
        // `SdkError::TimeoutError`, whose type parameters are not known here.
        || cause.to_string() == "request has timed out"
}

/// Returns the error and its causes.
fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |&cause| cause.source())
}

#[cfg(test)]
mod tests {
    use aws_sdk_ecr::config::http::HttpResponse;
    use aws_sdk_ecr::error::{ErrorMetadata, SdkError};

    use super::*;

    fn advice(reader: Reader) -> Advice {
        let role = "arn:aws:iam::123456789012:role/sync".to_owned();
        Advice { reader, profile: None, role: Some(role), token_file: None }
    }

    /// STS answered a web identity with this error.
    fn refused(code: &str, message: &str) -> CredentialsError {
        let answer = ErrorMetadata::builder().code(code).message(message).build();
        let response = HttpResponse::new(403.try_into().expect("a status"), "".into());
        let error = AssumeRoleWithWebIdentityError::generic(answer);
        CredentialsError::provider_error(SdkError::service_error(error, response))
    }

    #[test]
    fn missing_credentials_are_reported_for_their_reader() {
        let none = CredentialsError::not_loaded("nothing is configured");
        let line = |advice: &Advice| advice.without_credentials(&none).expect("definite");

        let cluster = line(&advice(Reader::Cluster));
        assert!(cluster.starts_with("the operator has no AWS identity: annotate its"), "{cluster}");
        let terminal = advice(Reader::Terminal);
        assert!(line(&terminal).starts_with("no AWS credentials: log in (aws sso login)"));
        let staging = Advice { profile: Some("staging".to_owned()), ..terminal };
        assert!(line(&staging).contains("aws sso login --profile staging"));
    }

    #[test]
    fn a_refused_web_identity_names_role_and_trust_policy() {
        let message = "Not authorized to perform sts:AssumeRoleWithWebIdentity";
        let error = refused("AccessDenied", message);
        assert_eq!(
            advice(Reader::Cluster).without_credentials(&error).expect("definite"),
            "AWS refuses the operator's identity: sts:AssumeRoleWithWebIdentity on \
             arn:aws:iam::123456789012:role/sync: AccessDenied: Not authorized to perform \
             sts:AssumeRoleWithWebIdentity: the role's trust policy must allow the cluster's OIDC \
             provider and the operator's ServiceAccount"
        );
    }

    #[test]
    fn a_network_that_fails_and_throttling_are_not_a_missing_identity() {
        let refused_connection = || ConnectorError::io("connection refused".into());
        let dispatch = SdkError::<AssumeRoleError, HttpResponse>::dispatch_failure;
        let timeout = SdkError::<AssumeRoleError, HttpResponse>::timeout_error("late");
        for error in [
            refused("Throttling", "Rate exceeded"),
            refused("IDPCommunicationError", "the issuer is down"),
            CredentialsError::provider_error(dispatch(refused_connection())),
            CredentialsError::provider_error(timeout),
            CredentialsError::provider_timed_out(std::time::Duration::from_secs(5)),
        ] {
            let line = advice(Reader::Cluster).without_credentials(&error);
            assert_eq!(line, None, "{error:?}");
        }
    }

    #[test]
    fn credentials_that_cannot_be_loaded_name_the_cause() {
        let error = CredentialsError::provider_error("the SSO session has expired");
        let line = advice(Reader::Terminal).without_credentials(&error).expect("definite");
        assert!(
            line.contains("the SSO session has expired: log in again (aws sso login)"),
            "{line}"
        );
        assert!(!line.contains("ProviderError"), "no text for programmers: {line}");
    }

    #[test]
    fn only_a_refusal_of_the_credentials_is_a_missing_identity() {
        let answer = |class| Error::Failed {
            operation: "sts:GetCallerIdentity",
            thing: "the AWS identity in use".to_owned(),
            message: "Code: text".to_owned(),
            class,
        };
        let judged = |class| advice(Reader::Terminal).judged(answer(class));

        assert!(matches!(judged(Class::AuthenticationFailed), Error::NoIdentity(_)));
        for class in [Class::AccessDenied, Class::RateLimited, Class::RegistryUnavailable] {
            assert!(matches!(judged(class), Error::Failed { .. }), "{class:?}");
        }
    }
}
