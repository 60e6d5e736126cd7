//! `platforms`: the children of an index for the wanted platforms, and the index built from them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde_json::Value;
use serde_json::value::RawValue;

use super::cause::Cause;
use super::descriptor::{Descriptor, Platform};
use super::digest::Digest;
use super::error::Error;
use super::json::object;
use super::manifest::{Content, Manifest};
use super::reference::ParseError;

/// The largest index that is filtered. Those with attestations have some ten kilobytes.
const MAX_BYTES: usize = 256 * 1024;
/// The largest child or field of it: as values, it takes up to a hundred times its size.
const MAX_PART: usize = 16 * 1024;

/// The wanted platforms; never empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Platforms(Vec<Platform>);

/// The result of filtering a manifest by platforms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Narrowed {
    /// The manifest is unchanged: it is not an index, or all of its children are wanted.
    Same,
    /// A new index with some of the children, and another digest: ECR refuses an index with missing
    /// children.
    Rebuilt(Manifest),
    /// No child is for a wanted platform; these are the platforms of the index.
    Nothing(Vec<Platform>),
}

impl Platforms {
    /// Collects wanted platforms; `None` for an empty list, which means all.
    #[must_use]
    pub fn new(platforms: impl IntoIterator<Item = Platform>) -> Option<Self> {
        let wanted: BTreeSet<Platform> = platforms.into_iter().collect();
        (!wanted.is_empty()).then(|| Self(wanted.into_iter().collect()))
    }

    /// Whether `platform` is one of the wanted ones.
    #[must_use]
    pub fn contain(&self, platform: &Platform) -> bool {
        self.0.iter().any(|wanted| is(wanted, platform))
    }

    /// Filters an index: keeps the children for these platforms, their attestations, and children
    /// without a platform. The same index always gives the same bytes.
    ///
    /// # Errors
    /// As [`Manifest::kind`].
    pub(crate) fn narrow(&self, manifest: &Manifest) -> Result<Narrowed, Error> {
        let Content::Index { children } = manifest.kind()? else { return Ok(Narrowed::Same) };
        let available: Vec<&Platform> = children
            .iter()
            .filter(|child| child.attested.is_none())
            .filter_map(|child| child.platform.as_deref())
            .collect();
        if !available.is_empty() && !available.iter().any(|platform| self.contain(platform)) {
            return Ok(Narrowed::Nothing(available.into_iter().cloned().collect()));
        }

        let images: BTreeSet<&str> = children
            .iter()
            .filter(|child| self.is_wanted_image(child))
            .map(|child| child.digest.as_str())
            .collect();
        let keeps = |child: &Descriptor| match &child.attested {
            Some(about) => images.contains(&**about),
            None => self.is_wanted_image(child),
        };
        if children.iter().all(keeps) {
            return Ok(Narrowed::Same);
        }

        let kept = children.iter().map(keeps).collect::<Vec<_>>();
        rebuild(manifest, &kept)
            .map(Narrowed::Rebuilt)
            .map_err(|failure| failure.read_manifest(manifest.digest.to_string()))
    }

    fn is_wanted_image(&self, child: &Descriptor) -> bool {
        child.attested.is_none()
            && child.platform.as_deref().is_none_or(|platform| self.contain(platform))
    }
}

impl fmt::Display for Platforms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join(","))
    }
}

impl FromStr for Platform {
    type Err = ParseError;

    /// Parses `linux/amd64`, `linux/arm/v7`, `windows/amd64:10.0.20348`.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = || {
            ParseError(format!(
                "{text:?} is not a platform: write for example linux/amd64, linux/arm/v7 or \
                 windows/amd64:10.0.20348"
            ))
        };

        let (name, version) = match text.split_once(':') {
            Some((name, version)) => (name, Some(version)),
            None => (text, None),
        };

        let is_word = |word: &&str| {
            !word.is_empty()
                && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
        let words: Vec<&str> = name.split('/').collect();
        let has_version = version.is_none_or(|version| {
            !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        });
        if !words.iter().all(is_word) || !has_version {
            return Err(wrong());
        }

        let (os, architecture, variant) = match words.as_slice() {
            [os, architecture] => (*os, *architecture, None),
            [os, architecture, variant] => (*os, *architecture, Some((*variant).to_owned())),
            _ => return Err(wrong()),
        };
        let os_version = version.map(str::to_owned);
        Ok(Self { architecture: architecture.to_owned(), os: os.to_owned(), os_version, variant })
    }
}

