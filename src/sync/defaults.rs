//! Operator-wide defaults: policies and resource tags for repositories whose spec says nothing of
//! them.
//!
//! They come from files, which are read again when they change: a mounted ConfigMap changes by the
//! swap of a symbolic link, so the file behind the path is another one then.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::api::v1alpha1::{EcrRepositorySyncSpec, Policy};
use crate::ecr::policy::{Kind, Wanted};
use crate::reload::Checked;
use crate::spec;
use crate::violation::Violation;

/// Far more than the longest policy (30,720 characters) with all its white space and comments.
const MOST_BYTES: u64 = 1024 * 1024;

/// The files; none is needed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DefaultFiles {
    /// A lifecycle policy.
    pub lifecycle_policy: Option<PathBuf>,
    /// A permission policy.
    pub permission_policy: Option<PathBuf>,
    /// Resource tags: a map, or a list of `{Key, Value}` as AWS has it.
    pub resource_tags: Option<PathBuf>,
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is neither JSON nor YAML, or not what it is for.
    #[error("{}: {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to write.
        problem: String,
    },
}

/// What the files say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Documents {
    /// The lifecycle policy.
    pub lifecycle: Option<Policy>,
    /// The permission policy.
    pub permission: Option<Policy>,
    /// Resource tags.
    pub resource_tags: BTreeMap<String, String>,
}

impl Documents {
    fn read(files: &DefaultFiles) -> Result<Self, Error> {
        let policy = |kind, path: &Option<PathBuf>| {
            path.as_deref().map_or(Ok(None), |path| read_policy(kind, path))
        };
        Ok(Self {
            lifecycle: policy(Kind::Lifecycle, &files.lifecycle_policy)?,
            permission: policy(Kind::Permission, &files.permission_policy)?,
            resource_tags: files
                .resource_tags
                .as_deref()
                .map_or_else(|| Ok(BTreeMap::new()), read_resource_tags)?,
        })
    }

    /// What of it concerns a spec: what the spec names itself, even if empty, is the spec's.
    #[must_use]
    pub fn for_spec(&self, spec: &EcrRepositorySyncSpec) -> Self {
        let opted_out = spec.resource_tags.as_ref().is_some_and(BTreeMap::is_empty);
        let named =
            |key: &String| spec.resource_tags.as_ref().is_some_and(|tags| tags.contains_key(key));
        let tags = self.resource_tags.iter().filter(|(key, _)| !opted_out && !named(key));
        Self {
            lifecycle: self.lifecycle.clone().filter(|_| spec.lifecycle_policy.is_none()),
            permission: self.permission.clone().filter(|_| spec.permission_policy.is_none()),
            resource_tags: tags.map(|(key, value)| (key.clone(), value.clone())).collect(),
        }
    }
}

/// Which file stood behind a path, and in which state.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

