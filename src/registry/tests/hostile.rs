//! Property tests with answers of hostile or broken registries: no panic, no request elsewhere, and
//! valid parts are still read.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::FutureExt as _;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use crate::memory_budget::Budget;
use crate::registry::challenge::{Bearer, Challenge, parse};
use crate::registry::quota::{Quota, Turn};
use crate::registry::retry::retry_after;
use crate::registry::tag_list::Collector;
use crate::registry::tags::{next_link, resolve};
use crate::registry::upload::session_at;
use crate::registry::warnings::text as warning_text;
use crate::registry::{Content, Digest, Manifest, Reference, Tag, is_link_local};

/// Text of the pieces of a grammar in any order, with some foreign ones.
fn pieces(of: Vec<&'static str>) -> impl Strategy<Value = String> {
    let odd = select(vec![
        "\"", "\\", "\t", " ", "\u{0}", "\u{7f}", "é", "\u{2028}", "%00", "%", "\u{202e}",
    ]);
    vec(prop_oneof![4 => select(of), 1 => odd], 0..24).prop_map(|pieces| pieces.concat())
}

fn challenge_text() -> impl Strategy<Value = String> {
    pieces(vec![
        "Bearer",
        "bearer ",
        "Basic ",
        "Negotiate",
        "realm",
        "service",
        "scope",
        "=",
        ",",
        ";",
        "\"https://a\"",
        "x",
        "repository:a/b:pull,push",
    ])
}

/// A value that needs quotes, or one that does not.
fn quotable() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9:/.,?&=_ \"\\\\-]{1,40}"
}

fn url_text() -> impl Strategy<Value = String> {
    pieces(vec![
        "http",
        "https",
        "ftp",
        "file",
        "data",
        ":",
        "/",
        "//",
        "?",
        "#",
        "@",
        "..",
        "[::1]",
        "[fe80::1]",
        "169.254.169.254",
        "0xa9fea9fe",
        "2852039166",
        "evil.example",
        "r.example",
        ":444",
        "v2",
        "a",
        "\\",
    ])
}

/// JSON of any shape, with the field names of manifests and tag lists.
fn document() -> impl Strategy<Value = Value> {
    let digest = prop_oneof![
        "[a-z]{0,3}".prop_map(|content| Digest::sha256_of(content.as_bytes()).to_string()),
        Just("sha256:".to_owned()),
        Just("../../etc/passwd".to_owned()),
        Just(format!("sha256:{}", "A".repeat(64))),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        digest.prop_map(Value::from),
        select(vec![super::OCI_INDEX, super::OCI_MANIFEST, super::DOCKER_LIST, "text/html", ""])
            .prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];

    leaf.prop_recursive(4, 48, 6, |inner| {
        let key = select(vec![
            "schemaVersion",
            "mediaType",
            "manifests",
            "config",
            "layers",
            "blobs",
            "subject",
            "digest",
            "size",
            "urls",
            "data",
            "platform",
            "annotations",
            "tags",
            "name",
            "fsLayers",
            "artifactType",
        ]);
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::from),
            vec((key, inner), 0..6).prop_map(|members| {
                Value::Object(
                    members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
                )
            }),
        ]
    })
}

fn asked() -> Url {
    "https://r.example:444/v2/a/tags/list?n=1000".parse().expect("a URL")
}

