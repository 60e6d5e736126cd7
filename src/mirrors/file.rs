//! The file with the list of mirrors.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::Deserialize;

use super::{Login, Mirror, SecretReference};
use crate::nesting;
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
    /// An exception to a shorter match, instead of `rewrite`.
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

/// Parses YAML: `mirrors:` and a list.
pub(super) fn parse(text: &str) -> Result<Vec<Mirror>, String> {
    let File { mirrors } = nesting::yaml(text)?;
    let mirrors = mirrors.into_iter().enumerate().map(|(index, line)| {
        mirror(line).map_err(|problem| format!("mirrors[{index}]: {problem}"))
    });
    let mirrors = mirrors.collect::<Result<Vec<_>, _>>()?;

    let mut matches = BTreeSet::new();
    match mirrors.iter().find(|mirror| !matches.insert(&mirror.matched)) {
        Some(twice) => {
            Err(format!("{} is matched twice: remove one of the two mirrors", twice.matched))
        }
        None => Ok(mirrors),
    }
}

fn mirror(line: Line) -> Result<Mirror, String> {
    let matched = canonical(&line.matched).ok_or_else(|| {
        format!(
            "match {:?} is neither a host nor the first part of an image's name: write docker.io, \
             or docker.io/library",
            line.matched
        )
    })?;
    let rewrite = match (line.rewrite, line.direct) {
        (Some(_), true) => {
            return Err(format!("{matched} has both rewrite and direct: true: remove one of them"));
        }
        (None, false) => {
            return Err(format!(
                "{matched} has no rewrite: write where the mirror has its images, for example \
                 mirror.example.com/hub; direct: true reads them from their own registry"
            ));
        }
        (None, true) => None,
        (Some(rewrite), false) => Some(canonical(&rewrite).ok_or_else(|| {
            format!(
                "rewrite {rewrite:?} is not a host with a path: write mirror.example.com/path, \
                 without a scheme"
            )
        })?),
    };

    // A match of a whole name leaves nothing to append to a host. `docker.io/library` is not a
    // name.
    let is_whole_name = match matched.split_once('/') {
        Some((DOCKER_HUB, path)) => path.contains('/'),
        path => path.is_some(),
    };
    if is_whole_name && rewrite.as_ref().is_some_and(|rewrite| !rewrite.contains('/')) {
        return Err(format!("rewrite of {matched} is only a host: append the image's name"));
    }

    let login = match (line.credentials_file, line.credentials_secret_ref) {
        (Some(_), Some(_)) => {
            return Err(format!(
                "{matched} has both credentialsFile and credentialsSecretRef: remove one of them"
            ));
        }
        (Some(path), None) => Some(Login::File(path)),
        (None, Some(secret)) => Some(Login::Secret(secret)),
        (None, None) => None,
    };

    Ok(Mirror { matched, rewrite, login, fallback: line.fallback, insecure: line.insecure })
}

/// Returns a host, or the first part of a name, in the form of image names: `index.docker.io`
/// becomes `docker.io`. Returns `None` if the text is neither.
pub(super) fn canonical(text: &str) -> Option<String> {
    let text = text.trim_end_matches('/');
    if text.contains("://") {
        return None;
    }

    // Makes a whole image name of it, to parse that.
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
