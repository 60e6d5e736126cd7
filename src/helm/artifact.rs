//! The OCI artifact of a chart archive: like that of `helm push`, but reproducible.
//!
//! The manifest is Helm's byte for byte
//! (<https://github.com/helm/helm/blob/v3.22.0/pkg/registry/client.go>, `Push`), with one
//! deliberate difference: the annotation `org.opencontainers.image.created` is left out. Helm sets
//! it from the archive's modification time on disk, in local time, so that each download gets
//! another digest (helm#12884).

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;

use super::json;
use super::metadata::Metadata;
use crate::registry::{Descriptor, Digest, Manifest, OCI_MANIFEST};

/// Media type of the config.
pub const CONFIG: &str = "application/vnd.cncf.helm.config.v1+json";
/// Media type of the archive's layer.
pub const CHART: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
/// Media type of the provenance layer.
pub const PROVENANCE: &str = "application/vnd.cncf.helm.chart.provenance.v1.prov";

/// A chart, ready to be pushed.
#[derive(Clone, Debug)]
pub struct Artifact {
    /// The manifest. Like Helm's, its body has no `mediaType`; the registry gets it with the
    /// request.
    pub manifest: Manifest,
    /// `Chart.yaml` as JSON.
    pub config: Bytes,
    /// The archive, unchanged.
    pub archive: Bytes,
    /// The provenance file, if there is one.
    pub provenance: Option<Bytes>,
    config_descriptor: Descriptor,
    layers: Vec<Descriptor>,
}

/// Fields in the order of Go's `ocispec.Manifest`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    schema_version: u8,
    config: Pointer<'a>,
    layers: Vec<Pointer<'a>>,
    annotations: BTreeMap<&'a str, &'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Pointer<'a> {
    media_type: &'a str,
    digest: &'a str,
    size: u64,
}

fn pointer(descriptor: &Descriptor) -> Pointer<'_> {
    let Descriptor { media_type, digest, size, .. } = descriptor;
    Pointer { media_type, digest: digest.as_str(), size: *size }
}

impl Artifact {
    /// Builds the artifact of an archive with this metadata ([`super::archive::read`]). It hashes
    /// the archive: 20 MiB take 15 ms.
    ///
    /// # Guarantees
    /// Equal archives (and provenances) have equal manifests, on any day, in any time zone.
    ///
    /// # Errors
    /// Never, for metadata read from an archive.
    pub fn new(
        metadata: &Metadata,
        archive: Bytes,
        provenance: Option<Bytes>,
    ) -> serde_json::Result<Self> {
        let config = Bytes::from(metadata.to_json()?);
        let describe = |kind: &str, bytes: &Bytes| {
            Descriptor::new(kind, Digest::sha256_of(bytes), bytes.len() as u64)
        };
        let config_descriptor = describe(CONFIG, &config);
        let mut layers = vec![describe(CHART, &archive)];
        layers.extend(provenance.as_ref().map(|bytes| describe(PROVENANCE, bytes)));
        layers.sort_by(|a, b| a.digest.as_str().cmp(b.digest.as_str()));

        let authors = authors(metadata);
        let body = json::to_vec(&Body {
            schema_version: 2,
            config: pointer(&config_descriptor),
            layers: layers.iter().map(pointer).collect(),
            annotations: annotations(metadata, &authors),
        })?;
        let manifest = Manifest::new(body.into(), OCI_MANIFEST);
        Ok(Self { manifest, config, archive, provenance, config_descriptor, layers })
    }

    /// The blobs to push before the manifest: the config, then the layers.
    pub fn blobs(&self) -> impl Iterator<Item = (&Descriptor, &Bytes)> {
        let layers = self.layers.iter().filter_map(|layer| match layer.media_type.as_str() {
            CHART => Some((layer, &self.archive)),
            _ => self.provenance.as_ref().map(|bytes| (layer, bytes)),
        });
        std::iter::once((&self.config_descriptor, &self.config)).chain(layers)
    }
}

