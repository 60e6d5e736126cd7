//! Manifests: ECR's syntax checks, references to children and blobs, media types.

use serde_json::Value;

use super::errors::{Error, Result};

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// ECR's own limit on `imageManifest`.
pub(crate) const MAX_MANIFEST: usize = 4_194_304;

/// A manifest that passes ECR's syntax checks.
#[derive(Debug, Clone)]
pub(crate) struct Manifest {
    pub(crate) media_type: String,
    /// `artifactType`, else the config's media type.
    pub(crate) artifact_type: Option<String>,
    pub(crate) config_media_type: Option<String>,
    pub(crate) subject: Option<String>,
    pub(crate) annotations: Value,
    /// Config and layers that must be in the repository.
    pub(crate) blobs: Vec<String>,
    /// Children that must be in the repository.
    pub(crate) children: Vec<String>,
    /// Bytes of config and layers by their descriptors.
    pub(crate) size: u64,
}

impl Manifest {
    /// `kind`: the `Content-Type`, or `imageManifestMediaType`.
    pub(crate) fn parse(body: &[u8], kind: Option<&str>) -> Result<Self> {
        if body.len() > MAX_MANIFEST {
            let rule = format!("Member must have length less than or equal to {MAX_MANIFEST}");
            return Err(Error::invalid("imageManifest", rule));
        }
        let json: Value =
            serde_json::from_slice(body).map_err(|_| syntax("Invalid JSON syntax"))?;
        let kind = kind.map(|kind| kind.split(';').next().unwrap_or(kind).trim());
        let inner = json["mediaType"].as_str();
        // Without a type in the body, only the header has it; a wrong or missing one gives this
        // strange answer (regclient/regclient#709, chainguard-dev/apko#450).
        let media_type = kind
            .filter(|kind| [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST].contains(kind))
            .ok_or_else(|| syntax("Invalid JSON syntax"))?;
        if inner.is_some_and(|inner| inner != media_type) {
            return Err(syntax(
                "Invalid parameter at 'ImageManifest' failed to satisfy constraint: 'media type \
                 mismatch'",
            ));
        }
        if json["schemaVersion"] != 2 {
            return Err(syntax("Invalid JSON syntax"));
        }
        let is_index = matches!(media_type, OCI_INDEX | DOCKER_LIST);
        let mut manifest = Self {
            media_type: media_type.to_owned(),
            artifact_type: json["artifactType"].as_str().map(str::to_owned),
            config_media_type: json["config"]["mediaType"].as_str().map(str::to_owned),
            subject: json["subject"]["digest"].as_str().map(str::to_owned),
            annotations: json["annotations"].clone(),
            blobs: Vec::new(),
            children: Vec::new(),
            size: 0,
        };
        let list = json[if is_index { "manifests" } else { "layers" }].as_array();
        // An image without layers is 405 (aws/containers-roadmap#876); assumed to apply to an empty
        // index, too.
        let list = list
            .filter(|list| !list.is_empty())
            .ok_or_else(|| syntax("Invalid image manifest: no entries"))?;
        if is_index {
            manifest.children = list
                .iter()
                .filter_map(|child| child["digest"].as_str().map(str::to_owned))
                .collect();
            return Ok(manifest);
        }
        let config = json.get("config").filter(|config| config["digest"].is_string());
        let config = config.ok_or_else(|| syntax("Invalid JSON syntax"))?;
        for blob in std::iter::once(config).chain(list) {
            manifest.add_blob(blob)?;
        }
        Ok(manifest)
    }

    fn add_blob(&mut self, blob: &Value) -> Result<()> {
        let kind = blob["mediaType"].as_str().unwrap_or_default();
        // sigstore/sigstore-js PR#1058.
        if kind.contains(';') {
            return Err(syntax(
                "Invalid parameter at 'ImageManifest': media type parameters are not supported",
            ));
        }
        self.size += blob["size"].as_u64().unwrap_or_default();
        // Windows base layers are named by URL and may be missing (whether ECR checks them is not
        // known).
        let foreign = (kind.contains("foreign") || kind.contains("nondistributable"))
            && blob["urls"].is_array();
        if let Some(digest) = blob["digest"].as_str().filter(|_| !foreign) {
            self.blobs.push(digest.to_owned());
        }
        Ok(())
    }

    pub(crate) fn is_index(&self) -> bool {
        matches!(self.media_type.as_str(), OCI_INDEX | DOCKER_LIST)
    }

    /// Returns the `artifactType` of a referrers list.
    pub(crate) fn shown_type(&self) -> Option<&str> {
        self.artifact_type.as_deref().or(self.config_media_type.as_deref())
    }
}

/// 405 on the data plane, where everything that ECR cannot parse is UNSUPPORTED.
fn syntax(message: &str) -> Error {
    Error::new(405, "UNSUPPORTED", message)
}

/// Returns the body converted to another of the types that `accept` allows: a read by tag may
/// convert between Docker and OCI, which changes the digest (User Guide, "Container image manifest
/// format support").
///
/// `None` if no type is acceptable. Converting to schema 1 is not implemented.
pub(crate) fn converted(
    body: &[u8],
    media_type: &str,
    accept: &[String],
) -> Option<(Vec<u8>, String)> {
    let twin = match media_type {
        OCI_MANIFEST => DOCKER_MANIFEST,
        DOCKER_MANIFEST => OCI_MANIFEST,
        OCI_INDEX => DOCKER_LIST,
        DOCKER_LIST => OCI_INDEX,
        _ => return None,
    };
    if !accept.iter().any(|kind| kind == twin) {
        return None;
    }
    let mut json: Value = serde_json::from_slice(body).ok()?;
    json["mediaType"] = twin.into();
    retype(&mut json["config"]);
    json["layers"].as_array_mut().into_iter().flatten().for_each(retype);
    // The bytes differ from those of a client that only renames the types.
    let text = serde_json::to_vec_pretty(&strip_nulls(json)).ok()?;
    Some((text, twin.to_owned()))
}

fn strip_nulls(mut json: Value) -> Value {
    if let Some(object) = json.as_object_mut() {
        object.retain(|_, value| !value.is_null());
    }
    json
}

fn retype(descriptor: &mut Value) {
    const TWINS: [(&str, &str); 3] = [
        (
            "application/vnd.docker.container.image.v1+json",
            "application/vnd.oci.image.config.v1+json",
        ),
        (
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
            "application/vnd.oci.image.layer.v1.tar+gzip",
        ),
        ("application/vnd.docker.image.rootfs.diff.tar", "application/vnd.oci.image.layer.v1.tar"),
    ];
    let Some(kind) = descriptor["mediaType"].as_str() else { return };
    let twin = TWINS.iter().find_map(|(docker, oci)| match kind {
        kind if kind == *docker => Some(*oci),
        kind if kind == *oci => Some(*docker),
        _ => None,
    });
    if let Some(twin) = twin {
        descriptor["mediaType"] = twin.into();
    }
}
