//! The repository in ECR, looked at once per pass whatever number of steps want to know: resolving
//! asks first which tags are missing, so that their manifests are read whole at once.

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
    /// What the last whole look found.
    look: Option<&'a Look>,
    repository: OnceCell<Option<Repository>>,
    answers: Mutex<Answers>,
}

/// What ECR said so far.
#[derive(Debug, Default)]
struct Answers {
    tags: BTreeSet<Tag>,
    images: Images,
    missing: BTreeSet<Tag>,
    archived: BTreeMap<Tag, Archived>,
    /// There is no repository.
    gone: bool,
}

/// What ECR has of the tags that were asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Tags that can be pulled.
    pub(super) images: Images,
    /// Tags in the archive.
    pub(super) archived: BTreeMap<Tag, Archived>,
}

impl Seen {
    /// Whether the tag is in ECR in no form.
    pub(super) fn lacks(&self, tag: &Tag) -> bool {
        !self.images.tags.contains_key(tag) && !self.archived.contains_key(tag)
    }
}

impl<'a> Target<'a> {
    /// The repository `name`, which need not exist. Nothing is asked yet.
    pub(super) fn new(registry: Arc<ecr::Registry>, name: &'a str, look: Option<&'a Look>) -> Self {
        Self { registry, name, look, repository: OnceCell::new(), answers: Mutex::default() }
    }

    /// Whether an earlier pass looked at all of it.
    pub(super) const fn was_seen(&self) -> bool {
        self.look.is_some()
    }

    /// Its name.
    pub(super) const fn name(&self) -> &str {
        self.name
    }

    /// The repository, if it exists. Where its tags are being asked for, their answer tells whether
    /// it does.
    ///
    /// # Errors
    /// As AWS answers.
    pub(super) async fn repository(&self) -> Result<Option<&Repository>, Failure> {
        let ask = || async {
            let mut answers = self.answers.lock().await;
            if answers.gone {
                return Ok(None);
            }
            let found = self.registry.repository(self.name).await?;
            answers.gone = found.is_none();
            Ok::<_, Failure>(found)
        };
        Ok(self.repository.get_or_try_init(ask).await?.as_ref())
    }

    /// What it takes to know how the source is to be asked for `wanted`: after a whole look, tags
    /// that it missed or found in the archive are taken to be so still. A throttle is waited out.
    ///
    /// # Errors
    /// As AWS answers.
    pub(super) async fn foreseen(&self, wanted: &BTreeSet<Tag>) -> Result<Seen, Failure> {
        retry_throttled(|| async {
            match self.look {
                Some(look) => self.glimpsed(wanted, look).await,
                None => self.seen(wanted).await,
            }
        })
        .await
    }

    async fn glimpsed(&self, wanted: &BTreeSet<Tag>, look: &Look) -> Result<Seen, Failure> {
        let images = self.images(&look.to_ask(wanted.iter())).await?;
        Ok(Seen { images: images.unwrap_or_default(), archived: look.archived.clone() })
    }

    /// What there is of `wanted`.
    ///
    /// # Errors
    /// As AWS answers.
    pub(super) async fn seen(&self, wanted: &BTreeSet<Tag>) -> Result<Seen, Failure> {
        // Where somebody deleted it just now, the next pass creates it.
        let Some(images) = self.images(wanted).await? else { return Ok(Seen::default()) };
        let missing = wanted.iter().filter(|tag| !images.tags.contains_key(*tag));
        let mut answers = self.answers.lock().await;
        let new: BTreeSet<Tag> =
            missing.filter(|tag| !answers.missing.contains(*tag)).cloned().collect();
        answers.archived.extend(self.registry.archived_images(self.name, &new).await?);
        answers.missing.extend(new);
        Ok(Seen { images, archived: answers.archived.clone() })
    }

    /// The images of these tags, and of those that were asked for before; `None` if there is no
    /// repository. Only tags that are new are asked for.
    ///
    /// # Errors
    /// As AWS answers.
    pub(super) async fn images(&self, wanted: &BTreeSet<Tag>) -> Result<Option<Images>, Failure> {
        let mut answers = self.answers.lock().await;
        if answers.gone {
            return Ok(None);
        }
        let new: BTreeSet<Tag> = wanted.difference(&answers.tags).cloned().collect();
        if !new.is_empty() {
            let Some(images) = self.registry.images(self.name, &new).await? else {
                answers.gone = true;
                return Ok(None);
            };
            answers.images.extend(images);
            answers.tags.extend(new);
        }
        Ok(Some(answers.images.clone()))
    }
}
