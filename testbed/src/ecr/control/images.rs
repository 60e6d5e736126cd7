//! Images: lists, descriptions, reads and deletes.

use std::time::SystemTime;

use serde_json::{Value, json};

use super::super::errors::{Error, Result};
use super::super::manifest::converted;
use super::super::paging::page;
use super::super::quantities::{digest, epoch};
use super::super::store::{Image, ImageStatus, Repository};
use super::Call;

/// An image ID in a request.
struct ImageId<'a> {
    digest: Option<&'a str>,
    tag: Option<&'a str>,
}

impl<'a> ImageId<'a> {
    fn all(call: &Call<'a>, least: usize) -> Result<Vec<Self>> {
        let id = |json: &'a Value| {
            let id = Self { digest: json["imageDigest"].as_str(), tag: json["imageTag"].as_str() };
            if id.digest.is_none() && id.tag.is_none() {
                return Err(Error::invalid(
                    "imageIds",
                    "Either imageTag or imageDigest must be given",
                ));
            }
            Ok(id)
        };
        call.input.list_within("imageIds", least, 100)?.iter().map(id).collect()
    }

    /// Returns the digest if the image exists and tag and digest match.
    fn resolve(&self, repository: &Repository) -> Option<String> {
        let by_tag = self.tag.map(|tag| repository.tags.get(tag).map(String::as_str));
        let digest = match (by_tag, self.digest) {
            (Some(tagged), Some(digest)) => tagged.filter(|tagged| *tagged == digest)?,
            (Some(tagged), None) => tagged?,
            (None, digest) => digest?,
        };
        repository.images.contains_key(digest).then(|| digest.to_owned())
    }

    fn json(&self) -> Value {
        let mut json = json!({});
        if let Some(digest) = self.digest {
            json["imageDigest"] = digest.into();
        }
        if let Some(tag) = self.tag {
            json["imageTag"] = tag.into();
        }
        json
    }

    fn failure(&self, code: &str, reason: &str) -> Value {
        json!({"imageId": self.json(), "failureCode": code, "failureReason": reason})
    }
}

/// One missing image fails the call. Without a filter only ACTIVE images exist, so a tag in the
/// archive is not found.
pub(super) fn describe(call: &Call<'_>) -> Result<Value> {
    let name = call.name()?;
    let ids = ImageId::all(call, 0)?;
    let size = call.input.max_results(1000, 100)?;
    let token = call.input.next_token()?;
    let filter = Filter::of(call)?;
    let mut state = call.state();
    let repository = state.known(&call.account, call.region(), name)?;
    if ids.is_empty() {
        let images = repository
            .images
            .iter()
            .filter(|(digest, image)| filter.admits(repository, digest, image));
        let rows = images.map(|(digest, _)| (digest.clone(), digest)).collect();
        let (digests, next) = page(rows, token, size)?;
        return Ok(json!({"imageDetails": details(repository, &digests), "nextToken": next}));
    }
    if token.is_some() || !call.input.json("maxResults").is_null() {
        let message = "maxResults and nextToken cannot be used with imageIds";
        return Err(Error::api("InvalidParameterException", message));
    }
    let mut found = Vec::<String>::new();
    for id in ids {
        let digest = id
            .resolve(repository)
            .filter(|digest| filter.admits_status(&repository.images[digest]));
        let digest = digest.ok_or_else(|| {
            let shown = |part: Option<&str>| part.unwrap_or("null").to_owned();
            let message = format!(
                "The image with imageId {{imageDigest:'{}', imageTag:'{}'}} does not exist within \
                 the repository with name '{name}' in the registry with id '{}'",
                shown(id.digest),
                shown(id.tag),
                call.account
            );
            Error::api("ImageNotFoundException", message)
        })?;
        // An image with two of the requested tags is described once.
        if !found.contains(&digest) {
            found.push(digest);
        }
    }
    let found: Vec<_> = found.iter().collect();
    Ok(json!({"imageDetails": details(repository, &found)}))
}

