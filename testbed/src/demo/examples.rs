//! `examples/*.yaml` as the demo applies them: servers on this machine stand in for the internet.

use std::fs;
use std::path::{Path, PathBuf};

use super::narrator::Narrator;
use crate::chart_repository::ChartRepository;
use crate::upstream::Upstream;
use crate::{Error, tools};

/// Images of docker.io that the examples name, and the seeded image that stands in for each.
const STAND_INS: [(&str, &str); 4] = [
    ("library/nginx:1.26", "library/demo:1.26"),
    ("library/nginx:1.27", "library/demo:1.27"),
    ("library/nginx:latest", "library/demo:latest"),
    ("library/alpine:3.22", "team/app:v1"),
];

/// The chart of charts.example.com that an example names.
pub(super) const CHART: Chart =
    Chart { folder: "stable", name: "web", versions: ["1.0.0", "1.1.0", "1.2.0"] };

/// See [`CHART`].
#[derive(Debug)]
pub(super) struct Chart {
    pub(super) folder: &'static str,
    pub(super) name: &'static str,
    /// Sorted, the newest last.
    pub(super) versions: [&'static str; 3],
}

/// The example with a mistake: its missing tag, and the tag that is copied nevertheless.
pub(super) const MISTAKE: Mistake =
    Mistake { resource: "nginx-mistake", missing: "1.72", good: "1.26" };

/// See [`MISTAKE`].
#[derive(Debug)]
pub(super) struct Mistake {
    pub(super) resource: &'static str,
    pub(super) missing: &'static str,
    pub(super) good: &'static str,
}

/// Fills the registry with all images that the examples name. Returns the number of tags.
pub(super) async fn seed(upstream: &Upstream) -> Result<usize, Error> {
    const LARGE_LAYER: usize = 8 << 20;
    let images = upstream.seed_images(LARGE_LAYER).await?;

    for (name, stand_in) in STAND_INS {
        let [from, to] = [
            format!("{}/{stand_in}", upstream.host()),
            format!("{}{name}", docker_io(upstream.host())),
        ];
        upstream.crane(&["copy", &from, &to]).await?;
    }
    Ok(images.len() + STAND_INS.len())
}

/// Returns a patch for the example's Secret, with a password that the registry refuses.
pub(super) fn wrong_password(registry: &str) -> String {
    let config =
        serde_json::json!({"auths": {registry: {"username": "reader", "password": "wrong"}}});
    serde_json::json!({"stringData": {".dockerconfigjson": config.to_string()}}).to_string()
}

/// Fills the chart repository with all versions of [`CHART`].
pub(super) async fn package(charts: &ChartRepository) -> Result<(), Error> {
    for version in CHART.versions {
        charts.package(CHART.folder, CHART.name, version).await?;
    }
    charts.index(CHART.folder).await
}

/// Returns the prefix that stands in for docker.io: a part of the registry that can be read without
/// a login.
pub(super) fn docker_io(host: &str) -> String {
    format!("{host}/public/")
}

/// Writes the examples into `dir`, with the hosts of the registry and the chart repository.
pub(super) fn write(
    registry: &str,
    charts: &str,
    dir: &Path,
    narrator: &Narrator,
) -> Result<(), Error> {
    fs::create_dir_all(dir).map_err(|e| format!("cannot create {}: {e}", dir.display()))?;

    for path in files()? {
        let name = path.file_name().unwrap_or_default();
        let text = fs::read_to_string(&path)
            .map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        let to = dir.join(name);
        fs::write(&to, rewritten(&text, registry, charts))
            .map_err(|e| format!("cannot write {}: {e}", to.display()))?;
        narrator.say(format!("{:<26} {}", name.display(), first_sentence(&text)));
    }

    Ok(())
}

fn files() -> Result<Vec<PathBuf>, Error> {
    let folder = tools::workspace().join("examples");
    let entries =
        fs::read_dir(&folder).map_err(|e| format!("cannot read {}: {e}", folder.display()))?;
    let mut files: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();

    if files.is_empty() {
        Err(format!("no *.yaml in {}", folder.display()).into())
    } else {
        Ok(files)
    }
}

/// Returns the example with its hosts replaced, and with plain HTTP for every source.
fn rewritten(text: &str, registry: &str, charts: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let line = line
            .replace("docker.io/", &docker_io(registry))
            .replace("registry.example.com", registry);
        let line = line.replace("https://charts.example.com", &format!("http://{charts}"));
        out.push_str(&line);
        out.push('\n');

        // A chart repository needs no `insecure`: its URL has the scheme.
        if let Some((indent, url)) = line.split_once("pullUrl:")
            && indent.trim().is_empty()
            && !url.trim_start().starts_with("http://")
        {
            out.push_str(&format!("{indent}insecure: true\n"));
        }
    }
    out
}

/// Returns the first sentence of the comment at the top.
fn first_sentence(text: &str) -> String {
    let comment: Vec<_> = text.lines().map_while(|line| line.strip_prefix("# ")).collect();
    let comment = comment.join(" ");
    let first = comment.split_once(". ").map_or(comment.as_str(), |(first, _)| first);
    first.trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_replaced_and_read_over_plain_http() {
        let text = "spec:\n  image:\n    pullUrl: docker.io/library/nginx:1\n---\n  \
                    {\"registry.example.com\": 1}\n# pullUrl: x\n";
        let expected = "spec:\n  image:\n    pullUrl: reg:5/public/library/nginx:1\n    \
                        insecure: true\n---\n  {\"reg:5\": 1}\n# pullUrl: x\n";
        assert_eq!(rewritten(text, "reg:5", "charts:6"), expected);
        let chart = "  chart:\n    pullUrl: https://charts.example.com/stable/web\n";
        assert_eq!(
            rewritten(chart, "reg:5", "charts:6"),
            "  chart:\n    pullUrl: http://charts:6/stable/web\n"
        );
    }

    #[test]
    fn every_example_says_what_it_shows() {
        for path in files().unwrap() {
            let text = fs::read_to_string(&path).unwrap();
            assert!(!first_sentence(&text).is_empty(), "{} starts with no comment", path.display());
        }
    }

    #[test]
    fn every_chart_of_charts_example_com_has_a_stand_in() {
        let expected =
            format!("pullUrl: https://charts.example.com/{}/{}", CHART.folder, CHART.name);
        for path in files().unwrap() {
            for line in fs::read_to_string(&path)
                .unwrap()
                .lines()
                .filter(|line| line.contains("//charts.example.com/"))
            {
                let line = line.split(" #").next().unwrap_or_default().trim();
                assert_eq!(line, expected, "{}", path.display());
            }
        }
    }

    #[test]
    fn every_image_of_docker_io_has_a_stand_in() {
        for path in files().unwrap() {
            for line in fs::read_to_string(&path)
                .unwrap()
                .lines()
                .filter(|line| line.trim().starts_with("pullUrl:"))
            {
                let Some((_, image)) = line.split_once("docker.io/") else { continue };
                let (repository, tag) = image.split_once(':').unwrap_or((image, ""));
                let has_stand_in = STAND_INS.iter().any(|(name, _)| {
                    name.split_once(':')
                        .is_some_and(|(r, t)| r == repository && (tag.is_empty() || t == tag))
                });
                assert!(has_stand_in, "{}: docker.io/{image}", path.display());
            }
        }
    }
}
