//! The file: a list of mirrors.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::Deserialize;

use super::{Login, Mirror, SecretReference};
use crate::registry::{DOCKER_HUB, Reference};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    mirrors: Vec<Line>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Line {
    #[serde(rename = "match")]
    matched: String,
    #[serde(default)]
    rewrite: Option<String>,
    /// Instead of `rewrite`: an exception to a shorter match.
    #[serde(default)]
    direct: bool,
    #[serde(default)]
    credentials_file: Option<PathBuf>,
    #[serde(default)]
    credentials_secret_ref: Option<SecretReference>,
    #[serde(default)]
    fallback: bool,
    #[serde(default)]
    insecure: bool,
}

/// Reads YAML: `mirrors:` and a list.
pub(super) fn parse(text: &str) -> Result<Vec<Mirror>, String> {
    let File { mirrors } = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let mirrors = mirrors.into_iter().enumerate();
    let mirrors = mirrors.map(|(index, line)| {
        mirror(line).map_err(|problem| format!("mirrors[{index}]: {problem}"))
    });
    let mirrors = mirrors.collect::<Result<Vec<_>, _>>()?;
    let mut seen = BTreeSet::new();
    match mirrors.iter().find(|mirror| !seen.insert(&mirror.matched)) {
        Some(twice) => {
            Err(format!("{} is matched twice: which of the two mirrors is meant?", twice.matched))
        }
        None => Ok(mirrors),
    }
}

fn mirror(line: Line) -> Result<Mirror, String> {
    let matched = canonical(&line.matched).ok_or_else(|| {
        format!(
            "match {:?} is neither a host nor the beginning of an image's name: write docker.io, or docker.io/library",
            line.matched
        )
    })?;
    let rewrite = match (line.rewrite, line.direct) {
        (Some(_), true) => return Err(format!("{matched} has rewrite and direct: true: one of the two is meant")),
        (None, false) => {
            return Err(format!(
                "{matched} has no rewrite: write where its images are, for example mirror.example.com/hub; direct: true reads \
                 them from their own place"
            ));
        }
        (None, true) => None,
        (Some(rewrite), false) => Some(canonical(&rewrite).ok_or_else(|| {
            format!("rewrite {rewrite:?} is no place to read from: write mirror.example.com/path, without a scheme")
        })?),
    };
    // Of `quay.io/app` nothing is left to put behind a host; `docker.io/library` is no image.
    let is_whole_name = match matched.split_once('/') {
        Some((DOCKER_HUB, path)) => path.contains('/'),
        path => path.is_some(),
    };
    if is_whole_name && rewrite.as_ref().is_some_and(|rewrite| !rewrite.contains('/')) {
        return Err(format!(
            "rewrite of {matched} is a host only: write the image's name behind it, too"
        ));
    }
    let login = match (line.credentials_file, line.credentials_secret_ref) {
        (Some(_), Some(_)) => {
            return Err(format!(
                "{matched} has credentialsFile and credentialsSecretRef: one of the two is meant"
            ));
        }
        (Some(path), None) => Some(Login::File(path)),
        (None, Some(secret)) => Some(Login::Secret(secret)),
        (None, None) => None,
    };
    Ok(Mirror { matched, rewrite, login, fallback: line.fallback, insecure: line.insecure })
}

/// A host, or the beginning of a name, as the names of images have it: `index.docker.io` is
/// `docker.io`.
pub(super) fn canonical(text: &str) -> Option<String> {
    let text = text.trim_end_matches('/');
    if text.contains("://") {
        return None;
    }
    // A host alone is no image; with a name behind it, it is.
    let is_host = !text.contains('/');
    let suffix = if is_host { "/x/x" } else { "/x" };
    let reference: Reference = format!("{text}{suffix}").parse().ok()?;
    let host = text.split('/').next()?;
    if !(host.contains(['.', ':']) || host.eq_ignore_ascii_case("localhost")) {
        return None;
    }
    let name = reference.name();
    name.strip_suffix(suffix).map(str::to_owned)
}
