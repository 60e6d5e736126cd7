//! The audit trail of the control plane: a line for each call that writes.

use aws_sdk_ecr::config::interceptors::FinalizerInterceptorContextRef;
use aws_sdk_ecr::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_ecr::error::BoxError;

use super::counting::{operation_of, result_of};
use super::error::class_of;
use crate::class::Class;
use crate::writes::Written;

/// Calls that only read. Every other call is a write, also one that is added later.
const READS: [&str; 3] = ["Get", "Describe", "List"];
const READING_BATCHES: [&str; 2] = ["BatchCheckLayerAvailability", "BatchGetImage"];

/// Logs the calls that write, each once: the line has the last of its attempts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Auditing;

fn is_write(operation: &str) -> bool {
    !READS.iter().any(|verb| operation.starts_with(verb)) && !READING_BATCHES.contains(&operation)
}

impl Intercept for Auditing {
    fn name(&self) -> &'static str {
        "Auditing"
    }

    fn read_after_execution(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let operation = operation_of(config);
        if is_write(operation) {
            let response = context.response();
            let result = result_of(response);
            let status = response.map_or(0, |response| response.status().as_u16());
            // A throttled call wrote nothing, and is called again.
            if class_of(operation, &result, status) == Class::RateLimited {
                return Ok(());
            }

            let request_id = response.and_then(|response| {
                let headers = response.headers();
                headers.get("x-amzn-requestid").or_else(|| headers.get("x-amz-request-id"))
            });
            Written {
                operation,
                content: "",
                request_id: request_id.unwrap_or_default(),
                result: &result,
            }
            .log();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::is_write;

    #[test]
    fn everything_that_does_not_only_read_is_a_write() {
        for read in [
            "DescribeRepositories",
            "GetAuthorizationToken",
            "ListTagsForResource",
            "BatchCheckLayerAvailability",
            "BatchGetImage",
        ] {
            assert!(!is_write(read), "{read}");
        }
        for write in
            ["CreateRepository", "BatchDeleteImage", "PutLifecyclePolicy", "UntagResource", "New"]
        {
            assert!(is_write(write), "{write}");
        }
    }
}
