//! The data plane's quirks, by plain requests.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testbed::Error;
use testbed::ecr::{Config, StandIn};
use testbed::traffic::Plane;

use super::{ACCOUNT, Bench, OCI_INDEX, OCI_MANIFEST, REGION, digest, refusal};

#[tokio::test]
async fn tokens_are_basic_bound_to_a_region_and_end() -> Result<(), Error> {
    let bench = Bench::new().await?;
    bench.create("app");
    let bare = testbed::http::client().get(format!("http://{}/v2/", bench.registry)).send().await?;
    assert_eq!(bare.status(), 401);
    let challenge =
        format!("Basic realm=\"http://{}/\",service=\"ecr.amazonaws.com\"", bench.registry);
    assert_eq!(bare.headers()["www-authenticate"], challenge);
    assert_eq!(bare.text().await?.trim(), "Not Authorized");
    assert_eq!(bench.request("GET", "/v2/").send().await?.status(), 200);

    let send = |token: String| {
        let request =
            testbed::http::client().get(format!("http://{}/v2/app/tags/list", bench.registry));
        request.header("authorization", format!("Basic {token}")).send()
    };
    let (status, code, _) =
        refusal(send(bench.ecr.authorization_token(ACCOUNT, "us-east-1")).await?).await?;
    assert_eq!((status, code.as_str()), (403, "DENIED"));
    let stranger = bench.ecr.authorization_token("999999999999", REGION);
    let (status, _, message) = refusal(send(stranger).await?).await?;
    assert!(status == 403 && message.contains("ecr:ListImages"), "{message}");

    bench.ecr.expire_tokens();
    let (status, _, message) =
        refusal(bench.request("GET", "/v2/app/tags/list").send().await?).await?;
    let words = "Your authorization token has expired. Reauthenticate and try again.";
    assert_eq!((status, message.as_str()), (403, words));
    bench.ecr.token_life(Duration::ZERO);
    assert_eq!(send(bench.ecr.authorization_token(ACCOUNT, REGION)).await?.status(), 403);
    Ok(())
}

#[tokio::test]
async fn without_keeping_blobs_they_are_checked_and_counted_and_cannot_be_read() -> Result<(), Error>
{
    let bench =
        Bench::with(Config { keep_blobs: false, redirect_blobs: false, ..Config::default() })
            .await?;
    bench.create("app");
    bench.push_image("app", "1", "gone").await?;
    let layer = digest(b"layer gone");
    assert_eq!(bench.view("app").blobs[&layer], "layer gone".len() as u64);
    assert_eq!(bench.request("GET", &format!("/v2/app/blobs/{layer}")).send().await?.status(), 500);
    Ok(())
}

