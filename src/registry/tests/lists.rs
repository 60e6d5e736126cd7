//! Tag lists of any length.

use super::*;
use crate::class::Class;

#[tokio::test]
async fn tag_lists_are_read_to_their_end() {
    let peer = Peer::new(|seen| match seen.line.as_str() {
        "GET /v2/a/tags/list?n=1000" => respond(
            200,
            &[("link", "</v2/a/tags/list?last=2&n=2>; rel=\"next\"")],
            r#"{"tags":["1","2"]}"#,
        ),
        "GET /v2/a/tags/list?last=2&n=2" => {
            respond(200, &[("link", "<?last=3>;rel=next")], r#"{"name":"a","tags":["2","3"]}"#)
        }
        _ => respond(200, &[], r#"{"tags":null}"#),
    })
    .await;
    assert_eq!(names(&peer.client().tags("a").await.unwrap()), ["1", "2", "3"]);
    assert_eq!(peer.lines().len(), 3);
}

fn names(tags: &[Tag]) -> Vec<&str> {
    tags.iter().map(Tag::as_str).collect()
}

/// The patterns of a selector take time for each byte.
#[tokio::test]
async fn names_that_cannot_be_tags_are_left_out_before_anybody_reads_them() {
    let long = "a".repeat(15 * 1024 * 1024);
    let body = format!(r#"{{"tags": ["{long}", "1", "", "a/b", "{}", "ä"]}}"#, "b".repeat(128));
    let peer = Peer::new(move |_| respond(200, &[], body.clone())).await;
    let tags = peer.client().tags("a").await.unwrap();
    assert_eq!(names(&tags), ["1", &"b".repeat(128)]);
}

#[tokio::test]
async fn a_list_without_end_is_an_error() {
    let peer = Peer::new(|seen| {
        let (_, from) = seen.line.split_once("last=").unwrap_or_default();
        let from: usize = from.parse().unwrap_or_default();
        let tags: Vec<_> = (from..from + 50_000).map(|n| format!("\"{n}\"")).collect();
        let link = format!("</v2/a/tags/list?last={}>; rel=next", from + 50_000);
        respond(200, &[("link", &link)], format!(r#"{{"tags": [{}]}}"#, tags.join(",")))
    })
    .await;
    let error = peer.client().tags("a").await.unwrap_err();
    assert!(error.to_string().contains("more than 250000 tags"), "{error}");
    assert_eq!((error.class(), peer.lines().len()), (Class::SourceInvalid, 6));
}

#[tokio::test]
async fn half_a_tag_list_is_an_error() {
    let loops = Peer::new(|_| {
        respond(200, &[("link", "</v2/a/tags/list?x>; rel=next")], r#"{"tags":["1"]}"#)
    })
    .await;
    let error = loops.client().tags("a").await.unwrap_err();
    assert!(error.to_string().contains("links back"), "{error}");
    assert!(loops.lines().len() <= 3);

    let fails = Peer::new(|seen| match seen.line.as_str() {
        "GET /v2/a/tags/list?n=1000" => {
            respond(200, &[("link", "</v2/a/tags/list?p=2>; rel=next")], r#"{"tags":["1"]}"#)
        }
        _ => refusal(500, "X", "y"),
    })
    .await;
    assert_eq!(fails.client().tags("a").await.unwrap_err().class(), Class::RegistryUnavailable);

    let leaves = Peer::new(|_| {
        respond(200, &[("link", "<http://other/v2/>; rel=next")], r#"{"tags":["1"]}"#)
    })
    .await;
    assert!(leaves.client().tags("a").await.unwrap_err().to_string().contains("another host"));
    let junk = Peer::new(|_| respond(200, &[], "<html>")).await;
    assert_eq!(junk.client().tags("a").await.unwrap_err().class(), Class::SourceInvalid);
}

/// In pages of a thousand, ECR's maximum, and in one page from a server that does not page.
#[tokio::test]
async fn a_hundred_thousand_tags_are_read_each_once() {
    const ALL: usize = 100_000;
    let page = |tags: std::ops::Range<usize>| {
        let tags: Vec<_> = tags.map(|n| format!("\"v{n}\"")).collect();
        format!("{{\"name\":\"a\",\"tags\":[{}]}}", tags.join(","))
    };

    let paged = Peer::new(move |seen| {
        let (_, from) = seen.line.split_once("last=").unwrap_or_default();
        let from: usize = from.parse().unwrap_or_default();
        let link = format!("</v2/a/tags/list?n=1000&last={}>; rel=\"next\"", from + 1000);
        let headers = [("link", link.as_str())];
        respond(200, if from + 1000 < ALL { &headers } else { &[] }, page(from..from + 1000))
    })
    .await;
    let whole = Peer::new(move |_| respond(200, &[], page(0..ALL))).await;

    for (peer, pages) in [(paged, ALL / 1000), (whole, 1)] {
        let tags = peer.client().tags("a").await.unwrap();
        assert_eq!((tags.len(), peer.lines().len()), (ALL, pages));
        assert_eq!((tags[0].as_str(), tags[ALL - 1].as_str()), ("v0", "v99999"));
    }
}