/// One row per digest and tag.
pub(super) fn list(call: &Call<'_>) -> Result<Value> {
    let name = call.name()?;
    let size = call.input.max_results(1000, 100)?;
    let token = call.input.next_token()?;
    let filter = Filter::of(call)?;
    let mut state = call.state();
    let repository = state.known(&call.account, call.region(), name)?;
    let admitted = |digest: &str| {
        repository.images.get(digest).is_some_and(|image| filter.admits(repository, digest, image))
    };
    let tagged = repository.tags.iter().filter(|(_, digest)| admitted(digest));
    let mut rows: Vec<_> = tagged
        .map(|(tag, digest)| {
            (format!("tag {tag}"), json!({"imageDigest": digest, "imageTag": tag}))
        })
        .collect();
    let tagged: std::collections::HashSet<_> = repository.tags.values().collect();
    let untagged =
        repository.images.keys().filter(|digest| !tagged.contains(digest) && admitted(digest));
    rows.extend(
        untagged.map(|digest| (format!("digest {digest}"), json!({"imageDigest": digest}))),
    );
    let (rows, next) = page(rows, token, size)?;
    Ok(json!({"imageIds": rows, "nextToken": next}))
}

/// A pull: moves `lastRecordedPullTime` (aws/containers-roadmap#2390).
pub(super) fn batch_get(call: &Call<'_>) -> Result<Value> {
    let name = call.name()?;
    let ids = ImageId::all(call, 1)?;
    let accepted: Vec<_> =
        call.input.strings("acceptedMediaTypes", 0, 100)?.into_iter().map(str::to_owned).collect();
    let mut state = call.state();
    let repository = state.known(&call.account, call.region(), name)?;
    let (mut images, mut failures) = (Vec::new(), Vec::new());
    for id in ids {
        let digest =
            id.resolve(repository).filter(|d| repository.images[d].status == ImageStatus::Active);
        let Some(image) = digest.and_then(|digest| repository.images.get_mut(&digest)) else {
            failures.push(id.failure("ImageNotFound", "Requested image not found"));
            continue;
        };
        image.last_pull = Some(SystemTime::now());
        let media_type = &image.manifest.media_type;
        // By tag, ECR converts to a type that the client accepts; by digest, it does not.
        let twin = if id.digest.is_some() || accepted.is_empty() || accepted.contains(media_type) {
            None
        } else {
            converted(&image.body, media_type, &accepted)
        };
        let (body, media_type) = twin.unwrap_or_else(|| (image.body.to_vec(), media_type.clone()));
        let mut image_id = id.json();
        image_id["imageDigest"] = digest_of(&body);
        images.push(json!({
            "registryId": call.account,
            "repositoryName": name,
            "imageId": image_id,
            "imageManifest": String::from_utf8_lossy(&body),
            "imageManifestMediaType": media_type,
        }));
    }
    Ok(json!({"images": images, "failures": failures}))
}

fn digest_of(body: &[u8]) -> Value {
    digest(body).into()
}

