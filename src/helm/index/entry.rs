//! The versions of one chart.

use std::collections::HashSet;
use std::fmt;

use super::super::version::is_version;
use super::super::yaml::Value;
use crate::registry::Digest;

/// What an index says about one chart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChartVersions {
    /// Its name.
    pub name: String,
    /// The versions that can be used, in the order of the index. `v1.2.3` and `1.2.3` are two of
    /// them: equal to semver, but Helm finds each by its own text.
    pub versions: Vec<Entry>,
    /// The versions that cannot, in the order of the index.
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
    /// The version, as it is written: `1.2.3`, `v1.2.3`, `1.2.3+build`.
    pub version: String,
    /// Where the archive can be had: absolute, relative to the repository, or `oci://`. At least
    /// one.
    pub urls: Vec<String>,
    /// The archive's digest, where the index has it.
    pub digest: Option<Digest>,
    /// Whether the publisher advises against it.
    pub deprecated: bool,
    /// The version of what the chart installs.
    pub app_version: Option<String>,
    /// `application` or `library`.
    pub kind: Option<String>,
}

/// A version that cannot be used. The others go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The chart's name.
    pub chart: String,
    /// The version, where there is one.
    pub version: Option<String>,
    /// Its place in the list, from 1.
    pub place: usize,
    /// What is wrong.
    pub why: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Some(version) => write!(f, "chart {} {version}: {}", self.chart, self.why),
            None => write!(f, "chart {}, entry {}: {}", self.chart, self.place, self.why),
        }
    }
}

/// The versions in a chart's list.
pub(super) fn read(chart: &str, list: Value) -> Result<ChartVersions, &'static str> {
    let entries = match list {
        Value::List(entries) => entries,
        Value::Null => Vec::new(),
        _ => return Err("it is not a list of versions"),
    };
    let mut read =
        ChartVersions { name: chart.to_owned(), versions: Vec::new(), problems: Vec::new() };
    let mut seen = HashSet::new();
    let mut twice = HashSet::new();
    for (index, value) in entries.into_iter().enumerate() {
        let draft = Draft::read(value);
        let version = draft.version.clone();
        if let Some(version) = &version
            && !seen.insert(version.clone())
        {
            twice.insert(version.clone());
        }
        match draft.check(chart) {
            Ok(entry) => read.versions.push(entry),
            Err(why) => read.problems.push(Problem {
                chart: chart.to_owned(),
                version,
                place: index + 1,
                why,
            }),
        }
    }
    // Which of the two is meant is a guess that nobody would notice; a copy that says the same is
    // no matter.
    for version in twice {
        let mut same = read.versions.iter().filter(|entry| entry.version == version);
        let first = same.next();
        if same.all(|entry| Some(entry) == first) {
            let mut kept = false;
            read.versions
                .retain(|entry| entry.version != version || !std::mem::replace(&mut kept, true));
            continue;
        }
        read.versions.retain(|entry| entry.version != version);
        let why = "the index lists it twice, with different contents".to_owned();
        read.problems.push(Problem {
            chart: chart.to_owned(),
            version: Some(version),
            place: 0,
            why,
        });
    }
    read.problems.sort_by(|a, b| (a.place, &a.version).cmp(&(b.place, &b.version)));
    Ok(read)
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
            draft.wrong = Some("the entry is empty or no mapping".into());
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

/// Sets a text that is not empty; says what the value is if it is no text.
fn text(field: &mut Option<String>, value: Value) -> Option<&'static str> {
    match value.into_text() {
        Ok(text) => {
            *field = text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
            None
        }
        Err(wrong) => Some(wrong),
    }
}

/// Helm writes bare hex; others write a prefix, or upper case.
fn digest(text: &str) -> Result<Digest, String> {
    let text = text.to_ascii_lowercase();
    let hex = text.strip_prefix("sha256:").unwrap_or(&text);
    format!("sha256:{hex}")
        .parse()
        .map_err(|_| "its `digest` is not the hex of a SHA-256".to_owned())
}
