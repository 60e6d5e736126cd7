//! A manifest: its bytes and digest, and the content that it refers to.

use bytes::Bytes;
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::bodies::BODY_PER_BYTE;
use super::cause::Cause;
use super::descriptor::Descriptor;
use super::digest::Digest;
use super::error::Error;
use super::json::object;
use crate::memory_budget::Need;

/// The most layers of an image that ECR accepts.
pub(crate) const MAX_LAYERS: usize = 4200;
/// The most children of an index, or referrers on a page. Real ones have hundreds.
const MAX_CHILDREN: usize = 10_000;
/// The memory of a manifest: its body, texts in it, and descriptors, each of which takes at least
/// 92 bytes of the body. A list of descriptors is up to three times as large while it grows.
pub(super) const NEED: Need = Need {
    fixed: 64 * 1024,
    per_byte: BODY_PER_BYTE + 1,
    parsed: (5, 2 * MAX_CHILDREN * 3 * (size_of::<Descriptor>() + 32)),
};

/// OCI image manifest.
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image index.
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Docker image manifest, schema 2.
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker manifest list.
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// A manifest as the registry sent it. Its digest was computed from its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The bytes; never re-serialised.
    pub bytes: Bytes,
    /// The media type, by the `Content-Type` header or by the body.
    pub media_type: String,
    /// The digest of the bytes.
    pub digest: Digest,
}

/// The content that a manifest refers to.
#[allow(clippy::large_enum_variant)] // matched where it is created: a box would gain nothing
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// An index or manifest list.
    Index {
        /// The children, in order, with duplicates.
        children: Vec<Descriptor>,
    },
    /// An image or artifact manifest.
    Image {
        /// The configuration.
        config: Descriptor,
        /// The layers, in order, with duplicates.
        layers: Vec<Descriptor>,
        /// The manifest that this one is attached to.
        subject: Option<Descriptor>,
    },
}

/// The fields of all kinds of manifests that are read here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: Option<u64>,
    media_type: Option<String>,
    manifests: Option<Descriptors<MAX_CHILDREN>>,
    config: Option<Descriptor>,
    layers: Option<Descriptors<MAX_LAYERS>>,
    /// Of the OCI artifact manifest, which was withdrawn before 1.1.
    blobs: Option<IgnoredAny>,
    subject: Option<Descriptor>,
}

/// A list of descriptors, of which only the first `MAX` are parsed: a manifest of 4 MiB could have
/// 40,000.
#[derive(Default)]
struct Descriptors<const MAX: usize> {
    list: Vec<Descriptor>,
    count: usize,
}

impl<const MAX: usize> Descriptors<MAX> {
    /// Returns the descriptors.
    ///
    /// # Errors
    /// When there are more than `MAX`; `what` are descriptors of.
    fn all(self, what: &str) -> Result<Vec<Descriptor>, Cause> {
        if self.count > MAX {
            return Err(Cause::Unreadable(format!("it has more than {MAX} {what}")));
        }
        Ok(self.list)
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for Descriptors<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List<const MAX: usize>;

        impl<'de, const MAX: usize> Visitor<'de> for List<MAX> {
            type Value = Descriptors<MAX>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of descriptors")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut descriptors = Descriptors::default();
                while descriptors.count < MAX {
                    let Some(descriptor) = seq.next_element()? else { return Ok(descriptors) };
                    descriptors.list.push(descriptor);
                    descriptors.count += 1;
                }
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    descriptors.count += 1;
                }
                Ok(descriptors)
            }
        }

        deserializer.deserialize_seq(List)
    }
}

impl Manifest {
    /// Creates a manifest of these bytes, with their sha256 digest. An empty media type is read
    /// from the body.
    #[must_use]
    pub fn new(bytes: Bytes, media_type: impl Into<String>) -> Self {
        let digest = Digest::sha256_of(&bytes);
        Self::with_digest(bytes, media_type.into(), digest)
    }

