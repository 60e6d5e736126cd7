//! `docs/api.md`: every field of the resource, from the CRD.

use std::collections::BTreeSet;
use std::fmt::Write;

use serde_json::Value;

use super::{read, root};

/// The file, from the root of the repository.
const FILE: &str = "docs/api.md";

/// A field and its path: `spec.image.tags`; `conditions[]` stands for the entries of a list.
struct Field<'a> {
    path: String,
    schema: &'a Value,
    required: bool,
}

/// The version of the CRD that is documented.
fn version() -> Value {
    let crd = serde_json::to_value(ecr_sync::api::v1alpha1::crd()).expect("the CRD is JSON");
    crd["spec"]["versions"][0].clone()
}

fn text<'a>(schema: &'a Value, key: &str) -> &'a str {
    schema[key].as_str().unwrap_or_default()
}

/// The fields of an object, of the entries of a list, or of the values of a map; empty for other
/// types.
fn fields<'a>(path: &str, schema: &'a Value) -> Vec<Field<'a>> {
    let (path, schema) = match (schema.get("items"), schema["additionalProperties"].is_object()) {
        (Some(items), _) => (format!("{path}[]"), items),
        (None, true) => (format!("{path}.*"), &schema["additionalProperties"]),
        (None, false) => (path.to_owned(), schema),
    };
    let required: BTreeSet<_> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = schema["properties"].as_object().into_iter().flatten();
    properties
        .map(|(name, schema)| Field {
            path: if path.is_empty() { name.clone() } else { format!("{path}.{name}") },
            schema,
            required: required.contains(name.as_str()),
        })
        .collect()
}

/// Every field below `path`, parents before children.
fn all_fields<'a>(path: &str, schema: &'a Value) -> Vec<Field<'a>> {
    let mut all = Vec::new();
    for field in fields(path, schema) {
        let below = all_fields(&field.path, field.schema);
        all.push(field);
        all.extend(below);
    }
    all
}

/// `list of string`, `map of string`, `Mirror or Retag`, `time`.
fn type_of(schema: &Value) -> String {
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<_> =
            values.iter().filter_map(Value::as_str).map(|value| format!("`{value}`")).collect();
        return values.join(" or ");
    }
    match (text(schema, "type"), text(schema, "format")) {
        ("array", _) => format!("list of {}", type_of(&schema["items"])),
        ("object", _) if schema["additionalProperties"].is_object() => {
            format!("map of {}", type_of(&schema["additionalProperties"]))
        }
        ("string", "date-time") => "time".to_owned(),
        ("", _) => "any".to_owned(),
        (type_, _) => type_.to_owned(),
    }
}

/// The bounds in the schema, without the rules.
fn bounds(schema: &Value) -> Vec<String> {
    let mut bounds = Vec::new();
    let mut range =
        |least: &str, most: &str, unit: &str| match (schema[least].as_u64(), schema[most].as_u64())
        {
            (Some(least), Some(most)) => bounds.push(format!("{least} to {most} {unit}")),
            (Some(1), None) => bounds.push(format!("at least one of its {unit}")),
            (Some(least), None) => bounds.push(format!("at least {least} {unit}")),
            (None, Some(most)) => bounds.push(format!("at most {most} {unit}")),
            (None, None) => {}
        };
    range("minLength", "maxLength", "characters");
    range("minItems", "maxItems", "entries");
    range("minProperties", "maxProperties", "keys");
    match (schema["minimum"].as_f64(), schema["maximum"].as_f64()) {
        (Some(least), Some(most)) => bounds.push(format!("{least} to {most}")),
        (Some(least), None) => bounds.push(format!("at least {least}")),
        (None, Some(most)) => bounds.push(format!("at most {most}")),
        (None, None) => {}
    }
    if schema["x-kubernetes-list-type"] == "set" {
        bounds.push("no duplicates".to_owned());
    }
    if schema["x-kubernetes-map-type"] == "atomic" || schema["x-kubernetes-list-type"] == "atomic" {
        bounds.push("replaced as a whole".to_owned());
    }
    if schema["x-kubernetes-preserve-unknown-fields"] == true && schema["type"] == "object" {
        bounds.push("other keys are kept".to_owned());
    }
    if schema["items"].is_object() {
        bounds.extend(
            self::bounds(&schema["items"]).into_iter().map(|bound| format!("each: {bound}")),
        );
    }
    if schema["additionalProperties"].is_object() {
        bounds.extend(
            self::bounds(&schema["additionalProperties"])
                .into_iter()
                .map(|bound| format!("values: {bound}")),
        );
    }
    if let Some(pattern) = schema["pattern"].as_str() {
        bounds.push(format!("matches `{pattern}`"));
    }
    bounds
}

/// `(path, message)` of the CEL rules on a field and on its entries or values, without its own fields.
fn rules(path: &str, schema: &Value) -> Vec<(String, String)> {
    let own = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
    let mut rules: Vec<_> =
        own.map(|rule| (path.to_owned(), text(rule, "message").to_owned())).collect();
    if schema["items"].is_object() {
        rules.extend(self::rules(&format!("{path}[]"), &schema["items"]));
    }
    if schema["additionalProperties"].is_object() {
        rules.extend(self::rules(&format!("{path}.*"), &schema["additionalProperties"]));
    }
    rules
}

