//! A classic HTTP chart repository: a folder of charts and their index, made by the real helm.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use axum::Router;
use axum::extract::{Path as Wanted, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::traffic::Host;
use crate::{Error, tools};

/// A running chart repository; dropping it stops its server. Put a [`crate::proxy::Proxy`] in front
/// for a log and faults.
#[derive(Debug)]
pub struct ChartRepository {
    dir: PathBuf,
    host: String,
    changes: AtomicU32,
    _server: Host,
}

#[derive(Clone, Debug)]
struct Served {
    dir: PathBuf,
    /// `Basic …`, if a login is required.
    login: Option<String>,
}

impl ChartRepository {
    /// Serves `dir`, which is created if needed. With `login`, clients need this name and password.
    ///
    /// # Errors
    /// When the folder cannot be created, or no port can be bound.
    pub async fn start(dir: impl AsRef<Path>, login: Option<(&str, &str)>) -> Result<Self, Error> {
        let dir = std::path::absolute(dir)?;
        fs::create_dir_all(dir.join("served"))?;
        let login = login.map(|(user, password)| {
            format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
        });
        let served = Served { dir: dir.join("served"), login };
        let server = Host::start("chart-repository")?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let host = listener.local_addr()?.to_string();
        server.handle().spawn(async move {
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
            let routes = Router::new().route("/{*file}", get(serve)).with_state(served);
            let _ended = axum::serve(listener, routes).await;
        });
        Ok(Self { dir, host, changes: AtomicU32::new(0), _server: server })
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Packages a version of a chart made by `helm create`. A second call with the same version
    /// makes a different archive, as when a publisher replaces it.
    ///
    /// # Errors
    /// When helm fails.
    pub async fn package(
        &self,
        folder: &str,
        chart: &str,
        version: &str,
    ) -> Result<PathBuf, Error> {
        let charts = self.dir.join("charts");
        fs::create_dir_all(&charts)?;
        let source = charts.join(chart);
        let source_text = source.to_string_lossy().into_owned();
        if !source.exists() {
            tools::run("helm", &["create", &source_text], &[]).await?;
        }
        let change = self.changes.fetch_add(1, Ordering::Relaxed);
        fs::write(source.join("templates/NOTES.txt"), format!("change {change}\n"))?;
        let to = self.dir.join("served").join(folder);
        fs::create_dir_all(&to)?;
        let to_text = to.to_string_lossy().into_owned();
        tools::run(
            "helm",
            &["package", &source_text, "--version", version, "--destination", &to_text],
            &[],
        )
        .await?;
        Ok(to.join(format!("{chart}-{version}.tgz")))
    }

    /// Writes the index of a folder again.
    ///
    /// # Errors
    /// When helm fails.
    pub async fn index(&self, folder: &str) -> Result<(), Error> {
        let folder = self.dir.join("served").join(folder).to_string_lossy().into_owned();
        tools::run("helm", &["repo", "index", &folder], &[]).await.map(drop)
    }

    /// Serves this text instead of a file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, file: &str, text: &str) -> Result<(), Error> {
        let path = self.dir.join("served").join(file);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        Ok(fs::write(path, text)?)
    }

    /// Reads a file that is served.
    ///
    /// # Errors
    /// When the file does not exist.
    pub fn read(&self, file: &str) -> Result<Vec<u8>, Error> {
        Ok(fs::read(self.dir.join("served").join(file))?)
    }
}

async fn serve(
    State(served): State<Served>,
    Wanted(file): Wanted<String>,
    headers: HeaderMap,
) -> Response {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if served.login.is_some() && given != served.login.as_deref() {
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Basic realm=\"charts\"")])
            .into_response();
    }
    if file.split('/').any(|part| part == "..") {
        return StatusCode::NOT_FOUND.into_response();
    }
    let Ok(bytes) = fs::read(served.dir.join(&file)) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let tag = format!(
        "\"{}\"",
        Sha256::digest(&bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>()
    );
    if headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()) == Some(&tag) {
        return (StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response();
    }
    ([(header::ETAG, tag)], bytes).into_response()
}