#[tokio::test]
async fn connections_are_counted_where_they_are_opened() -> Result<(), Error> {
    let bench = Bench::new().await?;
    let client = testbed::http::client();
    let ping = || client.get(format!("http://{}/v2/", bench.registry)).send();
    for _ in 0..3 {
        ping().await?.bytes().await?;
    }
    assert_eq!(bench.ecr.traffic().connections(), 1, "kept alive");
    let (first, second) = tokio::join!(ping(), ping());
    first?.bytes().await?;
    second?.bytes().await?;
    assert_eq!(bench.ecr.traffic().connections(), 2, "two at once");
    assert_eq!(bench.ecr.traffic().open_connections(), 2);

    drop(client);
    let deadline = Instant::now() + Duration::from_secs(10);
    while bench.ecr.traffic().open_connections() > 0 {
        assert!(Instant::now() < deadline, "the client has closed them");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

#[tokio::test]
async fn a_layer_is_read_through_a_url_that_takes_no_credential() -> Result<(), Error> {
    let bench = Bench::new().await?;
    bench.create("app");
    bench.push_image("app", "1", "redirect").await?;
    let layer = digest(b"layer redirect");
    let path = format!("/v2/app/blobs/{layer}");
    assert_eq!(bench.request("HEAD", &path).send().await?.status(), 200);
    let redirect = bench.request("GET", &path).send().await?;
    assert_eq!(redirect.status(), 307);
    let url = redirect.headers()["location"].to_str()?.to_owned();
    let refused = bench.request("GET", &url).send().await?;
    assert_eq!(refused.status(), 400);
    assert!(refused.text().await?.contains("Only one auth mechanism allowed"));
    let granted = testbed::http::client().get(&url).header("range", "bytes=6-").send().await?;
    assert_eq!((granted.status().as_u16(), granted.text().await?.as_str()), (206, "redirect"));
    assert_eq!(bench.ecr.count(|record| record.plane == Plane::Storage), 2);

    // Not associated with an image: there for HEAD, not for GET.
    let loose = format!("/v2/app/blobs/{}", bench.push_blob("app", b"loose").await?);
    assert_eq!(bench.request("HEAD", &loose).send().await?.status(), 200);
    assert_eq!(refusal(bench.request("GET", &loose).send().await?).await?.1, "BLOB_UNKNOWN");

    let direct = Bench::with(Config { redirect_blobs: false, ..Config::default() }).await?;
    direct.create("app");
    direct.push_image("app", "1", "redirect").await?;
    assert_eq!(direct.request("GET", &path).send().await?.text().await?, "layer redirect");
    Ok(())
}

#[tokio::test]
async fn uploads_have_the_quirks_that_break_clients() -> Result<(), Error> {
    let bench = Bench::new().await?;
    bench.create("app");
    let (part, tail) = (vec![1_u8; 5 << 20], b"tail".to_vec());
    let session = bench.start_upload("app").await?;
    let patch = |range: String, body: Vec<u8>| {
        bench.request("PATCH", &session).header("content-range", range).body(body)
    };
    let end = part.len() - 1;
    let first = patch(format!("0-{end}"), part.clone()).send().await?;
    assert_eq!(first.status(), 201, "not 202");
    assert_eq!(first.headers()["range"], format!("0-{end}"));
    let second = patch(format!("{}-{}", end + 1, 2 * end + 1), part.clone()).send().await?;
    assert_eq!(second.headers()["range"], format!("0-{end}"), "the range is stale");
    let trusting = patch(format!("{}-{}", end + 1, end + 4), tail.clone()).send().await?;
    assert_eq!(trusting.status(), 416);
    let whole = [part.clone(), part, tail.clone()].concat();
    let put = bench
        .request("PUT", &format!("{session}?digest={}", digest(&whole)))
        .body(tail)
        .send()
        .await?;
    assert_eq!(put.status(), 201);
    assert_eq!(
        bench.ecr.blob(ACCOUNT, REGION, "app", &digest(&whole)).as_deref(),
        Some(&whole[..])
    );

    let session = bench.start_upload("app").await?;
    for chunk in ["short", "chunks"] {
        assert_eq!(bench.request("PATCH", &session).body(chunk).send().await?.status(), 201);
    }
    let put = bench
        .request("PUT", &format!("{session}?digest={}", digest(b"shortchunks")))
        .send()
        .await?;
    assert_eq!(refusal(put).await?.1, "BLOB_UPLOAD_INVALID");

    let session = bench.start_upload("app").await?;
    let put = bench
        .request("PUT", &format!("{session}?digest={}", digest(b"right")))
        .body("wrong")
        .send()
        .await?;
    let (status, code, message) = refusal(put).await?;
    assert_eq!((status, code.as_str()), (400, "BLOB_UPLOAD_INVALID"));
    assert_eq!(message, "None of the provided layer digests match the calculated layer digest");

    let session = bench.start_upload("app").await?;
    bench.ecr.drop_uploads(ACCOUNT, REGION, "app");
    let put = bench
        .request("PUT", &format!("{session}?digest={}", digest(b"late")))
        .body("late")
        .send()
        .await?;
    assert_eq!(
        (put.status().as_u16(), refusal(put).await?.1.as_str()),
        (404, "BLOB_UPLOAD_UNKNOWN")
    );

    bench.push_blob("app", b"").await?;
    let cut = bench.request("POST", "/v2/none/blobs/uploads/").send().await;
    assert!(cut.is_err(), "a push into nowhere is hung up on");
    let (status, code, message) =
        refusal(bench.request("GET", "/v2/none/tags/list").send().await?).await?;
    assert_eq!((status, code.as_str()), (404, "NAME_UNKNOWN"));
    assert_eq!(
        message,
        "The repository with name 'none' does not exist in the registry with id '123456789012'"
    );
    Ok(())
}

#[tokio::test]
async fn a_large_layer_streams_in_and_out() -> Result<(), Error> {
    const CHUNKS: u64 = 64;
    let bench = Bench::with(Config { redirect_blobs: false, ..Config::default() }).await?;
    bench.create("app");
    let chunk = bytes::Bytes::from(vec![5_u8; 1 << 20]);
    let expected = digest(&chunk.repeat(CHUNKS as usize));
    let session = bench.start_upload("app").await?;
    let chunks =
        futures::stream::iter((0..CHUNKS).map(move |_| Ok::<_, std::io::Error>(chunk.clone())));
    // Without a length: Transfer-Encoding: chunked.
    let body = reqwest::Body::wrap_stream(chunks);
    let put =
        bench.request("PUT", &format!("{session}?digest={expected}")).body(body).send().await?;
    assert_eq!(put.status(), 201);
    assert_eq!(bench.view("app").blobs[&expected], CHUNKS << 20);
    assert_eq!(bench.ecr.log().pop().map(|record| record.received), Some(CHUNKS << 20));

    let config = bench.push_blob("app", b"{}").await?;
    let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config,
            "size": 2},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": expected,
            "size": CHUNKS << 20}]});
    bench.put_manifest("app", "large", OCI_MANIFEST, manifest.to_string().as_bytes()).await?;
    let got = bench.request("GET", &format!("/v2/app/blobs/{expected}")).send().await?;
    assert_eq!(got.content_length(), Some(CHUNKS << 20));
    assert_eq!(digest(&got.bytes().await?), expected);
    Ok(())
}

