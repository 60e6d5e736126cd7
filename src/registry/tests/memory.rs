//! The memory of the readers, measured with documents that are made to need the most.

use allocation_counter::measure;
use bytes::Bytes;
use serde_json::json;

use crate::registry::bodies::BODY_PER_BYTE;
use crate::registry::manifest::{self, Manifest};
use crate::registry::manifests::MAX_MANIFEST_BYTES;
use crate::registry::platforms::Platforms;
use crate::registry::token;
use crate::registry::{OCI_INDEX, OCI_MANIFEST};

/// Repeats `item` up to `size` bytes, between `head` and `tail`.
fn repeated(head: &str, item: &str, tail: &str, size: usize) -> String {
    let count = (size - head.len() - tail.len()) / (item.len() + 1);
    format!("{head}{}{tail}", vec![item; count].join(","))
}

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Manifests of this size that are made to need much memory.
fn manifests_of(size: usize) -> Vec<(&'static str, &'static str, String)> {
    let descriptor = format!(r#"{{"digest":"{DIGEST}","size":1}}"#);
    let config = format!(r#"{{"config":{descriptor},"#);
    let child = format!(r#"{{"digest":"{DIGEST}","size":1,"platform":{{}}}}"#);
    let list =
        |field: &str, item: &str| repeated(&format!(r#"{config}"{field}":["#), item, "]}", size);
    let within = |field: &str, item: &str, close: &str| {
        let head = format!(r#"{{"manifests":[{{"digest":"{DIGEST}","size":1,{field}"#);
        repeated(&head, item, &format!("{close}}}]}}"), size)
    };
    let manifests = |item: &str| repeated(r#"{"manifests":["#, item, "]}", size);
    let text = "\\u0041".repeat(size / 6 - 100);
    vec![
        ("layers", OCI_MANIFEST, list("layers", &descriptor)),
        ("layers of a hundred bytes", OCI_MANIFEST, list("layers", &child)),
        ("children", OCI_INDEX, manifests(&descriptor)),
        ("children with platforms", OCI_INDEX, manifests(&child)),
        ("annotations", OCI_INDEX, within(r#""annotations":{"#, r#""a":"b""#, "}")),
        ("other fields", OCI_INDEX, within(r#""urls":["#, r#""""#, "]")),
        ("numbers", OCI_INDEX, within(r#""x":["#, "0", "]")),
        ("a media type", OCI_INDEX, format!(r#"{{"manifests":[],"mediaType":"{text}"}}"#)),
    ]
}

#[test]
fn a_manifest_needs_no_more_memory_than_is_reserved() {
    for size in [10_000, 400_000, MAX_MANIFEST_BYTES] {
        for (name, media_type, text) in manifests_of(size) {
            let reserved = manifest::NEED.of(text.len()) - BODY_PER_BYTE * text.len();
            let bytes = Bytes::from(text);
            let measured = measure(|| {
                let manifest = Manifest::new(bytes.clone(), media_type);
                drop(manifest.check_form());
                drop(manifest.kind());
            });
            let most = usize::try_from(measured.bytes_max).unwrap();
            assert!(most <= reserved, "{name}: {most} of {reserved}");
        }
    }
}

#[test]
fn a_token_needs_no_more_memory_than_is_reserved() {
    let size = token::MAX_BYTES;
    for text in [
        repeated(r#"{"token":"a","expires_in":["#, "0", "]}", size),
        repeated(r#"{"token":"a","x":["#, "0", "]}", size),
        format!(r#"{{"token":"{}"}}"#, "\\u0041".repeat(size / 6 - 10)),
        format!(r#"{{"token":"{0}","access_token":"{0}"}}"#, "A".repeat(size / 2 - 20)),
    ] {
        let reserved = token::NEED.of(text.len()) - BODY_PER_BYTE * text.len();
        let measured =
            measure(|| drop(token::token(text.as_bytes(), tokio::time::Instant::now(), false)));
        let most = usize::try_from(measured.bytes_max).unwrap();
        assert!(most <= reserved, "{text:.40}: {most} of {reserved}");
    }
}

#[test]
fn an_index_is_filtered_part_by_part() {
    let platform = |architecture: &str| json!({"os": "linux", "architecture": architecture});
    let child = |architecture: &str, other: &str| {
        let platform = platform(architecture);
        format!(r#"{{"digest":"{DIGEST}","size":1,"platform":{platform},"x":[{other}]}}"#)
    };
    let part = repeated("", "0", "", 15_000);
    let children: Vec<_> =
        (0..8).flat_map(|_| [child("amd64", &part), child("arm64", &part)]).collect();
    let text = format!(r#"{{"manifests":[{}],"z":[{part}]}}"#, children.join(","));
    let index = Manifest::new(Bytes::from(text), OCI_INDEX);
    let platforms = Platforms::new(["linux/amd64".parse().unwrap()]).unwrap();

    let measured = measure(|| drop(platforms.narrow(&index).unwrap()));
    assert!(measured.bytes_max < 3_000_000, "{measured:?}");

    for (other, why) in
        [("0,".repeat(10_000) + "0", "16 KiB"), ("0,".repeat(200_000) + "0", "256 KiB")]
    {
        let text = format!(r#"{{"manifests":[{}],"z":[{other}]}}"#, children[..2].join(","));
        let error = platforms.narrow(&Manifest::new(Bytes::from(text), OCI_INDEX)).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
}
