//! A real registry to copy from: distribution's `registry`, filled by crane and oras; without a
//! login, with a Basic login or with bearer tokens.

mod front;
mod seed;
mod token;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use self::front::Front;
pub use self::seed::{LARGE_LAYER, Seeded, SeededImage};

use crate::certificates::Certificates;
use crate::process::{Process, retry_ports, wait_ready};
use crate::{Error, http, tools};

const READY: Duration = Duration::from_secs(30);

/// The authentication of a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// None: everybody may do everything.
    None,
    /// HTTP Basic. Both users may do everything.
    Basic,
    /// Bearer tokens of a token server: the writer may do everything, the reader may pull, and
    /// repositories whose name starts with `public/` can be pulled without a login.
    Token {
        /// Lifetime of a token, exact to the second.
        life: Duration,
    },
}

impl Auth {
    /// Tokens with a lifetime of five minutes, as on Docker Hub.
    pub const TOKEN: Self = Self::Token { life: Duration::from_secs(300) };
}

/// Users of a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// Reads, with the login in a Secret.
    Reader,
    /// Fills the registry.
    Writer,
}

impl User {
    const ALL: [Self; 2] = [Self::Reader, Self::Writer];

    /// Returns the user name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Writer => "writer",
        }
    }

    /// Returns the password.
    pub const fn password(self) -> &'static str {
        match self {
            Self::Reader => "reader-password",
            Self::Writer => "writer-password",
        }
    }

    /// Returns the bcrypt hash of the password with the lowest possible cost, since the registry
    /// computes it for every request.
    const fn bcrypt(self) -> &'static str {
        match self {
            Self::Reader => "$2b$04$ecrsyncreaderXXXXXXXXes3vTctY4Bx.QfMWXro3SBEN0AF2VLWa",
            Self::Writer => "$2b$04$ecrsyncwriterXXXXXXXXeeK1KJHI0g50MHb6raO9YIIo6mWqTTOC",
        }
    }

    fn login(name: &str, password: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|user| user.name() == name && user.password() == password)
    }
}

/// A running registry. Dropping it stops it; its files stay in its folder.
#[derive(Debug)]
pub struct Upstream {
    dir: PathBuf,
    host: String,
    registry: Process,
    front: Option<Front>,
}

impl Upstream {
    /// Starts a registry with all its files and its log (`registry.log`) in `dir`, and returns when
    /// it answers.
    ///
    /// # Errors
    /// When the tool is missing, ends, or is not ready in time; the message has the end of its log.
    pub async fn start(dir: impl AsRef<Path>, auth: Auth) -> Result<Self, Error> {
        let dir = std::path::absolute(dir).map_err(|e| format!("no current folder: {e}"))?;
        fs::create_dir_all(&dir).map_err(|e| format!("cannot create {}: {e}", dir.display()))?;
        let front = match auth {
            Auth::Token { life } => Some(Front::start(life)?),
            Auth::None | Auth::Basic => None,
        };
        let auth = write_auth(&dir, auth, front.as_ref())?;
        let (registry, host) =
            run(&dir, &configuration(&dir.join("storage"), &auth), "http", &http::client()).await?;
        let host = match &front {
            None => host,
            Some(front) => {
                front.stands_before(&host);
                front.host().to_owned()
            }
        };
        for user in User::ALL {
            let login = match auth {
                Value::Null => json!({}),
                _ => json!({"auths": {&host: {"auth": basic(user)}}}),
            };
            let folder = dir.join(user.name());
            fs::create_dir_all(&folder)
                .map_err(|e| format!("cannot create {}: {e}", folder.display()))?;
            write(&folder.join("config.json"), &login)?;
        }
        Ok(Self { dir, host, registry, front })
    }

    /// Starts a registry with HTTPS and the server's certificate, without a login, with the same
    /// files as another one. With `client_ca`, only clients with a certificate of the same
    /// authority are served.
    ///
    /// # Errors
    /// As [`Upstream::start`].
    pub async fn start_tls(
        dir: impl AsRef<Path>,
        certificates: &Certificates,
        client_ca: bool,
        content: &Self,
    ) -> Result<Self, Error> {
        let dir = std::path::absolute(dir).map_err(|e| format!("no current folder: {e}"))?;
        fs::create_dir_all(&dir).map_err(|e| format!("cannot create {}: {e}", dir.display()))?;
        let file = |name: &str, pem: &str| -> Result<PathBuf, Error> {
            let path = dir.join(name);
            fs::write(&path, pem).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
            Ok(path)
        };
        let authority = file("ca.crt", &certificates.authority)?;
        let certificate = file("tls.crt", &certificates.server.certificate)?;
        let key = file("tls.key", &certificates.server.key)?;
        let mut config = configuration(&content.dir.join("storage"), &Value::Null);
        config["http"]["tls"] = json!({"certificate": certificate, "key": key});
        if client_ca {
            config["http"]["tls"]["clientcas"] = json!([authority]);
        }
        let (registry, host) = run(&dir, &config, "https", &http::client_of(certificates)?).await?;
        Ok(Self { dir, host, registry, front: None })
    }

