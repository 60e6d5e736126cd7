//! A copy of a repository's content, for assertions of tests.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::Bytes;

use super::store::{ImageStatus, Repository};

/// A copy of a repository's state.
#[derive(Debug, Clone)]
pub struct RepositoryView {
    /// Time of its creation.
    pub created_at: SystemTime,
    /// `MUTABLE`, `IMMUTABLE`, `MUTABLE_WITH_EXCLUSION`, `IMMUTABLE_WITH_EXCLUSION`.
    pub mutability: String,
    /// Wildcard filters of the exclusion.
    pub exclusions: Vec<String>,
    /// Whether images are scanned when pushed.
    pub scan_on_push: bool,
    /// `AES256`, `KMS`, `KMS_DSSE`.
    pub encryption_type: String,
    /// The key's ARN, with KMS.
    pub kms_key: Option<String>,
    /// The lifecycle policy as it was put (re-serialised); read-back through the API differs.
    pub lifecycle_policy: Option<serde_json::Value>,
    /// The repository policy as it was put (re-serialised); read-back through the API differs.
    pub policy: Option<serde_json::Value>,
    /// Resource tags.
    pub resource_tags: BTreeMap<String, String>,
    /// Images by digest.
    pub images: BTreeMap<String, ImageView>,
    /// Sizes of blobs by digest.
    pub blobs: BTreeMap<String, u64>,
    /// Digests by tag.
    pub tags: BTreeMap<String, String>,
    /// Upload sessions that were neither finished nor cancelled.
    pub open_uploads: usize,
}

/// A copy of an image's state.
#[derive(Debug, Clone)]
pub struct ImageView {
    /// Tags, sorted; none for children of an index.
    pub tags: Vec<String>,
    /// The manifest's media type as pushed.
    pub media_type: String,
    /// The manifest's bytes as pushed.
    pub manifest: Bytes,
    /// Bytes of config and layers, by the manifest.
    pub size: u64,
    /// Time of the first push.
    pub pushed_at: SystemTime,
    /// Time of the last pull; ECR updates it on manifest reads, not on lists and descriptions.
    pub last_recorded_pull_time: Option<SystemTime>,
    /// Active or archived.
    pub status: ImageStatus,
}

impl RepositoryView {
    pub(crate) fn of(repository: &mut Repository) -> Self {
        let mut tags = repository.tags_by_digest();
        let image = |(digest, image): (&String, &super::store::Image)| {
            let view = ImageView {
                tags: tags
                    .remove(digest.as_str())
                    .unwrap_or_default()
                    .into_iter()
                    .map(str::to_owned)
                    .collect(),
                media_type: image.manifest.media_type.clone(),
                manifest: image.body.clone(),
                size: image.manifest.size,
                pushed_at: image.pushed_at,
                last_recorded_pull_time: image.last_pull,
                status: image.status,
            };
            (digest.clone(), view)
        };
        Self {
            created_at: repository.created_at,
            mutability: repository.mutability.clone(),
            exclusions: repository.exclusions.clone(),
            scan_on_push: repository.scan_on_push,
            encryption_type: repository.encryption["encryptionType"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            kms_key: repository.encryption["kmsKey"].as_str().map(str::to_owned),
            lifecycle_policy: repository.lifecycle.clone(),
            policy: repository.policy.clone(),
            resource_tags: repository.resource_tags.clone(),
            images: repository.images.iter().map(image).collect(),
            blobs: repository
                .blobs
                .iter()
                .map(|(digest, blob)| (digest.clone(), blob.size()))
                .collect(),
            tags: repository.tags.clone(),
            open_uploads: repository.uploads.len(),
        }
    }
}
