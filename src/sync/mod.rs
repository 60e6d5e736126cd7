//! The engine: one pass over one repository, for the controller and for the command line alike.
//!
//! ```text
//! resolve   spec  -> Desired     wanted tags, with digests           (reads the source)
//! observe   spec  -> Observed    repository, policies, tag -> digest (reads ECR; never pulls)
//! plan      Desired x Observed -> Plan, a list of actions            (pure)
//! apply     Plan  -> Outcomes    one outcome per action              (writes ECR, copies)
//! report    Outcomes -> Report   for status, events, the terminal    (writes nothing)
//! ```
//!
//! [`Engine`] is shared by all passes of a process. `pass.rs` has the flow; each step is a module.

mod action;
mod apply;
mod artifact;
mod change;
mod chart_comparison;
mod charts;
mod configuration;
mod copy;
mod defaults;
mod delete;
mod desired;
mod earlier;
mod engine;
mod expired;
mod field;
mod incomplete_index;
mod job;
mod observe;
mod observed;
mod origin;
mod outcomes;
mod ownership;
mod pass;
mod plan;
mod preview;
mod progress;
mod prune;
mod quick_look;
mod referrers;
mod report;
mod resolve;
mod sources;
mod target;
mod throttle;

pub use crate::failure::Failure;
pub(crate) use action::{Action, Attempts, Pruning};
pub(crate) use artifact::{ArtifactKind, Derived, TagState};
pub(crate) use defaults::{DefaultFiles, Defaults};
pub(crate) use delete::Deletion;
pub use earlier::Earlier;
pub(crate) use earlier::Look;
pub use engine::{Bounds, Engine};
pub(crate) use expired::{Expired, Held};
pub(crate) use field::Field;
pub use job::{Access, Accesses, Job, Mode};
pub(crate) use job::{Connection, EcrLogin, EcrSource, Mirrored, Way};
pub(crate) use origin::Rebuilt;
pub(crate) use outcomes::ReferrersReport;
pub use ownership::{Claim, Claimant, OwnerRules};
pub(crate) use ownership::{OwnerLookup, RecordedRepository};
pub(crate) use preview::{Preview, TransferSize};
pub use progress::Progress;
pub(crate) use progress::{ActionListener, Count, Snapshot, Step};
pub(crate) use report::ArtifactReport;
pub use report::Report;
