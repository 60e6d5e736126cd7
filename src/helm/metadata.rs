//! `Chart.yaml`, parsed and validated like Helm does, and written as the config of the artifact.
//!
//! The config of a chart's manifest is `json.Marshal` of Helm's `chart.Metadata`
//! (<https://github.com/helm/helm/blob/v3.22.0/pkg/chart/metadata.go>): its fields in its order,
//! without empty and unknown ones, and with sanitized texts. So the order of fields here matters.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;
use serde_json::Value as Json;

use super::version::is_version;
use super::yaml::{self, Bounds, Value};

/// Returns the bounds of a file. Real `Chart.yaml` files have a few hundred values, of more than four
/// bytes each.
fn bounds(text: &str) -> Bounds {
    let nodes = (200 + text.len() / 4).min(10_000);
    Bounds { nodes, replayed: nodes, recorded: nodes }
}

/// The metadata of a chart.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// The chart's name; never empty.
    pub name: String,
    /// The project's web site.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub home: String,
    /// URLs of the source code.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// The chart's version; never empty.
    pub version: String,
    /// A description in one sentence.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Keywords for searches.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keywords: Vec<String>,
    /// The maintainers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub maintainers: Vec<Maintainer>,
    /// The URL of an icon.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub icon: String,
    /// `v1` or `v2`; `v1` if it is missing.
    pub api_version: String,
    /// The condition that enables it as a dependency.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub condition: String,
    /// The tags that enable it as a dependency.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tags: String,
    /// The version of the application.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub app_version: String,
    /// Whether the chart is deprecated.
    #[serde(skip_serializing_if = "is_false")]
    pub deprecated: bool,
    /// Annotations; they are also annotations of the manifest.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The versions of Kubernetes that it supports.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kube_version: String,
    /// The charts that it depends on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<Dependency>,
    /// `application` or `library`.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
}

/// A maintainer of a chart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Maintainer {
    /// Name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Mail address.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub email: String,
    /// Web site.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub url: String,
}

/// A dependency of a chart.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Dependency {
    /// The chart's name.
    pub name: String,
    /// The range of versions.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// The chart's repository.
    pub repository: String,
    /// The value that enables it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub condition: String,
    /// The tags that enable it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Whether it is enabled.
    #[serde(skip_serializing_if = "is_false")]
    pub enabled: bool,
    /// The values to import from it.
    #[serde(rename = "import-values", skip_serializing_if = "Vec::is_empty")]
    pub import_values: Vec<Json>,
    /// The name inside this chart.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub alias: String,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde requires a reference
fn is_false(value: &bool) -> bool {
    !*value
}

impl Metadata {
    /// Reads `Chart.yaml`, and `requirements.yaml` of charts of API version 1.
    ///
    /// # Errors
    /// The reason, for charts that Helm refuses too.
    pub fn parse(chart: &str, requirements: Option<&str>) -> Result<Self, String> {
        let mut metadata = Self::default();
        metadata.merge(chart, "Chart.yaml")?;
        if metadata.api_version.is_empty() {
            "v1".clone_into(&mut metadata.api_version);
        }
        if let Some(requirements) = requirements {
            metadata.merge(requirements, "requirements.yaml")?;
        }

        metadata.sanitize();
        metadata.check()?;
        Ok(metadata)
    }