/// Helm's `generateOCIAnnotations`, without `created`.
fn annotations<'a>(metadata: &'a Metadata, authors: &'a str) -> BTreeMap<&'a str, &'a str> {
    const TITLE: &str = "org.opencontainers.image.title";
    const VERSION: &str = "org.opencontainers.image.version";
    let own = [
        ("org.opencontainers.image.description", metadata.description.as_str()),
        (TITLE, &metadata.name),
        (VERSION, &metadata.version),
        ("org.opencontainers.image.url", &metadata.home),
        ("org.opencontainers.image.source", metadata.sources.first().map_or("", String::as_str)),
        ("org.opencontainers.image.authors", authors),
    ];
    let mut annotations: BTreeMap<_, _> =
        own.into_iter().filter(|(_, value)| !value.trim().is_empty()).collect();
    let charts =
        metadata.annotations.iter().filter(|(key, _)| !matches!(key.as_str(), TITLE | VERSION));
    annotations.extend(charts.map(|(key, value)| (key.as_str(), value.as_str())));
    annotations
}

/// The maintainers as `Name (mail), Name (mail)`.
fn authors(metadata: &Metadata) -> String {
    let author = |maintainer: &super::metadata::Maintainer| match maintainer.email.as_str() {
        "" => maintainer.name.clone(),
        email => format!("{} ({email})", maintainer.name),
    };
    metadata.maintainers.iter().map(author).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(chart: &str) -> Metadata {
        Metadata::parse(chart, None).unwrap()
    }

    #[test]
    fn manifest_has_the_layout_of_helms() {
        let chart = metadata(
            "{apiVersion: v2, name: a, version: 1.0.0+b, home: 'https://h', description: ' ',
              sources: ['https://s', 't'],
              maintainers: [{name: A, email: a@b}, {email: c@d}, {url: u}],
              annotations: {org.opencontainers.image.title: no, org.opencontainers.image.url: mine, z: <}}",
        );
        let artifact = Artifact::new(&chart, Bytes::from_static(b"archive"), None).unwrap();
        let config = Digest::sha256_of(&artifact.config);
        let size = artifact.config.len();
        let layer = Digest::sha256_of(b"archive");
        let expected = format!(
            concat!(
                r#"{{"schemaVersion":2,"#,
                r#""config":{{"mediaType":"application/vnd.cncf.helm.config.v1+json","#,
                r#""digest":"{config}","size":{size}}},"#,
                r#""layers":[{{"mediaType":"application/vnd.cncf.helm.chart.content.v1.tar+gzip","#,
                r#""digest":"{layer}","size":7}}],"#,
                r#""annotations":{{"org.opencontainers.image.authors":"A (a@b),  (c@d), ","#,
                r#""org.opencontainers.image.source":"https://s","#,
                r#""org.opencontainers.image.title":"a","org.opencontainers.image.url":"mine","#,
                r#""org.opencontainers.image.version":"1.0.0+b","z":"\u003c"}}}}"#
            ),
            config = config,
            size = size,
            layer = layer
        );
        assert_eq!(String::from_utf8_lossy(&artifact.manifest.bytes), expected);

        assert_eq!(artifact.manifest.media_type, OCI_MANIFEST);
    }

    #[test]
    fn layers_are_in_the_order_of_their_digests_and_all_blobs_are_named() {
        let chart = metadata("{name: a, version: 1.0.0}");
        let mut orders = std::collections::BTreeSet::new();
        for n in 0..20 {
            let archive = Bytes::from(format!("archive {n}"));
            let artifact =
                Artifact::new(&chart, archive, Some(Bytes::from_static(b"provenance"))).unwrap();
            let blobs: Vec<_> = artifact.blobs().collect();
            assert_eq!(blobs.len(), 3);
            assert!(
                blobs
                    .iter()
                    .all(|(descriptor, bytes)| descriptor.digest == Digest::sha256_of(bytes))
            );
            assert!(blobs[1].0.digest.as_str() < blobs[2].0.digest.as_str());
            orders.insert(blobs[1].0.media_type.clone());
        }
        assert_eq!(orders.len(), 2, "either layer can be first");
    }

    #[test]
    fn equal_archives_have_equal_manifests() {
        let chart = metadata("{name: a, version: 1.0.0}");
        let make = || Artifact::new(&chart, Bytes::from_static(b"x"), None).unwrap().manifest;
        assert_eq!(make(), make());
        assert!(!String::from_utf8_lossy(&make().bytes).contains("created"));
    }
}
