//! `EcrRepositorySync` manifests.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps as Schema;
use kube::Resource;

use super::Problem;
use super::draft::Draft;
use super::suggest::{nearest, unknown_field};
use super::tree::{Node, Source, Value};
use super::typed::Typed;
use crate::api::v1alpha1::EcrRepositorySync;

/// What an object of Kubernetes is to us.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Object {
    /// A resource of ours.
    Ours,
    /// A list of objects, under `items`.
    List,
    /// Something else, in words: `Secret dockerhub`.
    Other(String),
}

/// Whether this says which object of Kubernetes it is.
pub(super) fn is_object(value: &Value) -> bool {
    value.get("apiVersion").is_some() || value.get("kind").is_some()
}

/// Which object this is; `None` after a problem.
pub(super) fn object(source: &Source, node: &Node, problems: &mut Vec<Problem>) -> Option<Object> {
    let field =
        |name| node.value.get(name).and_then(|child| child.value.text().map(|text| (text, child)));
    let (Some((version, version_node)), Some((kind, kind_node))) =
        (field("apiVersion"), field("kind"))
    else {
        problems.push(
            source.problem(&node.defined, "a manifest has both apiVersion and kind, each a string"),
        );
        return None;
    };
    let (our_version, our_kind) =
        (EcrRepositorySync::api_version(&()), EcrRepositorySync::kind(&()));
    let our_group = version.split('/').next() == Some(&*EcrRepositorySync::group(&()));
    let our_list = format!("{our_kind}List");
    if kind == our_kind || our_group && kind == our_list {
        if version == our_version {
            return Some(if kind == our_kind { Object::Ours } else { Object::List });
        }
        let message = format!("apiVersion {version:?} of {kind} is not known: write {our_version}");
        problems.push(source.problem(&version_node.defined, message));
        return None;
    }
    if our_group {
        let message = match nearest(kind, &[&*our_kind]) {
            Some(meant) => format!("unknown kind `{kind}`, did you mean `{meant}`?"),
            None => format!("unknown kind `{kind}`: {version} has {our_kind}"),
        };
        problems.push(source.problem(&kind_node.defined, message));
        return None;
    }
    if kind == "List" && version == "v1" {
        return Some(Object::List);
    }
    let name =
        node.value.get("metadata").and_then(|metadata| metadata.value.get("name")?.value.text());
    Some(Object::Other(name.map_or_else(|| kind.to_owned(), |name| format!("{kind} {name}"))))
}

/// Reads one resource; `None` after a problem.
pub(super) fn read(
    source: &Source,
    node: Node,
    schema: &Schema,
    problems: &mut Vec<Problem>,
) -> Option<Draft> {
    let already = problems.len();
    let (referenced, defined) = (node.referenced, node.defined);
    let Value::Map(fields) = node.value else { return None };
    let (mut metadata, mut spec) = (None, None);
    for (key, child) in fields {
        match key.value.as_str() {
            "metadata" => metadata = Some(child),
            "spec" => spec = Some(child),
            "apiVersion" | "kind" | "status" => {}
            other => problems.push(source.problem(
                &key.defined,
                unknown_field(other, &["apiVersion", "kind", "metadata", "spec", "status"]),
            )),
        }
    }
    let name = metadata.as_ref().and_then(|metadata| {
        let node = metadata.value.get("name")?;
        node.value
            .text()
            .filter(|name| !name.is_empty())
            .map(|name| (name.to_owned(), node.defined))
    });
    if name.is_none() {
        let at = metadata
            .as_ref()
            .map_or(defined, |metadata| metadata.value.get("name").unwrap_or(metadata).defined);
        problems.push(source.problem(&at, "metadata.name is missing or not a string"));
    }
    let Some(mut spec) = spec.filter(|spec| spec.value != Value::Null) else {
        problems.push(source.problem(
            &defined,
            "spec is missing: write spec: {} for a repository without an image",
        ));
        return None;
    };
    let mut typed = Typed::new(source);
    let json = typed.value("spec", &spec, schema);
    problems.append(&mut typed.problems);
    if problems.len() > already {
        return None;
    }
    let (name, named_at) = name?;
    let secret = spec.value.get("image").and_then(|image| image.value.get("secretRef"));
    let notes = secret
        .filter(|secret| secret.value != Value::Null)
        .map(|_| "secretRef is not read here: credentials come from the docker config".to_owned())
        .into_iter()
        .collect();
    // The entry stands where the manifest does; its fields are found by their own places.
    spec.referenced = referenced;
    Some(Draft { name, name_field: "metadata.name", named_at, tree: spec, json: json?, notes })
}
