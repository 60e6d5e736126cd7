//! Shapes of a document: a list of repositories, the same under `repositories:`, or manifests.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps as Schema;

use super::draft::Draft;
use super::manifest::{self, Object};
use super::suggest::unknown_field;
use super::tree::{Node, Problems, Source, Value};
use super::{Entry, Problem, entry};
use crate::api::v1alpha1::TagStrategy;

/// Reads the documents of one file.
#[derive(Debug)]
pub(super) struct Reader<'s> {
    /// The schema of the resource's spec.
    spec: &'s Schema,
    tag_strategy: TagStrategy,
    /// The repositories of the file.
    pub(super) entries: Vec<Entry>,
    /// Everything that is invalid.
    pub(super) problems: Problems<'s>,
    /// Objects that were skipped, with the reason.
    pub(super) skipped: Vec<Problem>,
}

impl<'s> Reader<'s> {
    pub(super) fn new(source: &'s Source, spec: &'s Schema, tag_strategy: TagStrategy) -> Self {
        Self {
            spec,
            tag_strategy,
            entries: Vec::new(),
            problems: Problems { source, list: Vec::new() },
            skipped: Vec::new(),
        }
    }

    /// Reads one document.
    pub(super) fn document(&mut self, node: Node) {
        match node.value {
            Value::List(elements) => self.list(elements),
            Value::Map(_) if manifest::is_object(&node.value) => self.object(node),
            Value::Map(_) if node.value.get("repositories").is_some() => self.repositories(node),
            Value::Map(_) if is_policy(&node.value) => {
                self.skip(
                    &node,
                    "a policy document is skipped: write it under lifecyclePolicy or \
                     permissionPolicy of a repository",
                );
            }
            _ => {
                let hint = if node.value.get("name").is_some() {
                    "repositories must be in a list: write - name: my-repository"
                } else {
                    "does not describe a repository: write a list (- name: my-repository), the \
                     same under repositories:, or EcrRepositorySync manifests"
                };
                self.problems.push(&node.defined, hint);
            }
        }
    }

    fn list(&mut self, elements: Vec<Node>) {
        for node in elements {
            if manifest::is_object(&node.value) {
                self.object(node);
                continue;
            }
            let draft = entry::read(node, self.spec, self.tag_strategy, &mut self.problems);
            self.add(draft);
        }
    }

    /// Reads `repositories:`. Keys that start with `x-` hold anchors, as in Compose files.
    fn repositories(&mut self, node: Node) {
        let Value::Map(fields) = node.value else { return };
        for (key, child) in fields {
            match (key.value.as_str(), child.value) {
                ("repositories", Value::List(elements)) => self.list(elements),
                ("repositories", Value::Null) => {}
                ("repositories", _) => {
                    let message =
                        "repositories must be a list: write - name: my-repository below it";
                    self.problems.push(&child.defined, message);
                }
                (other, _) if other.starts_with("x-") => {}
                (other, _) => {
                    self.problems.push(&key.defined, unknown_field(other, &["repositories"]));
                }
            }
        }
    }

    fn object(&mut self, node: Node) {
        match manifest::object(&node, &mut self.problems) {
            None => {}
            Some(Object::Ours) => {
                let draft = manifest::read(node, self.spec, &mut self.problems);
                self.add(draft);
            }
            Some(Object::List) => self.items(node),
            Some(Object::Other(what)) => {
                self.skip(
                    &node,
                    &format!("{what} is skipped: only EcrRepositorySync manifests are read"),
                );
            }
        }
    }

    fn items(&mut self, node: Node) {
        let Value::Map(fields) = node.value else { return };
        for (key, child) in fields {
            match (key.value.as_str(), child.value) {
                ("items", Value::List(items)) => {
                    items.into_iter().for_each(|item| self.object(item))
                }
                ("items", Value::Null) => {}
                ("items", _) => {
                    self.problems.push(&child.defined, "items must be a list of manifests");
                }
                _ => {}
            }
        }
    }

    /// Adds the entry of a draft that violates no rule.
    fn add(&mut self, draft: Option<Draft>) {
        self.entries.extend(draft.and_then(|draft| draft.check(&mut self.problems)));
    }

    fn skip(&mut self, node: &Node, message: &str) {
        self.skipped.push(self.problems.source.problem(&node.referenced, message));
    }
}

/// Whether this is a policy as AWS documents it. The older tool keeps default policies in separate
/// files.
fn is_policy(value: &Value) -> bool {
    let Value::Map(fields) = value else { return false };
    let only = |names: &[&str]| fields.iter().all(|(key, _)| names.contains(&key.value.as_str()));
    value.get("rules").is_some() && only(&["rules"])
        || value.get("Statement").is_some() && only(&["Version", "Id", "Statement"])
}
