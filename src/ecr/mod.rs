//! The control plane of Amazon ECR: repositories, policies, resource tags, tag -> digest, tokens.
//!
//! Nothing here looks like a pull: the inventory comes from DescribeImages and ListImages, since
//! BatchGetImage and manifest GETs move `lastRecordedPullTime` and so defeat lifecycle rules
//! (aws/containers-roadmap#2390).

mod archive;
mod assume_role;
mod contents;
mod counting;
mod error;
mod expiring;
mod host;
mod identity;
mod images;
mod owner;
mod policies;
pub mod policy;
mod public;
mod pull_through;
mod rate_limits;
mod registry;
mod repositories;
mod repository;
mod role;
mod session;
mod settings;
mod token;

pub use archive::Archived;
pub use contents::{Page, Removal, Stored};
pub use error::Error;
pub use host::Host;
pub use identity::{Identity, NoToken, Roles, ServiceAccount, ServiceAccountTokens};
pub use images::Images;
pub use owner::{CREATED_TAG, OWNER_TAG, Owner};
pub use public::is_public;
pub use rate_limits::{RateLimiter, RateLimits, Rates};
pub use registry::Registry;
pub use repository::Repository;
pub use role::{NotARole, RoleArn};
pub use session::{Location, Options, Session, partition};
pub use settings::{Encryption, Mutability, Settings};
