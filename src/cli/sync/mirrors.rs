//! Places to read images from instead of their own: `--mirrors-file`, and GitLab's dependency proxy.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::credentials::DockerConfig;
use crate::registry::{Credential, Reference};

/// Variables of GitLab CI that describe its dependency proxy; all four or none.
const GITLAB: [&str; 4] = [
    "CI_DEPENDENCY_PROXY_USER",
    "CI_DEPENDENCY_PROXY_PASSWORD",
    "CI_DEPENDENCY_PROXY_SERVER",
    "CI_DEPENDENCY_PROXY_DIRECT_GROUP_IMAGE_PREFIX",
];

/// One line of the table.
#[derive(Debug)]
pub(super) struct Mirror {
    /// A host, or a host and the beginning of a path, or all of it.
    matched: String,
    /// What stands in its place.
    rewrite: String,
    /// The login; of the mirror's host only. `None`: as for any other host.
    pub(super) credential: Option<Login>,
    /// Whether the image's own place is read where the mirror fails.
    pub(super) fallback: bool,
    /// Whether the mirror speaks plain HTTP.
    pub(super) insecure: bool,
}

/// Where the login of a mirror comes from.
#[derive(Debug)]
pub(super) enum Login {
    /// A docker config.
    File(DockerConfig),
    /// A user and a password.
    Known(Credential),
}

/// As the file has it.
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
    rewrite: String,
    #[serde(default)]
    credentials_file: Option<PathBuf>,
    #[serde(default)]
    fallback: bool,
    #[serde(default)]
    insecure: bool,
}

/// The table.
#[derive(Debug, Default)]
pub(super) struct Mirrors(Vec<Mirror>);

impl Mirrors {
    /// Reads the file, and adds GitLab's proxy where the environment describes one.
    ///
    /// # Errors
    /// What cannot be used, in words.
    pub(super) fn load(file: Option<&Path>, fallback: bool) -> Result<(Self, Option<String>), String> {
        let mut mirrors = file.map_or_else(|| Ok(Vec::new()), |file| read(file, fallback))?;
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (gitlab, warning) = gitlab(variable, fallback);
        // What the file says of Docker Hub comes first.
        mirrors.extend(gitlab.filter(|gitlab| !mirrors.iter().any(|mirror| mirror.matched == gitlab.matched)));
        Ok((Self(mirrors), warning))
    }

    /// The mirror for an image with the reference to read there: that of the longest match.
    pub(super) fn find(&self, reference: &Reference) -> Option<(&Mirror, String)> {
        let name = reference.name();
        let rest = |mirror: &Mirror| -> Option<String> {
            let rest = name.strip_prefix(&mirror.matched)?;
            // `docker.io/library` is not the beginning of `docker.io/libraryx`.
            (rest.is_empty() || rest.starts_with('/')).then(|| rest.to_owned())
        };
        let fitting = self.0.iter().filter_map(|mirror| Some((mirror, rest(mirror)?)));
        let (mirror, rest) = fitting.max_by_key(|(mirror, _)| mirror.matched.len())?;
        let tag = reference.tag.as_ref().map(|tag| format!(":{}", tag.as_str())).unwrap_or_default();
        Some((mirror, format!("{}{rest}{tag}", mirror.rewrite)))
    }
}

fn read(file: &Path, fallback: bool) -> Result<Vec<Mirror>, String> {
    let name = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| format!("cannot read {name}: {error}"))?;
    let File { mirrors } = serde_saphyr::from_str(&text).map_err(|error| format!("{name}: {error}"))?;
    let mirror = |line: Line| {
        let matched = canonical(&line.matched).ok_or_else(|| {
            format!("{name}: match {:?} is neither a host nor the beginning of an image's name: write docker.io, or docker.io/library", line.matched)
        })?;
        let rewrite = line.rewrite.trim_end_matches('/').to_owned();
        let is_host = rewrite.split('/').next().is_some_and(|host| host.contains(['.', ':']) || host == "localhost");
        if !is_host || rewrite.contains("://") {
            return Err(format!(
                "{name}: rewrite {rewrite:?} is no place to read from: write mirror.example.com/path, without a scheme"
            ));
        }
        let credential = line.credentials_file.map(|path| DockerConfig::read(&path)).transpose();
        let credential = credential.map_err(|error| format!("{name}: {}", crate::cli::with_causes(&error)))?;
        Ok(Mirror {
            matched,
            rewrite,
            credential: credential.map(Login::File),
            fallback: line.fallback || fallback,
            insecure: line.insecure,
        })
    };
    mirrors.into_iter().map(mirror).collect()
}

/// A match as the names of images have it: `index.docker.io` is `docker.io`.
fn canonical(matched: &str) -> Option<String> {
    let matched = matched.trim_end_matches('/');
    // A host alone is no image; with a name behind it, it is.
    let is_host = !matched.contains('/');
    let reference: Reference = if is_host { format!("{matched}/x/x") } else { format!("{matched}/x") }.parse().ok()?;
    let host = matched.split('/').next()?;
    if !(host.contains(['.', ':']) || host == "localhost") {
        return None;
    }
    let name = reference.name();
    name.strip_suffix(if is_host { "/x/x" } else { "/x" }).map(str::to_owned)
}

