//! Our artifacts, compared with those of the real `helm push` for the same archives.

use std::path::Path;

use bytes::Bytes;
use ecr_sync::helm::{Artifact, archive};
use ecr_sync::registry::Digest;
use flate2::Compression;
use flate2::write::GzEncoder;
use testbed::upstream::{Auth, Upstream};
use testbed::{scratch, tools};

/// Charts whose `Chart.yaml` helm package would normalise: scalars of every kind, old charts,
/// unusual fields.
const CHARTS: [(&str, &str, Option<&str>); 5] = [
    (
        "scalars",
        "apiVersion: v2
name: scalars
version: 1.2.3+build.1
appVersion: 1.10
kubeVersion: '>=1.20.0-0 <2'
deprecated: yes
condition: on
tags: 0x1F
icon: 1e3
type: library
home: http://h/?a&b=<c>
unknown: [1, {a: b}]
sources: [https://s/1, 010, 1_000, 2024-01-05]
keywords: [web, 80, 1234567.0, .5, ~, no, 0.00001, 18446744073709551615, 18446744073709551616, 1.0]
annotations:
  org.opencontainers.image.title: ours
  org.opencontainers.image.url: theirs
  on: 1.50
  7: 7
  empty:
  text: |
    two
      lines
",
        None,
    ),
    (
        "people",
        "name: people
version: 0.1.0
DESCRIPTION: \"tab\\there\\u200b \\u2028 \\u00a0 \\x7f e\\u0301 \\U0001F600 \\\\ \\\" <&> \\b\\f\\x1b\"
maintainers:
- {name: Ann, email: ann@example.com, url: https://a}
- {email: bob@example.com}
- {url: https://c}
- {name: \"<Dan>\"}
",
        None,
    ),
    (
        "old",
        "apiVersion: v1\nname: old\nversion: 2\ntillerVersion: '>2'\nengine: gotpl\n",
        Some(
            "dependencies:\n- {name: b, version: 1.10, repository: 'https://r', tags: [x, 1], \
             enabled: true}\n- {name: c, import-values: [data, {parent: p, child: c, n: 3, f: \
             1.5}], alias: d, condition: c.enabled}\n",
        ),
    ),
    (
        "merged",
        "x: &x {a: '1', b: 2}\napiVersion: v2\nname: merged\nversion: v1.0.0-rc.1\n\
         annotations: {<<: *x, c: \"\\u00e9\"}\n",
        None,
    ),
    (
        "folded",
        "{\"apiVersion\": \"v2\", \"name\": \"folded\", \"version\": \"1.0.0\", \
         \"description\": \"a\nb\n\nc\", \"sources\": [], \"annotations\": {}}",
        None,
    ),
];

#[tokio::test]
async fn config_layers_and_annotations_are_those_of_helm_push() {
    let folder = scratch::folder("helm-push").expect("a folder");
    let upstream = Upstream::start(folder.join("registry"), Auth::None).await.expect("a registry");
    let home = folder.join("helm");
    let home = home.to_str().expect("a path in UTF-8");
    let environment = [
        ("HELM_CACHE_HOME", home),
        ("HELM_CONFIG_HOME", home),
        ("HELM_DATA_HOME", home),
        ("TZ", "Asia/Tokyo"),
    ];
    let helm = async |arguments: &[&str]| {
        tools::run("helm", arguments, &environment).await.expect("helm succeeds")
    };

    let path = |name: &str| folder.join(name).to_str().expect("a path in UTF-8").to_owned();
    helm(&["create", &path("created")]).await;
    helm(&["package", &path("created"), "--version", "1.0.0+a", "--destination", &path("")]).await;
    let mut archives = vec![(path("created-1.0.0+a.tgz"), None)];
    for (name, chart, requirements) in CHARTS {
        let file = path(&format!("{name}.tgz"));
        write_archive(Path::new(&file), name, chart, requirements);
        archives.push((file, None));
    }
    // Provenance sorts before and after the archive in the order of digests.
    for n in 0..4 {
        let file = path(&format!("signed{n}.tgz"));
        write_archive(
            Path::new(&file),
            "signed",
            &format!("apiVersion: v2\nname: signed\nversion: 1.0.{n}\n"),
            None,
        );
        let provenance = Bytes::from(format!("-----BEGIN PGP SIGNED MESSAGE-----\n{n}\n"));
        std::fs::write(format!("{file}.prov"), &provenance).expect("a provenance file");
        archives.push((file, Some(provenance)));
    }

    for (file, provenance) in archives {
        let bytes = Bytes::from(std::fs::read(&file).expect("an archive"));
        let metadata = archive::read(&bytes).unwrap_or_else(|error| panic!("{file}: {error}"));
        let ours = Artifact::new(&metadata, bytes.clone(), provenance).expect("an artifact");
        let tag = metadata.version.replace('+', "_");

        helm(&["push", &file, &format!("oci://{}/charts", upstream.host()), "--plain-http"]).await;
        let reference = format!("{}/charts/{}", upstream.host(), metadata.name);
        let theirs = upstream
            .crane(&["manifest", &format!("{reference}:{tag}")])
            .await
            .expect("helm's manifest");
        assert_eq!(text(&ours.manifest.bytes), without_created(&theirs), "{file}");

        let config = Digest::sha256_of(&ours.config);
        let theirs = upstream
            .crane(&["blob", &format!("{reference}@{config}")])
            .await
            .expect("helm's config");
        assert_eq!(text(&ours.config), theirs, "{file}");
        assert!(
            ours.blobs()
                .any(|(layer, blob)| blob == &bytes && layer.digest == Digest::sha256_of(&bytes))
        );
    }
}

fn text(bytes: &Bytes) -> &str {
    std::str::from_utf8(bytes).expect("JSON")
}

/// The one intended difference: helm writes the time of the file, we do not.
fn without_created(manifest: &str) -> String {
    const CREATED: &str = "\"org.opencontainers.image.created\":\"";
    let start = manifest.find(CREATED).expect("helm writes when the archive was created");
    let value = start + CREATED.len();
    let end = value + manifest[value..].find("\",").expect("it is not the last annotation") + 2;
    format!("{}{}", &manifest[..start], &manifest[end..])
}

fn write_archive(path: &Path, name: &str, chart: &str, requirements: Option<&str>) {
    let file = std::fs::File::create(path).expect("a file");
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    let files = [
        ("Chart.yaml", Some(chart)),
        ("requirements.yaml", requirements),
        ("templates/a.yaml", Some("a: 1\n")),
    ];
    for (file, contents) in files {
        let Some(contents) = contents else { continue };
        let mut header = tar::Header::new_gnu();
        header.set_size(contents.len() as u64);
        header.set_mode(0o644);
        archive
            .append_data(&mut header, format!("{name}/{file}"), contents.as_bytes())
            .expect("an entry");
    }
    archive.into_inner().and_then(GzEncoder::finish).expect("an archive");
}
