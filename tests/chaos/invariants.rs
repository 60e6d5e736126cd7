//! Properties that hold whatever happens.

use std::collections::BTreeMap;

use serde_json::Value;
use testbed::ecr::RepositoryView;
use testbed::traffic::{Plane, Record};

use super::image::digest;
use super::world::{ACCOUNT, REGION, World};

/// An invariant that is broken, in words.
pub(super) type Broken = String;

/// No tag leads to an image that cannot be pulled: all its manifests and blobs are in the
/// repository, and their digests are right.
pub(super) fn tags_are_complete(world: &World, repository: &str) -> Result<(), Broken> {
    let Some(view) = world.repository(repository) else { return Ok(()) };
    for (tag, digest) in &view.tags {
        complete(world, repository, &view, digest)
            .map_err(|problem| format!("{repository}:{tag} is incomplete: {problem}"))?;
    }
    Ok(())
}

fn complete(
    world: &World,
    repository: &str,
    view: &RepositoryView,
    name: &str,
) -> Result<(), Broken> {
    let image = view.images.get(name).ok_or_else(|| format!("the manifest {name} is missing"))?;
    if digest(&image.manifest) != name {
        return Err(format!("the manifest {name} has another digest"));
    }

    let manifest: Value = serde_json::from_slice(&image.manifest).expect("JSON");
    for child in manifest["manifests"].as_array().into_iter().flatten() {
        complete(world, repository, view, child["digest"].as_str().unwrap_or_default())?;
    }
    let layers = manifest["layers"].as_array().into_iter().flatten();
    for blob in layers.chain(manifest.get("config")) {
        let name = blob["digest"].as_str().unwrap_or_default();
        let bytes = world.ecr.blob(ACCOUNT, REGION, repository, name);
        let bytes = bytes.ok_or_else(|| format!("the blob {name} is missing"))?;
        if digest(&bytes) != name || Some(bytes.len() as u64) != blob["size"].as_u64() {
            return Err(format!("the blob {name} has other bytes"));
        }
    }
    Ok(())
}

/// Nothing is written but the repositories of our resources.
pub(super) fn only_ours_is_written(
    world: &World,
    records: &[Record],
    ours: &[&str],
) -> Result<(), Broken> {
    let foreign = records.iter().find(|record| {
        record.is_write() && (record.account != ACCOUNT || !ours.contains(&&*record.repository))
    });
    match foreign {
        Some(Record { operation, repository, .. }) => {
            Err(format!("{operation} was sent to the foreign repository {repository:?}"))
        }
        None if world.foreign_is_unchanged() => Ok(()),
        None => Err("the repository of somebody else has changed".to_owned()),
    }
}

/// The repository is as the spec says, and has every wanted tag of the source.
pub(super) fn converged(world: &World, repository: &str, spec: &Value) -> Result<(), Broken> {
    let view = world.repository(repository).ok_or("the repository does not exist")?;
    let source = world.source("team/app");
    for tag in spec["image"]["tags"].as_array().into_iter().flatten() {
        let tag = tag.as_str().unwrap_or_default();
        let (wanted, actual) = (source.get(tag), view.tags.get(tag));
        if wanted != actual {
            return Err(format!("the tag {tag} is {actual:?} in ECR and {wanted:?} in the source"));
        }
    }

    let policies =
        [("lifecyclePolicy", &view.lifecycle_policy), ("permissionPolicy", &view.policy)];
    for (field, actual) in policies {
        let wanted = spec.get(field);
        if wanted.is_some() && wanted != actual.as_ref() {
            return Err(format!("{field} is {actual:?} and should be {wanted:?}"));
        }
    }
    let tags = spec["resourceTags"].as_object().into_iter().flatten();
    for (key, value) in tags {
        if view.resource_tags.get(key).map(String::as_str) != value.as_str() {
            return Err(format!("the resource tag {key} is missing"));
        }
    }
    Ok(())
}

/// A pass over a repository that is in place only reads. The deletion of an adopted repository that
/// has images is refused, and tried again from time to time.
pub(super) fn nothing_is_written(records: &[Record]) -> Result<(), Broken> {
    let is_refused =
        |record: &Record| record.code.as_deref() == Some("RepositoryNotEmptyException");
    match records.iter().find(|record| record.is_write() && !is_refused(record)) {
        Some(record) => Err(format!("{} after convergence", record.operation)),
        None => Ok(()),
    }
}

/// GETs of one blob in one pass: 4 copies, each with 3 resumes, each with 4 tries of the request,
/// and one more copy after ECR has lost a blob.
const MOST_GETS: usize = 2 * 4 * (1 + 3) * 4;

/// No blob is read again and again.
pub(super) fn budgets_hold(records: &[Record], most: usize) -> Result<(), Broken> {
    let mut gets: BTreeMap<&str, usize> = BTreeMap::new();
    let is_get = |record: &&Record| record.operation == "GetBlob" && record.plane == Plane::Data;
    for record in records.iter().filter(is_get) {
        *gets.entry(&record.path).or_default() += 1;
    }
    match gets.iter().find(|(_, count)| **count > most) {
        Some((path, count)) => Err(format!("{path} was read {count} times in one pass")),
        None => Ok(()),
    }
}

/// As [`budgets_hold`], while requests fail.
pub(super) fn budgets_hold_under_faults(records: &[Record]) -> Result<(), Broken> {
    budgets_hold(records, MOST_GETS)
}
