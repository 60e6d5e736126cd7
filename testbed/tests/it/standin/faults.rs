//! Faults and limits, at the stand-in and at the proxy.

use std::time::{Duration, Instant};

use testbed::Error;
use testbed::ecr::Config;
use testbed::proxy::Proxy;
use testbed::traffic::{Fault, Match, Plane, Then};

use super::{ACCOUNT, Bench, OCI_MANIFEST, REGION, digest, refusal};

/// A stand-in that serves blobs itself, with one image, and the path of its layer.
async fn bench_with_layer() -> Result<(Bench, String), Error> {
    let bench = Bench::with(Config { redirect_blobs: false, ..Config::default() }).await?;
    bench.create("app");
    bench.push_image("app", "1", "faults").await?;
    let path = format!("/v2/app/blobs/{}", digest(b"layer faults"));
    Ok((bench, path))
}

#[tokio::test]
async fn answers_are_replaced_truncated_corrupted_and_lost() -> Result<(), Error> {
    let (bench, path) = bench_with_layer().await?;
    let get = || bench.request("GET", &path).send();
    let faults = bench.ecr.faults();
    let blob = || Match::operation("GetBlob").repository("app");

    faults.add(Fault::new(blob(), Then::too_many_requests(Some(3))).once());
    let throttled = get().await?;
    assert_eq!(
        (throttled.status().as_u16(), &throttled.headers()["retry-after"]),
        (429, &"3".parse()?)
    );

    faults.add(Fault::new(blob(), Then::Corrupt(2)).after(1).once());
    assert_eq!(get().await?.text().await?, "layer faults");
    assert_ne!(&get().await?.bytes().await?[..], b"layer faults");

    faults.add(Fault::new(blob(), Then::Truncate(5)).once());
    let truncated = get().await?;
    assert_eq!(truncated.content_length(), Some(12));
    assert!(truncated.bytes().await.is_err());

    faults.add(Fault::new(blob(), Then::Reset).once());
    assert!(get().await.is_err());
    faults.add(Fault::new(blob(), Then::WithoutHeader("docker-content-digest".to_owned())).once());
    assert!(!get().await?.headers().contains_key("docker-content-digest"));
    faults.add(Fault::new(blob(), Then::aws_error(503, "UNAVAILABLE", "later")).once());
    assert_eq!(refusal(get().await?).await?.0, 503);

    faults.add(Fault::new(blob(), Then::Stall).once());
    let stalled = bench.request("GET", &path).timeout(Duration::from_millis(100)).send().await;
    assert!(stalled.is_err_and(|error| error.is_timeout()));
    faults.add(Fault::new(blob(), Then::StallAfter(3)).once());
    let stalled = bench.request("GET", &path).timeout(Duration::from_secs(1)).send().await?;
    assert!(stalled.bytes().await.is_err_and(|error| error.is_timeout()));
    faults.add(Fault::new(blob(), Then::Delay(Duration::from_millis(50))).once());
    faults.add(Fault::new(blob(), Then::Slow(240)).once());
    let started = Instant::now();
    assert_eq!(get().await?.text().await?, "layer faults");
    assert!(started.elapsed() >= Duration::from_millis(90), "{:?}", started.elapsed());

    // Done, but the client cannot know.
    faults.add(Fault::new(Match::operation("PutManifest"), Then::LoseAnswer).once());
    let view = bench.view("app");
    let body = &view.images[&view.tags["1"]].manifest;
    assert!(bench.put_manifest("app", "2", OCI_MANIFEST, body).await.is_err());
    assert!(bench.view("app").tags.contains_key("2"));
    let record = bench.ecr.log().pop().expect("a request was logged");
    assert!(record.is_write() && record.status.is_none());
    assert_eq!(record.received, body.len() as u64);
    Ok(())
}