#[tokio::test]
async fn a_mount_needs_the_setting_and_a_manifest_at_the_source() -> Result<(), Error> {
    let bench = Bench::new().await?;
    bench.create("from");
    bench.create("to");
    bench.push_image("from", "1", "mount").await?;
    let loose = bench.push_blob("from", b"loose").await?;
    let mount = |digest: &str| {
        let path = format!("/v2/to/blobs/uploads/?mount={digest}&from=from");
        bench.request("POST", &path).send()
    };
    let layer = digest(b"layer mount");
    assert_eq!(mount(&layer).await?.status(), 202, "off by default");
    bench.ecr.set_blob_mounting(ACCOUNT, REGION, true);
    assert_eq!(mount(&layer).await?.status(), 201);
    assert_eq!(mount(&loose).await?.status(), 202);
    assert!(bench.view("to").blobs.contains_key(&layer));
    assert_eq!(bench.view("to").open_uploads, 2);
    Ok(())
}

#[tokio::test]
async fn manifests_are_checked_as_ecr_checks_them() -> Result<(), Error> {
    let bench = Bench::new().await?;
    bench.create("app");
    bench.create("other");
    let (body, image) = bench.push_image("app", "1", "checks").await?;
    let again = bench.put_manifest("app", &image, OCI_MANIFEST, &body).await?;
    assert_eq!(again.status(), 201);
    assert_eq!(again.headers()["docker-content-digest"], image);
    assert!(!again.headers().contains_key("location"));

    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [
        {"mediaType": OCI_MANIFEST, "digest": image, "size": body.len()}]});
    let index = index.to_string().into_bytes();
    let refused = bench.put_manifest("other", "1", OCI_INDEX, &index).await?;
    let (status, code, message) = refusal(refused).await?;
    assert_eq!((status, code.as_str()), (404, "MANIFEST_BLOB_UNKNOWN"));
    assert!(
        message.starts_with(&format!("Images with digests '[{image}]' required for pushing image")),
        "{message}"
    );
    let refused = refusal(bench.put_manifest("other", "1", OCI_MANIFEST, &body).await?).await?;
    assert_eq!((refused.0, refused.1.as_str()), (404, "BLOB_UNKNOWN"));
    let wrong =
        refusal(bench.put_manifest("app", &digest(b"x"), OCI_MANIFEST, &body).await?).await?;
    assert_eq!((wrong.0, wrong.1.as_str()), (400, "MANIFEST_INVALID"));
    let typeless = bench.request("PUT", "/v2/app/manifests/2").body(body.clone()).send().await?;
    assert_eq!(refusal(typeless).await?.0, 405);

    // By digest leaves it untagged; a child outlives its index.
    let parent = digest(&index);
    assert_eq!(bench.put_manifest("app", &parent, OCI_INDEX, &index).await?.status(), 201);
    assert!(bench.view("app").images[&parent].tags.is_empty());
    let (status, _, message) =
        refusal(bench.request("DELETE", &format!("/v2/app/manifests/{image}")).send().await?)
            .await?;
    assert!(status == 405 && message.contains("referenced by manifest list"), "{message}");
    for digest in [&parent, &image] {
        assert_eq!(
            bench.request("DELETE", &format!("/v2/app/manifests/{digest}")).send().await?.status(),
            202
        );
    }

    let without = |change: fn(&mut Value)| -> Result<Vec<u8>, Error> {
        let mut manifest: Value = serde_json::from_slice(&body)?;
        change(&mut manifest);
        Ok(manifest.to_string().into_bytes())
    };
    type Change = fn(&mut Value);
    let cases: [(Change, u16); 4] = [
        (|manifest| manifest["layers"] = json!([]), 405),
        (|manifest| manifest["layers"][0]["mediaType"] = json!("text/plain;charset=utf-8"), 405),
        // Helm's manifests have no media type inside.
        (
            |manifest| drop(manifest.as_object_mut().and_then(|object| object.remove("mediaType"))),
            201,
        ),
        (
            |manifest| {
                manifest["layers"][0] = json!({"digest": "sha256:00", "size": 1,
                    "urls": ["https://example.com"],
                    "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"});
            },
            201,
        ),
    ];
    for (number, (change, status)) in cases.into_iter().enumerate() {
        let put = bench.put_manifest("app", "case", OCI_MANIFEST, &without(change)?).await?;
        assert_eq!(put.status(), status, "case {number}");
    }
    Ok(())
}

