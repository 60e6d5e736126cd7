//! `tools/build`: where etcd, kube-apiserver and kubectl come from, and what it says meanwhile.
//!
//! It costs a second; the first run on a machine also builds setup-envtest, about 10 s.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use axum::Router;
use axum::routing::get;
use flate2::Compression;
use flate2::write::GzEncoder;
use testbed::tools::workspace;

const CLUSTER: [&str; 3] = ["etcd", "kube-apiserver", "kubectl"];

/// A user who has built nothing yet, but setup-envtest.
struct User {
    folder: tempfile::TempDir,
}

impl User {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let real = tempfile::tempdir().expect("a folder");
        // From the cache of this machine, since a build takes seconds.
        run(&["setup-envtest"], &[("ECR_SYNC_TOOLS_BIN", real.path().display().to_string())]).await;
        let built = std::fs::canonicalize(real.path().join("setup-envtest")).expect("a link");
        let built = built.parent().expect("a folder");
        let user = Self { folder };
        std::fs::create_dir(user.cache()).expect("a folder");
        let link = user.cache().join(built.file_name().expect("a name"));
        std::os::unix::fs::symlink(built, link).expect("a link");
        user
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    fn bin(&self) -> PathBuf {
        self.folder.path().join("bin")
    }

    /// Runs tools/build, and returns what it says.
    async fn build(&self, arguments: &[&str], environment: &[(&str, &str)]) -> String {
        let mut all: Vec<_> =
            environment.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        all.push(("ECR_SYNC_TOOLS_CACHE", self.cache().display().to_string()));
        all.push(("ECR_SYNC_TOOLS_BIN", self.bin().display().to_string()));
        run(arguments, &all).await
    }

    fn linked(&self, name: &str) -> PathBuf {
        std::fs::canonicalize(self.bin().join(name)).expect("a link")
    }
}

/// Both outputs of tools/build, which must succeed.
async fn run(arguments: &[&str], environment: &[(&str, String)]) -> String {
    let mut command = tokio::process::Command::new(workspace().join("tools/build"));
    command.args(arguments).env_remove("KUBEBUILDER_ASSETS").kill_on_drop(true);
    let output = command.envs(environment.iter().cloned()).output().await.expect("it runs");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "{text}");
    text
}

/// An archive as setup-envtest downloads it, with programs that print their name.
fn archive() -> Vec<u8> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for name in CLUSTER {
        let script = format!("#!/bin/sh\necho {name}\n");
        let mut header = tar::Header::new_gnu();
        header.set_size(script.len() as u64);
        header.set_mode(0o755);
        let path = format!("controller-tools/envtest/{name}");
        archive.append_data(&mut header, path, script.as_bytes()).expect("appended");
    }
    archive.into_inner().and_then(GzEncoder::finish).expect("an archive")
}

/// The version that tools/kubernetes pins, as `1.37`.
fn minor() -> String {
    let pins = std::fs::read_to_string(workspace().join("tools/kubernetes/go.mod"));
    let pins = pins.expect("pins");
    let line = pins.lines().find(|line| line.trim().starts_with("k8s.io/kubernetes v"));
    let version = line.and_then(|line| line.split(" v").nth(1)).expect("a version");
    let parts: Vec<_> = version.split('.').take(2).collect();
    parts.join(".")
}

/// An index for setup-envtest with one release, on a port of 127.0.0.1.
async fn index(version: &str) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let host = listener.local_addr().expect("an address");
    let archive = archive();
    let hash = sha512(&archive);
    let architecture = HashMap::from([("x86_64", "amd64"), ("aarch64", "arm64")]);
    let architecture = architecture[std::env::consts::ARCH];
    let index = format!(
        "releases:\n  v{version}:\n    envtest-v{version}-linux-{architecture}.tar.gz:\n      \
         hash: {hash}\n      selfLink: http://{host}/archive\n"
    );
    let app = Router::new()
        .route("/index.yaml", get(|| async { index }))
        .route("/archive", get(|| async { archive }));
    tokio::spawn(async { axum::serve(listener, app).await });
    format!("http://{host}/index.yaml")
}

fn sha512(bytes: &[u8]) -> String {
    use sha2::{Digest as _, Sha512};
    Sha512::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn programs(folder: &Path, names: &[&str]) {
    std::fs::create_dir_all(folder).expect("a folder");
    for name in names {
        let path = folder.join(name);
        std::fs::write(&path, "#!/bin/sh\n").expect("written");
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&path, executable).expect("executable");
    }
}

#[tokio::test]
async fn setup_envtest_downloads_the_api_server_once_and_nothing_is_built() {
    let user = User::new().await;
    let index = index(&format!("{}.0", minor())).await;
    let tools = ["kubernetes", "etcd"];
    let text = user.build(&tools, &[("ECR_SYNC_ENVTEST_INDEX", &index)]).await;
    assert!(!text.contains("building"), "{text}");
    for name in CLUSTER {
        let path = user.linked(name);
        assert!(path.starts_with(user.cache().join("envtest")), "{name}: {}", path.display());
    }
    // The second time, no index is needed.
    let nowhere = ("ECR_SYNC_ENVTEST_INDEX", "http://127.0.0.1:1/index.yaml");
    let text = user.build(&tools, &[nowhere]).await;
    assert!(!text.contains("building") && !text.contains("cannot"), "{text}");
}

#[tokio::test]
async fn kubebuilder_assets_come_before_a_download() {
    let user = User::new().await;
    let assets = user.folder.path().join("assets");
    programs(&assets, &CLUSTER);
    let nowhere = ("ECR_SYNC_ENVTEST_INDEX", "http://127.0.0.1:1/index.yaml");
    let named = ("KUBEBUILDER_ASSETS", assets.to_str().expect("a path"));
    let text = user.build(&["kubernetes", "etcd"], &[named, nowhere]).await;
    assert_eq!(text, "");
    assert_eq!(user.linked("kube-apiserver"), assets.join("kube-apiserver"));
}

#[tokio::test]
async fn a_failed_download_is_reported_with_the_number_and_the_time_of_each_build() {
    let user = User::new().await;
    let list = user.build(&["--list", "etcd"], &[]).await;
    assert!(list.contains("to build, about 30 s"), "{list}");

    // A compiler that fails at once.
    let go = user.folder.path().join("go");
    programs(&go, &["go"]);
    std::fs::write(go.join("go"), "#!/bin/sh\nexit 1\n").expect("written");
    let path = format!("{}:{}", go.display(), std::env::var("PATH").unwrap_or_default());
    let mut command = tokio::process::Command::new(workspace().join("tools/build"));
    command.args(["etcd", "crane"]).env_remove("KUBEBUILDER_ASSETS").env("PATH", path);
    command.env("ECR_SYNC_ENVTEST_INDEX", "http://127.0.0.1:1/index.yaml");
    command.env("ECR_SYNC_TOOLS_CACHE", user.cache()).env("ECR_SYNC_TOOLS_BIN", user.bin());
    let output = command.output().await.expect("it runs");
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    let minor = minor();
    for part in [
        &format!("setup-envtest cannot download kube-apiserver {minor}: "),
        "set KUBEBUILDER_ASSETS to a folder with",
        "building etcd v",
        ", 1 of 2, about 30 s",
        "cannot build etcd",
    ] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
}
