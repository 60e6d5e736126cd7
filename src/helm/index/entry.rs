//! The versions of one chart in an index: usable entries, and problems.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use super::super::version::is_version;
use super::super::yaml::Value;
use crate::memory_budget::{Results, Shortage};
use crate::registry::Digest;
use crate::text::shortened;

/// The most unusable versions that are reported.
const MAX_PROBLEMS: usize = 1000;
/// The most characters of a reason, which may quote the index.
const LONGEST_REASON: usize = 300;
/// Memory of a version while versions are collected: the list is up to three times as large while
/// it grows, and each version has a place in a map.
const BOOKKEEPING: usize = 2 * size_of::<Entry>() + 240;

/// The part of an index about one chart.
#[derive(Clone, Debug)]
pub struct ChartVersions {
    /// The chart's name.
    pub name: String,
    /// The usable versions, in the order of the index. `v1.2.3` and `1.2.3` are two versions: they
    /// are equal to semver, but Helm finds each by its own text.
    pub versions: Vec<Entry>,
    /// The unusable versions, in the order of the index.
    pub problems: Vec<Problem>,
    /// The memory of all versions in the budget.
    pub(crate) memory: Option<Arc<Results>>,
}

impl PartialEq for ChartVersions {
    fn eq(&self, other: &Self) -> bool {
        let Self { name, versions, problems, memory: _ } = self;
        (name, versions, problems) == (&other.name, &other.versions, &other.problems)
    }
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

impl Entry {
    /// The memory of the entry, in bytes.
    fn bytes(&self) -> usize {
        let Self { chart, version, urls, digest, app_version, kind, .. } = self;
        let text = |text: &str| text.len() + 16;
        size_of::<Self>()
            + text(chart)
            + text(version)
            + urls.iter().map(|url| text(url) + size_of::<String>()).sum::<usize>()
            + digest.as_ref().map_or(0, |digest| text(digest.as_str()))
            + app_version.as_deref().map_or(0, text)
            + kind.as_deref().map_or(0, text)
    }
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

/// Collects the versions of a chart.
pub(super) struct Collector {
    versions: ChartVersions,
    /// Version -> its usable entry, the first of several.
    places: HashMap<String, usize>,
    /// Versions with different entries.
    conflicts: BTreeSet<String>,
    position: usize,
    memory: Results,
    /// The bytes of the entries without the bookkeeping.
    bytes: usize,
}

impl Collector {
    pub(super) fn new(chart: &str, memory: Results) -> Self {
        let versions = ChartVersions {
            name: chart.to_owned(),
            versions: Vec::new(),
            problems: Vec::new(),
            memory: None,
        };
        let (places, conflicts) = (HashMap::new(), BTreeSet::new());
        Self { versions, places, conflicts, position: 0, memory, bytes: 0 }
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// When the memory budget does not allow it.
    pub(super) fn push(&mut self, value: Value) -> Result<(), Shortage> {
        self.position += 1;
        let draft = Draft::read(value);
        let version = draft.version.clone();
        let entry = match draft.check(&self.versions.name) {
            Ok(entry) => entry,
            Err(why) => return self.add_problem(version, self.position, &why),
        };

        let ChartVersions { versions, .. } = &mut self.versions;
        match self.places.get(&entry.version) {
            // Equal duplicates do no harm. Of different ones, neither is used: a guess could be
            // wrong, and nobody would notice.
            Some(first) => {
                if versions.get(*first) != Some(&entry) {
                    self.conflicts.insert(entry.version);
                }
            }
            None => {
                let bytes = entry.bytes();
                self.memory.add(bytes + BOOKKEEPING + entry.version.len())?;
                self.bytes += bytes;
                self.places.insert(entry.version.clone(), versions.len());
                versions.push(entry);
            }
        }
        Ok(())
    }

    fn add_problem(
        &mut self,
        version: Option<String>,
        position: usize,
        why: &str,
    ) -> Result<(), Shortage> {
        let problems = &mut self.versions.problems;
        if problems.len() < MAX_PROBLEMS {
            let chart = self.versions.name.clone();
            let why = shortened(why, LONGEST_REASON).into_owned();
            let problem = Problem { chart, version, position, why };
            let texts = problem.version.as_ref().map_or(0, String::len) + problem.why.len();
            self.memory.add(3 * size_of::<Problem>() + problem.chart.len() + texts)?;
            self.bytes += size_of::<Problem>() + problem.chart.len() + texts;
            problems.push(problem);
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> ChartVersions {
        let conflicts = std::mem::take(&mut self.conflicts);
        self.versions.versions.retain(|entry| !conflicts.contains(&entry.version));
        for version in conflicts {
            let why = "the index lists it twice, with different contents".to_owned();
            // Without memory, only the sentence about the version is lost.
            let _ = self.add_problem(Some(version), 0, &why);
        }

        let Self { places, mut versions, mut memory, bytes, .. } = self;
        drop(places);
        versions.versions.shrink_to_fit();
        versions.problems.shrink_to_fit();
        memory.shrink_to(bytes);
        let order =
            |a: &Problem, b: &Problem| (a.position, &a.version).cmp(&(b.position, &b.version));
        versions.problems.sort_by(order);
        ChartVersions { memory: Some(Arc::new(memory)), ..versions }
    }
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