#[tokio::test]
async fn a_cut_upload_leaves_nothing_and_can_start_again() -> Result<(), Error> {
    let (bench, _) = bench_with_layer().await?;
    let upload = Match::operation("PutBlob");
    bench.ecr.faults().add(Fault::new(upload, Then::ResetUpload(1 << 20)).once());
    let content = vec![7_u8; 4 << 20];
    let session = bench.start_upload("app").await?;
    let put = || {
        bench
            .request("PUT", &format!("{session}?digest={}", digest(&content)))
            .body(content.clone())
            .send()
    };
    assert!(put().await.is_err());
    assert!(!bench.view("app").blobs.contains_key(&digest(&content)));
    assert_eq!(put().await?.status(), 201);
    Ok(())
}

#[tokio::test]
async fn limits_are_per_action_and_shared_by_both_planes() -> Result<(), Error> {
    let (bench, _) = bench_with_layer().await?;
    let view = bench.view("app");
    let body = &view.images[&view.tags["1"]].manifest;
    bench.ecr.limits_like_ecr();
    bench.ecr.limits("PutImage", 0.001, 2);
    for status in [201, 201, 429] {
        assert_eq!(bench.put_manifest("app", "1", OCI_MANIFEST, body).await?.status(), status);
    }
    let (_, code, message) =
        refusal(bench.put_manifest("app", "1", OCI_MANIFEST, body).await?).await?;
    assert_eq!((code.as_str(), message.as_str()), ("TOOMANYREQUESTS", "Rate exceeded"));
    assert_eq!(bench.request("GET", "/v2/app/tags/list").send().await?.status(), 200);
    bench.ecr.deny("ecr:ListImages", "app");
    let (status, code, _) =
        refusal(bench.request("GET", "/v2/app/tags/list").send().await?).await?;
    assert_eq!((status, code.as_str()), (403, "DENIED"));
    Ok(())
}

#[tokio::test]
async fn latency_holds_every_request_up() -> Result<(), Error> {
    let (bench, path) = bench_with_layer().await?;
    bench.ecr.set_latency(Duration::from_millis(40));
    let started = Instant::now();
    bench.request("HEAD", &path).send().await?;
    assert!(started.elapsed() >= Duration::from_millis(40));
    Ok(())
}

#[tokio::test]
async fn the_proxy_passes_a_push_logs_it_and_breaks_it() -> Result<(), Error> {
    let (bench, path) = bench_with_layer().await?;
    let proxy = Proxy::start(&bench.registry).await?;
    let through =
        |method: &str, path: &str| bench.request(method, &format!("http://{}{path}", proxy.host()));
    let start = through("POST", "/v2/app/blobs/uploads/").send().await?;
    let session = start.headers()["location"].to_str()?.to_owned();
    assert!(session.starts_with(&format!("http://{}/", proxy.host())), "{session}");
    let content = vec![9_u8; 9 << 20];
    let put = bench
        .request("PUT", &format!("{session}?digest={}", digest(&content)))
        .body(content.clone())
        .send()
        .await?;
    assert_eq!(put.status(), 201);
    assert_eq!(
        bench.ecr.blob(ACCOUNT, REGION, "app", &digest(&content)).as_deref(),
        Some(&content[..])
    );
    let record = proxy.log().pop().expect("a request was logged");
    assert_eq!(
        (record.operation.as_str(), record.status, record.received),
        ("PutBlob", Some(201), 9 << 20)
    );
    assert!(record.plane == Plane::Data && record.is_write());

    let head = through("HEAD", &path).send().await?;
    assert_eq!(head.headers()["content-length"], "12");
    proxy.faults().add(Fault::new(Match::operation("GetBlob"), Then::Truncate(3)).once());
    assert!(through("GET", &path).send().await?.bytes().await.is_err());
    assert_eq!(through("GET", &path).send().await?.text().await?, "layer faults");
    let manifest = through("GET", "/v2/app/manifests/1").send().await?;
    assert_eq!(manifest.headers()["content-type"], OCI_MANIFEST);
    Ok(())
}
