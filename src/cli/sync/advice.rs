//! Advice for each class of failure, for a reader of a pipeline's log.

use crate::class::Class;

/// Returns the advice for a class of failure; the failure's message tells what happened.
pub(super) const fn advice(class: Class) -> &'static str {
    match class {
        Class::InvalidSpec => "correct the file: the message names the field",
        Class::SecretNotFound => "create the Secret, or use a docker config for the login",
        Class::AuthenticationFailed => {
            "check the login: `docker login HOST` for a source, AWS credentials \
             (`aws sts get-caller-identity`) for ECR"
        }
        Class::AccessDenied => {
            "grant the identity the action in the message, or use another identity"
        }
        Class::SourceNotFound => {
            "check image and tag for typing errors; a private source gives this answer without a \
             login, too"
        }
        Class::SourceInvalid => {
            "run again; if it fails again, the source is damaged: report it to its operator"
        }
        Class::SourceChanged => {
            "check what changed in the source, then update the pinned digest, or set \
             onSourceChange to Overwrite"
        }
        Class::RateLimited => {
            "run again later, log in to the source, or read from a mirror (--mirrors-file)"
        }
        Class::RegistryUnavailable => {
            "run again; if it fails again, check the network, the proxy (HTTPS_PROXY) and \
             certificates"
        }
        Class::TagCollision => {
            "narrow the selector of the image or the chart, so that both select different tags"
        }
        Class::TagImmutable => {
            "delete the tag in ECR, remove it from the file, or exclude it from immutability"
        }
        Class::QuotaExceeded => "raise the quota in AWS Service Quotas, or delete unused resources",
        Class::RepositoryNotOwned => {
            "change the resource in the cluster instead, or use --take-over"
        }
        Class::RepositoryNotEmpty => "delete the images first, or keep the repository",
        Class::Conflict => "describe the repository in one place only",
        Class::PolicyRejected => "correct the policy: the message is the answer of AWS",
        Class::LifecycleConflict => {
            "change the lifecycle rule that expires the tag, or remove the tag from the file"
        }
        Class::PruneBlocked => {
            "solve the problem in the message and run again; nothing is pruned until then"
        }
        Class::Timeout => {
            "run again: everything copied so far is kept; for a slow source, raise the timeout"
        }
        Class::Cancelled => "run again: everything copied so far is kept",
        Class::MemoryPressure => {
            "run again; if it fails again, raise --memory-budget, or sync fewer repositories at a \
             time (--max-parallel-operations)"
        }
        Class::Internal => "please report this bug, with the output of -v",
    }
}
