//! Descriptors: what a manifest says about other content.
//! <https://github.com/opencontainers/image-spec/blob/v1.1.1/descriptor.md>

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Deserializer};

use super::digest::Digest;

/// A typed, sized pointer to content. Unknown fields are not kept: manifests travel as bytes, never
/// re-made from this.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content is. Empty where the writer left it out.
    #[serde(default)]
    pub media_type: String,
    /// Its content address.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Where else it can be had: foreign layers.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub urls: Vec<String>,
    /// The content itself, where it is small and embedded.
    #[serde(default, deserialize_with = "base64_bytes")]
    pub data: Option<Bytes>,
    /// What it runs on, for children of an index.
    #[serde(default)]
    pub platform: Option<Platform>,
    /// What it is, for artifacts.
    #[serde(default)]
    pub artifact_type: Option<String>,
    /// Whatever the writer wanted to say.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// A descriptor with nothing but the three required fields.
    #[must_use]
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            urls: Vec::new(),
            data: None,
            platform: None,
            artifact_type: None,
            annotations: BTreeMap::new(),
        }
    }

    /// Whether the content is meant to stay where its `urls` say (Windows base layers): registries
    /// need not hold it.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        self.media_type.contains(".foreign.") || self.media_type.contains(".nondistributable.")
    }
}

/// What a child of an index runs on.
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

/// Go writes empty slices and maps as `null`.
fn null_is_empty<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

fn base64_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Bytes>, D::Error> {
    use base64::Engine as _;
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    // Embedded data is a convenience: what cannot be read is fetched.
    Ok(base64::engine::general_purpose::STANDARD.decode(text).ok().map(Bytes::from))
}
