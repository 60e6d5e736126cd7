//! Objects whose content cannot fail the answer that they come in.
//!
//! kube decodes a whole page of a list with one call of the JSON parser, which refuses more than
//! 128 levels. So one object with deep JSON would fail every list, for all others too. kube's
//! `DeserializeGuard` does not help: it buffers the object through the same parser.
//!
//! Here the object is first taken as text. serde_json skips over text without recursion
//! (`Deserializer::ignore_value`), so there is no limit to pass. Then the text is decoded on its
//! own, with the limit of the parser.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use kube::Resource;
use kube::core::{ObjectMeta, PartialObjectMeta, PartialObjectMetaExt};
use kube_runtime::watcher::Event;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// An object, or what is known of an object that cannot be decoded.
#[derive(Clone, Debug)]
pub(crate) struct Guarded<K>(pub(crate) Result<K, Box<Undecodable>>);

/// An object that cannot be decoded.
#[derive(Clone)]
pub(crate) struct Undecodable {
    /// Name, namespace, UID, generation and resource version; nothing else.
    pub(crate) metadata: ObjectMeta,
    /// The JSON of `status`, which only the operator writes.
    pub(super) status: Option<Box<RawValue>>,
    /// The error of the parser, without content of the object.
    pub(super) reason: String,
}

/// Debug output without content of the object.
impl fmt::Debug for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { metadata, reason, .. } = self;
        f.debug_struct("Undecodable")
            .field("namespace", &metadata.namespace)
            .field("name", &metadata.name)
            .field("reason", reason)
            .finish_non_exhaustive()
    }
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Guarded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Self(decode(text.get())))
    }
}

/// Fields of an object or of its metadata, each as text.
type Fields<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

/// Decodes the text of an object.
fn decode<K: DeserializeOwned>(text: &str) -> Result<K, Box<Undecodable>> {
    let error = match serde_json::from_str(text) {
        Ok(object) => return Ok(object),
        Err(error) => error,
    };

    // Managed fields are nested as deeply as the object, any user may write them, and the operator
    // does not use them.
    let mut object: Fields<'_> = serde_json::from_str(text).unwrap_or_default();
    let mut metadata: Fields<'_> = object
        .get("metadata")
        .and_then(|metadata| serde_json::from_str(metadata.get()).ok())
        .unwrap_or_default();
    let has_managed_fields = metadata.remove("managedFields").is_some();
    let metadata = joined(&metadata);
    let status = object.get("status").map(|status| (*status).to_owned());

    let error = match metadata.as_deref() {
        Some(metadata) if has_managed_fields => {
            object.insert(Cow::Borrowed("metadata"), metadata);
            let text = joined(&object);
            match serde_json::from_str(text.as_deref().map_or("", RawValue::get)) {
                Ok(object) => return Ok(object),
                Err(error) => error,
            }
        }
        _ => error,
    };

    let names: Option<Names> =
        metadata.and_then(|metadata| serde_json::from_str(metadata.get()).ok());
    Err(Box::new(Undecodable {
        metadata: names.unwrap_or_default().into(),
        status,
        reason: without_content(&error.to_string()),
    }))
}

fn joined(fields: &Fields<'_>) -> Option<Box<RawValue>> {
    serde_json::value::to_raw_value(fields).ok()
}

/// The part of the metadata that the API server sets or checks itself.
#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Names {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
}

impl From<Names> for ObjectMeta {
    fn from(names: Names) -> Self {
        let Names { name, namespace, uid, resource_version, generation } = names;
        Self { name, namespace, uid, resource_version, generation, ..Self::default() }
    }
}

/// Removes from an error of serde_json the values that it quotes. A value in double quotes may
/// contain anything; the first word in backticks is the value, the later ones are our names.
fn without_content(error: &str) -> String {
    let cut = |text: &str, quote: char, last: fn(&str, char) -> Option<usize>| {
        let start = text.find(quote)?;
        let rest = &text[start + quote.len_utf8()..];
        let end = last(rest, quote)?;
        Some(format!("{}…{}", &text[..start], &rest[end + quote.len_utf8()..]))
    };

    let text = cut(error, '"', |rest, quote| rest.rfind(quote)).unwrap_or_else(|| error.to_owned());
    if !text.starts_with("invalid") && !text.starts_with("unknown") {
        return text;
    }
    cut(&text, '`', |rest, quote| rest.find(quote)).unwrap_or(text)
}

impl<K: Resource> Resource for Guarded<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dynamic)
    }

    fn group(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dynamic)
    }

    fn version(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dynamic)
    }

    fn plural(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dynamic)
    }

    fn metadata_api() -> bool {
        K::metadata_api()
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.as_ref().map_or_else(|undecodable| &undecodable.metadata, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.as_mut().map_or_else(|undecodable| &mut undecodable.metadata, K::meta_mut)
    }
}

/// Returns an event with the metadata of its object, at least the names.
pub(super) fn metadata<K>(
    event: Event<Guarded<PartialObjectMeta<K>>>,
) -> Event<PartialObjectMeta<K>> {
    let known = |object: Guarded<PartialObjectMeta<K>>| {
        object.0.unwrap_or_else(|undecodable| undecodable.metadata.into_response_partial())
    };
    match event {
        Event::Apply(object) => Event::Apply(known(object)),
        Event::Delete(object) => Event::Delete(known(object)),
        Event::Init => Event::Init,
        Event::InitApply(object) => Event::InitApply(known(object)),
        Event::InitDone => Event::InitDone,
    }
}

#[cfg(test)]
mod tests;
