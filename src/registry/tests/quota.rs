use super::*;
use crate::class::Class;

const MANIFEST: &str = r#"{"schemaVersion":2,"manifests":[]}"#;

fn tag() -> Tag {
    "1.27".parse().unwrap()
}

fn left(pulls: usize) -> Response {
    let left = format!("{pulls};w=21600");
    let headers = [
        ("ratelimit-limit", "100;w=21600"),
        ("ratelimit-remaining", left.as_str()),
        ("docker-ratelimit-source", "203.0.113.7"),
        ("content-type", OCI_INDEX),
        (
            "docker-content-digest",
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ),
    ];
    respond(200, &headers, "")
}

/// A registry with `pulls` left for one login. Like Docker Hub, it counts GETs of manifests, not
/// HEADs.
async fn counting(pulls: usize) -> Peer {
    let left_now = std::sync::atomic::AtomicUsize::new(pulls);
    Peer::new(move |seen| {
        if seen.line.starts_with("HEAD") {
            return left(left_now.load(std::sync::atomic::Ordering::Relaxed));
        }
        let before = left_now.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        let mut response = left(before - 1);
        response.headers_mut().remove("docker-content-digest");
        *response.body_mut() = MANIFEST.into();
        response
    })
    .await
}

fn with(peer: &Peer, quota: &Arc<Quota>) -> Client {
    peer.client_with(
        Arc::new(StaticAuthenticator::default()),
        Options { quota: Some(quota.clone()), ..quick() },
    )
}

#[tokio::test]
async fn pulls_end_at_the_reserve_and_heads_continue() {
    let peer = counting(13).await;
    let quota = Arc::new(Quota::new(Reserve::Percent(10)));
    for _ in 0..3 {
        with(&peer, &quota).manifest("a", tag()).await.unwrap();
    }

    // The next pass has another client, and the same login.
    let client = with(&peer, &quota);
    let error = client.manifest("a", tag()).await.unwrap_err();
    assert_eq!((error.class(), peer.count("GET")), (Class::RateLimited, 3), "{error}");
    let host = &peer.host;
    let text = format!(
        "cannot read manifest of {host}/a:1.27: {host}: 10 of 100 pulls per 6 h left for \
         203.0.113.7; the last 10 are reserved (--rate-reserve 10%). Next attempt at "
    );
    assert!(error.to_string().starts_with(&text), "{error}");
    assert!(
        error.retry_after().is_some_and(|wait| (2100..=2160).contains(&wait.as_secs())),
        "36 min: {error:?}"
    );
    assert_eq!(
        error.to_string(),
        client.manifest("a", tag()).await.unwrap_err().to_string(),
        "the same in every pass"
    );
    client.resolve("a", &tag()).await.unwrap();

    // Another login has a quota of its own.
    with(&peer, &Arc::default()).manifest("a", tag()).await.unwrap();
}

#[tokio::test]
async fn pulls_at_once_do_not_pass_the_reserve_together() {
    let peer = counting(15).await;
    let quota = Arc::new(Quota::default());
    let client = with(&peer, &quota);
    let all = futures::future::join_all((0..20).map(|_| client.manifest("a", tag()))).await;
    let good = all.iter().filter(|result| result.is_ok()).count();
    assert_eq!((good, peer.count("GET")), (5, 5));
}

#[tokio::test]
async fn rate_limit_headers_after_a_redirect_elsewhere_are_ignored() {
    let other = counting(2).await;
    let to = format!("http://{}/v2/a/manifests/1.27", other.host);
    let peer = Peer::new(move |_| respond(307, &[("location", &to)], "")).await;
    let client = peer.client();
    for _ in 0..2 {
        client.manifest("a", tag()).await.unwrap();
    }
}

#[tokio::test]
async fn used_up_pulls_stop_pulls_and_used_up_bytes_stop_blobs_too() {
    for (message, blobs, wait) in
        [("You have reached your pull rate limit.", 1, 900), ("Data limit exceeded", 0, 3600)]
    {
        let peer = Peer::new(move |seen| match seen.line.split('/').nth(3) {
            Some("manifests") if seen.line.starts_with("GET") => {
                refusal(429, "TOOMANYREQUESTS", message)
            }
            Some("manifests") => left(0),
            _ => respond(200, &[], content(10)),
        })
        .await;
        let client = peer.client();
        let error = client.manifest("a", tag()).await.unwrap_err();
        assert_eq!(
            (error.class(), peer.count("GET")),
            (Class::RateLimited, 1),
            "asked once: {error}"
        );
        assert_eq!(error.retry_after(), Some(Duration::from_secs(wait)));
        let again = client.manifest("b", tag()).await.unwrap_err();
        assert_eq!((again.class(), peer.count("GET")), (Class::RateLimited, 1), "{again}");
        assert!(
            again.to_string().contains(message) && again.to_string().contains("used up"),
            "{again}"
        );
        client.resolve("a", &tag()).await.unwrap();
        let blob = descriptor(&content(10));
        let read = client.blob("a", &blob).await;
        assert_eq!((read.is_ok(), peer.count("GET /v2/a/blobs")), (blobs == 1, blobs), "{message}");
    }
}

#[tokio::test]
async fn wait_of_one_login_does_not_pause_the_host() {
    let peer = Peer::new(|seen| match (seen.authorization(), seen.line.starts_with("GET")) {
        (BASIC, true) => {
            let body = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit"}]}"#;
            respond(429, &[("retry-after", "7200")], body)
        }
        (_, true) => respond(200, &[("content-type", OCI_INDEX)], MANIFEST),
        _ => left(0),
    })
    .await;
    let limits = Arc::new(Limits::default());
    let options = || Options { limits: Some(limits.clone()), preemptive_basic: true, ..quick() };
    let one = peer.client_with(Arc::new(StaticAuthenticator(user())), options());
    let other = peer.client_with(Arc::new(StaticAuthenticator::default()), options());

    let error = one.manifest("a", tag()).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(900)));
    other.manifest("a", tag()).await.unwrap();
    one.resolve("a", &tag()).await.unwrap();
}
