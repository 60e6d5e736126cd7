//! The CustomResourceDefinition, generated from the types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

use super::EcrRepositorySync;

/// The definition that is applied to a cluster.
#[must_use]
pub fn crd() -> CustomResourceDefinition {
    let mut crd = EcrRepositorySync::crd();
    for version in &mut crd.spec.versions {
        let Some(root) =
            version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut())
        else {
            continue;
        };
        clean(root);
        if let Some(status) =
            root.properties.as_mut().and_then(|properties| properties.get_mut("status"))
        {
            // Without a status, kstatus (`kubectl wait`, Flux) regards a new resource as ready.
            status.default = Some(JSON(serde_json::json!({ "observedGeneration": -1 })));
        }
    }
    crd
}

/// Formats of integers, numbers and times that the API server knows. It warns about others.
const KNOWN_FORMATS: [&str; 5] = ["int32", "int64", "float", "double", "date-time"];

/// Adapts a schema and those below it to the API server and its users:
///
/// - An optional field is absent or has a value, but is not null. If null were allowed,
///   `has(self.field)` would be true for it in rules, and tools disagree on whether it means
///   "remove".
/// - Formats that the API server does not know, such as `uint32`, are removed.
/// - Paragraphs of descriptions become single lines: line breaks of the source are not part of them.
fn clean(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    schema.format.take_if(|format| !KNOWN_FORMATS.contains(&format.as_str()));
    if let Some(description) = &mut schema.description {
        let paragraphs: Vec<_> =
            description.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect();
        *description = paragraphs.join("\n\n");
    }

    schema.properties.iter_mut().flat_map(|properties| properties.values_mut()).for_each(clean);
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => clean(items),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(clean),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        clean(values);
    }
}

/// The definition as YAML: the file in `crds/`.
///
/// # Errors
/// A definition that cannot be serialised, which would be a defect.
pub fn crd_yaml() -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string(&crd())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_crd_is_the_generated_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/crds/ecrrepositorysyncs.ecr-sync.io.yaml");
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            committed == crd_yaml().expect("serialises"),
            "crds/ is not up to date: run `make crds` and commit the result"
        );
    }

    #[test]
    fn a_new_resource_starts_with_observed_generation_minus_one() {
        let json = serde_json::to_value(crd()).expect("serialises");
        let status =
            &json["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"];
        assert_eq!(status["default"]["observedGeneration"], -1);
        assert_eq!(status["properties"]["conditions"]["x-kubernetes-list-type"], "map");
        assert_eq!(status["properties"]["conditions"]["x-kubernetes-list-map-keys"][0], "type");
    }

    #[test]
    fn the_api_server_knows_every_format() {
        let yaml = crd_yaml().expect("serialises");
        let formats = yaml.lines().filter_map(|line| line.trim().strip_prefix("format: "));
        let unknown: Vec<_> = formats.filter(|format| !KNOWN_FORMATS.contains(format)).collect();
        assert_eq!(unknown, [""; 0]);
    }

    #[test]
    fn the_crd_stays_small_enough_for_client_side_apply() {
        assert!(crd_yaml().expect("serialises").len() < 200_000);
    }
}