/// By tag: removes the tag, and with the last tag the image. The child of an index must stay, so
/// that its last tag stays, too (aws/containers-roadmap#1567). By digest: removes the image with
/// all its tags. By both, if the tag points to the digest: as by digest. ECR's behaviour is not
/// documented; moto does so, and it is the worse of the two.
pub(super) fn batch_delete(call: &Call<'_>) -> Result<Value> {
    let name = call.name()?;
    let ids = ImageId::all(call, 1)?;
    let mut state = call.state();
    let repository = state.known(&call.account, call.region(), name)?;
    let (mut deleted, mut failures) = (Vec::new(), Vec::new());
    for id in ids {
        let Some(digest) = id.resolve(repository) else {
            let is_elsewhere =
                id.tag.is_some_and(|tag| id.digest.is_some() && repository.tags.contains_key(tag));
            failures.push(if is_elsewhere {
                id.failure("ImageTagDoesNotMatchDigest", "Image digest does not match tag")
            } else {
                id.failure("ImageNotFound", "Requested image not found")
            });
            continue;
        };
        let by_tag = id.tag.filter(|_| id.digest.is_none());
        let keeps_a_tag = by_tag.is_some() && repository.tags_of(&digest).len() > 1;
        let parent = if keeps_a_tag { None } else { repository.parent(&digest) };
        if let Some(parent) = parent {
            let reason = format!("Requested image referenced by manifest list: [{parent}]");
            failures.push(id.failure("ImageReferencedByManifestList", &reason));
            continue;
        }
        if let Some(tag) = by_tag {
            repository.untag(tag);
            deleted.push(json!({"imageDigest": digest, "imageTag": tag}));
            continue;
        }
        let tags = repository.tags_of(&digest);
        repository.remove_image(&digest);
        deleted.extend(tags.iter().map(|tag| json!({"imageDigest": digest, "imageTag": tag})));
        if tags.is_empty() {
            deleted.push(json!({"imageDigest": digest}));
        }
    }
    Ok(json!({"imageIds": deleted, "failures": failures}))
}

fn details(repository: &Repository, digests: &[&String]) -> Vec<Value> {
    let mut tags = repository.tags_by_digest();
    let described =
        digests.iter().filter_map(|digest| Some((*digest, repository.images.get(*digest)?)));
    described
        .map(|(digest, image)| detail(repository, digest, image, tags.remove(digest.as_str())))
        .collect()
}

fn detail(repository: &Repository, digest: &str, image: &Image, tags: Option<Vec<&str>>) -> Value {
    let mut details = json!({
        "registryId": repository.account,
        "repositoryName": repository.name,
        "imageDigest": digest,
        "imagePushedAt": epoch(image.pushed_at),
        "imageManifestMediaType": image.manifest.media_type,
        "imageStatus": image.status.as_str(),
    });
    if let Some(tags) = tags {
        details["imageTags"] = tags.into();
    }
    // Absent for an index.
    if !image.manifest.is_index() {
        details["imageSizeInBytes"] = image.manifest.size.into();
    }
    if let Some(kind) = &image.manifest.config_media_type {
        details["artifactMediaType"] = kind.as_str().into();
    }
    if let Some(subject) = &image.manifest.subject {
        details["subjectManifestDigest"] = subject.as_str().into();
    }
    if let Some(at) = image.last_pull {
        details["lastRecordedPullTime"] = epoch(at).into();
    }
    details
}

/// Applies `filter`: by tag status and by storage.
struct Filter<'a> {
    tags: &'a str,
    status: &'a str,
}

impl<'a> Filter<'a> {
    fn of(call: &Call<'a>) -> Result<Self> {
        let filter = call.input.json("filter");
        let tags = filter["tagStatus"].as_str().unwrap_or("ANY");
        // Without a filter only ACTIVE images are returned.
        let status = filter["imageStatus"].as_str().unwrap_or("ACTIVE");
        if !["TAGGED", "UNTAGGED", "ANY"].contains(&tags) {
            return Err(Error::invalid(
                "filter.tagStatus",
                "Member must satisfy enum value set: [TAGGED, UNTAGGED, ANY]",
            ));
        }
        if !["ACTIVE", "ARCHIVED", "ACTIVATING", "ANY"].contains(&status) {
            let rule = "Member must satisfy enum value set: [ACTIVE, ARCHIVED, ACTIVATING, ANY]";
            return Err(Error::invalid("filter.imageStatus", rule));
        }
        Ok(Self { tags, status })
    }

    fn admits_status(&self, image: &Image) -> bool {
        self.status == "ANY" || self.status == image.status.as_str()
    }

    fn admits(&self, repository: &Repository, digest: &str, image: &Image) -> bool {
        let tagged = || repository.tags.values().any(|tagged| tagged == digest);
        let by_tags = match self.tags {
            "TAGGED" => tagged(),
            "UNTAGGED" => !tagged(),
            _ => true,
        };
        by_tags && self.admits_status(image)
    }
}