    /// `127.0.0.1:PORT`, as in image references. It speaks plain HTTP unless started with
    /// [`Upstream::start_tls`].
    pub fn host(&self) -> &str {
        &self.host
    }

    /// `127.0.0.1:PORT/REPOSITORY:TAG`.
    pub fn reference(&self, repository: &str, tag: &str) -> String {
        format!("{}/{repository}:{tag}", self.host)
    }

    /// Returns the folder with the Docker `config.json` of this user, for `DOCKER_CONFIG`; it has
    /// no login for anonymous pulls.
    pub fn docker_config(&self, user: User) -> PathBuf {
        self.dir.join(user.name())
    }

    /// Returns the number of token requests, granted or not; 0 unless the registry uses
    /// [`Auth::Token`].
    pub fn token_requests(&self) -> u64 {
        self.front.as_ref().map_or(0, |front| front.tokens().requests())
    }

    /// The registry's process, to stop or pause it in a test.
    pub fn registry(&self) -> &Process {
        &self.registry
    }

    /// Runs crane as the writer and returns its output.
    ///
    /// # Errors
    /// When it fails; the message has its output.
    pub async fn crane(&self, args: &[&str]) -> Result<String, Error> {
        self.crane_as(User::Writer, args).await
    }

    /// Runs crane as this user and returns its output.
    ///
    /// # Errors
    /// When it fails; the message has its output.
    pub async fn crane_as(&self, user: User, args: &[&str]) -> Result<String, Error> {
        let out = tools::Call::new("crane")?
            .args(args)
            .env("DOCKER_CONFIG", self.docker_config(user))
            .output()
            .await?;
        Ok(out.trim_end().to_owned())
    }

    /// Stops the registry with SIGTERM.
    ///
    /// # Errors
    /// When it cannot be stopped.
    pub async fn stop(&self) -> Result<(), Error> {
        self.registry.stop().await.map(drop)
    }
}

/// Writes the files that `auth` needs, and returns the registry's configuration for it, null for
/// none.
fn write_auth(dir: &Path, auth: Auth, front: Option<&Front>) -> Result<Value, Error> {
    match (auth, front) {
        (Auth::Token { .. }, Some(front)) => {
            let jwks = dir.join("jwks.json");
            write(&jwks, &front.tokens().jwks())?;
            Ok(json!({"token": {
                "realm": format!("http://{}/token", front.host()),
                "service": token::SERVICE,
                "issuer": token::ISSUER,
                "jwks": jwks,
                "signingalgorithms": ["ES256"],
            }}))
        }
        (Auth::Basic, _) => {
            let path = dir.join("htpasswd");
            let lines: String = User::ALL
                .iter()
                .map(|user| format!("{}:{}\n", user.name(), user.bcrypt()))
                .collect();
            fs::write(&path, lines).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
            Ok(json!({"htpasswd": {"realm": "testbed", "path": path}}))
        }
        (Auth::None | Auth::Token { .. }, _) => Ok(Value::Null),
    }
}

/// Starts a registry on a free port, and returns it with its `HOST:PORT` as soon as it answers.
async fn run(
    dir: &Path,
    config: &Value,
    scheme: &str,
    client: &reqwest::Client,
) -> Result<(Process, String), Error> {
    let program = tools::find("registry")?;
    retry_ports(async |[port]: [u16; 1]| {
        let host = format!("127.0.0.1:{port}");
        let mut config = config.clone();
        config["http"]["addr"] = json!(host);
        let path = dir.join("config.json"); // YAML, of which JSON is a part
        write(&path, &config)?;
        let mut command = Command::new(&program);
        command.arg("serve").arg(&path).env("OTEL_TRACES_EXPORTER", "none");
        let registry = Process::spawn("registry", &command, &dir.join("registry.log"))?;
        wait_ready(&registry, client.get(format!("{scheme}://{host}/")), READY).await?;
        Ok((registry, host))
    })
    .await
}

fn configuration(storage: &Path, auth: &Value) -> Value {
    let mut config = json!({
        "version": "0.1",
        "log": {"level": "info"},
        "storage": {"filesystem": {"rootdirectory": storage}, "delete": {"enabled": true}},
        "http": {"secret": "testbed"},
    });
    if !auth.is_null() {
        config["auth"] = auth.clone();
    }
    config
}

fn basic(user: User) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", user.name(), user.password()))
}

fn write(path: &Path, value: &Value) -> Result<(), Error> {
    fs::write(path, format!("{value:#}\n"))
        .map_err(|e| format!("cannot write {}: {e}", path.display()).into())
}
