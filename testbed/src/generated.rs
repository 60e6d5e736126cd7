//! A source with generated layers: of any size, without memory or disk.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::layer::noise;
use crate::traffic::{Cut, Exchange, Faults, Host, Log, Plane, Record, Route, serve};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// All blocks of a layer are the same noise, with a stamp at the start.
const BLOCK: usize = 1 << 20;
const STAMP: usize = 8;

/// A running source; dropping it stops it.
///
/// It implements the part of the distribution protocol that a copy needs, without a login. Every
/// repository has one image with the tag `1`.
#[derive(Debug)]
pub struct Generated {
    address: SocketAddr,
    images: Arc<Images>,
    // Dropped last: the server runs on this thread.
    _host: Host,
}

#[derive(Debug, Default)]
struct Images {
    log: Log,
    faults: Faults,
    noise: Bytes,
    /// By repository.
    manifests: HashMap<String, (String, Bytes)>,
    /// By digest.
    blobs: HashMap<String, Content>,
}

#[derive(Debug, Clone)]
enum Content {
    Config(Bytes),
    Layer { stamp: u64, size: u64 },
}

impl Generated {
    /// Serves images, each with its repository, its number of layers, and their size. Layers are
    /// read once here, to compute their digests.
    ///
    /// # Errors
    /// When no thread can be started or no port of 127.0.0.1 be bound.
    pub async fn start(images: &[(&str, usize, u64)]) -> io::Result<Self> {
        let wanted: Vec<_> = images
            .iter()
            .map(|(repository, layers, size)| ((*repository).to_owned(), *layers, *size))
            .collect();
        let images = tokio::task::spawn_blocking(move || Images::new(&wanted))
            .await
            .map_err(io::Error::other)?;
        let images = Arc::new(images);
        let host = Host::start("generated")?;
        let router = Router::new().fallback(handle).with_state(Arc::clone(&images));
        let address =
            serve(host.handle(), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), router, &images.log)?;
        Ok(Self { address, images, _host: host })
    }

    /// `127.0.0.1:PORT`, plain HTTP.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// The digest of a repository's image.
    pub fn digest(&self, repository: &str) -> Option<&str> {
        self.images.manifests.get(repository).map(|(digest, _)| digest.as_str())
    }

    /// The digests and sizes of the layers of a repository's image, in order.
    pub fn layers(&self, repository: &str) -> Vec<(String, u64)> {
        let Some((_, manifest)) = self.images.manifests.get(repository) else { return Vec::new() };
        let manifest: Value = serde_json::from_slice(manifest).unwrap_or_default();
        let layers = manifest["layers"].as_array().cloned().unwrap_or_default();
        let text = |layer: &Value| layer["digest"].as_str().unwrap_or_default().to_owned();
        layers
            .iter()
            .map(|layer| (text(layer), layer["size"].as_u64().unwrap_or_default()))
            .collect()
    }

    /// Returns the requests so far.
    pub fn traffic(&self) -> &Log {
        &self.images.log
    }
}

