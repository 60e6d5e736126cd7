//! The control plane of Amazon ECR: repositories, policies, resource tags, tag -> digest, tokens.
//!
//! - `session`: the AWS identity of the process, and one [`Registry`] per (account, region,
//!   identity)
//! - `identity`, `assume_role`: roles and ServiceAccounts, external ids, their credentials
//! - `token`, `public`: logins to `/v2/` of private registries and of public.ecr.aws
//! - `expiring`: the cache behind tokens and credentials
//! - `registry`: one account and region; `rate_limits`: its calls per second
//! - `repository`, `settings`, `repositories`, [`policy`], `policies`: repositories, their settings
//!   and policies
//! - `images`: tag -> digest, and which blobs are missing; `archive`: archived images; `contents`:
//!   all images of a repository, and the removal of tags
//! - `pull_through`: pull-through cache rules
//! - `owner`: the resource tags that say who owns a repository
//! - `host`: host names of ECR; `error`: AWS error codes, their class and advice; `counting`:
//!   metrics of AWS calls
//!
//! Nothing here counts as a pull: tags and digests come from DescribeImages and ListImages, since
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
