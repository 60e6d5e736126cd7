//! Operator-wide defaults: policies and resource tags for repositories whose spec does not set
//! them, from files that are reloaded when they change.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use crate::api::v1alpha1::Policy;
use crate::ecr::policy::{Kind, Wanted};
use crate::failure::Failure;
use crate::nesting::MAX_DEPTH;
use crate::reload::{self, Checked, Reloaded};
use crate::spec::{self, Spec};
use crate::violation::Violation;

/// Paths of the files; all are optional.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DefaultFiles {
    /// A lifecycle policy.
    pub lifecycle_policy: Option<PathBuf>,
    /// A permission policy.
    pub permission_policy: Option<PathBuf>,
    /// Resource tags: a map, or a list of `{Key, Value}` as AWS has it.
    pub resource_tags: Option<PathBuf>,
}

/// The content of the files.
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
    /// Returns the defaults for a spec: those for fields that it does not set, not even to empty.
    #[must_use]
    pub fn for_spec(&self, spec: &Spec) -> Self {
        let opted_out = spec.resource_tags.as_ref().is_some_and(BTreeMap::is_empty);
        let named =
            |key: &String| spec.resource_tags.as_ref().is_some_and(|tags| tags.contains_key(key));
        let tags = self.resource_tags.iter().filter(|(key, _)| !opted_out && !named(key));
        let of = |default: &Option<Policy>, own: &Result<Wanted, Vec<Violation>>| {
            default.clone().filter(|_| *own == Ok(Wanted::Unmanaged))
        };
        Self {
            lifecycle: of(&self.lifecycle, &spec.lifecycle),
            permission: of(&self.permission, &spec.permission),
            resource_tags: tags.map(|(key, value)| (key.clone(), value.clone())).collect(),
        }
    }
}

/// The default files, reloaded when they change.
#[derive(Debug, Default)]
pub struct Defaults {
    lifecycle: Option<Reloaded<Option<Policy>>>,
    permission: Option<Reloaded<Option<Policy>>>,
    resource_tags: Option<Reloaded<BTreeMap<String, String>>>,
}

impl Defaults {
    /// Reads and checks the files.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub fn load(files: &DefaultFiles) -> Result<Self, reload::Error> {
        let DefaultFiles { lifecycle_policy, permission_policy, resource_tags } = files;
        let lifecycle = |text: &str| parse_policy(Kind::Lifecycle, text);
        let permission = |text: &str| parse_policy(Kind::Permission, text);

        Ok(Self {
            lifecycle: load(lifecycle_policy.as_deref(), lifecycle)?,
            permission: load(permission_policy.as_deref(), permission)?,
            resource_tags: load(resource_tags.as_deref(), parse_resource_tags)?,
        })
    }

    /// Returns the current content of the files. Invalid content is logged, and the previous
    /// content stays in effect.
    pub fn current(&self) -> Documents {
        let policy = |file: &Option<Reloaded<Option<Policy>>>| {
            file.as_ref().and_then(|file| (*file.get()).clone())
        };
        let tags = self.resource_tags.as_ref();

        Documents {
            lifecycle: policy(&self.lifecycle),
            permission: policy(&self.permission),
            resource_tags: tags.map(|file| (*file.get()).clone()).unwrap_or_default(),
        }
    }
}

impl Checked for Arc<Defaults> {
    fn is_usable(&self) -> bool {
        self.lifecycle.as_ref().is_none_or(Reloaded::is_usable)
            && self.permission.as_ref().is_none_or(Reloaded::is_usable)
            && self.resource_tags.as_ref().is_none_or(Reloaded::is_usable)
    }
}

fn load<T>(
    path: Option<&Path>,
    parse: fn(&str) -> Result<T, String>,
) -> Result<Option<Reloaded<T>>, reload::Error> {
    path.map(|path| Reloaded::load(path, parse)).transpose()
}