impl Images {
    fn new(wanted: &[(String, usize, u64)]) -> Self {
        let mut images = Self { noise: noise(7, BLOCK).into(), ..Self::default() };
        let mut stamp = 0;
        for (repository, layers, size) in wanted {
            let mut descriptors = Vec::with_capacity(*layers);
            for _ in 0..*layers {
                stamp += 1 << 32;
                let layer = Content::Layer { stamp, size: *size };
                let digest = images.digest(&layer);
                descriptors.push(json!({
                    "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest,
                    "size": size,
                }));
                images.blobs.insert(digest, layer);
            }
            let config = Bytes::from(
                json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers",
                "diff_ids": descriptors.iter().map(|layer| layer["digest"].clone()).collect::<Vec<_>>()}})
                .to_string(),
            );
            let digest = images.digest(&Content::Config(config.clone()));
            let manifest = Bytes::from(
                json!({
                    "schemaVersion": 2,
                    "mediaType": MANIFEST,
                    "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                        "digest": digest,
                               "size": config.len()},
                    "layers": descriptors,
                })
                .to_string(),
            );
            images.blobs.insert(digest, Content::Config(config));
            let digest = images.digest(&Content::Config(manifest.clone()));
            images.manifests.insert(repository.clone(), (digest, manifest));
        }
        images
    }

    fn size(content: &Content) -> u64 {
        match content {
            Content::Config(bytes) => bytes.len() as u64,
            Content::Layer { size, .. } => *size,
        }
    }

    fn digest(&self, content: &Content) -> String {
        let mut hasher = Sha256::new();
        let (mut at, end) = (0, Self::size(content));
        while at < end {
            let piece = self.piece(content, at, end);
            hasher.update(&piece);
            at += piece.len() as u64;
        }
        let hex: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("sha256:{hex}")
    }

    /// Returns some of the bytes `at..end`, the first ones.
    fn piece(&self, content: &Content, at: u64, end: u64) -> Bytes {
        let most = usize::try_from(end - at).unwrap_or(usize::MAX);
        let piece = match content {
            Content::Config(bytes) => {
                bytes.slice(usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len())..)
            }
            Content::Layer { stamp, .. } => {
                let (block, inside) = (at / BLOCK as u64, (at % BLOCK as u64) as usize);
                if inside < STAMP {
                    Bytes::copy_from_slice(&(stamp + block).to_le_bytes()[inside..])
                } else {
                    self.noise.slice(inside..)
                }
            }
        };
        let length = piece.len().min(most);
        piece.slice(..length)
    }

    /// Returns the answer to a request for a manifest or a blob.
    fn answer(self: &Arc<Self>, route: &Route, method: &Method, headers: &HeaderMap) -> Response {
        let (content, kind) = match route.operation {
            "Ping" => (Content::Config(Bytes::from_static(b"{}")), "application/json"),
            "HeadManifest" | "GetManifest" => {
                let found = self.manifests.get(&route.repository);
                let found = found
                    .filter(|(digest, _)| route.reference == "1" || route.reference == *digest);
                let Some((_, manifest)) = found else { return status(StatusCode::NOT_FOUND) };
                (Content::Config(manifest.clone()), MANIFEST)
            }
            "HeadBlob" | "GetBlob" => {
                let Some(content) = self.blobs.get(&route.reference) else {
                    return status(StatusCode::NOT_FOUND);
                };
                (content.clone(), "application/octet-stream")
            }
            "ListTags" if self.manifests.contains_key(&route.repository) => {
                let list = json!({"name": route.repository, "tags": ["1"]}).to_string();
                (Content::Config(list.into()), "application/json")
            }
            _ => return status(StatusCode::NOT_FOUND),
        };
        let size = Self::size(&content);
        let start = headers.get(RANGE).and_then(|range| range.to_str().ok()).and_then(start_of);
        let start = start.filter(|start| *start < size);
        let mut response = Response::builder()
            .status(if start.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK })
            .header(CONTENT_TYPE, kind)
            .header(CONTENT_LENGTH, size - start.unwrap_or(0))
            .header(ACCEPT_RANGES, "bytes");
        if let Some(start) = start {
            response = response.header(CONTENT_RANGE, format!("bytes {start}-{}/{size}", size - 1));
        }
        if route.operation.ends_with("Manifest") {
            response = response.header("docker-content-digest", self.digest(&content));
        }
        let body = if *method == Method::HEAD {
            Body::empty()
        } else {
            self.body(content, start.unwrap_or(0))
        };
        response.body(body).unwrap_or_else(|_| status(StatusCode::INTERNAL_SERVER_ERROR))
    }

    fn body(self: &Arc<Self>, content: Content, start: u64) -> Body {
        let (images, end) = (Arc::clone(self), Self::size(&content));
        Body::from_stream(stream::iter(
            std::iter::successors(
                (start < end).then(|| (start, images.piece(&content, start, end))),
                move |(at, last)| {
                    let at = at + last.len() as u64;
                    (at < end).then(|| (at, images.piece(&content, at, end)))
                },
            )
            .map(|(_, piece)| Ok::<_, io::Error>(piece)),
        ))
    }
}

/// Parses `bytes=5-` as 5; no other form is supported.
fn start_of(range: &str) -> Option<u64> {
    range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
}

fn status(status: StatusCode) -> Response {
    let mut response = Response::default();
    *response.status_mut() = status;
    response
}

async fn handle(
    State(images): State<Arc<Images>>,
    ConnectInfo(cut): ConnectInfo<Cut>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let route = Route::parse(parts.method.as_str(), parts.uri.path());
    let record = Record {
        repository: route.repository.clone(),
        ..Record::arrived(Plane::Data, route.operation, &parts)
    };
    let exchange = Exchange { log: &images.log, faults: &images.faults, cut };
    exchange.run(record, body, async |_| images.answer(&route, &parts.method, &parts.headers)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get(source: &Generated, path: &str, range: Option<&str>) -> (u16, Bytes) {
        let mut request = crate::http::client().get(format!("http://{}/v2/{path}", source.host()));
        if let Some(range) = range {
            request = request.header("range", range);
        }
        let answer = request.send().await.expect("an answer");
        (answer.status().as_u16(), answer.bytes().await.expect("a body"))
    }

    #[tokio::test]
    async fn layers_are_what_their_digests_say_from_any_byte_on() {
        let size = (2 * BLOCK + 100) as u64;
        let source = Generated::start(&[("two/layers", 2, size), ("one/byte", 1, 1)])
            .await
            .expect("a source");
        let (_, manifest) = get(&source, "two/layers/manifests/1", None).await;
        assert_eq!(hash(&manifest), source.digest("two/layers").expect("an image"));
        let layers = source.layers("two/layers");
        assert_eq!(layers.len(), 2);
        assert_ne!(layers[0].0, layers[1].0);
        for (digest, length) in layers {
            let path = format!("two/layers/blobs/{digest}");
            let (status, whole) = get(&source, &path, None).await;
            assert_eq!((status, whole.len() as u64, hash(&whole)), (200, length, digest));
            for start in [1, 8, BLOCK + 3, 2 * BLOCK + 99] {
                let (status, rest) = get(&source, &path, Some(&format!("bytes={start}-"))).await;
                assert!(status == 206 && rest == whole[start..], "from {start} on");
            }
        }
        assert_eq!(source.traffic().count(|record| record.operation == "GetBlob"), 10);
    }

    fn hash(bytes: &[u8]) -> String {
        let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("sha256:{hex}")
    }
}
