//! Entries -> manifests (`convert`, `import`), as a person would write them: valid unique names, no
//! defaults, fields in the order of the documentation.

use std::collections::BTreeSet;

use kube::Resource;
use serde_json::{Map, Value, json};

use super::Written;
use crate::api::v1alpha1::{Chart, EcrRepositorySync, EcrRepositorySyncSpec, Image, Prune};

/// Longest name of a Kubernetes object.
const LONGEST_NAME: usize = 253;

/// Order of the spec's fields; others follow by name.
const ORDER: [&str; 6] =
    ["repositoryName", "registry", "image", "chart", "lifecyclePolicy", "permissionPolicy"];
/// Order of the fields of image and chart.
const ARTIFACT_ORDER: [&str; 3] = ["pullUrl", "name", "tags"];

/// Returns the manifests of repositories as YAML. Resource names are made valid and unique; the
/// repositories keep their names. Without a namespace, kubectl's current namespace applies.
#[must_use]
pub(crate) fn manifests(repositories: &[Written], namespace: Option<&str>) -> String {
    let mut taken = BTreeSet::new();
    let manifest = |written: &Written| {
        let name = unique(&valid(&written.name), &mut taken);
        manifest(written, &name, namespace)
    };
    repositories.iter().map(manifest).collect()
}

fn manifest(written: &Written, name: &str, namespace: Option<&str>) -> String {
    let mut comments = vec![format!("from {}", written.position)];
    let mut spec = written.spec.clone();
    if name != written.repository() {
        spec.repository_name = Some(written.repository().to_owned());
        if name != written.name {
            comments.push(format!(
                "renamed to {name}: {:?} is not a valid resource name, or is already used",
                written.name
            ));
        }
    }
    comments.extend(written.notes.iter().map(|note| format!("note: {note}")));

    let mut text = "---\n".to_owned();
    for comment in &comments {
        // A note may quote text with several lines.
        text.push_str(&format!("# {}\n", comment.replace(['\n', '\r'], " ")));
    }

    let version = EcrRepositorySync::api_version(&());
    let kind = EcrRepositorySync::kind(&());
    text.push_str(&format!(
        "apiVersion: {version}\nkind: {kind}\nmetadata:\n  name: {}\n",
        scalar(&json!(name))
    ));
    if let Some(namespace) = namespace {
        text.push_str(&format!("  namespace: {}\n", scalar(&json!(namespace))));
    }

    let spec = without_defaults(&spec);
    if spec.is_empty() {
        text.push_str("spec: {}\n");
    } else {
        text.push_str("spec:\n");
        write_map(&spec, &ORDER, 2, &mut text);
    }
    text
}

/// Returns a valid Kubernetes name: lower-case letters and digits, separated by `-` and `.`.
fn valid(name: &str) -> String {
    let mut valid = String::new();

    for c in name.to_lowercase().chars() {
        match c {
            'a'..='z' | '0'..='9' => valid.push(c),
            '.' if !valid.ends_with(['.', '-']) && !valid.is_empty() => valid.push('.'),
            // Neither `.-` nor `-.` is allowed.
            _ if valid.ends_with(['.', '-']) || valid.is_empty() => {}
            _ => valid.push('-'),
        }
    }

    valid.truncate(LONGEST_NAME);
    let valid = valid.trim_end_matches(['.', '-']);
    if valid.is_empty() { "repository".to_owned() } else { valid.to_owned() }
}

/// Returns the name, or the first free one of `name-2`, `name-3` …
fn unique(name: &str, taken: &mut BTreeSet<String>) -> String {
    let numbered = (2_u32..).map(|number| {
        let end = format!("-{number}");
        let start: String = name.chars().take(LONGEST_NAME - end.len()).collect();
        format!("{start}{end}")
    });

    let free =
        std::iter::once(name.to_owned()).chain(numbered).find(|name| taken.insert(name.clone()));
    // Four billion numbers always leave a free one.
    free.unwrap_or_else(|| name.to_owned())
}

/// Returns the fields that differ from the defaults of the API server.
fn without_defaults(spec: &EcrRepositorySyncSpec) -> Map<String, Value> {
    let defaults = object(&EcrRepositorySyncSpec::default());
    let mut fields = object(spec);
    fields.retain(|key, value| defaults.get(key) != Some(value));

    let parts = [
        ("image", object(&Image::default())),
        ("chart", object(&Chart::default())),
        ("prune", object(&Prune::default())),
    ];
    for (part, defaults) in parts {
        if let Some(Value::Object(fields)) = fields.get_mut(part) {
            fields.retain(|key, value| defaults.get(key) != Some(value));
        }
    }
    fields
}

fn object(value: &impl serde::Serialize) -> Map<String, Value> {
    match serde_json::to_value(value) {
        Ok(Value::Object(fields)) => fields,
        // The resource's types serialise as maps with string keys.
        _ => Map::new(),
    }
}

fn write_map(fields: &Map<String, Value>, order: &[&str], indent: usize, text: &mut String) {
    let known = order.iter().filter_map(|key| fields.get_key_value(*key));
    let others = fields.iter().filter(|(key, _)| !order.contains(&key.as_str()));
    for (key, value) in known.chain(others) {
        text.push_str(&format!("{:indent$}{}:", "", scalar(&json!(key))));
        let order: &[&str] =
            if matches!(key.as_str(), "image" | "chart") { &ARTIFACT_ORDER } else { &[] };
        write_value(value, order, indent + 2, text);
    }
}

