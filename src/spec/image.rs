//! `spec.image`.

use std::collections::{BTreeMap, BTreeSet};

use super::{Secrets, Violations};
use crate::api::v1alpha1::{self, CheckPolicy, MAX_TAGS, Referrers, TagStrategy};
use crate::registry::{Digest, Platform, Platforms, Reference, Tag};
use crate::selection::{Pin, Selector};

/// An image to copy.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    /// The image in its source.
    pub(crate) reference: Reference,
    /// Wanted tags with the digests that they are pinned to. Without any in `tags` and without a
    /// selector, the tag of `pullUrl`.
    pub(crate) tags: BTreeMap<Tag, Option<Digest>>,
    /// Selects more tags among those of the source.
    pub(crate) selector: Option<Selector>,
    /// The tag of the source that is pushed as every wanted tag (tagStrategy Retag).
    pub(crate) retag: Option<Tag>,
    /// Wanted platforms; `None` means all.
    pub(crate) platforms: Option<Platforms>,
    /// Checks of tags that are in ECR.
    pub(crate) check_policy: CheckPolicy,
    /// Whether artifacts that refer to the image are copied.
    pub(crate) referrers: bool,
    /// Secrets with login, certificates and proxy.
    pub(crate) secrets: Secrets,
    /// Whether the source is read over plain HTTP.
    pub(crate) insecure: bool,
}

pub(super) fn parse(image: &v1alpha1::Image, violations: &mut Violations) -> Option<Image> {
    let reference = reference(image, violations);
    let platforms = platforms(&image.platforms, violations);
    let mut tags = tags(&image.tags, violations);
    let selector = image.tag_selector.as_ref();
    let selector = selector.map(|selector| violations.selector("image.tagSelector", selector));

    let reference = reference?;
    let selector = super::all(selector)?;
    if tags.is_empty() && selector.is_none() {
        tags.extend(reference.tag.clone().map(|tag| (tag, None)));
    }
    let retags = image.tag_strategy == TagStrategy::Retag;
    Some(Image {
        retag: reference.tag.clone().filter(|_| retags),
        reference,
        tags,
        selector,
        platforms,
        check_policy: image.check_policy,
        referrers: image.referrers == Referrers::All,
        secrets: Secrets::of_image(image),
        insecure: image.insecure,
    })
}

fn reference(image: &v1alpha1::Image, violations: &mut Violations) -> Option<Reference> {
    let reference: Reference = violations.take("image.pullUrl", image.pull_url.parse())?;
    if reference.digest.is_some() {
        let message = "may not carry a digest: write repository or repository:tag";
        violations.push("image.pullUrl", message);
        return None;
    }

    if image.tags.is_empty() && image.tag_selector.is_none() && reference.tag.is_none() {
        violations.push(
            "image",
            "names no tag: write tags, a tagSelector, or a tag in pullUrl, for example \
             docker.io/library/nginx:1.27",
        );
    }
    let can_retag =
        !image.tags.is_empty() && image.tag_selector.is_none() && reference.tag.is_some();
    if image.tag_strategy == TagStrategy::Retag && !can_retag {
        violations.push(
            "image.tagStrategy",
            "Retag pushes the tag in pullUrl as every tag in tags: write both, and no tagSelector",
        );
    }
    Some(reference)
}

fn platforms(texts: &[String], violations: &mut Violations) -> Option<Platforms> {
    let platforms = texts.iter().enumerate().filter_map(|(index, text)| {
        violations.take(&format!("image.platforms[{index}]"), text.parse::<Platform>())
    });
    Platforms::new(platforms)
}

fn tags(texts: &[String], violations: &mut Violations) -> BTreeMap<Tag, Option<Digest>> {
    if texts.len() > MAX_TAGS {
        let message = format!("{} tags: at most {MAX_TAGS} are allowed", texts.len());
        violations.push("image.tags", message);
    }
    let mut tags: BTreeMap<Tag, Option<Digest>> = BTreeMap::new();
    let mut texts_before = BTreeSet::new();
    for (index, text) in texts.iter().enumerate() {
        let path = format!("image.tags[{index}]");
        let pin = Pin::parse(text);
        let tag = violations.take(&path, pin.tag.parse::<Tag>());
        let digest = pin.digest.and_then(|digest| violations.take(&path, digest.parse::<Digest>()));
        if !texts_before.insert(text) {
            violations.push(&path, format!("{text:?} is named twice"));
        }
        let Some(tag) = tag else { continue };
        let pinned = tags.entry(tag).or_default();
        if let (Some(first), Some(digest)) = (&*pinned, &digest)
            && first != digest
        {
            let tag = pin.tag;
            let message =
                format!("the tag {tag} is already pinned to {first}: write one digest for it");
            violations.push(path, message);
        }
        *pinned = pinned.take().or(digest);
    }
    tags
}
