//! The check of the AWS identity, once before the batch: without one, each repository would fail.

use crate::ecr::{self, Identity, Location};
use crate::inventory::Entry;
use crate::sync::Engine;

/// Checks the identity that the entries use.
///
/// # Errors
/// If there is no identity that AWS accepts, or no region. Any other failure may pass, and is left to
/// the calls of each repository.
pub(super) async fn check(engine: &Engine, entries: &[Entry]) -> Result<(), ecr::Error> {
    let used = entries.iter().filter(|Entry { spec, .. }| {
        // A ServiceAccount has its own identity, which only the operator can use.
        !spec.suspend && spec.registry.service_account.is_none()
    });
    let regions: Vec<_> =
        used.map(|entry| entry.spec.registry.location.region.as_deref()).collect();
    let Some(&first) = regions.first() else { return Ok(()) };

    let own = engine.resolve_location(&Location::default(), &Identity::default()).region;
    let region = match own.as_deref() {
        None if regions.contains(&None) => None,
        own => own.or(first),
    };
    match engine.check_identity(region).await {
        Err(error @ (ecr::Error::NoIdentity(_) | ecr::Error::Unconfigured(_))) => Err(error),
        _ => Ok(()),
    }
}