/// Writes the value after a key or a dash.
fn write_value(value: &Value, order: &[&str], indent: usize, text: &mut String) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            text.push('\n');
            write_map(fields, order, indent, text);
        }
        Value::Array(elements)
            if elements.iter().all(|element| !element.is_object() && !element.is_array()) =>
        {
            let elements: Vec<_> = elements.iter().map(scalar).collect();
            text.push_str(&format!(" [{}]\n", elements.join(", ")));
        }
        Value::Array(elements) => {
            text.push('\n');
            for element in elements {
                text.push_str(&format!("{:indent$}-", ""));
                let mut inner = String::new();
                write_value(element, &[], indent + 2, &mut inner);
                // The first field is on the line of the dash.
                match inner.strip_prefix('\n') {
                    Some(fields) => text.push_str(&format!(" {}", fields.trim_start_matches(' '))),
                    None => text.push_str(&inner),
                }
            }
        }
        value => text.push_str(&format!(" {}\n", scalar(value))),
    }
}

/// Returns a value on one line. Text is left unquoted only if every version of YAML reads it as
/// text; JSON's quotes are valid in YAML.
fn scalar(value: &Value) -> String {
    /// Words that YAML 1.1 reads as booleans or null.
    const WORDS: [&str; 9] = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    match value {
        Value::String(text)
            if text.starts_with(|c: char| c.is_ascii_alphabetic())
                && text
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.'))
                && !WORDS.contains(&text.to_ascii_lowercase().as_str()) =>
        {
            text.clone()
        }
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{entries, names};
    use super::*;

    #[test]
    fn names_become_valid_and_unique_and_repositories_keep_theirs() {
        for (name, expected) in [
            ("nginx", "nginx"),
            ("platform/nginx", "platform-nginx"),
            ("a__b/.c", "a-b-c"),
            ("my.app", "my.app"),
            ("a.-b", "a.b"),
            ("app-", "app"),
            ("___", "repository"),
        ] {
            assert_eq!(valid(name), expected, "{name}");
        }
        let entries = entries("- name: a/b\n- name: a-b\n- name: a_b\n");
        let written = super::super::tests::entries(&manifests(&entries, None));
        let named: Vec<_> = written.iter().map(|one| (&*one.name, one.repository())).collect();
        assert_eq!(named, [("a-b", "a/b"), ("a-b-2", "a-b"), ("a-b-3", "a_b")]);
        assert_eq!(valid(&"x".repeat(300)).len(), LONGEST_NAME);
    }

    #[test]
    fn a_manifest_reads_as_a_person_writes_it() {
        let entries = entries(
            "- name: platform/nginx\n  \
             image: {pull_url: 'docker.io/library/nginx:latest', tags: ['1.20', latest]}\n  \
             lifecyclePolicy: {rules: [{rulePriority: 1, selection: {tagStatus: any, \
             countType: imageCountMoreThan, countNumber: 10}, action: {type: expire}}]}\n\
             - name: empty\n",
        );
        let text = manifests(&entries, Some("team"));
        let expected = r#"---
# from PLACE:1:3
# renamed to platform-nginx: "platform/nginx" is not a valid resource name, or is already used
apiVersion: ecr-sync.io/v1alpha1
kind: EcrRepositorySync
metadata:
  name: platform-nginx
  namespace: team
spec:
  repositoryName: platform/nginx
  image:
    pullUrl: "docker.io/library/nginx:latest"
    tags: ["1.20", latest]
  lifecyclePolicy:
    rules:
      - action:
          type: expire
        rulePriority: 1
        selection:
          countNumber: 10
          countType: imageCountMoreThan
          tagStatus: any
---
# from PLACE:8:3
apiVersion: ecr-sync.io/v1alpha1
kind: EcrRepositorySync
metadata:
  name: empty
  namespace: team
spec: {}
"#;
        let positions: Vec<_> = entries.iter().map(|entry| entry.position.to_string()).collect();
        let expected =
            expected.replace("PLACE:1:3", &positions[0]).replace("PLACE:8:3", &positions[1]);
        assert_eq!(text, expected);
    }

    #[test]
    fn what_was_written_is_read_as_the_same() {
        let text = "- name: a/b\n  image:\n    pull_url: q.io/x:v\n    \
                    tags: ['1.20', 'yes', 'n', '0x10', v]\n    tag_strategy: Retag\n  \
                    chart: {pull_url: 'https://c.example/x', tags: ['1.0.0+1']}\n  \
                    resource_tags: {'a b: c': 'd # e', on: \"two\\nlines\"}\n  \
                    scan_on_push: true\n  permission_policy: {Version: '2012-10-17', \
                    Statement: [{Effect: Allow, Principal: '*', Action: [a, b], \
                    Condition: {Bool: {'aws:SecureTransport': 'true'}, \"Null\": {x: ~}, \
                    N: {y: [[1], {}, []]}}}]}\n\
                    - name: c_d\n  lifecycle_policy: {rules: []}\n";
        let first = entries(text);
        let written = manifests(&first, None);
        let second = entries(&written);
        assert_eq!(names(&second), ["a-b", "c-d"]);
        for (first, second) in first.iter().zip(&second) {
            assert_eq!(first.repository(), second.repository());
            let named = EcrRepositorySyncSpec {
                repository_name: second.spec.repository_name.clone(),
                ..first.spec.clone()
            };
            assert_eq!(named, second.spec, "{written}");
        }
    }
}
