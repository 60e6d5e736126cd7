//! A repository as read from a file: its types are checked, its rules not yet.

use serde_saphyr::Location;

use super::tree::{Node, Problems, Source, Value};
use super::{Entry, Written};
use crate::api::v1alpha1::EcrRepositorySyncSpec;
use crate::spec::{self, Spec};
use crate::violation::Violation;

/// The common form of list entries and manifests.
#[derive(Debug)]
pub(super) struct Draft {
    /// Name of the entry or the resource.
    pub(super) name: String,
    /// Field that holds it: `name` or `metadata.name`.
    pub(super) name_field: &'static str,
    /// Location of the name.
    pub(super) named_at: Location,
    /// The spec with the resource's field names, and the locations of all fields.
    pub(super) tree: Node,
    /// The same as JSON.
    pub(super) json: serde_json::Value,
    /// Warnings for the user.
    pub(super) notes: Vec<String>,
}

impl Draft {
    /// Returns the entry if it violates no rule; `None` after a problem.
    pub(super) fn check(self, problems: &mut Problems<'_>) -> Option<Entry> {
        let written: EcrRepositorySyncSpec = match serde_json::from_value(self.json.clone()) {
            Ok(spec) => spec,
            // The schema is generated from the type, so this would be a mismatch of the two.
            Err(error) => {
                problems.push(&self.tree.referenced, error.to_string());
                return None;
            }
        };

        let spec = match spec::parse_strictly(&self.name, &written) {
            Ok(spec) => spec,
            Err(violations) => {
                violations.iter().for_each(|violation| self.report(violation, problems));
                return None;
            }
        };

        let source = problems.source;
        let mut notes = self.notes;
        notes.extend(unlisted_tag(source, &self.tree, &written, &spec));
        let position = source.position(&self.tree.referenced);
        let written = Written { name: self.name, spec: written, position, notes };
        Some(Entry { written, spec })
    }

    /// Reports a violation at the deepest field of its path that the file contains, with the
    /// field's name in the file.
    fn report(&self, violation: &Violation, problems: &mut Problems<'_>) {
        if violation.path == "repositoryName" && self.tree.value.get("repositoryName").is_none() {
            let message = format!("{}: {}", self.name_field, violation.message);
            return problems.push(&self.named_at, message);
        }
        let mut at = &self.tree;
        let mut path = String::new();
        let mut rest = violation.path.as_str();

        while !rest.is_empty() {
            let (step, after) = first_step(rest);
            let Some((child, written)) = child(problems.source, at, step) else { break };
            if !path.is_empty() && !written.starts_with('[') {
                path.push('.');
            }
            path.push_str(&written);
            (at, rest) = (child, after);
        }

        if !path.is_empty() && !rest.is_empty() && !rest.starts_with('[') {
            path.push('.');
        }
        problems.push(&at.defined, format!("{path}{rest}: {}", violation.message));
    }
}

/// Splits a path into its first step, `image`, `[2]` or `["key"]`, and the rest.
fn first_step(path: &str) -> (&str, &str) {
    let end = if path.starts_with("[\"") {
        path.rfind("\"]").map(|at| at + 2)
    } else if path.starts_with('[') {
        path.find(']').map(|at| at + 1)
    } else {
        path.find(['.', '['])
    };
    let (step, rest) = path.split_at(end.unwrap_or(path.len()));
    (step, rest.strip_prefix('.').unwrap_or(rest))
}

/// Returns the child that a step leads to, and the step as the file writes it.
fn child<'n>(source: &Source, node: &'n Node, step: &str) -> Option<(&'n Node, String)> {
    match &node.value {
        Value::List(elements) => {
            let index: usize = step.strip_prefix('[')?.strip_suffix(']')?.parse().ok()?;
            Some((elements.get(index)?, step.to_owned()))
        }
        Value::Map(fields) => fields.iter().find_map(|(key, child)| {
            if format!("[{:?}]", key.value) == step {
                return Some((child, step.to_owned()));
            }
            let written = || source.written(&key.defined).unwrap_or(step).to_owned();
            (key.value == step).then(|| (child, written()))
        }),
        _ => None,
    }
}

/// Returns a note if the tag in `pull_url` is not among `tags`: the older tool copied it, too.
fn unlisted_tag(
    source: &Source,
    tree: &Node,
    written: &EcrRepositorySyncSpec,
    spec: &Spec,
) -> Option<String> {
    let listed = written.image.as_ref().map(|image| &image.tags).filter(|tags| !tags.is_empty())?;
    let image = spec.image.as_ref().filter(|image| image.retag.is_none())?;
    let tag = image.reference.tag.as_ref().filter(|tag| !image.tags.contains_key(tag))?;

    let (_, field) = child(source, tree.value.get("image")?, "pullUrl")?;
    let listed = listed.join(", ");
    Some(format!(
        "the tag {tag} in {field} is not among tags: only {listed} will be copied, each from the \
         source's tag of the same name (tagStrategy Retag would push {tag} as each of them)"
    ))
}

#[cfg(test)]
mod tests {
    use super::first_step;

    #[test]
    fn a_path_is_walked_step_by_step() {
        let mut path = r#"a.b[2].c["x.y"]"#;
        let mut steps = Vec::new();
        while !path.is_empty() {
            let (step, rest) = first_step(path);
            steps.push(step);
            path = rest;
        }
        assert_eq!(steps, ["a", "b", "[2]", "c", r#"["x.y"]"#]);
    }
}
