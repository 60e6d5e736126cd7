//! The CustomResourceDefinition, generated from the types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

use super::EcrRepositorySync;

/// The definition as it is applied to a cluster.
#[must_use]
pub fn crd() -> CustomResourceDefinition {
    let mut crd = EcrRepositorySync::crd();
    for version in &mut crd.spec.versions {
        let Some(root) =
            version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut())
        else {
            continue;
        };
        refuse_null(root);
        if let Some(status) =
            root.properties.as_mut().and_then(|properties| properties.get_mut("status"))
        {
            // Without a status kstatus, and so `kubectl wait` and Flux, take a brand-new resource
            // for finished.
            status.default = Some(JSON(serde_json::json!({ "observedGeneration": -1 })));
        }
    }
    crd
}

/// An optional field is absent or has a value: a null is refused. Were it allowed,
/// `has(self.field)` would be true for it in rules, and appliers disagree on whether it means
/// "remove".
fn refuse_null(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    schema
        .properties
        .iter_mut()
        .flat_map(|properties| properties.values_mut())
        .for_each(refuse_null);
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => refuse_null(items),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(refuse_null),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        refuse_null(values);
    }
}

/// The definition as YAML, as it stands in `crds/`.
///
/// # Errors
/// Only if the definition cannot be serialised, which would be a defect.
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
    fn the_crd_stays_small_enough_for_client_side_apply() {
        assert!(crd_yaml().expect("serialises").len() < 200_000);
    }
}
