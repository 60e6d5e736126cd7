//! Runs reconciles: in the order in which their resources were woken, a limited number at a time,
//! never two of one resource.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::action::Action;
use super::context::Context;
use super::key::Key;
use super::reconcile::{on_error, reconcile};

/// Runs until `stop` is cancelled. Then no reconcile begins, and the running ones are waited for.
/// Nothing is reconciled before the first list is complete: the claims of older resources could be
/// missing.
pub(super) async fn run(context: &Arc<Context>, stop: &CancellationToken) {
    tokio::select! {
        biased;
        () = stop.cancelled() => return,
        () = context.store.is_listed() => {}
    }

    let limit = usize::from(context.options.concurrency);
    let mut running = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(()) = running.next() => {}
            key = context.wakes.next(), if running.len() < limit => {
                running.push(reconcile_one(context, key));
            }
        }
    }
    while running.next().await.is_some() {}
}

async fn reconcile_one(context: &Arc<Context>, key: Key) {
    let Some(object) = context.store.get(&key) else {
        // It was deleted while it was queued.
        return context.wakes.ended(key, Action::await_change());
    };

    let span = tracing::info_span!("reconcile", object = %key);
    let result = reconcile(&object, context).instrument(span).await;
    let action = result.unwrap_or_else(|error| {
        tracing::warn!(object = %key, %error, "reconcile failed, retrying");
        on_error(&object, context)
    });
    context.wakes.ended(key.clone(), action);
    context.catch_up(&key, object.metadata.uid.as_deref().unwrap_or_default());
}
