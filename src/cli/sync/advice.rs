//! What to do about a failure, for whoever reads a pipeline's log.

use crate::class::Class;

/// What to do about a failure of this kind; its message says what happened.
pub(super) const fn advice(class: Class) -> &'static str {
    match class {
        Class::InvalidSpec => "correct the file: the message names the field",
        Class::SecretNotFound => "create the Secret, or give the login by a docker config",
        Class::AuthenticationFailed => {
            "check the login: `docker login HOST` for a source, the AWS credentials (`aws sts get-caller-identity`) for ECR"
        }
        Class::AccessDenied => {
            "grant the identity the action that the message names, or use an identity that has it"
        }
        Class::SourceNotFound => {
            "check image and tag for typing errors; a private source also answers so without a login"
        }
        Class::SourceInvalid => {
            "run again; if it stays, the source is damaged: tell whoever runs it"
        }
        Class::SourceChanged => {
            "look at what changed in the source, then move the pin, or let onSourceChange overwrite"
        }
        Class::RateLimited => {
            "run again later, log in to the source, or read from a mirror (--mirrors-file)"
        }
        Class::RegistryUnavailable => {
            "run again; check the network, a proxy (HTTPS_PROXY) and certificates if it stays"
        }
        Class::TagCollision => {
            "narrow the selector of the image or the chart, so that no tag is both"
        }
        Class::TagImmutable => {
            "delete the tag in ECR, take it out of the file, or exclude it from immutability"
        }
        Class::QuotaExceeded => {
            "raise the quota in AWS Service Quotas, or remove what is no longer used"
        }
        Class::RepositoryNotOwned => {
            "change the resource in the cluster instead, or use --take-over"
        }
        Class::RepositoryNotEmpty => "remove the images first, or leave the repository",
        Class::Conflict => "describe the repository in one place only",
        Class::PolicyRejected => "correct the policy: the message is what AWS says about it",
        Class::LifecycleConflict => {
            "change the lifecycle rule that removes the tag, or no longer ask for the tag"
        }
        Class::PruneBlocked => {
            "see to what the message names and run again: until then nothing is removed"
        }
        Class::Timeout => {
            "run again: what was copied stays; allow more by timeout if the source is slow"
        }
        Class::Cancelled => "run again: what was copied stays",
        Class::Internal => "please report it, with the output of -v",
    }
}