/// GitLab's dependency proxy, or a warning where only a part of it is described.
fn gitlab(variable: impl Fn(&str) -> Option<String>, fallback: bool) -> (Option<Mirror>, Option<String>) {
    let [username, password, server, prefix] = GITLAB.map(variable);
    match (username, password, server, prefix) {
        (Some(username), Some(password), Some(_), Some(prefix)) => {
            let mirror = Mirror {
                matched: "docker.io".to_owned(),
                rewrite: prefix.trim_end_matches('/').to_owned(),
                credential: Some(Login::Known(Credential::Basic { username, password })),
                fallback,
                insecure: false,
            };
            (Some(mirror), None)
        }
        (None, None, None, None) => (None, None),
        given => {
            let given = [given.0, given.1, given.2, given.3];
            let missing = GITLAB.iter().zip(given).filter(|(_, value)| value.is_none());
            let missing: Vec<_> = missing.map(|(name, _)| *name).collect();
            let missing = missing.join(", ");
            (None, Some(format!("GitLab's dependency proxy is not used: {missing} not set")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &str = "gitlab.example.com/group/dependency_proxy/containers";

    fn environment(missing: &[&str]) -> impl Fn(&str) -> Option<String> {
        let missing: Vec<_> = missing.iter().map(|name| (*name).to_owned()).collect();
        move |name| {
            let value = if name.ends_with("PREFIX") { PREFIX } else { "value" };
            (!missing.iter().any(|missing| missing == name)).then(|| value.to_owned())
        }
    }

    fn place(mirrors: &Mirrors, image: &str) -> Option<String> {
        mirrors.find(&image.parse().expect("a reference")).map(|(_, place)| place)
    }

    #[test]
    fn gitlabs_proxy_is_for_docker_hub_only() {
        let (mirror, warning) = gitlab(environment(&[]), false);
        assert_eq!(warning, None);
        let mirrors = Mirrors(mirror.into_iter().collect());
        for (image, expected) in [
            ("grafana/loki:latest", Some("/grafana/loki:latest")),
            ("docker.io/library/nginx:alpine", Some("/library/nginx:alpine")),
            ("nginx:alpine", Some("/library/nginx:alpine")),
            ("index.docker.io/library/nginx", Some("/library/nginx")),
            ("registry-1.docker.io/grafana/loki", Some("/grafana/loki")),
            ("registry.example.com/app:tag", None),
            ("docker.io.example.com/app", None),
        ] {
            assert_eq!(place(&mirrors, image), expected.map(|path| format!("{PREFIX}{path}")), "{image}");
        }
    }

    #[test]
    fn a_part_of_gitlabs_variables_is_one_warning() {
        let (mirror, warning) = gitlab(environment(&["CI_DEPENDENCY_PROXY_PASSWORD"]), false);
        assert!(mirror.is_none());
        assert_eq!(
            warning.as_deref(),
            Some("GitLab's dependency proxy is not used: CI_DEPENDENCY_PROXY_PASSWORD not set")
        );
        let (mirror, warning) = gitlab(environment(&GITLAB), false);
        assert!(mirror.is_none() && warning.is_none());
    }

    #[test]
    fn the_longest_match_counts_and_ends_at_a_slash() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("mirrors.yaml");
        let read = |text: &str| {
            std::fs::write(&file, text).expect("a file");
            read(&file, false)
        };
        let text = "mirrors:\n- {match: index.docker.io, rewrite: m.example/hub}\n- {match: docker.io/library, rewrite: \
                    'm.example:5000/official/', fallback: true}\n";
        let mirrors = Mirrors(read(text).expect("a table"));
        assert_eq!(place(&mirrors, "nginx:1").as_deref(), Some("m.example:5000/official/nginx:1"));
        assert_eq!(place(&mirrors, "grafana/loki").as_deref(), Some("m.example/hub/grafana/loki"));
        assert_eq!(place(&mirrors, "libraryx/y").as_deref(), Some("m.example/hub/libraryx/y"));
        assert_eq!(place(&mirrors, "quay.io/x"), None);
        assert!(mirrors.find(&"nginx".parse().expect("a reference")).is_some_and(|(mirror, _)| mirror.fallback));
        for (text, hint) in [
            ("mirrors:\n- {match: docker, rewrite: m.example/x}\n", "write docker.io"),
            ("mirrors:\n- {match: docker.io, rewrite: 'https://m.example'}\n", "without a scheme"),
            ("mirrors:\n- {match: docker.io, rewrit: m.example}\n", "rewrit"),
            ("mirrors:\n- {match: docker.io, rewrite: m.example, credentialsFile: /nowhere}\n", "/nowhere"),
        ] {
            let error = read(text).map(|_| ()).expect_err(hint);
            assert!(error.contains(hint), "{hint}: {error}");
        }
    }
}
