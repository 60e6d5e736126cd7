//! Descriptors: media type, digest, size and platform of content that a manifest refers to.
//! <https://github.com/opencontainers/image-spec/blob/v1.1.1/descriptor.md>

use std::fmt;

use bytes::Bytes;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::digest::Digest;

/// Buildkit's annotation of an attestation: the digest of the attested image.
const ATTESTED: &str = "vnd.docker.reference.digest";

/// A pointer to content, with its type and size. Other fields are dropped: manifests are copied as
/// bytes, never built from this, and a manifest may have thousands of descriptors.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The media type; empty if it is missing.
    #[serde(default)]
    pub media_type: String,
    /// The content address.
    pub digest: Digest,
    /// The length in bytes.
    pub size: u64,
    /// The content itself, if it is embedded.
    #[serde(default, deserialize_with = "base64_bytes")]
    pub data: Option<Bytes>,
    /// The platform of a child of an index.
    #[serde(default)]
    pub platform: Option<Box<Platform>>,
    /// The digest of the image that an attestation of Buildkit is about.
    #[serde(default, rename = "annotations", deserialize_with = "attested")]
    pub attested: Option<Box<str>>,
}

impl Descriptor {
    /// Creates a descriptor with only the three required fields.
    #[must_use]
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            data: None,
            platform: None,
            attested: None,
        }
    }

    /// Whether the content may be stored only at its `urls` (Windows base layers), not in the
    /// registry.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        self.media_type.contains(".foreign.") || self.media_type.contains(".nondistributable.")
    }
}

/// The platform of a child of an index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
pub struct Platform {
    /// `amd64`, `arm64`, `unknown`.
    #[serde(default)]
    pub architecture: String,
    /// `linux`, `windows`, `unknown`.
    #[serde(default)]
    pub os: String,
    /// `10.0.20348.2227`, for Windows.
    #[serde(default, rename = "os.version")]
    pub os_version: Option<String>,
    /// `v7`, `v8`.
    #[serde(default)]
    pub variant: Option<String>,
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if let Some(variant) = &self.variant {
            write!(f, "/{variant}")?;
        }
        if let Some(version) = &self.os_version {
            write!(f, ":{version}")?;
        }
        Ok(())
    }
}

/// Reads one annotation. Go writes an empty map as `null`.
fn attested<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<str>>, D::Error> {
    struct Annotations;

    impl<'de> Visitor<'de> for Annotations {
        type Value = Option<Box<str>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("annotations")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut attested = None;
            while let Some(key) = map.next_key::<String>()? {
                if key == ATTESTED {
                    attested = Some(map.next_value()?);
                } else {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            Ok(attested)
        }
    }

    deserializer.deserialize_any(Annotations)
}

fn base64_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Bytes>, D::Error> {
    use base64::Engine as _;
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    // Embedded data saves a request; if it cannot be read, the content is fetched.
    Ok(base64::engine::general_purpose::STANDARD.decode(text).ok().map(Bytes::from))
}