#[tokio::test]
async fn immutable_tags_refuse_even_an_equal_digest() -> Result<(), Error> {
    let bench = Bench::new().await?;
    bench.create("app");
    let (body, _) = bench.push_image("app", "1.0", "immutable").await?;
    bench.ecr.set_mutability(ACCOUNT, REGION, "app", "IMMUTABLE_WITH_EXCLUSION", &["latest*"]);
    let (status, code, message) =
        refusal(bench.put_manifest("app", "1.0", OCI_MANIFEST, &body).await?).await?;
    assert_eq!((status, code.as_str()), (400, "TAG_INVALID"));
    let words = "The image tag '1.0' already exists in the 'app' repository and cannot be \
                 overwritten because the tag is immutable.";
    assert_eq!(message, words);
    for _ in 0..2 {
        assert_eq!(bench.put_manifest("app", "latest-1", OCI_MANIFEST, &body).await?.status(), 201);
    }
    Ok(())
}

#[tokio::test]
async fn reads_convert_by_tag_move_the_pull_time_and_miss_the_archive() -> Result<(), Error> {
    let bench = Bench::new().await?;
    bench.create("app");
    let (body, image) = bench.push_image("app", "1", "reads").await?;
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    let read = |method: &str, reference: &str, accept: &str| {
        bench
            .request(method, &format!("/v2/app/manifests/{reference}"))
            .header("accept", accept.to_owned())
            .send()
    };
    assert!(bench.view("app").images[&image].last_recorded_pull_time.is_none());
    let converted = read("GET", "1", docker).await?;
    assert_eq!(converted.headers()["content-type"], docker);
    assert_ne!(converted.headers()["docker-content-digest"], image);
    assert_eq!(read("GET", "1", OCI_INDEX).await?.status(), 404);
    let as_is = read("GET", &image, docker).await?;
    assert_eq!(as_is.headers()["content-type"], OCI_MANIFEST);
    assert_eq!(as_is.bytes().await?, body);
    assert!(bench.view("app").images[&image].last_recorded_pull_time.is_some());
    let head = read("HEAD", "1", OCI_MANIFEST).await?;
    assert_eq!(head.headers()["docker-content-digest"], image);
    assert_eq!(head.headers()["content-length"], body.len().to_string());
    let plus = read("HEAD", "1+2", OCI_MANIFEST).await?;
    assert_eq!((plus.status().as_u16(), plus.headers().get("content-type")), (400, None));

    bench.ecr.archive(ACCOUNT, REGION, "app", "1");
    assert_eq!(read("HEAD", &image, OCI_MANIFEST).await?.status(), 404);
    bench.put_manifest("app", &image, OCI_MANIFEST, &body).await?;
    assert_eq!(read("HEAD", "1", OCI_MANIFEST).await?.status(), 200, "pushing again restores");
    Ok(())
}