/// Whether a child for `has` suits `wanted`. Parts that `wanted` leaves out may be anything.
fn is(wanted: &Platform, has: &Platform) -> bool {
    let version_fits = |version: &String| {
        let rest = has.os_version.as_deref().and_then(|has| has.strip_prefix(version.as_str()));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    wanted.os == has.os
        && wanted.architecture == has.architecture
        && (wanted.variant.is_none() || variant(wanted) == variant(has))
        && wanted.os_version.as_ref().is_none_or(version_fits)
}

/// The variant, or the default of container runtimes (containerd's platforms.Normalize).
fn variant(platform: &Platform) -> &str {
    match (platform.architecture.as_str(), platform.variant.as_deref().unwrap_or_default()) {
        ("arm64", "" | "8") => "v8",
        ("arm", "" | "7") => "v7",
        ("arm", "6") => "v6",
        ("amd64", "") => "v1",
        (_, variant) => variant,
    }
}

/// Builds the index of those children whose position in `kept` is true. One part of the index at a
/// time is in memory as values.
fn rebuild(index: &Manifest, kept: &[bool]) -> Result<Manifest, Cause> {
    if index.bytes.len() > MAX_BYTES {
        return Err(Cause::Unreadable(format!(
            "an index of more than {} KiB cannot be filtered by platforms: remove image.platforms",
            MAX_BYTES / 1024
        )));
    }
    let unreadable = |error: String| Cause::Unreadable(format!("it is not a manifest: {error}"));
    // Sorted keys: the bytes depend on nothing else than the index.
    let document: BTreeMap<String, &RawValue> = object(&index.bytes).map_err(unreadable)?;
    let mut text = String::with_capacity(index.bytes.len());

    for (key, value) in document {
        text.push(if text.is_empty() { '{' } else { ',' });
        text.push_str(&Value::from(key.as_str()).to_string());
        text.push(':');
        if key != "manifests" {
            text.push_str(&sorted(value)?);
            continue;
        }

        let children: Vec<&RawValue> = serde_json::from_str(value.get())
            .map_err(|_| Cause::Unreadable("it is an index without children".to_owned()))?;
        let children = children.into_iter().zip(kept).filter(|(_, is_kept)| **is_kept);
        let children = children.map(|(child, _)| sorted(child)).collect::<Result<Vec<_>, _>>()?;
        text.push_str(&format!("[{}]", children.join(",")));
    }
    text.push('}');

    let bytes = Bytes::from(text);
    let digest = Digest::of(index.digest.algorithm(), &bytes);
    Ok(Manifest { bytes, media_type: index.media_type.clone(), digest })
}

/// Returns a part of an index with sorted keys.
fn sorted(part: &RawValue) -> Result<String, Cause> {
    if part.get().len() > MAX_PART {
        return Err(Cause::Unreadable(format!(
            "an index with a child or field of more than {} KiB cannot be filtered by platforms: \
             remove image.platforms",
            MAX_PART / 1024
        )));
    }
    let value = serde_json::from_str::<Value>(part.get());
    let mut value = value.map_err(|_| Cause::Unreadable("it is not valid JSON".to_owned()))?;
    value.sort_all_objects();
    Ok(value.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::manifest::OCI_INDEX;
    use super::*;

    fn platforms(texts: &[&str]) -> Platforms {
        let texts: Vec<_> = texts.iter().map(|text| (*text).to_owned()).collect();
        Platforms::new(texts.iter().map(|text| text.parse().expect("a platform"))).expect("some")
    }

    fn child(name: &str, platform: Option<Value>) -> Value {
        let mut child = json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "size": 7,
            "digest": Digest::sha256_of(name.as_bytes()).as_str(),
            "x-own": {"b": 1, "a": [2]},
        });
        if let Some(platform) = platform {
            child["platform"] = platform;
        }
        child
    }

    fn index(children: &[Value]) -> Manifest {
        let text = json!({
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": children,
            "annotations": {"k": "v"},
        });
        Manifest::new(Bytes::from(text.to_string()), OCI_INDEX)
    }

    fn digests(manifest: &Manifest) -> Vec<String> {
        let Content::Index { children } = manifest.kind().expect("readable") else {
            panic!("an index")
        };
        children.into_iter().map(|child| child.digest.to_string()).collect()
    }

    #[test]
    fn variants_and_versions_match_as_runtimes_match_them() {
        let has = |text: &str| text.parse::<Platform>().expect("a platform");
        for (wanted, available, fits) in [
            ("linux/amd64", "linux/amd64", true),
            ("linux/amd64", "linux/amd64/v3", true),
            ("linux/amd64", "linux/arm64", false),
            ("linux/amd64", "windows/amd64", false),
            ("linux/arm64", "linux/arm64/v8", true),
            ("linux/arm64/v8", "linux/arm64", true),
            ("linux/arm/v7", "linux/arm/v6", false),
            ("linux/arm/v7", "linux/arm", true),
            ("linux/arm", "linux/arm/v6", true),
            ("linux/amd64/v1", "linux/amd64", true),
            ("windows/amd64", "windows/amd64:10.0.20348.2227", true),
            ("windows/amd64:10.0.20348", "windows/amd64:10.0.20348.2227", true),
            ("windows/amd64:10.0.2034", "windows/amd64:10.0.20348.2227", false),
            ("windows/amd64:10.0.20348", "windows/amd64", false),
        ] {
            let contains = platforms(&[wanted]).contain(&has(available));
            assert_eq!(contains, fits, "{wanted} {available}");
        }
    }

    #[test]
    fn errors_of_platforms_say_what_to_write() {
        for text in [
            "",
            "linux",
            "linux/",
            "/amd64",
            "Linux/amd64",
            "linux/arm/v7/x",
            "windows/amd64:",
            "linux/amd64:x",
        ] {
            let error = text.parse::<Platform>().expect_err(text).to_string();
            assert!(error.contains("linux/arm/v7"), "{error}");
        }
        assert_eq!(Platforms::new([]), None);
    }

    #[test]
    fn a_narrowed_index_keeps_attestations_of_kept_images_and_children_without_a_platform() {
        let amd = child("amd", Some(json!({"os": "linux", "architecture": "amd64"})));
        let arm =
            child("arm", Some(json!({"os": "linux", "architecture": "arm64", "variant": "v8"})));
        let plain = child("plain", None);
        let about = |name: &str, subject: &Value| {
            let mut child = child(name, Some(json!({"os": "unknown", "architecture": "unknown"})));
            child["annotations"] = json!({
                "vnd.docker.reference.digest": subject["digest"],
                "vnd.docker.reference.type": "attestation-manifest",
            });
            child
        };

        let (of_amd, of_arm) = (about("of-amd", &amd), about("of-arm", &arm));
        let whole =
            index(&[amd.clone(), arm.clone(), of_amd.clone(), of_arm.clone(), plain.clone()]);
        let Ok(Narrowed::Rebuilt(left)) = platforms(&["linux/amd64"]).narrow(&whole) else {
            panic!("rebuilt")
        };
        let wanted: Vec<_> = [&amd, &of_amd, &plain]
            .iter()
            .map(|c| c["digest"].as_str().unwrap_or_default())
            .collect();
        assert_eq!(digests(&left), wanted);
        assert_eq!(left.digest, Digest::sha256_of(&left.bytes));

        // Unknown fields are kept.
        let text = std::str::from_utf8(&left.bytes).expect("text");
        assert!(
            text.contains("\"x-own\"") && text.contains("\"annotations\":{\"k\":\"v\"}"),
            "{text}"
        );

        assert_eq!(
            platforms(&["linux/amd64", "linux/arm64"]).narrow(&whole).expect("readable"),
            Narrowed::Same
        );
    }

    /// With other bytes, all tags would be written to ECR again.
    #[test]
    fn the_bytes_of_a_narrowed_index_are_the_same_for_ever() {
        let whole = index(&[
            child("amd", Some(json!({"os": "linux", "architecture": "amd64"}))),
            child("arm", Some(json!({"os": "linux", "architecture": "arm64"}))),
        ]);
        let Ok(Narrowed::Rebuilt(left)) = platforms(&["linux/arm64"]).narrow(&whole) else {
            panic!("rebuilt")
        };
        let text = std::str::from_utf8(&left.bytes).expect("text");
        assert!(
            text.starts_with("{\"annotations\":{\"k\":\"v\"},\"manifests\":[{\"digest\":\"sha256:"),
            "{text}"
        );
        assert!(
            text.ends_with(
                "}],\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"schemaVersion\":2}"
            ),
            "{text}"
        );
    }

    #[test]
    fn a_filter_that_matches_nothing_names_the_available_platforms() {
        let whole = index(&[child("amd", Some(json!({"os": "linux", "architecture": "amd64"})))]);
        let Ok(Narrowed::Nothing(available)) = platforms(&["linux/s390x"]).narrow(&whole) else {
            panic!("nothing")
        };
        assert_eq!(available.iter().map(ToString::to_string).collect::<Vec<_>>(), ["linux/amd64"]);
    }
}
