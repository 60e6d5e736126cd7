//! A client for OCI registries (<https://github.com/opencontainers/distribution-spec>). It knows
//! nothing of ECR or Kubernetes.
//!
//! [`Client`] is one registry seen with one [`Credential`]; all clients share one [`Transport`].
//! Manifests and tag lists are small requests, retried inside; blobs are streams ([`BlobStream`])
//! that are checked while they pass, and [`copy_blob`] moves one from one client to another.
//!
//! | file | noun |
//! |---|---|
//! | `reference`, `digest` | names: [`Reference`], [`Tag`], [`Digest`] |
//! | `descriptor`, `manifests` | [`Descriptor`], [`Manifest`] and what is done with them |
//! | `platforms` | which children of an index are wanted |
//! | `tags`, `referrers` | tag lists, and what refers to a manifest |
//! | `blobs`, `verify` | reading blobs, and checking them |
//! | `upload`, `parts`, `copy` | writing blobs, whole or in parts, and moving them |
//! | `client`, `limit`, `quota`, `retry` | one request: its slot, its share of what is allowed, its login, its retries |
//! | `auth`, `challenge`, `token` | how to log in |
//! | `docker_config` | credentials in docker's file format |
//! | `transport` | connections: TLS, proxies, timeouts |
//! | `addresses` | redirects, and which addresses may be followed |
//! | `bodies` | response bodies, read with a bound |
//! | `warnings` | warnings that registries send to their users |
//! | `error`, `failure`, `answer` | [`Error`] (the step), [`Failure`] (the cause), and the meaning of a registry's error answers |

mod addresses;
mod answer;
mod auth;
mod blobs;
mod bodies;
mod challenge;
mod client;
mod copy;
mod descriptor;
mod digest;
pub mod docker_config;
mod error;
mod failure;
mod hosts;
mod json;
mod limit;
mod manifests;
mod parts;
mod platforms;
mod quota;
mod reference;
mod referrers;
mod retry;
mod tags;
#[cfg(test)]
pub(crate) mod tests;
mod token;
mod transport;
mod upload;
mod verify;
mod warnings;

pub use answer::Answer;
pub use auth::{Authenticator, Credential, StaticAuthenticator};
pub use blobs::BlobStream;
pub use client::{Client, Endpoint, Options, Scheme};
pub use copy::{Moved, copy_blob, mount_or_copy_blob};
pub use descriptor::{Descriptor, Platform};
pub use digest::{Algorithm, Digest};
pub use error::Error;
pub use failure::Failure;
pub use hosts::AllowedHosts;
pub use limit::{Gate, Limits, Widths};
pub use manifests::{
    Content, DOCKER_LIST, DOCKER_MANIFEST, MOST_MANIFEST_BYTES, Manifest, OCI_INDEX, OCI_MANIFEST,
    Resolved,
};
pub use platforms::{Narrowed, Platforms};
pub use quota::{Quota, Reserve};
pub use reference::{DOCKER_HUB, ParseError, Reference, Tag, TagOrDigest};
pub use retry::Policy;
// For chart repositories, which are HTTP servers like any other.
pub(crate) use addresses::{authority, is_link_local, same_origin};
pub(crate) use bodies::{asked_wait, next_chunk, read_answer, read_body};
pub(crate) use retry::retrying;
pub use transport::{Body, ClientIdentity, Proxy, Request, Transport, TransportOptions};
pub use upload::Observer;
