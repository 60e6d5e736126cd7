//! List entries, the older tool's format: `- name: nginx-app`, snake_case or camelCase fields.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps as Schema;

use super::draft::Draft;
use super::suggest::unknown_field;
use super::tree::{Key, Node, Problems, Value};
use super::typed::Typed;
use crate::api::v1alpha1::TagStrategy;

/// Pairs of names: of the resource, and of the older tool's files.
type Names = [(&'static str, &'static str)];

const ENTRY: &Names = &[
    ("name", "name"),
    ("image", "image"),
    ("chart", "chart"),
    ("lifecyclePolicy", "lifecycle_policy"),
    ("permissionPolicy", "permission_policy"),
    ("resourceTags", "resource_tags"),
    ("imageTagMutability", "image_tag_mutability"),
    ("imageTagMutabilityExclusionFilters", "image_tag_mutability_exclusion_filters"),
    ("scanOnPush", "scan_on_push"),
    ("encryption", "encryption"),
    ("prune", "prune"),
];
const IMAGE: &Names = &[
    ("pullUrl", "pull_url"),
    ("tags", "tags"),
    ("tagSelector", "tag_selector"),
    ("tagStrategy", "tag_strategy"),
    ("platforms", "platforms"),
    ("checkPolicy", "check_policy"),
    ("referrers", "referrers"),
    ("insecure", "insecure"),
];
const CHART: &Names = &[
    ("pullUrl", "pull_url"),
    ("name", "name"),
    ("tags", "tags"),
    ("versionSelector", "version_selector"),
    ("onSourceChange", "on_source_change"),
    ("provenance", "provenance"),
    ("insecure", "insecure"),
];

const ENCRYPTION: &Names = &[("type", "type"), ("kmsKey", "kms_key")];
const PRUNE: &Names =
    &[("enabled", "enabled"), ("maxPercent", "max_percent"), ("minUnpulled", "min_unpulled")];

/// Reads one entry; `None` after a problem.
pub(super) fn read(
    node: Node,
    spec: &Schema,
    tag_strategy: TagStrategy,
    problems: &mut Problems<'_>,
) -> Option<Draft> {
    let problems_before = problems.list.len();
    let (referenced, defined) = (node.referenced, node.defined);
    let Value::Map(fields) = node.value else {
        problems.push(&defined, "is not a repository: write - name: my-repository");
        return None;
    };

    let mut fields = renamed(fields, ENTRY, problems);
    for (field, names) in
        [("image", IMAGE), ("chart", CHART), ("encryption", ENCRYPTION), ("prune", PRUNE)]
    {
        if let Some((_, node)) = fields.iter_mut().find(|(key, _)| key.value == field) {
            rename(node, names, problems);
        }
    }
    if tag_strategy == TagStrategy::Retag {
        retag(&mut fields);
    }

    let complete = problems.list.len() == problems_before;
    let mut typed = Typed { problems, complete };
    let name = take(&mut fields, "name")
        .filter(|node| node.value != Value::Null)
        .map(|node| (typed.value("name", &node, &of_type("string")), node.defined));
    if name.is_none() {
        typed.problems.push(&defined, "this entry has no name: write name: my-repository");
    }
    let tree = Node::new(Value::Map(fields), referenced, defined);
    let json = typed.value("the entry", &tree, spec);
    if problems.list.len() > problems_before {
        return None;
    }
    let (name, named_at) = name?;
    let name = name?.as_str()?.to_owned();
    Some(Draft { name, name_field: "name", named_at, tree, json: json?, notes: Vec::new() })
}

/// Sets `tagStrategy: Retag` on an image without a tag strategy.
fn retag(fields: &mut [(Key, Node)]) {
    let image = fields.iter_mut().find(|(key, _)| key.value == "image").map(|(_, image)| image);
    if let Some(Node { value: Value::Map(fields), referenced, defined }) = image
        && !fields.iter().any(|(key, _)| key.value == "tagStrategy")
    {
        let key = Key::new("tagStrategy".to_owned(), *referenced, *defined);
        fields.push((key, Node::new(Value::String("Retag".to_owned()), *referenced, *defined)));
    }
}

fn take(fields: &mut Vec<(Key, Node)>, name: &str) -> Option<Node> {
    let index = fields.iter().position(|(key, _)| key.value == name)?;
    Some(fields.remove(index).1)
}

/// Renames the fields of a mapping; what is no mapping is left to the schema.
fn rename(node: &mut Node, names: &Names, problems: &mut Problems<'_>) {
    if let Value::Map(fields) = &mut node.value {
        *fields = renamed(std::mem::take(fields), names, problems);
    }
}

/// Returns the fields with their names in the resource. Unknown and duplicate fields are problems.
fn renamed(
    fields: Vec<(Key, Node)>,
    names: &Names,
    problems: &mut Problems<'_>,
) -> Vec<(Key, Node)> {
    let mut known: Vec<_> = names.iter().flat_map(|(camel, snake)| [*camel, *snake]).collect();
    known.dedup();
    let mut renamed: Vec<(Key, Node)> = Vec::new();
    for (mut key, node) in fields {
        let Some((name, _)) =
            names.iter().find(|(camel, snake)| key.value == *camel || key.value == *snake)
        else {
            problems.push(&key.defined, unknown_field(&key.value, &known));
            continue;
        };
        if renamed.iter().any(|(other, _)| other.value == *name) {
            let snake =
                names.iter().find(|(camel, _)| camel == name).map_or(*name, |(_, snake)| *snake);
            let message =
                format!("`{name}` and `{snake}` are the same field: write only one of them");
            problems.push(&key.defined, message);
            continue;
        }
        (*name).clone_into(&mut key.value);
        renamed.push((key, node));
    }
    renamed
}

fn of_type(name: &str) -> Schema {
    Schema { type_: Some(name.to_owned()), ..Schema::default() }
}
