//! Type checks by the schema of the resource, as the API server does them, with line and column.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps as Schema, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::{Map, Value as Json};

use super::suggest::unknown_field;
use super::tree::{Node, Number, Problems, Value};

/// Reads values of one file and collects the problems.
#[derive(Debug)]
pub(super) struct Typed<'p, 's> {
    /// The problems of the file.
    pub(super) problems: &'p mut Problems<'s>,
    /// Whether missing fields are reported: not if a field was unknown, since it may be the missing
    /// one, misspelt.
    pub(super) complete: bool,
}

impl Typed<'_, '_> {
    /// Returns the value of `field` as JSON; `None` after a problem. Null counts as absent, except
    /// below fields whose schema allows anything.
    pub(super) fn value(&mut self, field: &str, node: &Node, schema: &Schema) -> Option<Json> {
        self.checked(field, node, schema, &expected(schema))
    }

    /// Checks a value; `expected` names the type of the whole field, also for an element of a list.
    fn checked(
        &mut self,
        field: &str,
        node: &Node,
        schema: &Schema,
        expected: &str,
    ) -> Option<Json> {
        match (schema.type_.as_deref(), &node.value) {
            (Some("object"), Value::Map(_)) => self.object(field, node, schema),
            (Some("array"), Value::List(elements)) => {
                let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items else {
                    return self.open(node);
                };
                let values =
                    elements.iter().map(|element| self.checked(field, element, items, expected));
                // All elements are read, so that each problem is reported.
                values.collect::<Vec<_>>().into_iter().collect::<Option<_>>().map(Json::Array)
            }
            (Some("string"), Value::String(text)) => self.string(field, node, text, schema),
            (Some("string"), Value::Bool(_)) if self.is_letter(node) => self.open(node),
            (Some("integer"), Value::Number(number)) if is_whole(*number) => self.open(node),
            (Some("number"), Value::Number(_)) | (Some("boolean"), Value::Bool(_)) | (None, _) => {
                self.open(node)
            }
            (Some(wanted), value) => {
                let hint = match value {
                    Value::Number(_) | Value::String(_)
                        if wanted == "array" && expected == LIST_OF_STRINGS =>
                    {
                        self.as_list(node, value)
                    }
                    _ => self.hint(wanted, node, value),
                };
                self.wrong(node, format!("{field} must be {expected}{hint}"))
            }
        }
    }

    fn object(&mut self, field: &str, node: &Node, schema: &Schema) -> Option<Json> {
        let Value::Map(fields) = &node.value else { return None };
        let open = schema.x_kubernetes_preserve_unknown_fields == Some(true);
        let properties = schema.properties.as_ref();
        let mut object = Map::new();
        let mut valid = true;
        let mut complete = self.complete;

        for (key, child) in fields {
            let name = key.value.as_str();
            let value = if let Some(property) = properties.and_then(|known| known.get(name)) {
                if child.value == Value::Null {
                    continue;
                }
                let written = self.problems.source.written(&key.defined);
                self.value(written.unwrap_or(name), child, property)
            } else if let Some(JSONSchemaPropsOrBool::Schema(values)) =
                &schema.additional_properties
            {
                self.value(&format!("{field}.{name}"), child, values)
            } else if open {
                self.open(child)
            } else {
                let known: Vec<_> =
                    properties.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
                self.problems.push(&key.defined, unknown_field(name, &known));
                complete = false;
                None
            };
            valid &= value.is_some();
            object.extend(value.map(|value| (name.to_owned(), value)));
        }

        for name in schema.required.iter().flatten().filter(|_| complete) {
            // An invalid field has been reported above.
            if node.value.get(name).is_none_or(|child| child.value == Value::Null) {
                valid = self.wrong(node, format!("{field} has no {name}")).is_some();
            }
        }

        valid.then_some(Json::Object(object))
    }

    fn string(&mut self, field: &str, node: &Node, text: &str, schema: &Schema) -> Option<Json> {
        let values: Vec<_> =
            schema.enum_.iter().flatten().filter_map(|value| value.0.as_str()).collect();
        if values.is_empty() || values.contains(&text) {
            return Some(Json::String(text.to_owned()));
        }
        self.wrong(node, format!("{field} must be {}, not {text:?}", values.join(" or ")))
    }

