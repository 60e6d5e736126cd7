//! What a pass knows from earlier ones. Losing it costs requests, never correctness.

use std::collections::{BTreeMap, BTreeSet};

use super::{Attempts, Held, Look, Pruning, Rebuilt, Vanished};
use crate::registry::Tag;

/// What earlier passes left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Before {
    /// What was in ECR when the last pass over the same generation of the spec ended.
    pub held: Held,
    /// Tags that vanished, as far as they were reported.
    pub vanished: BTreeMap<Tag, Vanished>,
    /// What was made of indexes of which only some platforms are wanted.
    pub rebuilt: BTreeMap<Tag, Rebuilt>,
    /// Keys of resource tags that we set: ours to remove when they are no longer wanted.
    pub managed_tag_keys: BTreeSet<String>,
    /// The revision of the configuration that was in place last; a difference from it is drift.
    pub configuration: Option<String>,
    /// What the last whole look found; `None` asks for another one.
    pub look: Option<Look>,
    /// The sources are asked, too, what the indexes that are in sync name, and ECR whether it has
    /// that.
    pub inspects: bool,
    /// What there was to remove when it was looked for last.
    pub pruning: Option<Pruning>,
    /// Values that were written and not found again.
    pub attempts: Attempts,
}
