//! The operator in a memory cgroup of 256 MiB, the limit of the chart, with hostile sources.

use std::io::Write as _;
use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::http::{Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::cgroup::Cgroup;
use crate::support::{Operator, Rig, condition, eventually};

const MIB: usize = 1024 * 1024;
const LIMIT: usize = 256 * MIB;
/// Resources of each kind of hostile source.
const OF_A_KIND: usize = 3;
/// Healthy resources beside them.
const HEALTHY: usize = 5;

/// A page of a list of tags that never ends, with tags of full length.
async fn tags(uri: Uri) -> Response {
    let last = uri.query().and_then(|query| query.split_once("last="));
    let page: usize = last.and_then(|(_, last)| last.parse().ok()).unwrap_or(0);
    let tags: Vec<_> = (0..1000).map(|tag| format!("{page:0>100}-{tag:0>27}")).collect();
    let next = format!("<?n=1000&last={}>; rel=\"next\"", page + 1);
    ([(header::LINK, next)], json!({"name": "endless", "tags": tags}).to_string()).into_response()
}

/// A manifest of nearly 4 MiB with 39,500 layers.
fn layers() -> String {
    let layer = |n: usize| format!(r#"{{"digest":"sha256:{n:0>64}","size":1}}"#);
    let layers: Vec<_> = (1..=39_500).map(layer).collect();
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let config = layer(0);
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{config},"layers":[{}]}}"#,
        layers.join(",")
    )
}

/// An index with 99 MiB of nodes, as gzip.
fn nodes() -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(b"apiVersion: v1\nentries: {a: [{x: [").expect("in memory");
    let nodes = b"a,".repeat(MIB / 2);
    (0..99).for_each(|_| gzip.write_all(&nodes).expect("in memory"));
    gzip.write_all(b"a]}]}\n").expect("in memory");
    gzip.finish().expect("in memory")
}

/// An index with 400,000 versions of one chart, as gzip.
fn versions() -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(b"apiVersion: v1\nentries:\n  a:\n").expect("in memory");
    for n in 0..400_000 {
        let entry = format!("  - {{name: a, version: 1.0.{n}, urls: [a-{n}.tgz]}}\n");
        gzip.write_all(entry.as_bytes()).expect("in memory");
    }
    gzip.finish().expect("in memory")
}

/// A server with all hostile sources.
async fn hostile() -> String {
    let (layers, nodes, versions) = (layers(), nodes(), versions());
    assert!(nodes.len() < 200_000, "{}", nodes.len());
    let manifest = move |Path((_, _)): Path<(String, String)>| {
        let body = layers.clone();
        async move { ([(header::CONTENT_TYPE, "application/vnd.oci.image.manifest.v1+json")], body) }
    };
    let file = |body: Vec<u8>| {
        get(move |Path(_): Path<String>| {
            let body = body.clone();
            async move { ([(header::CONTENT_ENCODING, "gzip")], body) }
        })
    };
    let routes = Router::new()
        .route("/v2/{name}/tags/list", get(tags))
        .route("/v2/{name}/manifests/{tag}", get(manifest))
        .route("/nodes/{name}/index.yaml", file(nodes))
        .route("/versions/{name}/index.yaml", file(versions));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let host = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move { axum::serve(listener, routes).await });
    host
}

/// The hostile resources: name, spec, and a part of the message.
fn resources(host: &str) -> Vec<(String, Value, &'static str)> {
    let image = |name: &str, more: Value| {
        let mut image = json!({"pullUrl": format!("{host}/{name}"), "insecure": true});
        image.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
        json!({"image": image})
    };
    let chart = |kind: &str, n: usize| {
        json!({"chart": {"pullUrl": format!("http://{host}/{kind}/{n}/a"),
                         "versionSelector": {"latest": 3}}})
    };
    let of_a_kind = |n: usize| {
        [
            (
                "tags",
                image(&format!("tags{n}"), json!({"tagSelector": {"latest": 3}})),
                "memory budget",
            ),
            (
                "layers",
                image(&format!("layers{n}"), json!({"tags": ["1"]})),
                "more than 4200 layers",
            ),
            ("nodes", chart("nodes", n), "memory budget"),
            ("versions", chart("versions", n), "memory budget"),
        ]
        .map(|(kind, spec, message)| (format!("{kind}-{n}"), spec, message))
    };
    (0..OF_A_KIND).flat_map(of_a_kind).collect()
}

/// The time of a pass over each healthy resource, one after the other.
async fn passes(rig: &Rig, round: &str) -> Duration {
    let start = Instant::now();
    for n in 0..HEALTHY {
        rig.request(&format!("healthy-{n}"), &format!("{round}-{n}")).await;
    }
    start.elapsed() / u32::try_from(HEALTHY).expect("few")
}

async fn start(rig: &Rig, cgroup: &Cgroup) -> Operator {
    rig.operator_within(&cgroup.processes(), &[]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_hostile_source_ends_the_operator_in_256_mebibytes() {
    let cgroup = match Cgroup::new("ecr-sync-memory", LIMIT) {
        Ok(cgroup) => cgroup,
        Err(reason) => {
            println!("skipped: {reason} (needs root)");
            return;
        }
    };
    let rig = Rig::new("memory").await;
    let operator = start(&rig, &cgroup).await;
    for n in 0..HEALTHY {
        let spec = json!({"repositoryName": format!("healthy/{n}"),
                          "image": rig.image("library/demo", &["1.26", "1.27"])});
        rig.apply(&format!("healthy-{n}"), spec).await;
    }
    for n in 0..HEALTHY {
        rig.wait_synced(&format!("healthy-{n}")).await;
    }
    let alone = passes(&rig, "alone").await;
    let before = cgroup.peak();

    let host = hostile().await;
    let hostile = resources(&host);
    for (name, spec, _) in &hostile {
        rig.apply(name, spec.clone()).await;
    }
    let beside = passes(&rig, "beside").await;
    for (name, _, part) in &hostile {
        let object = rig
            .wait(name, "refused", |object| {
                condition(object, "Ready").is_some_and(|(_, _, message)| message.contains(part))
            })
            .await;
        let (status, reason, message) = condition(&object, "Ready").expect("set");
        assert_eq!(status, "False");
        assert!(
            ["SourceInvalid", "MemoryPressure"].contains(&reason),
            "{name}: {reason}: {message}"
        );
        println!("{name}: {reason}: {message}");
    }

    eventually("healthy", async || {
        operator.get("/healthz").await.is_some_and(|(status, _)| status == 200)
    })
    .await;
    println!(
        "a pass over a healthy resource: {alone:?} alone, {beside:?} beside {} hostile ones; \
         peak {} MiB before, {} MiB after",
        hostile.len(),
        before / MIB,
        cgroup.peak() / MIB
    );
    assert_eq!(cgroup.kills(), 0, "the kernel killed the operator");
    let log = operator.log();
    assert!(log.contains("96 MiB") && log.contains("the memory limit of 256 MiB"), "{log}");
    operator.kill().await;
}