#[tokio::test]
async fn tags_come_in_pages_of_100_and_at_most_1000() -> Result<(), Error> {
    let bench = Bench::new().await?;
    bench.create("app");
    let (body, _) = bench.push_image("app", "t0", "tags").await?;
    for n in 1..120 {
        bench.put_manifest("app", &format!("t{n}"), OCI_MANIFEST, &body).await?;
    }
    let (mut path, mut tags, mut pages) = (Some("/v2/app/tags/list".to_owned()), Vec::new(), 0);
    while let Some(next) = path.take() {
        let answer = bench.request("GET", &next).send().await?;
        let link =
            answer.headers().get("link").and_then(|link| link.to_str().ok()).map(str::to_owned);
        path = link.and_then(|link| Some(link.strip_prefix('<')?.split_once('>')?.0.to_owned()));
        let page: Value = serde_json::from_str(&answer.text().await?)?;
        tags.extend(page["tags"].as_array().cloned().unwrap_or_default());
        pages += 1;
    }
    tags.sort_by_key(Value::to_string);
    tags.dedup();
    assert_eq!((pages, tags.len()), (2, 120));
    assert_eq!(bench.request("GET", "/v2/app/tags/list?n=1000").send().await?.status(), 200);
    let (status, code, message) =
        refusal(bench.request("GET", "/v2/app/tags/list?n=1001").send().await?).await?;
    assert_eq!((status, code.as_str()), (405, "UNSUPPORTED"));
    assert!(message.contains("Member must have value less than or equal to 1000"), "{message}");
    Ok(())
}

#[tokio::test]
async fn registries_are_apart_by_account_and_region() -> Result<(), Error> {
    let bench = Bench::new().await?;
    bench.create("app");
    let other = bench.ecr.registry("999999999999", REGION).await;
    assert_ne!(other, bench.registry);
    assert_eq!(other, bench.ecr.registry("999999999999", REGION).await, "the same listener again");
    assert!(bench.ecr.repository("999999999999", REGION, "app").is_none());
    assert!(bench.ecr.repository(ACCOUNT, "us-east-1", "app").is_none());
    assert_eq!(StandIn::access_key(ACCOUNT).len(), 20);
    Ok(())
}