    /// Writes the metadata like Helm, for the config of the manifest.
    ///
    /// # Errors
    /// Never, for metadata from [`Self::parse`].
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        super::json::to_vec(self)
    }

    fn merge(&mut self, text: &str, file: &str) -> Result<(), String> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if text.trim().is_empty() {
            return Ok(());
        }
        let document = yaml::parse(text, bounds(text))
            .map_err(|why| format!("{file} cannot be read: {why}"))?;
        for (key, value) in fields(document).map_err(|why| format!("{file} is {why}"))? {
            self.set(&key, value).map_err(|why| format!("`{key}` of {file} is {why}"))?;
        }
        Ok(())
    }

    fn set(&mut self, key: &str, value: Value) -> Result<(), String> {
        match key.to_ascii_lowercase().as_str() {
            "name" => text(&mut self.name, value),
            "home" => text(&mut self.home, value),
            "sources" => texts(&mut self.sources, value),
            "version" => text(&mut self.version, value),
            "description" => text(&mut self.description, value),
            "keywords" => texts(&mut self.keywords, value),
            "maintainers" => list(&mut self.maintainers, value, Maintainer::read),
            "icon" => text(&mut self.icon, value),
            "apiversion" => text(&mut self.api_version, value),
            "condition" => text(&mut self.condition, value),
            "tags" => text(&mut self.tags, value),
            "appversion" => text(&mut self.app_version, value),
            "deprecated" => boolean(&mut self.deprecated, &value),
            "annotations" => {
                for (key, value) in fields(value)? {
                    let annotation = self.annotations.entry(key).or_default();
                    text(annotation, value)?;
                }
                Ok(())
            }
            "kubeversion" => text(&mut self.kube_version, value),
            "dependencies" => list(&mut self.dependencies, value, Dependency::read),
            "type" => text(&mut self.kind, value),
            _ => Ok(()),
        }
    }

    /// Applies Helm's `sanitizeString` to the same fields as Helm.
    fn sanitize(&mut self) {
        let texts = [
            &mut self.name,
            &mut self.description,
            &mut self.home,
            &mut self.icon,
            &mut self.condition,
            &mut self.tags,
            &mut self.app_version,
            &mut self.kube_version,
        ];
        texts.into_iter().chain(&mut self.sources).chain(&mut self.keywords).for_each(sanitize);
        for Maintainer { name, email, url } in &mut self.maintainers {
            [name, email, url].into_iter().for_each(sanitize);
        }
        for Dependency { name, version, repository, condition, tags, .. } in &mut self.dependencies
        {
            [name, version, repository, condition].into_iter().chain(tags).for_each(sanitize);
        }
    }

    /// Checks like Helm's `Validate`.
    fn check(&self) -> Result<(), String> {
        let Self { name, version, kind, dependencies, .. } = self;
        if name.is_empty() {
            return Err("Chart.yaml has no `name`".into());
        }
        if matches!(name.as_str(), "." | "..") || name.contains('/') {
            return Err(format!("Chart.yaml has the name {name:?}, which is a path"));
        }
        if version.is_empty() {
            return Err("Chart.yaml has no `version`".into());
        }
        if !is_version(version) {
            return Err(format!("the version {version:?} of Chart.yaml is not a semantic version"));
        }
        if !matches!(kind.as_str(), "" | "application" | "library") {
            return Err(format!(
                "the type {kind:?} of Chart.yaml is neither application nor library"
            ));
        }

        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        let mut names = HashSet::new();
        for Dependency { name, alias, .. } in dependencies {
            if !alias.bytes().all(is_allowed) {
                return Err(format!(
                    "the alias {alias:?} in Chart.yaml has characters that an alias cannot have"
                ));
            }
            let key = if alias.is_empty() { name } else { alias };
            if !names.insert(key) {
                return Err(format!(
                    "Chart.yaml has two dependencies with the name or alias {key:?}"
                ));
            }
        }

        Ok(())
    }
}

impl Maintainer {
    fn read(value: Value) -> Result<Self, String> {
        let mut maintainer = Self::default();
        for (key, value) in element(value)? {
            match key.to_ascii_lowercase().as_str() {
                "name" => text(&mut maintainer.name, value)?,
                "email" => text(&mut maintainer.email, value)?,
                "url" => text(&mut maintainer.url, value)?,
                _ => {}
            }
        }
        Ok(maintainer)
    }
}

impl Dependency {
    fn read(value: Value) -> Result<Self, String> {
        let mut dependency = Self::default();
        for (key, value) in element(value)? {
            match key.to_ascii_lowercase().as_str() {
                "name" => text(&mut dependency.name, value)?,
                "version" => text(&mut dependency.version, value)?,
                "repository" => text(&mut dependency.repository, value)?,
                "condition" => text(&mut dependency.condition, value)?,
                "tags" => texts(&mut dependency.tags, value)?,
                "enabled" => boolean(&mut dependency.enabled, &value)?,
                "import-values" => {
                    list(&mut dependency.import_values, value, |value| Ok(any(value)))?
                }
                "alias" => text(&mut dependency.alias, value)?,
                _ => {}
            }
        }
        Ok(dependency)
    }
}

/// The fields of a mapping, sorted by key: Go sets them in this order.
fn fields(value: Value) -> Result<Vec<(String, Value)>, String> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Map(mut fields) => {
            fields.sort_by(|a, b| a.0.cmp(&b.0));
            Ok(fields)
        }
        _ => Err("not a mapping".into()),
    }
}

fn element(value: Value) -> Result<Vec<(String, Value)>, String> {
    if value == Value::Null { Err("a list with an empty element".into()) } else { fields(value) }
}

fn text(field: &mut String, value: Value) -> Result<(), String> {
    if let Some(text) = value.into_text()? {
        *field = text;
    }
    Ok(())
}

fn texts(field: &mut Vec<String>, value: Value) -> Result<(), String> {
    list(field, value, |value| Ok(value.into_text()?.unwrap_or_default()))
}

fn boolean(field: &mut bool, value: &Value) -> Result<(), String> {
    match value {
        Value::Null => {}
        Value::Bool(value) => *field = *value,
        _ => return Err("neither true nor false".into()),
    }
    Ok(())
}

