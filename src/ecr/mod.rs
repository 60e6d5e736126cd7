//! The control plane of Amazon ECR: repositories, policies, resource tags, tag -> digest, tokens.
//!
//! - `session`: the AWS identity of the process, and one [`Registry`] per (account, region,
//!   identity)
//! - `identity`, `assume_role`: roles and ServiceAccounts, external IDs, their credentials
//! - `own_identity`, `no_identity`: whether AWS accepts the identity of this process itself, and what
//!   to do if not
//! - `token`, `public`: logins to `/v2/` of private registries and of public.ecr.aws
//! - `expiring`: the cache behind tokens and credentials
//! - `registry`: one account and region; `rate_limits`: its calls per second
//! - `repository`, `settings`, `repositories`, [`policy`], `policies`: repositories, their settings
//!   and policies
//! - `images`: tag -> digest, and which blobs are missing; `archive`: archived images; `contents`:
//!   all images of a repository, and the removal of tags
//! - `pull_through`: pull-through cache rules
//! - `owner`: the resource tags with the owner of a repository
//! - `host`: host names of ECR; `error`: AWS error codes, their class and advice; `counting`:
//!   metrics of AWS calls; `auditing`: the audit trail of calls that write
//!
//! Nothing here counts as a pull: tags and digests come from DescribeImages and ListImages, since
//! BatchGetImage and manifest GETs move `lastRecordedPullTime` and so defeat lifecycle rules
//! (aws/containers-roadmap#2390).

mod archive;
mod assume_role;
mod auditing;
mod contents;
mod counting;
mod error;
mod expiring;
mod host;
mod identity;
mod images;
mod no_identity;
mod own_identity;
mod owner;
mod policies;
pub(crate) mod policy;
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

pub(crate) use archive::Archived;
pub(crate) use contents::{Removal, Stored, TagToRemove};
pub use error::Error;
pub(crate) use host::{HOSTS, Host};
pub use identity::{Identity, Roles};
pub(crate) use identity::{NoToken, ServiceAccount, ServiceAccountTokens};
pub(crate) use images::Images;
pub use own_identity::Standing;
pub use owner::Owner;
pub(crate) use owner::{CREATED_TAG, OWNER_TAG};
pub(crate) use public::is_public;
pub use rate_limits::{Rates, Share};
pub use registry::Registry;
pub(crate) use repository::Repository;
pub(crate) use role::RoleArn;
pub(crate) use session::partition;
pub use session::{Location, Options, Session};
pub(crate) use settings::{Encryption, Mutability, Settings};
