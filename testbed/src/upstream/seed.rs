//! Content of a seeded registry, made by crane and oras from generated layers.

use std::fs::{self, File};
use std::io::{BufWriter, Write};

use super::{Upstream, User};
use crate::layer::{noise, write_tar};
use crate::{Error, tools};

/// Default size of the large layer: several chunks of every client's uploads.
pub const LARGE_LAYER: usize = 64 << 20;

/// A tag and its digest according to crane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeededImage {
    /// Without the registry: `library/demo`.
    pub repository: String,
    /// The tag.
    pub tag: String,
    /// `sha256:…`
    pub digest: String,
}

/// The content that [`Upstream::seed`] has put into a registry.
#[derive(Debug, Clone)]
pub struct Seeded {
    /// All tags, in the order of their creation.
    pub images: Vec<SeededImage>,
    /// Digest of the SBOM attached to `team/artifact:v1`. It is a referrer, and has the fallback
    /// tag `sha256-…`, since this registry has no referrers API.
    pub sbom: String,
}

impl Seeded {
    /// The digest of a tag.
    ///
    /// # Panics
    /// When the tag was not seeded.
    pub fn digest(&self, repository: &str, tag: &str) -> &str {
        let found =
            self.images.iter().find(|image| image.repository == repository && image.tag == tag);
        &found.unwrap_or_else(|| panic!("{repository}:{tag} was not seeded")).digest
    }
}

impl Upstream {
    /// Fills the registry:
    ///
    /// | repository | tags | what |
    /// | --- | --- | --- |
    /// | `library/demo` | `1.27`, `latest` | one OCI index for linux/amd64 and linux/arm64/v8 |
    /// | `library/demo` | `1.26` | one image of Docker's media types, linux/amd64 |
    /// | `public/demo` | `1.27` | the same index; needs no login with [`super::Auth::Token`] |
    /// | `team/app` | `v1`, `v2`, `v3` | each has the layers of the one before and one more |
    /// | `large/blob` | `1` | one layer of `large_layer` bytes that do not compress |
    /// | `team/artifact` | `v1` | an artifact of oras with two files, and an SBOM attached to it |
    ///
    /// # Errors
    /// When a tool fails.
    pub async fn seed(&self, large_layer: usize) -> Result<Seeded, Error> {
        let mut images = self.seed_images(large_layer).await?;
        let sbom = self.seed_artifact().await?;
        images.push(self.seeded("team/artifact", "v1").await?);
        Ok(Seeded { images, sbom })
    }

    /// The images of [`Upstream::seed`], which crane alone makes, without the artifact of oras.
    ///
    /// # Errors
    /// When crane fails.
    pub async fn seed_images(&self, large_layer: usize) -> Result<Vec<SeededImage>, Error> {
        self.seed_demo().await?;
        self.seed_app().await?;
        let blob = self.layer("large", &[("blob", &noise(9, large_layer))])?;
        self.append(&blob, "large/blob", "1", &["--oci-empty-base"]).await?;

        let tags = [
            ("library/demo", "1.26"),
            ("library/demo", "1.27"),
            ("library/demo", "latest"),
            ("public/demo", "1.27"),
            ("team/app", "v1"),
            ("team/app", "v2"),
            ("team/app", "v3"),
            ("large/blob", "1"),
        ];
        let mut images = Vec::with_capacity(tags.len() + 1);
        for (repository, tag) in tags {
            images.push(self.seeded(repository, tag).await?);
        }
        Ok(images)
    }

    async fn seeded(&self, repository: &str, tag: &str) -> Result<SeededImage, Error> {
        let digest = self.crane(&["digest", &self.reference(repository, tag)]).await?;
        Ok(SeededImage { repository: repository.to_owned(), tag: tag.to_owned(), digest })
    }

