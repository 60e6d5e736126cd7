//! The versions of one chart in an index: usable entries, and problems.

use std::collections::HashSet;
use std::fmt;

use super::super::version::is_version;
use super::super::yaml::Value;
use crate::registry::Digest;

/// The part of an index about one chart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChartVersions {
    /// The chart's name.
    pub name: String,
    /// The usable versions, in the order of the index. `v1.2.3` and `1.2.3` are two versions: they
    /// are equal to semver, but Helm finds each by its own text.
    pub versions: Vec<Entry>,
    /// The unusable versions, in the order of the index.
    pub problems: Vec<Problem>,
}

impl ChartVersions {
    /// The entry of exactly this version.
    #[must_use]
    pub fn get(&self, version: &str) -> Option<&Entry> {
        self.versions.iter().find(|entry| entry.version == version)
    }
}

/// One version of a chart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The chart's name.
    pub chart: String,
    /// The version as it is written: `1.2.3`, `v1.2.3`, `1.2.3+build`.
    pub version: String,
    /// The URLs of the archive: absolute, relative to the repository, or `oci://`. At least one.
    pub urls: Vec<String>,
    /// The archive's digest, if the index has it.
    pub digest: Option<Digest>,
    /// Whether the version is deprecated.
    pub deprecated: bool,
    /// The version of the application.
    pub app_version: Option<String>,
    /// `application` or `library`.
    pub kind: Option<String>,
}

/// An unusable version. It does not affect the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The chart's name.
    pub chart: String,
    /// The version, if there is one.
    pub version: Option<String>,
    /// The position in the list, from 1.
    pub position: usize,
    /// The reason.
    pub why: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Some(version) => write!(f, "chart {} {version}: {}", self.chart, self.why),
            None => write!(f, "chart {}, entry {}: {}", self.chart, self.position, self.why),
        }
    }
}

/// Reads the versions in a chart's list.
pub(super) fn read(chart: &str, list: Value) -> Result<ChartVersions, &'static str> {
    let entries = match list {
        Value::List(entries) => entries,
        Value::Null => Vec::new(),
        _ => return Err("it is not a list of versions"),
    };

    let mut chart_versions =
        ChartVersions { name: chart.to_owned(), versions: Vec::new(), problems: Vec::new() };
    let problem = |version, position, why| {
        let chart = chart.to_owned();
        Problem { chart, version, position, why }
    };
    let mut versions = HashSet::new();
    let mut duplicates = HashSet::new();

    for (index, value) in entries.into_iter().enumerate() {
        let draft = Draft::read(value);
        let version = draft.version.clone();
        if let Some(version) = &version
            && !versions.insert(version.clone())
        {
            duplicates.insert(version.clone());
        }
        match draft.check(chart) {
            Ok(entry) => chart_versions.versions.push(entry),
            Err(why) => chart_versions.problems.push(problem(version, index + 1, why)),
        }
    }

    // Equal duplicates do no harm. Of different ones, neither is used: a guess could be wrong, and
    // nobody would notice.
    for version in duplicates {
        let mut same = chart_versions.versions.iter().filter(|entry| entry.version == version);
        let first = same.next();
        if same.all(|entry| Some(entry) == first) {
            let mut has_first = false;
            chart_versions.versions.retain(|entry| {
                entry.version != version || !std::mem::replace(&mut has_first, true)
            });
            continue;
        }
        chart_versions.versions.retain(|entry| entry.version != version);
        let why = "the index lists it twice, with different contents".to_owned();
        chart_versions.problems.push(problem(Some(version), 0, why));
    }

    chart_versions.problems.sort_by(|a, b| (a.position, &a.version).cmp(&(b.position, &b.version)));
    Ok(chart_versions)
}

/// An entry before it is checked.
#[derive(Default)]
struct Draft {
    name: Option<String>,
    version: Option<String>,
    urls: Vec<String>,
    digest: Option<String>,
    deprecated: bool,
    app_version: Option<String>,
    kind: Option<String>,
    wrong: Option<String>,
}

impl Draft {
    fn read(value: Value) -> Self {
        let mut draft = Self::default();
        let Value::Map(fields) = value else {
            draft.wrong = Some("the entry is empty or not a mapping".into());
            return draft;
        };

        for (key, value) in fields {
            let wrong = match key.as_str() {
                "name" => text(&mut draft.name, value),
                "version" => text(&mut draft.version, value),
                "digest" => text(&mut draft.digest, value),
                "appVersion" => text(&mut draft.app_version, value),
                "type" => text(&mut draft.kind, value),
                "deprecated" => {
                    draft.deprecated = value == Value::Bool(true);
                    None
                }
                "urls" => draft.urls(value),
                _ => None,
            };
            if let Some(wrong) = wrong {
                draft.wrong.get_or_insert(format!("`{key}` is {wrong}"));
            }
        }

        draft
    }

    fn urls(&mut self, value: Value) -> Option<&'static str> {
        match value {
            Value::Null => None,
            Value::List(list) => list.into_iter().find_map(|url| {
                let mut to = None;
                let wrong = text(&mut to, url);
                self.urls.extend(to);
                wrong
            }),
            _ => Some("not a list"),
        }
    }

    fn check(self, chart: &str) -> Result<Entry, String> {
        if let Some(wrong) = self.wrong {
            return Err(wrong);
        }
        let Some(version) = self.version else { return Err("it has no `version`".into()) };
        if !is_version(&version) {
            return Err("the version is not a semantic version".into());
        }

        match self.name {
            Some(name) if name == chart => {}
            Some(name) => return Err(format!("its `name` is {name}")),
            None => return Err("it has no `name`".into()),
        }

        if self.urls.is_empty() {
            return Err("it has no `urls`".into());
        }
        let digest = self.digest.map(|text| digest(&text)).transpose()?;
        let Self { urls, deprecated, app_version, kind, .. } = self;
        Ok(Entry { chart: chart.to_owned(), version, urls, digest, deprecated, app_version, kind })
    }
}

/// Sets a text unless it is empty; returns the kind of a value that is not text.
fn text(field: &mut Option<String>, value: Value) -> Option<&'static str> {
    match value.into_text() {
        Ok(text) => {
            *field = text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
            None
        }
        Err(wrong) => Some(wrong),
    }
}

/// Parses a digest. Helm writes bare hex; others write a prefix, or upper case.
fn digest(text: &str) -> Result<Digest, String> {
    let text = text.to_ascii_lowercase();
    let hex = text.strip_prefix("sha256:").unwrap_or(&text);
    format!("sha256:{hex}").parse().map_err(|_| "its `digest` is not a SHA-256 in hex".to_owned())
}
