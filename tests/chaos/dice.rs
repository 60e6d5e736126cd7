//! The random numbers of a run.

use std::hash::Hash;

use fastrand::Rng;

use crate::hash::hash;

/// The seed of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seed(pub(super) u64);

impl Seed {
    /// Returns the random numbers for one purpose. They depend on the seed and the purpose alone,
    /// not on what was drawn before: a fault stays the same when something else changes.
    pub(super) fn rng(self, purpose: impl Hash) -> Rng {
        Rng::with_seed(hash((self.0, purpose)))
    }
}

/// Whether an event with this probability happens.
pub(super) fn happens(rng: &mut Rng, probability: f64) -> bool {
    rng.f64() < probability
}

/// One of these values.
pub(super) fn one_of<'a, T>(rng: &mut Rng, values: &'a [T]) -> &'a T {
    &values[rng.usize(..values.len())]
}
