//! A client for OCI registries (<https://github.com/opencontainers/distribution-spec>), independent
//! of ECR and Kubernetes.
//!
//! [`Client`] is one registry with one [`Credential`]; all clients share one [`Transport`].
//! Manifests and tag lists are small requests, retried inside; blobs are streams ([`BlobStream`])
//! that are checked while they pass, and [`copy_blob`] copies one from one client to another.
//!
//! | file | noun |
//! |---|---|
//! | `reference`, `grammar`, `digest` | names and their grammar: [`Reference`], [`Tag`], [`Digest`] |
//! | `descriptor`, `manifest`, `manifests` | [`Descriptor`], [`Manifest`], and requests for manifests |
//! | `platforms` | the children of an index for the wanted platforms |
//! | `tags`, `tag_list`, `referrers` | tag lists, and the referrers of a manifest |
//! | `blobs`, `verify` | downloads of blobs, and their check |
//! | `upload`, `parts`, `copy` | uploads of blobs, whole or in parts, and copies |
//! | `client`, `request`, `retry` | one request: login, retries |
//! | `limit`, `quota` | concurrency limits, and the pull quota of a login |
//! | `auth`, `challenge`, `token` | the login |
//! | `docker_config` | credentials in docker's file format |
//! | `hosts` | allowlists of hosts |
//! | `transport`, `transport_options`, `round_trip`, `proxy_route` | connections: TLS, proxies, timeouts |
//! | `egress`, `address_kind` | addresses that may be connected to |
//! | `realms` | token servers that may get a login |
//! | `addresses` | redirects, and which targets may be followed |
//! | `bodies` | response bodies, read with a bound |
//! | `warnings` | warnings that registries send to their users |
//! | `error`, `failure`, `answer` | [`Error`] (the step), [`Cause`] (the cause), error answers |

mod address_kind;
mod addresses;
mod answer;
mod auth;
mod blobs;
mod bodies;
mod breaker;
mod cause;
mod challenge;
mod client;
mod copy;
mod descriptor;
mod digest;
pub mod docker_config;
mod egress;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzzing;
mod grammar;
mod hosts;
mod json;
mod limit;
mod manifest;
mod manifests;
mod parts;
mod platforms;
mod proxy_route;
mod quota;
mod realms;
mod reference;
mod referrers;
mod request;
mod retry;
mod round_trip;
mod tag_list;
mod tags;
#[cfg(test)]
pub(crate) mod tests;
mod token;
mod transport;
mod transport_options;
mod upload;
mod verify;
mod warnings;

pub(crate) use addresses::{authority, is_link_local, same_origin};
pub use answer::Answer;
pub use auth::Credential;
pub(crate) use auth::{Authenticator, StaticAuthenticator};
pub(crate) use bodies::{
    BODY_PER_BYTE, Bound, asked_wait, foreign_answer, next_chunk, read_answer,
};
pub use cause::Cause;
pub(crate) use client::{Client, Endpoint, Options, Scheme};
pub(crate) use copy::{Moved, copy_blob, mount_or_copy_blob};
pub use descriptor::{Descriptor, Platform};
pub use digest::Digest;
pub use egress::{AllowedAddress, Egress};
pub use error::Error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use fuzzing::TARGETS as FUZZING;
pub use hosts::AllowedHosts;
pub use limit::Limits;
pub(crate) use limit::{Gate, Widths};
pub use manifest::Manifest;
pub(crate) use manifest::{Content, DOCKER_LIST, MAX_LAYERS, OCI_INDEX, OCI_MANIFEST};
pub(crate) use platforms::Narrowed;
pub use platforms::Platforms;
pub(crate) use quota::Quota;
pub use quota::Reserve;
pub use realms::AllowedRealm;
pub(crate) use reference::{DOCKER_HUB, TagOrDigest};
pub use reference::{ParseError, Reference, Tag};
pub(crate) use request::Request;
pub use retry::RetryPolicy;
pub(crate) use retry::retrying;
pub use round_trip::RoundTrip;
pub(crate) use tag_list::TagList;
pub use transport::Transport;
pub use transport_options::{ClientIdentity, Proxy, TransportOptions};