fn list<T>(
    field: &mut Vec<T>,
    value: Value,
    read: impl Fn(Value) -> Result<T, String>,
) -> Result<(), String> {
    *field = match value {
        Value::Null => Vec::new(),
        Value::List(values) => values.into_iter().map(read).collect::<Result<_, _>>()?,
        _ => return Err("not a list".into()),
    };
    Ok(())
}

/// Converts a value like Go's `interface{}`: keys of maps are sorted, as in serde_json.
fn any(value: Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(value) => value.into(),
        Value::Integer(value) => i64::try_from(value).map_or(Json::Null, Json::from),
        Value::Float(value) => value.into(),
        Value::Text(text) => text.into(),
        Value::List(list) => list.into_iter().map(any).collect(),
        Value::Map(fields) => {
            let sorted: BTreeMap<String, Value> = fields.into_iter().collect();
            Json::Object(sorted.into_iter().map(|(key, value)| (key, any(value))).collect())
        }
    }
}

/// Replaces white space by spaces, and removes unprintable characters.
fn sanitize(text: &mut String) {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return;
    }
    *text = text
        .chars()
        .filter_map(|c| match c {
            c if c.is_whitespace() => Some(' '),
            c if is_printable(c) => Some(c),
            _ => None,
        })
        .collect();
}

/// Go's `unicode.IsPrint`: letters, marks, numbers, punctuation and symbols. In Rust's standard
/// library these are the characters that `Debug` does not escape. It escapes combining marks only
/// at the beginning of a text, hence the `a`.
fn is_printable(c: char) -> bool {
    match c {
        '"' | '\'' | '\\' => true,
        _ => format!("a{c}").escape_debug().count() == 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(chart: &str) -> String {
        String::from_utf8(Metadata::parse(chart, None).unwrap().to_json().unwrap()).unwrap()
    }

    #[test]
    fn fields_are_written_in_helms_order_and_unknown_ones_are_dropped() {
        let chart = "
type: application
unknown: 1
version: 1.2.3
name: nginx
AppVersion: 1.10
deprecated: yes
keywords: [web, 80, null]
annotations: {b: true, a: 1.0, 7: x}
maintainers: [{name: A, email: a@b}, {url: u}]
dependencies:
- {name: common, repository: 'oci://r', version: 2.x.x, tags: [t], alias: c,
   import-values: [data, {parent: p, child: c}]}
- {name: empty}
sources: ['https://a/?b&c=<d>']
description: \"line\\nnext\\u200b\\u00a0end é\u{301}\"
";

        assert_eq!(
            json(chart),
            concat!(
                r#"{"name":"nginx","sources":["https://a/?b\u0026c=\u003cd\u003e"],"version":"1.2.3","#,
                r#""description":"line next end é"#,
                "\u{301}",
                r#"","keywords":["web","80",""],"#,
                r#""maintainers":[{"name":"A","email":"a@b"},{"url":"u"}],"apiVersion":"v1","#,
                r#""appVersion":"1.1","deprecated":true,"annotations":{"7":"x","a":"1","b":"true"},"#,
                r#""dependencies":[{"name":"common","version":"2.x.x","repository":"oci://r","tags":["t"],"#,
                r#""import-values":["data",{"child":"c","parent":"p"}],"alias":"c"},"#,
                r#"{"name":"empty","repository":""}],"type":"application"}"#
            )
        );
    }

    #[test]
    fn requirements_of_old_charts_are_dependencies() {
        let chart = "apiVersion: v1\nname: a\nversion: 1.0.0\n";
        let metadata = Metadata::parse(
            chart,
            Some("dependencies:\n- name: b\n  version: 1\n  repository: r\n"),
        )
        .unwrap();
        assert_eq!(metadata.dependencies[0].version, "1");
    }

    #[test]
    fn charts_that_helm_refuses_are_refused_with_a_reason() {
        for (chart, why) in [
            ("version: 1.0.0", "no `name`"),
            ("name: a", "no `version`"),
            ("name: a\nversion: new", "not a semantic version"),
            ("name: a/b\nversion: 1.0.0", "a path"),
            ("name: a\nversion: 1.0.0\ntype: app", "neither application nor library"),
            ("name: a\nversion: 1.0.0\nmaintainers: [null]", "empty element"),
            ("name: a\nversion: 1.0.0\nkeywords: web", "not a list"),
            ("name: [a]\nversion: 1.0.0", "not text"),
            ("name: a\nversion: 1.0.0\ndependencies: [{name: b}, {name: b}]", "two dependencies"),
            ("name: a\nversion: 1.0.0\ndependencies: [{name: b, alias: 'b c'}]", "alias"),
            ("- a", "not a mapping"),
            ("a: [", "cannot be read"),
            ("", "no `name`"),
        ] {
            let error = Metadata::parse(chart, None).expect_err(chart);
            assert!(error.contains(why), "{chart}: {error}");
        }
    }
}