proptest! {
    #[test]
    fn a_hostile_challenge_never_hides_a_valid_one(
        hostile in challenge_text(),
        bytes in vec(any::<u8>(), 0..64),
    ) {
        let good = HeaderValue::from_static("Bearer realm=\"https://auth.example/token\",service=\"s\"");
        let mut headers: Vec<_> = [hostile.as_bytes(), &bytes]
            .into_iter()
            .filter_map(|bytes| HeaderValue::from_bytes(bytes).ok())
            .collect();
        headers.push(good);
        let read = parse(&headers);
        let wanted = Bearer {
            realm: "https://auth.example/token".to_owned(),
            service: Some("s".to_owned()),
            scope: None,
        };
        prop_assert_eq!(read.last(), Some(&Challenge::Bearer(wanted)));
    }

    #[test]
    fn a_challenge_is_read_whatever_its_values_hold(
        realm in quotable(),
        service in quotable(),
        scope in quotable(),
    ) {
        let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
        let [realm_text, service_text, scope_text] =
            [&realm, &service, &scope].map(|text| quoted(text));
        let header =
            format!("bearer scope={scope_text}, ReAlM = {realm_text} ,service={service_text}");
        let header = HeaderValue::from_str(&header).expect("visible ASCII");
        let wanted = Bearer { realm, service: Some(service), scope: Some(scope) };
        prop_assert_eq!(parse([&header]), [Challenge::Bearer(wanted)]);
    }

    #[test]
    fn a_link_is_part_of_its_header(
        header in pieces(vec![
            "<", ">", ";", ",", "rel", "=", "next", "prev", "/v2/a", "?n=1",
        ]),
    ) {
        if let Some(link) = next_link(&header) {
            prop_assert!(header.contains(&["<", link, ">"].concat()));
        }
    }

    #[test]
    fn a_good_link_is_found_behind_others(
        others in vec("</[a-z]{1,5}>; *rel=\"?prev\"?", 0..4),
        target in "/v2/[a-z]{1,8}/tags/list[?]last=[a-z0-9]{1,8}",
        relation in select(vec!["rel=next", "rel=\"next\"", "title=x; REL=\"last next\"", "rel='next'"]),
    ) {
        let mut links = others;
        links.push(format!("<{target}>; {relation}"));
        let header = links.join(", ");
        prop_assert_eq!(next_link(&header), Some(target.as_str()));
    }

    #[test]
    fn a_next_page_is_on_the_registry_that_was_asked(link in url_text()) {
        if let Ok(next) = resolve(&asked(), &link) {
            prop_assert_eq!(next.origin(), asked().origin(), "{}", link);
            prop_assert!(next.username().is_empty() && next.password().is_none());
        }
    }

    #[test]
    fn an_upload_session_is_neither_plain_nor_link_local(location in proptest::option::of(url_text())) {
        if let Ok(session) = session_at(&asked(), &asked(), location.as_deref()) {
            prop_assert_eq!(session.scheme(), "https", "{:?}", &location);
            prop_assert!(session.has_host() && !is_link_local(&session), "{:?}", location);
        }
    }

    #[test]
    fn a_manifest_of_any_shape_is_read_or_refused(
        body in document(),
        media_type in select(vec![super::OCI_INDEX, super::OCI_MANIFEST, ""]),
    ) {
        let manifest = Manifest::new(Bytes::from(body.to_string()), media_type);
        match manifest.kind() {
            Ok(Content::Index { .. }) => prop_assert!(body["manifests"].is_array() || body["manifests"].is_null()),
            Ok(Content::Image { .. }) => prop_assert!(body["config"].is_object() || body["blobs"].is_array()),
            Err(error) => prop_assert!(error.to_string().len() < 1000, "{error}"),
        }
    }

    #[test]
    fn a_manifest_cut_or_flipped_anywhere_does_no_harm(at: Index, byte: u8, cuts: bool, is_index: bool) {
        let digest = Digest::sha256_of(b"x").to_string();
        let descriptor = json!({"mediaType": "application/octet-stream", "digest": digest, "size": 1});
        let body = if is_index {
            json!({
                "schemaVersion": 2,
                "mediaType": super::OCI_INDEX,
                "manifests": [descriptor, descriptor],
            })
        } else {
            json!({
                "schemaVersion": 2,
                "mediaType": super::OCI_MANIFEST,
                "config": descriptor,
                "layers": [descriptor, descriptor],
            })
        };
        let mut bytes = body.to_string().into_bytes();
        let at = at.index(bytes.len());
        if cuts { bytes.truncate(at) } else { bytes[at] = byte }
        let media_type = if is_index { super::OCI_INDEX } else { super::OCI_MANIFEST };
        match Manifest::new(Bytes::from(bytes), media_type).kind() {
            Ok(Content::Image { layers: named, .. } | Content::Index { children: named }) => {
                prop_assert!(named.len() <= 2);
            }
            Err(error) => prop_assert!(error.to_string().len() < 1000, "{error}"),
        }
    }

    #[test]
    fn a_warning_is_one_line_of_text(
        value in pieces(vec![
            "299 - ", "199 - ", "\"", "moved", "\\", "\\\"", "\"Mon, 01 Jan 2026\"",
        ]),
    ) {
        if let Some(text) = warning_text(&value) {
            let length = text.chars().count();
            prop_assert!((1..=301).contains(&length), "{text:?}");
            prop_assert!(!text.chars().any(char::is_control), "{text:?}");
        }
    }

    #[test]
    fn a_list_of_tags_of_any_shape_is_read_or_refused(body in document(), bytes in vec(any::<u8>(), 0..64)) {
        let mut collector = Collector::new(&Budget::default());
        if collector.read(body.to_string().as_bytes()).is_ok() {
            let tags = collector.finish().tags;
            prop_assert!(tags.len() <= body["tags"].as_array().map_or(0, Vec::len));
        }
        let _ = Collector::new(&Budget::default()).read(&bytes);
    }

    #[test]
    fn no_wait_is_longer_than_a_quarter_of_an_hour(
        value in prop_oneof![
            ".{0,40}",
            any::<f64>().prop_map(|number| number.to_string()),
            any::<i128>().prop_map(|number| number.to_string()),
            "[A-Z][a-z]{2}, [0-9]{1,3} [A-Z][a-z]{2} [0-9]{1,20} [0-9]{1,3}:[0-9]{1,3}:[0-9]{1,3} GMT",
        ],
        now in 0..=u64::from(u32::MAX),
    ) {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now);
        prop_assert!(retry_after(&value, now).is_none_or(|wait| wait <= Duration::from_secs(900)), "{value}");
    }

    #[test]
    fn pull_quotas_are_read_or_ignored(
        limit in pieces(vec![
            "100", "18446744073709551615", "-1", "0", ";", ",", "w=", "21600",
            "18446744073709551615",
        ]),
        left in "[0-9]{0,21}(;w=[0-9]{0,21})?",
        reset in "-?[0-9]{0,20}",
    ) {
        let pairs = [("ratelimit-limit", limit), ("ratelimit-remaining", left), ("ratelimit-reset", reset)];
        let headers: HeaderMap = pairs
            .into_iter()
            .filter_map(|(name, value)| Some((HeaderName::from_static(name), HeaderValue::from_str(&value).ok()?)))
            .collect();
        let quota = Quota::default();
        let left = quota.read(&headers);
        let turn = quota.pull("registry", true).now_or_never().expect("no other pull is waiting");
        prop_assert!(left.is_some() || matches!(turn, Turn::Go(_)), "{headers:?}");
        if let Turn::No(failure) = turn {
            prop_assert!(failure.retry_after().is_some_and(|wait| wait <= Duration::from_secs(3600)), "{failure}");
        }
    }

    #[test]
    fn a_reference_is_refused_briefly_or_survives_the_round_trip(
        text in prop_oneof![
            ".{0,300}",
            pieces(vec![
                "docker.io", "ghcr.io", "localhost", ":5000", "[::1]", "/", "a", "A", "b-c", "__",
                "..", ":", "1.27", "@", "sha256:", "oci://", "https://",
            ]),
        ],
    ) {
        match text.parse::<Reference>() {
            Ok(reference) => {
                let printed = reference.to_string();
                prop_assert_eq!(printed.parse::<Reference>().expect("its own text"), reference.clone());
                let host = super::super::grammar::api_host(&reference.host);
                let path = format!("https://{host}/v2/{}/manifests/x", reference.repository);
                let url: Url = path.parse().expect("a host and a path");
                prop_assert!(url.path().ends_with(&format!("/v2/{}/manifests/x", reference.repository)), "{url}");
            }
            Err(error) => prop_assert!(error.to_string().len() < 4000, "300 characters, escaped: {error}"),
        }
        if let Ok(tag) = text.parse::<Tag>() {
            prop_assert_eq!(tag.as_str(), text);
        }
    }
}
