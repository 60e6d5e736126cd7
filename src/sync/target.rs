//! The repository in ECR. Each of its parts is read at most once per pass, whatever number of steps
//! need it: resolving asks first for the missing tags, to read their manifests with one request.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::{Mutex, OnceCell};

use super::earlier::Look;
use super::throttle::retry_throttled;
use crate::ecr::{self, Archived, Images, Repository};
use crate::failure::Failure;
use crate::registry::Tag;

/// The target of one pass.
#[derive(Debug)]
pub(super) struct Target<'a> {
    pub(super) registry: Arc<ecr::Registry>,
    name: &'a str,
    /// Result of the last full survey.
    look: Option<&'a Look>,
    repository: OnceCell<Option<Repository>>,
    answers: Mutex<Answers>,
}

/// The answers of ECR so far.
#[derive(Debug, Default)]
struct Answers {
    /// Tags that were asked for.
    tags: BTreeSet<Tag>,
    images: Images,
    /// Tags that were looked for in the archive.
    missing: BTreeSet<Tag>,
    archived: BTreeMap<Tag, Archived>,
    /// Whether there is no repository.
    is_gone: bool,
}

/// The tags that ECR has of those that were asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct TagsInEcr {
    /// Tags that can be pulled.
    pub(super) images: Images,
    /// Tags in the archive.
    pub(super) archived: BTreeMap<Tag, Archived>,
}

impl TagsInEcr {
    /// Whether the tag is neither an image nor in the archive.
    pub(super) fn lacks(&self, tag: &Tag) -> bool {
        !self.images.tags.contains_key(tag) && !self.archived.contains_key(tag)
    }
}

impl<'a> Target<'a> {
    /// The repository `name`, which need not exist. Sends no request.
    pub(super) fn new(registry: Arc<ecr::Registry>, name: &'a str, look: Option<&'a Look>) -> Self {
        Self { registry, name, look, repository: OnceCell::new(), answers: Mutex::default() }
    }

    /// Whether an earlier pass made a full survey.
    pub(super) const fn was_surveyed(&self) -> bool {
        self.look.is_some()
    }

    pub(super) const fn name(&self) -> &str {
        self.name
    }

    /// Returns the repository, if it exists. If its tags are being read, waits for the answer,
    /// which also tells whether it exists.
    ///
    /// # Errors
    /// As AWS answers.
    pub(super) async fn repository(&self) -> Result<Option<&Repository>, Failure> {
        let ask = || async {
            let mut answers = self.answers.lock().await;
            if answers.is_gone {
                return Ok(None);
            }
            let repository = self.registry.repository(self.name).await?;
            answers.is_gone = repository.is_none();
            Ok::<_, Failure>(repository)
        };
        Ok(self.repository.get_or_try_init(ask).await?.as_ref())
    }

    /// Returns the tags in ECR, as far as resolving needs them. After a full survey, tags that were
    /// missing or archived then are assumed to be so still. Throttled calls are retried.
    ///
    /// # Errors
    /// As AWS answers.
    pub(super) async fn assumed_tags(&self, wanted: &BTreeSet<Tag>) -> Result<TagsInEcr, Failure> {
        retry_throttled(|| async {
            let Some(look) = self.look else { return self.tags(wanted).await };
            let images = self.images(&look.to_ask(wanted.iter())).await?;
            Ok(TagsInEcr { images: images.unwrap_or_default(), archived: look.archived.clone() })
        })
        .await
    }

    /// Returns which of the `wanted` tags ECR has.
    ///
    /// # Errors
    /// As AWS answers.
    pub(super) async fn tags(&self, wanted: &BTreeSet<Tag>) -> Result<TagsInEcr, Failure> {
        // If somebody deleted the repository just now, the next pass creates it.
        let Some(images) = self.images(wanted).await? else { return Ok(TagsInEcr::default()) };

        let missing = wanted.iter().filter(|tag| !images.tags.contains_key(*tag));
        let mut answers = self.answers.lock().await;
        let new: BTreeSet<Tag> =
            missing.filter(|tag| !answers.missing.contains(*tag)).cloned().collect();
        answers.archived.extend(self.registry.archived_images(self.name, &new).await?);
        answers.missing.extend(new);
        Ok(TagsInEcr { images, archived: answers.archived.clone() })
    }

    /// Returns the images of these tags, and of those that were asked for earlier; `None` if there
    /// is no repository. Only new tags are asked for.
    ///
    /// # Errors
    /// As AWS answers.
    pub(super) async fn images(&self, wanted: &BTreeSet<Tag>) -> Result<Option<Images>, Failure> {
        let mut answers = self.answers.lock().await;
        if answers.is_gone {
            return Ok(None);
        }

        let new: BTreeSet<Tag> = wanted.difference(&answers.tags).cloned().collect();
        if !new.is_empty() {
            let Some(images) = self.registry.images(self.name, &new).await? else {
                answers.is_gone = true;
                return Ok(None);
            };
            answers.images.extend(images);
            answers.tags.extend(new);
        }
        Ok(Some(answers.images.clone()))
    }
}
