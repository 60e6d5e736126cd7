//! The configuration for kube-state-metrics gives the series that the operator gives.

use std::collections::BTreeSet;

use ecr_sync::api::v1alpha1::crd;
use serde_json::{Value, json};

use super::{read, rows};

fn resource() -> Value {
    let text = read("deploy/monitoring/kube-state-metrics.yaml");
    let config: Value = serde_saphyr::from_str(&text).expect("YAML");
    assert_eq!(config["kind"], "CustomResourceStateMetrics");
    config["spec"]["resources"][0].clone()
}

fn strings(list: &Value) -> Vec<String> {
    let list = list.as_array().into_iter().flatten();
    list.map(|each| each.as_str().expect("a string").to_owned()).collect()
}

/// The schema that a path leads to. A selector such as `[type=Ready]` leads to an element.
fn at<'a>(schema: &'a Value, path: &[String]) -> &'a Value {
    path.iter().fold(schema, |schema, segment| match segment.strip_prefix('[') {
        Some(selector) => {
            let (key, _) = selector.split_once('=').expect("a selector");
            assert!(schema["items"]["properties"][key].is_object(), "{selector}");
            &schema["items"]
        }
        None => &schema["properties"][segment],
    })
}

#[test]
fn its_resource_and_its_paths_are_those_of_the_definition() {
    let crd = serde_json::to_value(crd()).expect("JSON");
    let version = &crd["spec"]["versions"][0];
    let mut schema = version["schema"]["openAPIV3Schema"].clone();
    schema["properties"]["metadata"] =
        json!({"properties": {"namespace": {"type": "string"}, "name": {"type": "string"}}});
    let resource = resource();
    let kind = &resource["groupVersionKind"];
    assert_eq!(
        (&kind["group"], &kind["version"], &kind["kind"]),
        (&crd["spec"]["group"], &version["name"], &crd["spec"]["names"]["kind"])
    );

    let metrics = resource["metrics"].as_array().expect("metrics");
    let mut paths = labels(&resource["labelsFromPath"], &[]);
    for metric in metrics {
        let each = &metric["each"];
        let of_type = if each["type"] == "Info" { &each["info"] } else { &each["stateSet"] };
        let mut base = strings(&of_type["path"]);
        if !base.is_empty() {
            // kube-state-metrics goes through the elements of the list.
            base.push("[type=any]".to_owned());
            paths.push([base.clone(), strings(&of_type["valueFrom"])].concat());
        }
        paths.extend(labels(&of_type["labelsFromPath"], &base));
    }

    assert_eq!(paths.len(), 2 + 4 + 2);
    for path in paths {
        let type_ = &at(&schema, &path)["type"];
        assert!(type_ == "string" || type_ == "boolean", "{path:?} is of type {type_}");
    }
}

/// The paths of the labels, below `base`.
fn labels(from_path: &Value, base: &[String]) -> Vec<Vec<String>> {
    let paths = from_path.as_object().into_iter().flatten();
    paths.map(|(_, path)| [base, &strings(path)].concat()).collect()
}

#[test]
fn its_series_have_the_names_and_labels_of_the_operators() {
    let resource = resource();
    let names = |labels: &Value| -> BTreeSet<String> {
        labels.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
    };
    let prefix = resource["metricNamePrefix"].as_str().expect("a prefix");
    for metric in resource["metrics"].as_array().expect("metrics") {
        let name = format!("{prefix}_{}", metric["name"].as_str().expect("a name"));
        let row = rows().into_iter().find(|row| row.name == name).expect("documented");

        let each = &metric["each"];
        let mut labels = names(&resource["labelsFromPath"]);
        for of_type in [&each["info"], &each["stateSet"]] {
            labels.extend(names(&of_type["labelsFromPath"]));
            labels.extend(of_type["labelName"].as_str().map(str::to_owned));
        }
        assert_eq!(labels, row.labels.into_iter().collect(), "{name}");
    }
}
