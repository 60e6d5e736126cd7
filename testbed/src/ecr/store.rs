//! A repository: images, tags, blobs, upload sessions and settings.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use serde_json::Value;

use super::blob::{Blob, Sink};
use super::errors::{Error, Result};
use super::manifest::Manifest;
use super::quantities::{digest, wildcard};

/// Storage status of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageStatus {
    /// The image can be pulled.
    Active,
    /// The image is in archive storage: listed on request, 404 when pulled.
    Archived,
    /// The image is being restored from the archive.
    Activating,
}

impl ImageStatus {
    /// `ACTIVE` …
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Archived => "ARCHIVED",
            Self::Activating => "ACTIVATING",
        }
    }
}

/// A stored manifest.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) body: Bytes,
    pub(crate) manifest: Manifest,
    pub(crate) pushed_at: SystemTime,
    pub(crate) last_pull: Option<SystemTime>,
    pub(crate) status: ImageStatus,
}

/// An upload session.
#[derive(Debug, Default)]
pub(crate) struct Upload {
    pub(crate) sink: Sink,
    /// End of the first chunk, which the `Range` header keeps.
    pub(crate) first_end: Option<u64>,
    /// A chunk of less than 5 MiB was received; fatal once another follows.
    pub(crate) short_chunk: bool,
    /// Another chunk did follow.
    pub(crate) too_small: bool,
}

/// Hard quotas and rules of a repository.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quotas {
    pub(crate) images: usize,
    pub(crate) tags_per_image: usize,
    /// Whether blobs and children must be there.
    pub(crate) checks_references: bool,
}

/// The result of putting a manifest.
#[derive(Debug)]
pub(crate) struct Put {
    pub(crate) digest: String,
    /// Nothing changed: the image existed with this tag.
    pub(crate) unchanged: bool,
    pub(crate) subject: Option<String>,
}

/// A repository.
#[derive(Debug)]
pub(crate) struct Repository {
    pub(crate) name: String,
    pub(crate) account: String,
    pub(crate) region: String,
    pub(crate) created_at: SystemTime,
    pub(crate) mutability: String,
    pub(crate) exclusions: Vec<String>,
    pub(crate) scan_on_push: bool,
    pub(crate) encryption: Value,
    pub(crate) lifecycle: Option<Value>,
    pub(crate) policy: Option<Value>,
    /// Whether policies are changed when they are put.
    pub(crate) rewrites: bool,
    /// Number of reads of the policy: each read returns another order.
    pub(crate) reads: usize,
    pub(crate) resource_tags: BTreeMap<String, String>,
    pub(crate) images: BTreeMap<String, Image>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) blobs: HashMap<String, Blob>,
    pub(crate) uploads: HashMap<String, Arc<tokio::sync::Mutex<Upload>>>,
}

