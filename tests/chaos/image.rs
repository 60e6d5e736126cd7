//! Images of the sources: small, with shared layers, plain or as indexes.

use axum::body::Bytes;
use fastrand::Rng;
use serde_json::{Value, json};

use super::dice::one_of;
use crate::registry::Digest;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// A manifest with everything below it.
#[derive(Clone, Debug)]
pub(super) struct Image {
    pub(super) media_type: &'static str,
    pub(super) manifest: Vec<u8>,
    pub(super) blobs: Vec<Bytes>,
    /// Manifests of an index.
    pub(super) children: Vec<Self>,
}

impl Image {
    /// A random image or index.
    pub(super) fn random(rng: &mut Rng) -> Self {
        if rng.u8(..3) > 0 {
            return Self::plain(rng);
        }
        let children: Vec<_> = (0..rng.usize(1..4)).map(|_| Self::plain(rng)).collect();
        let platforms = ["amd64", "arm64", "s390x"];
        let entries: Vec<Value> = children
            .iter()
            .zip(platforms)
            .map(|(child, architecture)| {
                json!({"mediaType": child.media_type, "digest": digest(&child.manifest),
                    "size": child.manifest.len(),
                    "platform": {"os": "linux", "architecture": architecture}})
            })
            .collect();
        let manifest = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
        Self {
            media_type: INDEX,
            manifest: manifest.to_string().into(),
            blobs: Vec::new(),
            children,
        }
    }

    fn plain(rng: &mut Rng) -> Self {
        let media_type = *one_of(rng, &[MANIFEST, DOCKER]);
        let config = Bytes::from(json!({"architecture": "amd64", "n": rng.u8(..)}).to_string());
        let layers: Vec<_> = (0..rng.usize(1..5)).map(|_| layer(rng)).collect();
        let describe = |kind: &str, blob: &Bytes| {
            json!({"mediaType": kind,
            "digest": digest(blob), "size": blob.len()})
        };
        let (of_config, of_layer) = match media_type {
            DOCKER => (
                "application/vnd.docker.container.image.v1+json",
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
            ),
            _ => (
                "application/vnd.oci.image.config.v1+json",
                "application/vnd.oci.image.layer.v1.tar+gzip",
            ),
        };
        let layers_described: Vec<_> =
            layers.iter().map(|layer| describe(of_layer, layer)).collect();
        let manifest = json!({"schemaVersion": 2, "mediaType": media_type,
            "config": describe(of_config, &config), "layers": layers_described});
        let blobs = [vec![config], layers].concat();
        Self { media_type, manifest: manifest.to_string().into(), blobs, children: Vec::new() }
    }
}

/// One of some layers, so that images share them. Sizes differ by powers of ten.
fn layer(rng: &mut Rng) -> Bytes {
    let number = rng.u8(..12);
    let size = [1, 40, 3_000, 20_000][usize::from(number % 4)];
    vec![number; size].into()
}

pub(super) fn digest(bytes: &[u8]) -> String {
    Digest::sha256_of(bytes).to_string()
}
