//! The writes to AWS: whether they may be done now, and the audit trail, which has one log line for
//! each of them.
//!
//! What is known about a write is known in different places: the author at the start of a pass, the
//! change where an action is carried out, the request id where the answer is read. They meet here,
//! in values of the task, so that no layer has to pass on what only the line needs. A write whose
//! code says nothing has a line all the same.

mod leadership;
mod rights;

use std::future::Future;

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::text::shortened;

pub(crate) use leadership::{Grant, Leadership};
pub(crate) use rights::Rights;

/// Longest value in a line, in characters. Policies are longer: CloudTrail has them whole.
const LONGEST_VALUE: usize = 200;

tokio::task_local! {
    static AUTHOR: Author;
    static CHANGE: Change;
}

/// The author of writes: a resource, or a run of the command line.
#[derive(Clone, Debug)]
pub(crate) struct Author {
    /// `namespace/name` of the resource, or `command line`.
    pub(crate) resource: String,
    /// Generation of the resource.
    pub(crate) generation: Option<i64>,
    /// Name of the repository.
    pub(crate) repository: String,
    /// The right to write.
    pub(crate) leadership: Leadership,
}

/// A change of one field of a repository, as the audit trail shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// The field of the spec.
    pub(crate) field: &'static str,
    /// The value in ECR before; empty if there is none, or if it is not known.
    pub(crate) before: String,
    /// The value after; empty if there is none.
    pub(crate) after: String,
}

impl Author {
    /// Runs `work` as this author.
    pub(crate) fn writes<'a, T: 'a>(
        self,
        work: impl Future<Output = T> + Send + 'a,
    ) -> BoxFuture<'a, T> {
        // Boxed, as the other two: passes are large futures, and a thread's stack is limited.
        AUTHOR.scope(self, work.boxed()).boxed()
    }
}

/// Carries out a write that only one process should do, while this process may.
pub(crate) fn write<T>(change: Change, call: impl Future<Output = T>) -> impl Future<Output = T> {
    let call = CHANGE.scope(change, Box::pin(call));
    async {
        let leadership = AUTHOR.try_with(|author| author.leadership.clone()).unwrap_or_default();
        leadership.carry_out(call).await
    }
}

/// Runs a task of its own as the author of this one.
pub(crate) fn inherited<'a, T: 'a>(work: impl Future<Output = T> + Send + 'a) -> BoxFuture<'a, T> {
    match AUTHOR.try_with(Clone::clone) {
        Ok(author) => author.writes(work),
        Err(_outside) => work.boxed(),
    }
}

/// Logs content that was sent to the data plane, whose answers have no request id. `result` is `OK`
/// or the kind of failure.
pub(crate) fn sent(operation: &str, content: &str, result: &str) {
    Written { operation, content, request_id: "", result }.log();
}

/// The answer to a write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written<'a> {
    /// Name of the operation, as in CloudTrail.
    pub(crate) operation: &'a str,
    /// Tag or digest of what was written, for content.
    pub(crate) content: &'a str,
    /// AWS's id of the request.
    pub(crate) request_id: &'a str,
    /// `OK`, or the error code.
    pub(crate) result: &'a str,
}

impl Written<'_> {
    /// Writes the line of the audit trail.
    pub(crate) fn log(self) {
        let Self { operation, content, request_id, result } = self;
        let author = AUTHOR.try_with(|Author { resource, generation, repository, .. }| {
            (resource.clone(), *generation, repository.clone())
        });
        let (resource, generation, repository) = author.unwrap_or_default();
        let Change { field, before, after } = CHANGE.try_with(Clone::clone).unwrap_or_default();
        let (before, after) = (shortened(&before, LONGEST_VALUE), shortened(&after, LONGEST_VALUE));

        tracing::info!(
            target: "ecr_sync::audit",
            resource,
            generation,
            operation,
            repository,
            field,
            %before,
            %after,
            content,
            result,
            request_id,
            "wrote to AWS"
        );
    }
}