    async fn seed_demo(&self) -> Result<(), Error> {
        let demo = |tag: &str| self.reference("library/demo", tag);
        let base = self.layer(
            "demo-base",
            &[("etc/os-release", b"ID=demo\n"), ("usr/lib/base", &noise(1, 300_000))],
        )?;
        for (tag, platform, seed) in [("amd64", "linux/amd64", 2), ("arm64", "linux/arm64/v8", 3)] {
            let program =
                self.layer(&format!("demo-{tag}"), &[("usr/bin/demo", &noise(seed, 100_000))])?;
            self.append(&base, "library/demo", tag, &["--oci-empty-base"]).await?;
            self.append(&program, "library/demo", tag, &["--base", &demo(tag)]).await?;
            self.crane(&[
                "mutate",
                &demo(tag),
                "--set-platform",
                platform,
                "--entrypoint",
                "/usr/bin/demo",
                "--tag",
                &demo(tag),
            ])
            .await?;
        }
        let [amd64, arm64] = [demo("amd64"), demo("arm64")];
        self.crane(&[
            "index",
            "append",
            "--manifest",
            &amd64,
            "--manifest",
            &arm64,
            "--tag",
            &demo("1.27"),
        ])
        .await?;
        // These tags only served to build the index; usually the children of an index have none.
        self.crane(&["delete", &amd64]).await?;
        self.crane(&["delete", &arm64]).await?;
        self.crane(&["tag", &demo("1.27"), "latest"]).await?;
        self.crane(&["copy", &demo("1.27"), &self.reference("public/demo", "1.27")]).await?;

        let old = self.layer("demo-old", &[("usr/bin/demo", &noise(4, 100_000))])?;
        self.append(&old, "library/demo", "1.26", &[]).await?;
        self.crane(&[
            "mutate",
            &demo("1.26"),
            "--set-platform",
            "linux/amd64",
            "--tag",
            &demo("1.26"),
        ])
        .await?;
        Ok(())
    }

    async fn seed_app(&self) -> Result<(), Error> {
        let mut base: Vec<String> = vec!["--oci-empty-base".to_owned()];
        for (tag, seed) in [("v1", 5), ("v2", 6), ("v3", 7)] {
            let layer = self
                .layer(&format!("app-{tag}"), &[(&format!("srv/{tag}"), &noise(seed, 200_000))])?;
            let base_args: Vec<&str> = base.iter().map(String::as_str).collect();
            self.append(&layer, "team/app", tag, &base_args).await?;
            base = vec!["--base".to_owned(), self.reference("team/app", tag)];
        }
        Ok(())
    }

    /// Returns the digest of the SBOM.
    async fn seed_artifact(&self) -> Result<String, Error> {
        let folder = self.dir.join("artifact");
        fs::create_dir_all(&folder)
            .map_err(|e| format!("cannot create {}: {e}", folder.display()))?;
        let files: [(&str, &[u8]); 3] = [
            ("model.bin", &noise(8, 50_000)),
            ("card.json", b"{}\n"),
            ("sbom.json", b"{\"spdxVersion\":\"SPDX-2.3\"}\n"),
        ];
        for (name, content) in files {
            let path = folder.join(name);
            fs::write(&path, content)
                .map_err(|e| format!("cannot write {}: {e}", path.display()))?;
        }
        let artifact = self.reference("team/artifact", "v1");
        let model = [
            "--artifact-type",
            "application/vnd.testbed.model.v1",
            "model.bin",
            "card.json:application/json",
        ];
        self.oras("push", &artifact, &model).await?;
        let sbom = ["--artifact-type", "application/spdx+json", "sbom.json:application/spdx+json"];
        self.oras("attach", &artifact, &sbom).await
    }

    /// Runs an oras command in the artifact's folder, and returns the digest of the new manifest.
    async fn oras(&self, command: &str, reference: &str, rest: &[&str]) -> Result<String, Error> {
        // The creation date is part of the manifest and so of its digest.
        let common = [
            "--plain-http",
            "--annotation",
            "org.opencontainers.image.created=1970-01-01T00:00:00Z",
        ];
        let login = self.docker_config(User::Writer).join("config.json");
        let call =
            tools::Call::new("oras")?.arg(command).args(common).arg("--registry-config").arg(login);
        let call = call.args(["--format", "go-template={{.digest}}"]).arg(reference).args(rest);
        Ok(call.folder(self.dir.join("artifact")).output().await?.trim().to_owned())
    }

    /// Returns an image with one more layer, on the empty image or on `base`.
    async fn append(
        &self,
        layer: &str,
        repository: &str,
        tag: &str,
        base: &[&str],
    ) -> Result<(), Error> {
        let reference = self.reference(repository, tag);
        let args = [&["append", "--new_layer", layer, "--new_tag", &reference], base].concat();
        self.crane(&args).await.map(drop)
    }

    /// Writes a layer to a file and returns its path.
    fn layer(&self, name: &str, files: &[(&str, &[u8])]) -> Result<String, Error> {
        let path = self.dir.join(format!("{name}.tar"));
        let cannot = |e: std::io::Error| format!("cannot write {}: {e}", path.display());
        let mut out = BufWriter::new(File::create(&path).map_err(cannot)?);
        write_tar(&mut out, files).and_then(|()| out.flush()).map_err(cannot)?;
        Ok(path.display().to_string())
    }
}
