//! `EcrRepositorySync` manifests: which object a document is, its metadata and spec.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps as Schema;
use kube::Resource;

use super::Problem;
use super::draft::Draft;
use super::suggest::{nearest, unknown_field};
use super::tree::{Node, Source, Value};
use super::typed::Typed;
use crate::api::v1alpha1::EcrRepositorySync;

/// Kinds of Kubernetes objects, as far as they matter here.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Object {
    /// An EcrRepositorySync.
    Ours,
    /// A list of objects, under `items`.
    List,
    /// Any other object, with its kind and name: `Secret dockerhub`.
    Other(String),
}

/// Whether this is a Kubernetes object.
pub(super) fn is_object(value: &Value) -> bool {
    value.get("apiVersion").is_some() || value.get("kind").is_some()
}

/// Returns the kind of object; `None` after a problem.
pub(super) fn object(source: &Source, node: &Node, problems: &mut Vec<Problem>) -> Option<Object> {
    let field =
        |name| node.value.get(name).and_then(|child| child.value.text().map(|text| (text, child)));
    let (Some((version, version_node)), Some((kind, kind_node))) =
        (field("apiVersion"), field("kind"))
    else {
        problems.push(
            source
                .problem(&node.defined, "a manifest needs both apiVersion and kind, each a string"),
        );
        return None;
    };

    let our_version = EcrRepositorySync::api_version(&());
    let our_kind = EcrRepositorySync::kind(&());
    let our_group = version.split('/').next() == Some(&*EcrRepositorySync::group(&()));
    let our_list = format!("{our_kind}List");
    if kind == our_kind || our_group && kind == our_list {
        if version == our_version {
            return Some(if kind == our_kind { Object::Ours } else { Object::List });
        }
        let message = format!("unknown apiVersion {version:?} of {kind}: write {our_version}");
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
    let problems_before = problems.len();
    let (referenced, defined) = (node.referenced, node.defined);
    let Value::Map(fields) = node.value else { return None };

    let mut metadata = None;
    let mut spec = None;
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
    if problems.len() > problems_before {
        return None;
    }

    let (name, named_at) = name?;
    let secret = spec.value.get("image").and_then(|image| image.value.get("secretRef"));
    let notes = secret
        .filter(|secret| secret.value != Value::Null)
        .map(|_| "secretRef is ignored here: logins are read from the docker config".to_owned())
        .into_iter()
        .collect();
    // The entry has the location of the manifest; its fields have their own.
    spec.referenced = referenced;
    Some(Draft { name, name_field: "metadata.name", named_at, tree: spec, json: json?, notes })
}