fn parse_policy(kind: Kind, text: &str) -> Result<Option<Policy>, String> {
    let Value::Object(policy) = parse_value(text)? else {
        let problem = match kind {
            Kind::Lifecycle => "is not a valid lifecycle policy: write {\"rules\": [...]}",
            Kind::Permission => {
                "is not a valid permission policy: write {\"Version\": \"2012-10-17\", \
                 \"Statement\": [...]}"
            }
        };
        return Err(problem.to_owned());
    };

    match Wanted::read(kind, Some(&policy)) {
        Ok(Wanted::Document(policy)) => Ok(Some(policy)),
        // An empty policy is no default: it would remove policies of others.
        Ok(Wanted::None | Wanted::Unmanaged) => Ok(None),
        Err(violations) => Err(Failure::invalid(&violations).message),
    }
}

fn parse_resource_tags(text: &str) -> Result<BTreeMap<String, String>, String> {
    let pairs: Vec<(String, Value)> = match parse_value(text)? {
        Value::Object(tags) => tags.into_iter().collect(),
        Value::Array(tags) => {
            let pair = |tag: &Value| {
                Some((tag.get("Key")?.as_str()?.to_owned(), tag.get("Value")?.clone()))
            };
            tags.iter().map(pair).collect::<Option<_>>().ok_or_else(|| {
                "is a list: each element must be {\"Key\": \"team\", \"Value\": \"platform\"}"
                    .to_owned()
            })?
        }
        _ => return Err("holds no resource tags: write {\"team\": \"platform\"}".to_owned()),
    };

    let mut tags = BTreeMap::new();
    for (key, value) in pairs {
        let Value::String(value) = value else {
            return Err(format!("{key} is {value}, not a string: quote it"));
        };
        tags.insert(key, value);
    }

    let violations = spec::resource_tags(&tags);
    if violations.is_empty() { Ok(tags) } else { Err(Failure::invalid(&violations).message) }
}

/// Parses JSON, or else YAML: most JSON is YAML, but not with tabs.
fn parse_value(text: &str) -> Result<Value, String> {
    // `y` and `on` are strings here.
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: MAX_DEPTH },
        strict_booleans: true,
        with_snippet: false,
    };
    serde_json::from_str(text).or_else(|_| {
        serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())
    })
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
        Defaults::load(&files).map_err(|error| error.to_string())
    }

    #[test]
    fn json_and_yaml_have_the_same_meaning() {
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
    fn errors_name_the_file_and_the_problem() {
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
        let error = Defaults::load(&files).expect_err("no priority").to_string();
        assert!(error.contains("lifecyclePolicy.rules[0].rulePriority: is missing"), "{error}");
    }

    /// As the kubelet does it: `file -> ..data/file`, `..data -> ..1`, and then `..data -> ..2`.
    #[test]
    fn the_swap_of_a_mounted_config_map_is_noticed_and_invalid_content_is_ignored() {
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
    fn fields_of_the_spec_win_over_defaults() {
        let folder = folder(&[("policy.json", LIFECYCLE), ("tags.yaml", "team: a\nstage: dev\n")]);
        let defaults = Defaults::load(&DefaultFiles {
            lifecycle_policy: Some(folder.path().join("policy.json")),
            permission_policy: None,
            resource_tags: Some(folder.path().join("tags.yaml")),
        });
        let documents = defaults.expect("they are good").current();
        let spec = |yaml: &str| {
            let written = serde_saphyr::from_str(yaml).expect("a spec");
            crate::spec::parse("app", &written).expect("no violations")
        };
        let keys =
            |yaml| documents.for_spec(&spec(yaml)).resource_tags.into_keys().collect::<Vec<_>>();
        assert_eq!(keys("{}"), ["stage", "team"]);
        assert_eq!(keys("resourceTags: {team: b}"), ["stage"]);
        assert_eq!(keys("resourceTags: {}"), [""; 0]);

        let has_lifecycle = |yaml| documents.for_spec(&spec(yaml)).lifecycle.is_some();
        assert!(has_lifecycle("{}") && !has_lifecycle("lifecyclePolicy: {rules: []}"));
    }
}