impl Repository {
    /// Returns a repository with ECR's defaults: MUTABLE, AES256, no scan, no policies.
    pub(crate) fn new(account: &str, region: &str, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            account: account.to_owned(),
            region: region.to_owned(),
            created_at: SystemTime::now(),
            mutability: "MUTABLE".to_owned(),
            exclusions: Vec::new(),
            scan_on_push: false,
            encryption: serde_json::json!({"encryptionType": "AES256"}),
            lifecycle: None,
            policy: None,
            rewrites: false,
            reads: 0,
            resource_tags: BTreeMap::new(),
            images: BTreeMap::new(),
            tags: BTreeMap::new(),
            blobs: HashMap::new(),
            uploads: HashMap::new(),
        }
    }

    /// Returns the digest of a tag or digest, if the image exists.
    pub(crate) fn resolve(&self, reference: &str) -> Option<&str> {
        let digest = self.tags.get(reference).map_or(reference, String::as_str);
        self.images.get_key_value(digest).map(|(digest, _)| digest.as_str())
    }

    pub(crate) fn find_mut(&mut self, reference: &str) -> Option<&mut Image> {
        let digest = self.resolve(reference)?.to_owned();
        self.images.get_mut(&digest)
    }

    pub(crate) fn tags_of(&self, digest: &str) -> Vec<String> {
        self.tags
            .iter()
            .filter(|(_, tagged)| *tagged == digest)
            .map(|(tag, _)| tag.clone())
            .collect()
    }

    /// Returns the tags of all digests at once: repositories have ten thousand tags.
    pub(crate) fn tags_by_digest(&self) -> HashMap<&str, Vec<&str>> {
        let mut by_digest = HashMap::<_, Vec<_>>::new();
        for (tag, digest) in &self.tags {
            by_digest.entry(digest.as_str()).or_default().push(tag.as_str());
        }
        by_digest
    }

    /// Returns the index that has this image as a child.
    pub(crate) fn parent(&self, digest: &str) -> Option<&str> {
        let holds = |image: &Image| image.manifest.children.iter().any(|child| child == digest);
        self.images.iter().find(|(_, image)| holds(image)).map(|(parent, _)| parent.as_str())
    }

    /// Whether a manifest uses this blob: only then is it readable and mountable.
    pub(crate) fn is_associated(&self, blob: &str) -> bool {
        self.images.values().any(|image| image.manifest.blobs.iter().any(|used| used == blob))
    }

    pub(crate) fn is_immutable(&self, tag: &str) -> bool {
        let excluded = self.exclusions.iter().any(|filter| wildcard(filter, tag));
        match self.mutability.as_str() {
            "IMMUTABLE" => true,
            "IMMUTABLE_WITH_EXCLUSION" => !excluded,
            "MUTABLE_WITH_EXCLUSION" => excluded,
            _ => false,
        }
    }

    /// Stores a manifest after ECR's checks, in the order: digest, references, tag, quotas.
    pub(crate) fn put(
        &mut self,
        body: Bytes,
        kind: Option<&str>,
        tag: Option<&str>,
        expected: Option<&str>,
        quotas: Quotas,
    ) -> Result<Put> {
        let manifest = Manifest::parse(&body, kind)?;
        let digest = digest(&body);
        if let Some(expected) = expected.filter(|expected| *expected != digest) {
            // google/go-containerregistry#1568.
            let message = format!(
                "'{expected}' does not match the image digest that Amazon ECR has calculated \
                 '{digest}'"
            );
            return Err(Error::api("ImageDigestDoesNotMatchException", message));
        }
        if quotas.checks_references {
            self.check_references(&manifest)?;
        }
        if let Some(tag) = tag.filter(|tag| self.tags.contains_key(*tag) && self.is_immutable(tag))
        {
            // An equal digest is refused, too (aws/containers-roadmap#2179, aws/aws-sdk#750).
            let message = format!(
                "The image tag '{tag}' already exists in the '{}' repository and cannot be \
                 overwritten because the tag is immutable.",
                self.name
            );
            return Err(Error::api("ImageTagAlreadyExistsException", message));
        }
        let unchanged = self.images.contains_key(&digest)
            && tag.is_none_or(|tag| self.tags.get(tag) == Some(&digest));
        self.check_quotas(&digest, tag, quotas)?;
        let subject = manifest.subject.clone();
        let image = self.images.entry(digest.clone()).or_insert_with(|| Image {
            body,
            manifest,
            pushed_at: SystemTime::now(),
            last_pull: None,
            status: ImageStatus::Active,
        });
        // Pushing an archived image again restores it (User Guide, "Archiving an image").
        image.status = ImageStatus::Active;
        if let Some(tag) = tag {
            self.tags.insert(tag.to_owned(), digest.clone());
        }
        Ok(Put { digest, unchanged, subject })
    }

    fn check_references(&self, manifest: &Manifest) -> Result<()> {
        let absent = |wanted: &[String], code, what: &str, known: &dyn Fn(&String) -> bool| {
            let missing: Vec<_> = wanted.iter().filter(|digest| !known(digest)).cloned().collect();
            if missing.is_empty() {
                return Ok(());
            }
            let message = format!(
                "{what} with digests '[{}]' required for pushing image into repository with name \
                 '{}' in the registry with id '{}' do not exist",
                missing.join(", "),
                self.name,
                self.account
            );
            Err(Error::api(code, message))
        };
        let images = |digest: &String| self.images.contains_key(digest);
        absent(&manifest.children, "ReferencedImagesNotFoundException", "Images", &images)?;
        absent(&manifest.blobs, "LayersNotFoundException", "Layers", &|digest| {
            self.blobs.contains_key(digest)
        })
    }

    fn check_quotas(&self, digest: &str, tag: Option<&str>, quotas: Quotas) -> Result<()> {
        if !self.images.contains_key(digest) && self.images.len() >= quotas.images {
            let message = format!(
                "The repository with name '{}' in registry with id '{}' already has the maximum \
                 allowed number of images which is '{}'",
                self.name, self.account, quotas.images
            );
            return Err(Error::api("LimitExceededException", message));
        }
        let held = self.tags.values().filter(|tagged| *tagged == digest).count();
        let new = tag.is_some_and(|tag| self.tags.get(tag).map(String::as_str) != Some(digest));
        if new && held >= quotas.tags_per_image {
            let message = format!(
                "The image with digest '{digest}' in the repository with name '{}' already has the \
                 maximum allowed number of tags which is '{}'",
                self.name, quotas.tags_per_image
            );
            return Err(Error::api("LimitExceededException", message));
        }
        Ok(())
    }

    /// Adds copies of an image with invented digests and tags `filler-N`, until there are `images`.
    pub(crate) fn fill(&mut self, reference: &str, images: usize) -> bool {
        let Some(image) = self.find_mut(reference).cloned() else { return false };
        let mut number = 0;
        while self.images.len() < images {
            let digest = digest(format!("filler {number}").as_bytes());
            self.images.insert(digest.clone(), image.clone());
            self.tags.insert(format!("filler-{number}"), digest);
            number += 1;
        }
        true
    }

    /// Removes a tag, and its image with the last one unless an index has it as a child.
    pub(crate) fn untag(&mut self, tag: &str) -> bool {
        let Some(digest) = self.tags.remove(tag) else { return false };
        if !self.tags.values().any(|tagged| *tagged == digest) && self.parent(&digest).is_none() {
            self.images.remove(&digest);
        }
        true
    }

    pub(crate) fn remove_image(&mut self, digest: &str) -> bool {
        self.tags.retain(|_, tagged| tagged != digest);
        self.images.remove(digest).is_some()
    }
}