    pub(super) fn with_digest(bytes: Bytes, media_type: String, digest: Digest) -> Self {
        let media_type = if is_manifest_type(&media_type) {
            media_type
        } else {
            media_type_of(&bytes, media_type)
        };
        Self { bytes, media_type, digest }
    }

    /// The length in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Parses the content that this manifest refers to.
    ///
    /// # Errors
    /// Class `SourceInvalid` if it cannot be parsed, and for Docker's schema 1, which ECR and
    /// today's runtimes no longer accept.
    pub(crate) fn kind(&self) -> Result<Content, Error> {
        self.parse().map_err(|failure| failure.read_manifest(self.digest.to_string()))
    }

    fn document(&self) -> Result<Document, Cause> {
        object(&self.bytes).map_err(|e| Cause::Unreadable(format!("it is not a manifest: {e}")))
    }

    /// Checks that this is a manifest at all. The digest of another document is not reported: it
    /// would confirm a guess of its content.
    pub(super) fn check_form(&self) -> Result<(), Cause> {
        let document = self.document()?;
        let has_parts = document.manifests.is_some()
            || document.config.is_some()
            || document.layers.is_some()
            || document.blobs.is_some();
        let has_type = document.media_type.as_deref().is_some_and(is_manifest_type);
        if document.schema_version.is_some() || has_parts || has_type {
            return Ok(());
        }
        Err(Cause::Unreadable("it is not a manifest: it has none of a manifest's fields".into()))
    }

    pub(super) fn parse(&self) -> Result<Content, Cause> {
        if self.media_type.starts_with("application/vnd.docker.distribution.manifest.v1") {
            return Err(schema1());
        }
        let document = self.document()?;
        if document.schema_version == Some(1) {
            return Err(schema1());
        }

        let is_index = match self.media_type.as_str() {
            OCI_INDEX | DOCKER_LIST => true,
            OCI_MANIFEST | DOCKER_MANIFEST => false,
            _ => document.manifests.is_some() && document.config.is_none(),
        };

        if is_index {
            // Of a body that is both, a container runtime could run the other part
            // (CVE-2021-41190).
            if document.layers.is_some() || document.config.is_some() {
                return Err(Cause::Unreadable("it claims to be an index and has layers".into()));
            }
            let children = document.manifests.unwrap_or_default().all("children")?;
            return Ok(Content::Index { children });
        }

        if document.manifests.is_some() {
            return Err(Cause::Unreadable("it claims to be an image and has children".into()));
        }

        if document.blobs.is_some() {
            return Err(Cause::Unreadable(
                "OCI artifact manifests were withdrawn and are not supported".into(),
            ));
        }
        let Some(config) = document.config else {
            return Err(Cause::Unreadable(format!(
                "a {} without config cannot be copied",
                self.media_type
            )));
        };
        Ok(Content::Image {
            config,
            layers: document.layers.unwrap_or_default().all("layers (ECR's limit)")?,
            subject: document.subject,
        })
    }
}

fn schema1() -> Cause {
    Cause::Unreadable(
        "Docker manifest schema 1 is not supported; push the image again with a current tool"
            .into(),
    )
}

/// Whether the media type is one of a manifest. Registries that do not know the type send
/// `application/json`, `text/plain` or `application/octet-stream`.
pub(super) fn is_manifest_type(media_type: &str) -> bool {
    media_type.starts_with("application/vnd.")
}

/// The media type by the body: its `mediaType`, else by its fields. Charts pushed by `helm push`
/// have no `mediaType`.
fn media_type_of(bytes: &[u8], header: String) -> String {
    let Ok(document) = object::<Document>(bytes) else { return header };
    match document {
        Document { media_type: Some(media_type), .. } if is_manifest_type(&media_type) => {
            media_type
        }
        Document { schema_version: Some(1), .. } => {
            "application/vnd.docker.distribution.manifest.v1+json".into()
        }
        Document { manifests: Some(_), .. } => OCI_INDEX.into(),
        Document { config: Some(_), .. } => OCI_MANIFEST.into(),
        _ => header,
    }
}
