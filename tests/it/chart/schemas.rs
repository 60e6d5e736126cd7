//! JSON schemas of the API server's own types, as kubeconform reads them: a file per kind, without
//! references, and strict.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use testbed::cluster::Cluster;

/// Schemas nest to about this depth; deeper levels (CustomResourceDefinitions contain schemas) are
/// not checked.
const DEPTH: usize = 16;

/// A folder with `<kind>-<group>-<version>.json` for each kind.
pub(super) async fn of(cluster: &Cluster) -> tempfile::TempDir {
    let text = cluster
        .kubectl(&["get", "--raw", "/openapi/v2"])
        .await
        .expect("the API server describes itself");
    let openapi: Value = serde_json::from_str(&text).expect("JSON");
    let definitions = openapi["definitions"].as_object().expect("definitions");
    let folder = tempfile::tempdir().expect("a folder");
    let mut written = BTreeMap::new();
    for (name, definition) in definitions {
        let kinds = definition["x-kubernetes-group-version-kind"].as_array();
        // DeleteOptions and similar kinds exist in all groups, and are not manifests.
        let Some([kind]) = kinds.map(Vec::as_slice) else { continue };
        let text = |key: &str| kind[key].as_str().unwrap_or_default().to_lowercase();
        let group = text("group");
        let group = group.split('.').next().unwrap_or_default();
        let parts = [&text("kind"), group, &text("version")];
        let file = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-");
        if let Some(other) = written.insert(file.clone(), name.clone()) {
            // kubeconform identifies groups by their first word.
            panic!("{file} is {other} and {name}");
        }
        let schema = inlined(&json!({"$ref": format!("#/definitions/{name}")}), definitions, DEPTH);
        std::fs::write(folder.path().join(format!("{file}.json")), schema.to_string())
            .expect("a file");
    }
    assert!(written.contains_key("deployment-apps-v1") && written.contains_key("service-v1"));
    folder
}

/// A schema with its references resolved, and without additional properties.
fn inlined(schema: &Value, definitions: &Map<String, Value>, depth: usize) -> Value {
    if depth == 0 {
        return json!({});
    }
    if let Some(name) = schema["$ref"].as_str().and_then(|name| name.strip_prefix("#/definitions/"))
    {
        return match name {
            "io.k8s.apimachinery.pkg.util.intstr.IntOrString" => {
                json!({"type": ["integer", "string"]})
            }
            "io.k8s.apimachinery.pkg.api.resource.Quantity" => {
                json!({"type": ["number", "string"]})
            }
            // A schema contains schemas recursively, and may be a boolean instead of an object.
            name if name.contains(".JSONSchemaProps") => json!({}),
            name => definitions
                .get(name)
                .map_or_else(|| json!({}), |found| inlined(found, definitions, depth - 1)),
        };
    }
    let mut out = Map::new();
    for key in ["type", "required", "enum"] {
        if let Some(value) = schema.get(key) {
            out.insert(key.to_owned(), value.clone());
        }
    }
    for key in ["items", "additionalProperties"] {
        if schema.get(key).is_some_and(Value::is_object) {
            out.insert(key.to_owned(), inlined(&schema[key], definitions, depth - 1));
        }
    }
    if let Some(properties) = schema["properties"].as_object() {
        let properties: Map<_, _> = properties
            .iter()
            .map(|(name, schema)| (name.clone(), inlined(schema, definitions, depth - 1)))
            .collect();
        out.insert("properties".to_owned(), properties.into());
        out.insert("additionalProperties".to_owned(), json!(false));
    }
    out.into()
}