    /// Returns any value without a check of its type.
    fn open(&mut self, node: &Node) -> Option<Json> {
        match &node.value {
            Value::Null => Some(Json::Null),
            Value::Bool(_) if self.is_letter(node) => self.written(node).map(Json::from),
            Value::Bool(value) => Some(Json::Bool(*value)),
            Value::String(text) => Some(Json::String(text.clone())),
            Value::Number(number) => json(*number).or_else(|| {
                let written = self.written(node).unwrap_or_default();
                self.wrong(
                    node,
                    format!("quote {written}, YAML reads it as a number that JSON cannot hold"),
                )
            }),
            Value::List(elements) => {
                let values: Vec<_> = elements.iter().map(|element| self.open(element)).collect();
                values.into_iter().collect::<Option<_>>().map(Json::Array)
            }
            Value::Map(fields) => {
                let values: Vec<_> = fields
                    .iter()
                    .map(|(key, child)| Some((key.value.clone(), self.open(child)?)))
                    .collect();
                values.into_iter().collect::<Option<_>>().map(Json::Object)
            }
        }
    }

    /// Returns the text of the file for a value, without quotes.
    fn written(&self, node: &Node) -> Option<&str> {
        self.problems.source.written(&node.defined)
    }

    /// Whether this is `y` or `n`: text in YAML 1.2 and for the older tool, but a boolean for the
    /// library.
    fn is_letter(&self, node: &Node) -> bool {
        self.written(node).is_some_and(|written| matches!(written, "y" | "Y" | "n" | "N"))
    }

    /// Returns the hint for a single value in place of a list.
    fn as_list(&self, node: &Node, value: &Value) -> String {
        let written = self.written(node).unwrap_or_default();
        match value {
            Value::Number(number) if number.to_string() != written => {
                format!(
                    ": write [\"{written}\"], quoted, since YAML reads {written} as the number \
                     {number}"
                )
            }
            Value::String(text) => format!(": write [{text:?}]"),
            _ => format!(": write [\"{written}\"]"),
        }
    }

    /// Returns the hint for a value whose type is not `wanted`.
    fn hint(&self, wanted: &str, node: &Node, value: &Value) -> String {
        let written = || self.written(node).unwrap_or_default();
        let quote = |noun: &str, value: String| match written() {
            same if same == value => format!(": quote {same}, YAML reads it as a {noun}"),
            other => format!(": quote {other}, YAML reads it as the {noun} {value}"),
        };

        match value {
            Value::Number(number) if wanted == "string" => quote("number", number.to_string()),
            Value::Bool(value) if wanted == "string" => quote("boolean", value.to_string()),
            Value::String(text)
                if wanted == "boolean" && matches!(text.as_str(), "true" | "false") =>
            {
                format!(": write {text} without quotes")
            }
            Value::String(text) if wanted == "integer" && text.parse::<i64>().is_ok() => {
                format!(": write {text} without quotes")
            }
            Value::String(text) => format!(", not the string {text:?}"),
            Value::Null => ", not null".to_owned(),
            Value::Bool(value) => format!(", not {value}"),
            Value::Number(_) => format!(", not the number {}", written()),
            Value::List(_) => ", not a list".to_owned(),
            Value::Map(_) => ", not a map".to_owned(),
        }
    }

    fn wrong(&mut self, node: &Node, message: String) -> Option<Json> {
        self.problems.push(&node.defined, message);
        None
    }
}

/// Text that [`expected`] returns for such a list.
const LIST_OF_STRINGS: &str = "a list of strings";

/// Returns the expected type in words.
fn expected(schema: &Schema) -> String {
    let strings = |inner: &Schema, noun: &str| match inner.type_.as_deref() {
        Some("string") => format!("{noun} of strings"),
        _ => noun.to_owned(),
    };

    match (schema.type_.as_deref(), &schema.items, &schema.additional_properties) {
        (Some("array"), Some(JSONSchemaPropsOrArray::Schema(items)), _) => strings(items, "a list"),
        (Some("object"), _, Some(JSONSchemaPropsOrBool::Schema(values))) => {
            strings(values, "a map")
        }
        (Some("array"), ..) => "a list".to_owned(),
        (Some("object"), ..) => "a map".to_owned(),
        (Some("integer"), ..) => "a whole number".to_owned(),
        (Some("boolean"), ..) => "true or false".to_owned(),
        (Some(other), ..) => format!("a {other}"),
        (None, ..) => "a value".to_owned(),
    }
}

fn is_whole(number: Number) -> bool {
    !matches!(number, Number::Float(float) if float.fract() != 0.0 || !float.is_finite())
}

/// Returns the number as JSON; whole numbers stay whole although YAML reads `007` and `1e3` as
/// fractional.
fn json(number: Number) -> Option<Json> {
    match number {
        Number::Negative(number) => Some(number.into()),
        Number::Positive(number) => Some(number.into()),
        // Floats are exact up to 2^53; below, the cast loses nothing.
        Number::Float(float) if float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0 => {
            Some((float as i64).into())
        }
        Number::Float(float) => serde_json::Number::from_f64(float).map(Json::Number),
    }
}