fn stamp(path: &Path) -> Stamp {
    let found = std::fs::metadata(path).ok()?;
    Some((found.dev(), found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
}

/// The defaults as they are now.
#[derive(Debug, Default)]
pub struct Defaults {
    files: DefaultFiles,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    stamps: [Stamp; 3],
    documents: Arc<Documents>,
    /// What they say now cannot be used.
    is_broken: bool,
}

impl Defaults {
    /// Reads and checks the files.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub fn load(files: DefaultFiles) -> Result<Self, Error> {
        let stamps = stamps(&files);
        let documents = Arc::new(Documents::read(&files)?);
        Ok(Self { files, state: Mutex::new(State { stamps, documents, is_broken: false }) })
    }

    /// What the files say now. One that was changed into something that cannot be used is logged,
    /// and what it said before stays in force.
    pub fn current(&self) -> Arc<Documents> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Three stats: cheaper than any request of a pass.
        let stamps = stamps(&self.files);
        if stamps != state.stamps {
            // Looked at before it is read: a change in between is seen the next time. Told once per
            // change.
            state.stamps = stamps;
            let read = Documents::read(&self.files);
            state.is_broken = read.is_err();
            match read {
                Ok(documents) if documents != *state.documents => {
                    tracing::info!(
                        "the files with default policies and resource tags changed; they hold from now on"
                    );
                    state.documents = Arc::new(documents);
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(
                    error = describe(&error),
                    "a file with defaults was changed and cannot be used; what it said before stays in force"
                ),
            }
        }
        state.documents.clone()
    }
}

impl Checked for Arc<Defaults> {
    fn is_usable(&self) -> bool {
        let _current = self.current();
        !self.state.lock().unwrap_or_else(PoisonError::into_inner).is_broken
    }
}

fn describe(error: &Error) -> String {
    match error {
        Error::Read { source, .. } => format!("{error}: {source}"),
        Error::Content { .. } => error.to_string(),
    }
}

fn stamps(files: &DefaultFiles) -> [Stamp; 3] {
    [&files.lifecycle_policy, &files.permission_policy, &files.resource_tags]
        .map(|path| path.as_deref().and_then(stamp))
}

fn read_policy(kind: Kind, path: &Path) -> Result<Option<Policy>, Error> {
    let Value::Object(policy) = read_value(path)? else {
        let problem = match kind {
            Kind::Lifecycle => "is no lifecycle policy: write {\"rules\": [...]}",
            Kind::Permission => {
                "is no permission policy: write {\"Version\": \"2012-10-17\", \"Statement\": [...]}"
            }
        };
        return Err(content(path, problem));
    };
    match Wanted::read(kind, Some(&policy)) {
        Ok(Wanted::Document(policy)) => Ok(Some(policy)),
        // An empty one is no default: it would remove what others wrote.
        Ok(Wanted::None | Wanted::Unmanaged) => Ok(None),
        Err(violations) => Err(content(path, joined(&violations))),
    }
}

fn read_resource_tags(path: &Path) -> Result<BTreeMap<String, String>, Error> {
    let pairs: Vec<(String, Value)> = match read_value(path)? {
        Value::Object(tags) => tags.into_iter().collect(),
        Value::Array(tags) => {
            let pair = |tag: &Value| {
                Some((tag.get("Key")?.as_str()?.to_owned(), tag.get("Value")?.clone()))
            };
            tags.iter().map(pair).collect::<Option<_>>().ok_or_else(|| {
                content(
                    path,
                    "is a list: each element must be {\"Key\": \"team\", \"Value\": \"platform\"}",
                )
            })?
        }
        _ => return Err(content(path, "holds no resource tags: write {\"team\": \"platform\"}")),
    };
    let mut tags = BTreeMap::new();
    for (key, value) in pairs {
        let Value::String(value) = value else {
            return Err(content(path, format!("{key} is {value}, not a string: quote it")));
        };
        tags.insert(key, value);
    }
    let violations = spec::resource_tags(&tags);
    if violations.is_empty() { Ok(tags) } else { Err(content(path, joined(&violations))) }
}

/// JSON is YAML, save for tabs and the like: what is no JSON is read as YAML.
fn read_value(path: &Path) -> Result<Value, Error> {
    let unreadable = |source| Error::Read { path: path.to_owned(), source };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(MOST_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MOST_BYTES {
        return Err(content(path, format!("is larger than {MOST_BYTES} bytes")));
    }
    // `y` and `on` are words here, as they are to people.
    let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
    serde_json::from_str(&text).or_else(|_| {
        serde_saphyr::from_str_with_options(&text, options)
            .map_err(|error| content(path, error.to_string()))
    })
}

fn content(path: &Path, problem: impl Into<String>) -> Error {
    Error::Content { path: path.to_owned(), problem: problem.into() }
}

fn joined(violations: &[Violation]) -> String {
    violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFECYCLE: &str = r#"{"rules": [{"rulePriority": 1, "selection": {"tagStatus": "any",
        "countType": "imageCountMoreThan", "countNumber": 9}, "action": {"type": "expire"}}]}"#;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("a file");
        }
        folder
    }

    fn tags(path: &Path) -> Result<Defaults, String> {
        let files =
            DefaultFiles { resource_tags: Some(path.to_owned()), ..DefaultFiles::default() };
        Defaults::load(files).map_err(|error| describe(&error))
    }

    #[test]
    fn json_and_yaml_say_the_same() {
        let folder = folder(&[
            ("a.json", r#"{"team": "platform"}"#),
            ("a.yaml", "# ours\nteam: platform\n"),
            ("b.json", r#"[{"Key": "team", "Value": "platform"}]"#),
        ]);
        for name in ["a.json", "a.yaml", "b.json"] {
            let read = tags(&folder.path().join(name)).expect("it is good").current();
            assert_eq!(
                read.resource_tags,
                BTreeMap::from([("team".to_owned(), "platform".to_owned())]),
                "{name}"
            );
        }
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let folder = folder(&[
            ("number.yaml", "account: 012345678901\n"),
            ("reserved.yaml", "'aws:x': y\n"),
            ("broken.yaml", "a: [b\n"),
            ("text.yaml", "just text\n"),
            ("policy.json", r#"{"rules": [{}]}"#),
        ]);
        for (name, problem) in [
            ("number.yaml", "not a string: quote it"),
            ("reserved.yaml", "use another prefix"),
            ("broken.yaml", "broken.yaml: "),
            ("text.yaml", "holds no resource tags"),
            ("absent.yaml", "cannot read"),
        ] {
            let error = tags(&folder.path().join(name)).expect_err(name);
            assert!(error.contains(problem) && error.contains(name), "{name}: {error}");
        }
        let path = folder.path().join("policy.json");
        let files = DefaultFiles { lifecycle_policy: Some(path), ..DefaultFiles::default() };
        let error = Defaults::load(files).expect_err("no priority").to_string();
        assert!(error.contains("lifecyclePolicy.rules[0].rulePriority: is missing"), "{error}");
    }

    /// As the kubelet does it: `file -> ..data/file`, `..data -> ..1`, and then `..data -> ..2`.
    #[test]
    fn the_swap_of_a_mounted_config_map_is_seen_and_a_broken_one_changes_nothing() {
        let folder = folder(&[]);
        let at = |name: &str| folder.path().join(name);
        let publish = |version: &str, text: &str| {
            std::fs::create_dir(at(version)).expect("a folder");
            std::fs::write(at(version).join("tags.yaml"), text).expect("a file");
            std::os::unix::fs::symlink(version, at("..new")).expect("a link");
            std::fs::rename(at("..new"), at("..data")).expect("swapped");
        };
        publish("..1", "team: one\n");
        std::os::unix::fs::symlink("..data/tags.yaml", at("tags.yaml")).expect("a link");
        let defaults = tags(&at("tags.yaml")).expect("it is good");
        let team = || defaults.current().resource_tags["team"].clone();
        assert_eq!(team(), "one");
        publish("..2", "team: two\n");
        assert_eq!(team(), "two");
        publish("..3", "team: [\n");
        assert_eq!(team(), "two");
        publish("..4", "team: four\n");
        assert_eq!(team(), "four");
    }

    #[test]
    fn what_a_spec_names_is_the_specs() {
        let folder = folder(&[("policy.json", LIFECYCLE), ("tags.yaml", "team: a\nstage: dev\n")]);
        let defaults = Defaults::load(DefaultFiles {
            lifecycle_policy: Some(folder.path().join("policy.json")),
            permission_policy: None,
            resource_tags: Some(folder.path().join("tags.yaml")),
        });
        let documents = defaults.expect("they are good").current();
        let spec =
            |yaml: &str| -> EcrRepositorySyncSpec { serde_saphyr::from_str(yaml).expect("a spec") };
        let keys =
            |yaml| documents.for_spec(&spec(yaml)).resource_tags.into_keys().collect::<Vec<_>>();
        assert_eq!(keys("{}"), ["stage", "team"]);
        assert_eq!(keys("resourceTags: {team: b}"), ["stage"]);
        assert_eq!(keys("resourceTags: {}"), [""; 0]);
        let has_lifecycle = |yaml| documents.for_spec(&spec(yaml)).lifecycle.is_some();
        assert!(has_lifecycle("{}") && !has_lifecycle("lifecyclePolicy: {rules: []}"));
    }
}
