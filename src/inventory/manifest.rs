//! `EcrRepositorySync` manifests: which object a document is, its metadata and spec.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps as Schema;
use kube::Resource;

use super::draft::Draft;
use super::suggest::{nearest, unknown_field};
use super::tree::{Node, Problems, Value};
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
pub(super) fn object(node: &Node, problems: &mut Problems<'_>) -> Option<Object> {
    let field =
        |name| node.value.get(name).and_then(|child| child.value.text().map(|text| (text, child)));
    let (Some((version, version_node)), Some((kind, kind_node))) =
        (field("apiVersion"), field("kind"))
    else {
        problems.push(&node.defined, "a manifest needs both apiVersion and kind, each a string");
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
        problems.push(&version_node.defined, message);
        return None;
    }
    if our_group {
        let message = match nearest(kind, &[&*our_kind]) {
            Some(meant) => format!("unknown kind `{kind}`, did you mean `{meant}`?"),
            None => format!("unknown kind `{kind}`: {version} has {our_kind}"),
        };
        problems.push(&kind_node.defined, message);
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
pub(super) fn read(node: Node, schema: &Schema, problems: &mut Problems<'_>) -> Option<Draft> {
    let problems_before = problems.list.len();
    let (referenced, defined) = (node.referenced, node.defined);
    let Value::Map(fields) = node.value else { return None };

    let mut metadata = None;
    let mut spec = None;
    for (key, child) in fields {
        match key.value.as_str() {
            "metadata" => metadata = Some(child),
            "spec" => spec = Some(child),
            "apiVersion" | "kind" | "status" => {}
            other => problems.push(
                &key.defined,
                unknown_field(other, &["apiVersion", "kind", "metadata", "spec", "status"]),
            ),
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
        problems.push(&at, "metadata.name is missing or not a string");
    }
    let Some(mut spec) = spec.filter(|spec| spec.value != Value::Null) else {
        problems
            .push(&defined, "spec is missing: write spec: {} for a repository without an image");
        return None;
    };

    let json = Typed { problems, complete: true }.value("spec", &spec, schema);
    if problems.list.len() > problems_before {
        return None;
    }

    let (name, named_at) = name?;
    let notes = notes(&spec);
    // The entry has the location of the manifest; its fields have their own.
    spec.referenced = referenced;
    Some(Draft { name, name_field: "metadata.name", named_at, tree: spec, json: json?, notes })
}

/// The fields that name Secrets, which exist in a cluster only, and what a run uses instead.
fn notes(spec: &Node) -> Vec<String> {
    const SECRETS: [(&str, &str); 3] = [
        ("secretRef", "logins are read from the docker config"),
        ("certSecretRef", "the certificate authorities of this machine are used"),
        ("proxySecretRef", "the proxy of the environment is used"),
    ];
    let mut notes = Vec::new();
    for source in ["image", "chart"] {
        for (field, instead) in SECRETS {
            let named = spec.value.get(source).and_then(|source| source.value.get(field));
            if named.is_some_and(|named| named.value != Value::Null) {
                notes.push(format!("{source}.{field} is ignored here: {instead}"));
            }
        }
    }
    notes
}
