//! Targets of the fuzzer: names that users write, and answers of registries.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::FutureExt as _;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, RANGE};
use reqwest::{StatusCode, Url};
use tokio::time::Instant;

use super::address_kind::{AddressKind, literal};
use super::answer::{Answer, Side};
use super::challenge::{self, Challenge};
use super::grammar::api_host;
use super::manifest::{DOCKER_MANIFEST, OCI_INDEX};
use super::quota::{Quota, Turn};
use super::realms::Realms;
use super::retry::{MAX_ASKED_WAIT, retry_after};
use super::tag_list::Collector;
use super::{
    AllowedAddress, AllowedRealm, Content, DOCKER_LIST, Digest, Egress, Manifest, Narrowed,
    OCI_MANIFEST, Platforms, Reference, Tag, docker_config, is_link_local, parts, tags, token,
    upload, warnings,
};
use crate::fuzzing::{Target, assert_brief, lines};
use crate::memory_budget::Budget;

pub(crate) const TARGETS: [Target; 9] = [
    ("address", address),
    ("challenge", challenge),
    ("docker_config", config),
    ("header", header),
    ("index", index),
    ("manifest", manifest),
    ("reference", reference),
    ("tag_list", tag_list),
    ("token", token_document),
];

/// Longest token lifetime that is believed: a day.
const LONGEST_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

fn reference(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match text.parse::<Reference>() {
        Ok(reference) => {
            assert_eq!(reference.to_string().parse(), Ok(reference.clone()));
            assert_eq!(reference.host, reference.host.to_ascii_lowercase());
            let host = api_host(&reference.host);
            let path = format!("/v2/{}/manifests/x", reference.repository);
            // Hosts such as 1.2.3.4.5 are names to us and no URL.
            if let Ok(url) = format!("https://{host}{path}").parse::<Url>() {
                assert_eq!(url.path(), path);
                assert!(url.username().is_empty() && url.password().is_none());
                assert!(url.query().is_none() && url.fragment().is_none());
            }
        }
        Err(error) => assert_brief(&error),
    }
    match text.parse::<Tag>() {
        Ok(tag) => assert!(tag.as_str() == text && (1..=128).contains(&text.len())),
        Err(error) => assert_brief(&error),
    }
    match text.parse::<Digest>() {
        Ok(digest) => assert_eq!(digest.to_string().parse(), Ok(digest)),
        Err(error) => assert_brief(&error),
    }
}

/// Each line is a header. None of them hides a good one.
fn challenge(data: &[u8]) {
    const GOOD: &str = "Bearer realm=\"https://auth.example/token\"";
    let mut headers: Vec<_> = data
        .split(|byte| *byte == b'\n')
        .filter_map(|line| HeaderValue::from_bytes(line).ok())
        .collect();
    headers.push(HeaderValue::from_static(GOOD));

    let challenges = challenge::parse(&headers);
    assert!(challenges.len() <= data.len() + 1);
    let Some(Challenge::Bearer(last)) = challenges.last() else { panic!("{challenges:?}") };
    assert_eq!(last.realm, "https://auth.example/token");
    for challenge in &challenges[..challenges.len() - 1] {
        if let Challenge::Bearer(bearer) = challenge {
            // An invalid byte becomes three.
            assert!(bearer.realm.len() <= 3 * data.len());
        }
    }
}

fn config(data: &[u8]) {
    for text in ["docker.io/library/nginx", "ghcr.io/a/b:c", "localhost:5000/x"] {
        let Ok(reference) = text.parse() else { panic!("{text}") };
        match docker_config::credential(data, &reference) {
            Ok(Some(credential)) => {
                assert!(!credential.is_anonymous());
                let shown = format!("{credential:?}");
                assert!(["Basic(…)", "IdentityToken(…)"].contains(&shown.as_str()));
            }
            Ok(None) => {}
            Err(error) => assert_brief(&error),
        }
    }
}

/// The first byte chooses the type in the header.
fn manifest(data: &[u8]) {
    const TYPES: [&str; 6] =
        [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST, "text/plain", ""];
    let Some((first, body)) = data.split_first() else { return };
    let media_type = TYPES[usize::from(*first) % TYPES.len()];
    match Manifest::new(Bytes::copy_from_slice(body), media_type).kind() {
        // A digest alone has 71 characters.
        Ok(Content::Index { children }) => assert!(children.len() * 71 <= body.len()),
        Ok(Content::Image { layers, .. }) => assert!((layers.len() + 1) * 71 <= body.len()),
        Err(error) => assert_brief(&error),
    }
}

/// A narrowed index has children of the whole one only, and narrowing it again changes nothing.
fn index(data: &[u8]) {
    let wanted = ["linux/amd64", "linux/arm/v7"].map(str::parse);
    let Some(platforms) = Platforms::new(wanted.into_iter().filter_map(Result::ok)) else {
        panic!("two platforms")
    };
    let whole = Manifest::new(Bytes::copy_from_slice(data), OCI_INDEX);
    let narrowed = match platforms.narrow(&whole) {
        Ok(Narrowed::Rebuilt(narrowed)) => narrowed,
        Ok(Narrowed::Same | Narrowed::Nothing(_)) => return,
        Err(error) => return assert_brief(&error),
    };

    assert_eq!(narrowed.digest, Digest::sha256_of(&narrowed.bytes));
    let (Ok(Content::Index { children: all }), Ok(Content::Index { children: some })) =
        (whole.kind(), narrowed.kind())
    else {
        panic!("an index stays one")
    };
    assert!(some.len() < all.len());
    let mut rest = all.iter();
    assert!(some.iter().all(|child| rest.any(|other| other == child)));
    match platforms.narrow(&narrowed) {
        Ok(Narrowed::Same) => {}
        Ok(Narrowed::Nothing(_)) if some.is_empty() => {}
        other => panic!("{other:?}"),
    }
}

