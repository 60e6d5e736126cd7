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
mod chart_comparison;
mod charts;
mod configuration;
mod copy;
pub mod defaults;
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
pub use action::{Action, Attempt, Attempts, Drift, Plan, Pruning};
pub use artifact::{
    ArtifactKind, Derived, DesiredArtifact, Source, SourceContent, SourceTag, TagState, WantedTag,
};
pub use defaults::{DefaultFiles, Defaults};
pub use delete::Deletion;
pub use desired::Desired;
pub use earlier::{Earlier, Look};
pub use engine::{Bounds, Engine};
pub use expired::{Expired, Held};
pub use field::Field;
pub use job::{Access, Accesses, EcrLogin, EcrSource, Job, Mirrored, Mode};
pub use observed::{Observed, ObservedRepository};
pub use origin::{Origin, Rebuilt};
pub use outcomes::ReferrersReport;
pub use ownership::{Claim, Claimant, OwnerLookup, OwnerRules, RecordedRepository};
pub use plan::plan;
pub use preview::{Preview, TransferSize};
pub use progress::{ActionListener, Count, Progress, Snapshot, Step};
pub use report::{ArtifactReport, Report};