/// The text without the line breaks of the source file.
fn on_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The text as one line that can stand in a table cell.
fn cell(text: &str) -> String {
    on_one_line(text).replace('|', "\\|")
}

fn section(out: &mut String, path: &str, schema: &Value) -> std::fmt::Result {
    let fields = fields(path, schema);
    if fields.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n## {path}\n\n{}\n", on_one_line(text(schema, "description")))?;
    if schema["default"].is_object() {
        writeln!(out, "Initial value: `{}`.\n", schema["default"])?;
    }
    writeln!(out, "| field | type | default | bounds | description |\n|---|---|---|---|---|")?;
    for field in &fields {
        let name = field.path.rsplit('.').next().unwrap_or_default();
        let has_section = !self::fields(&field.path, field.schema).is_empty();
        let shown = if has_section {
            format!("[`{name}`](#{})", super::slug(&field.path))
        } else {
            format!("`{name}`")
        };
        let default = match &field.schema["default"] {
            Value::Null if field.required => "required".to_owned(),
            Value::Null => String::new(),
            Value::String(text) => format!("`{text}`"),
            other => format!("`{other}`"),
        };
        let (type_, bounds) = (type_of(field.schema), bounds(field.schema).join("; "));
        let description = text(field.schema, "description");
        writeln!(
            out,
            "| {shown} | {} | {default} | {} | {} |",
            cell(&type_),
            cell(&bounds),
            cell(description)
        )?;
    }
    let mut rules = if path.contains('.') { Vec::new() } else { self::rules(path, schema) };
    rules.extend(fields.iter().flat_map(|field| self::rules(&field.path, field.schema)));
    write_rules(out, &rules)?;
    fields.iter().try_for_each(|field| section(out, &field.path, field.schema))
}

fn write_rules(out: &mut String, rules: &[(String, String)]) -> std::fmt::Result {
    if !rules.is_empty() {
        writeln!(out, "\nMessages of the validation rules:\n")?;
    }
    rules.iter().try_for_each(|(path, message)| match path.as_str() {
        "" => writeln!(out, "- ``{message}``"),
        path => writeln!(out, "- `{path}`: ``{message}``"),
    })
}

fn columns(version: &Value, wide: bool) -> String {
    let columns = version["additionalPrinterColumns"].as_array().into_iter().flatten();
    let names = columns.filter(|column| (column["priority"].as_i64().unwrap_or(0) > 0) == wide);
    names.map(|column| text(column, "name")).collect::<Vec<_>>().join(", ")
}

fn page() -> Result<String, std::fmt::Error> {
    let version = version();
    let schema = &version["schema"]["openAPIV3Schema"];
    let mut out = String::new();
    writeln!(
        out,
        "# API reference\n\n<!-- Generated by `make docs` from the CRD: change the types, not this \
         page. -->\n"
    )?;
    writeln!(out, "{}", on_one_line(text(schema, "description")))?;
    writeln!(
        out,
        "[Concepts](concepts.md) explains how the fields work together. `kubectl explain ers.spec` \
         shows the same texts.\n"
    )?;
    writeln!(out, "| | |\n|---|---|")?;
    writeln!(
        out,
        "| apiVersion | `ecr-sync.io/{}` |\n| kind | `EcrRepositorySync`, namespaced |",
        text(&version, "name")
    )?;
    writeln!(
        out,
        "| names for kubectl | `ecrrepositorysyncs`, `ers`, `ecrsync`; category `ecr-sync` |"
    )?;
    writeln!(
        out,
        "| columns | {} |\n| with `-o wide` | {} |",
        columns(&version, false),
        columns(&version, true)
    )?;
    let selectable = version["selectableFields"].as_array().into_iter().flatten();
    let selectable: Vec<_> =
        selectable.map(|field| format!("`{}`", text(field, "jsonPath"))).collect();
    writeln!(out, "| field selectors | {} |", selectable.join(", "))?;
    write_rules(&mut out, &rules("", schema))?;
    section(&mut out, "spec", &schema["properties"]["spec"])?;
    section(&mut out, "status", &schema["properties"]["status"])?;
    Ok(out)
}

#[test]
fn the_api_reference_is_the_generated_one() {
    let page = page().expect("a String takes everything");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(root().join(FILE), &page).expect("the file can be written");
    }
    assert!(
        read(FILE) == page,
        "{FILE} does not match the CRD: run `make docs` and commit the result"
    );
}

#[test]
fn kubectl_explain_has_a_text_for_every_field() {
    let version = version();
    let fields = all_fields("", &version["schema"]["openAPIV3Schema"]);
    assert!(
        fields.iter().any(|field| field.path == "spec.lifecyclePolicy.rules[].selection.countType"),
        "all levels"
    );
    let silent: Vec<_> = fields
        .iter()
        .filter(|field| text(field.schema, "description").is_empty())
        .map(|field| &field.path)
        .collect();
    assert!(silent.is_empty(), "no description: {silent:?}");
}