/// The first line is a `Link` header, the rest a page of a tag list.
fn tag_list(data: &[u8]) {
    let Ok(asked) = "https://r.example:444/v2/a/tags/list?n=1000".parse::<Url>() else {
        panic!("a URL")
    };
    let (link, body) = match data.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (data, data),
    };

    if let Some(link) = std::str::from_utf8(link).ok().and_then(tags::next_link)
        && let Ok(next) = tags::resolve(&asked, link)
    {
        assert_eq!(next.origin(), asked.origin());
        assert!(next.username().is_empty() && next.password().is_none());
    }
    let mut collector = Collector::new(&Budget::default());
    match collector.read(body) {
        // Quotes and a comma for each name.
        Ok(()) => assert!(collector.finish().tags.len() * 2 <= body.len()),
        Err(error) => assert_brief(&error),
    }
}

fn token_document(data: &[u8]) {
    let now = Instant::now();
    match token::token(data, now, false) {
        Ok(token) => {
            assert!(!token.value.is_empty());
            assert!(!format!("{token:?}").contains("value"));
            assert!(token.renew_at >= now && token.renew_at <= now + LONGEST_LIFETIME);
        }
        Err(error) => assert_brief(&error),
    }
}

/// Each line is another header: `Retry-After`, the two of a pull quota, `Warning`, `Range`,
/// `Location`. The rest is the body of an error.
fn header(data: &[u8]) {
    let mut fields = data.splitn(7, |byte| *byte == b'\n');
    let mut line = || fields.next().unwrap_or_default();
    let text = |line: &[u8]| String::from_utf8_lossy(line).into_owned();

    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let wait = retry_after(&text(line()), now);
    assert!(wait.is_none_or(|wait| wait <= MAX_ASKED_WAIT));

    let names = ["ratelimit-limit", "ratelimit-remaining"].map(HeaderName::from_static);
    let quota = Quota::default();
    let values = names.map(|name| Some((name, HeaderValue::from_bytes(line()).ok()?)));
    let left = quota.read(&HeaderMap::from_iter(values.into_iter().flatten()));
    let turn = quota.pull("registry", true).now_or_never();
    match turn {
        Some(Turn::Go(_)) => {}
        Some(Turn::No(failure)) if left.is_some() => {
            let wait = failure.retry_after();
            assert!(wait.is_some_and(|wait| wait <= Duration::from_secs(3600)), "{failure}");
        }
        other => panic!("{other:?}"),
    }

    if let Some(text) = warnings::text(&text(line())) {
        assert!((1..=301).contains(&text.chars().count()));
        assert!(!text.chars().any(char::is_control));
    }
    if let Ok(range) = HeaderValue::from_bytes(line()) {
        let _ = parts::range_end(&HeaderMap::from_iter([(RANGE, range)]));
    }
    if let Ok(asked) = "https://r.example/v2/a/blobs/uploads/".parse::<Url>()
        && let Ok(session) = upload::session_at(&asked, &asked, Some(&text(line())))
    {
        assert!(session.scheme() == "https" && session.has_host() && !is_link_local(&session));
    }

    let body = line();
    for status in [401, 403, 404, 429, 503] {
        let Ok(status) = StatusCode::from_u16(status) else { panic!("a status") };
        let answer = Answer::new(status, wait, true, body);
        assert_brief(&answer);
        assert!(!answer.to_string().contains(char::is_control));
        let _ = (answer.class(Side::Source), answer.class(Side::Target), answer.is_retryable());
        assert!(answer.asked_wait().is_none_or(|wait| wait <= Duration::from_secs(3600)));
    }
}

/// An address is judged the same in each spelling, and a number in a URL is judged at all.
fn address(data: &[u8]) {
    if let Some(octets) = data.first_chunk::<4>() {
        let v4 = Ipv4Addr::from(*octets);
        let [a, b, c, d] = octets.map(u16::from);
        let (high, low) = (a << 8 | b, c << 8 | d);
        let kind = AddressKind::of(IpAddr::V4(v4));
        for spelling in [
            v4.to_ipv6_mapped(),
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
            Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
            Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, !high, !low),
        ] {
            assert_eq!(AddressKind::of(IpAddr::V6(spelling)), kind, "{spelling}");
        }
        assert!(
            AddressKind::of(IpAddr::V6(Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, high, low))) >= kind
        );
    }

    let mut lines = lines(data);
    let (first, second) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let egress = Egress::default();
    if let Ok(url) = first.parse::<Url>() {
        let is_number = url
            .host_str()
            .is_some_and(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok());
        assert!(!is_number || literal(&url).is_some());
        match literal(&url) {
            Some(address) if AddressKind::of(address) != AddressKind::Public => {
                let Err(refused) = egress.check_literal(&url) else { panic!("{url} is allowed") };
                assert!(!refused.to_string().is_empty());
            }
            _ => assert!(egress.check_literal(&url).is_ok()),
        }
    }

    let _ = (first.parse::<AllowedAddress>(), first.parse::<AllowedRealm>());
    if Realms::default().allow(first, second) && first != second {
        // A name below the registry's own, or a known pair of names.
        assert!(second.contains('.') && second.parse::<IpAddr>().is_err());
    }
}
