//! A real Kubernetes API: etcd and kube-apiserver on this machine, with RBAC and service-account
//! tokens.
//!
//! # Caveats
//! There is no controller manager, scheduler or kubelet. So Pods never run, a deleted namespace
//! stays in `Terminating`, owner references are not collected, no `default` service account is
//! created, and the aggregated cluster roles `admin`, `edit` and `view` allow nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep};

use crate::process::{Process, retry_ports, wait_ready};
use crate::{Error, http, scratch, tools};

/// Ready takes about 3 s on two idle cores; the rest is for a machine that also compiles.
const READY: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(25);

/// A running API server with its etcd. Dropping it stops both.
#[derive(Debug)]
pub struct Cluster {
    dir: PathBuf,
    url: String,
    // Dropped in this order: the API server first, then its storage.
    apiserver: Process,
    etcd: Process,
}

impl Cluster {
    /// Starts etcd and kube-apiserver with all their files and logs (`etcd.log`,
    /// `kube-apiserver.log`) in `dir`, and returns when `/readyz` answers ok.
    ///
    /// # Errors
    /// When a tool is missing, ends, or is not ready in time; the message has the end of its log.
    pub async fn start(dir: impl AsRef<Path>) -> Result<Self, Error> {
        let dir = std::path::absolute(dir).map_err(|e| format!("no current folder: {e}"))?;
        fs::create_dir_all(&dir).map_err(|e| format!("cannot create {}: {e}", dir.display()))?;
        let (etcd, etcd_url) = start_etcd(&dir).await?;
        let token = write_credentials(&dir)?;
        let (apiserver, url) = start_apiserver(&dir, &etcd_url, &token).await?;
        let cluster = Self { dir, url, apiserver, etcd };
        cluster.write_kubeconfig("admin", "default", &token)?;
        Ok(cluster)
    }

    /// The cluster of this test binary, started by the first caller. It ends with the binary.
    ///
    /// The files are in `target/testbed/` and are kept until the next run, to read the logs.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Cluster> = OnceCell::const_new();
        let start = async {
            let dir = scratch::folder("cluster")?;
            Self::start(dir).await
        };
        match SHARED.get_or_try_init(|| start).await {
            Ok(cluster) => cluster,
            Err(e) => panic!("the shared cluster cannot be started: {e}"),
        }
    }

    /// `https://127.0.0.1:PORT`, with the certificate of [`Cluster::ca`].
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The PEM file with the certificate authority of the API server.
    pub fn ca(&self) -> PathBuf {
        ca(&self.dir)
    }

    /// The kubeconfig of the administrator (group `system:masters`).
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("admin.kubeconfig")
    }

    /// The API server's process, to stop or pause it in a test.
    pub fn apiserver(&self) -> &Process {
        &self.apiserver
    }

    /// etcd's process, to stop or pause it in a test.
    pub fn etcd(&self) -> &Process {
        &self.etcd
    }

    /// Runs kubectl as the administrator and returns its output.
    ///
    /// # Errors
    /// When it fails; the message has its output.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String, Error> {
        self.kubectl_call(&self.kubeconfig())?.args(args).output().await
    }

    /// Runs kubectl with another kubeconfig, such as one of
    /// [`Cluster::service_account_kubeconfig`].
    ///
    /// # Errors
    /// When it fails; the message has its output.
    pub async fn kubectl_as(&self, kubeconfig: &Path, args: &[&str]) -> Result<String, Error> {
        self.kubectl_call(kubeconfig)?.args(args).output().await
    }

    /// `kubectl apply --filename -` as the administrator.
    ///
    /// # Errors
    /// When kubectl fails, for example because the API server refuses the object.
    pub async fn apply(&self, yaml: &str) -> Result<String, Error> {
        self.kubectl_call(&self.kubeconfig())?
            .args(["apply", "--filename", "-"])
            .input(yaml)
            .output()
            .await
    }

    /// Creates a namespace.
    ///
    /// # Errors
    /// When it cannot be created, or exists already.
    pub async fn create_namespace(&self, name: &str) -> Result<(), Error> {
        self.kubectl(&["create", "namespace", name]).await.map(drop)
    }

    /// Returns the kubeconfig of a service account, with a token of the TokenRequest API that is
    /// valid for a day. The account is created if needed, and has only the permissions that are
    /// given to it.
    ///
    /// # Errors
    /// When the namespace does not exist, or the kubeconfig cannot be written.
    pub async fn service_account_kubeconfig(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<PathBuf, Error> {
        let account = format!(
            "{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: {name}, namespace: \
             {namespace}}}}}"
        );
        self.apply(&account).await?;
        let token = self
            .kubectl(&["create", "token", name, "--namespace", namespace, "--duration", "24h"])
            .await?;
        self.write_kubeconfig(&format!("{namespace}.{name}"), namespace, token.trim())
    }

    /// Stops the API server and then etcd with SIGTERM.
    ///
    /// # Errors
    /// When one of them cannot be stopped.
    pub async fn stop(&self) -> Result<(), Error> {
        self.apiserver.stop().await?;
        self.etcd.stop().await?;
        Ok(())
    }

    fn kubectl_call(&self, kubeconfig: &Path) -> Result<tools::Call, Error> {
        // Discovery is cached by server address, and ports are used again: the cache must not
        // outlive this cluster.
        let cache = self.dir.join("kubectl-cache");
        Ok(tools::Call::new("kubectl")?.env("KUBECONFIG", kubeconfig).arg("--cache-dir").arg(cache))
    }

    fn write_kubeconfig(&self, user: &str, namespace: &str, token: &str) -> Result<PathBuf, Error> {
        let path = self.dir.join(format!("{user}.kubeconfig"));
        let config = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "testbed", "cluster": {"server": self.url,
                "certificate-authority": self.ca()}}],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": user,
                "namespace": namespace}}],
            "current-context": "testbed",
        });
        write(&path, &format!("{config:#}\n"))?;
        Ok(path)
    }
}

async fn start_etcd(dir: &Path) -> Result<(Process, String), Error> {
    let program = tools::find("etcd")?;
    let data = dir.join("etcd");
    retry_ports(async |ports: [u16; 2]| {
        let [client, peer] = ports.map(|port| format!("http://127.0.0.1:{port}"));
        let mut command = Command::new(&program);
        command.arg("--data-dir").arg(&data).args([
            "--unsafe-no-fsync", // nothing here outlives a power cut
            "--log-level=warn",
            &format!("--listen-client-urls={client}"),
            &format!("--advertise-client-urls={client}"),
            &format!("--listen-peer-urls={peer}"),
            &format!("--initial-advertise-peer-urls={peer}"),
            &format!("--initial-cluster=default={peer}"),
        ]);
        let etcd = Process::spawn("etcd", &command, &dir.join("etcd.log"))?;
        wait_ready(&etcd, http::client().get(format!("{client}/health")), READY).await?;
        Ok((etcd, client))
    })
    .await
}

async fn start_apiserver(dir: &Path, etcd: &str, token: &str) -> Result<(Process, String), Error> {
    let program = tools::find("kube-apiserver")?;
    retry_ports(async |[port]: [u16; 1]| {
        let url = format!("https://127.0.0.1:{port}");
        let path = |name: &str| dir.join(name).display().to_string();
        let mut command = Command::new(&program);
        command.args([
            &format!("--etcd-servers={etcd}"),
            "--bind-address=127.0.0.1",
            // Without this flag, a machine without a default route has no address to advertise.
            "--advertise-address=127.0.0.1",
            &format!("--secure-port={port}"),
            &format!("--cert-dir={}", path("certs")),
            "--service-cluster-ip-range=10.0.0.0/24",
            // The server would write the loopback address into the endpoints of the `kubernetes`
            // service, which is refused.
            "--endpoint-reconciler-type=none",
            "--authorization-mode=RBAC",
            &format!("--token-auth-file={}", path("tokens.csv")),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            &format!("--service-account-key-file={}", path("service-accounts.pub")),
            &format!("--service-account-signing-key-file={}", path("service-accounts.key")),
            // Pods would need the service account that a controller creates in each namespace.
            "--disable-admission-plugins=ServiceAccount",
            "--allow-privileged=true",
            "--profiling=false",
        ]);
        let apiserver =
            Process::spawn("kube-apiserver", &command, &dir.join("kube-apiserver.log"))?;
        // The server creates its certificate at its start: until then there is nothing to trust.
        let end = Instant::now() + READY;
        while !(ca(dir).exists() && dir.join("certs/apiserver.key").exists()) {
            apiserver.alive()?;
            if Instant::now() >= end {
                return Err(format!(
                    "kube-apiserver wrote no certificate; its log ends:\n{}",
                    apiserver.tail(20)
                )
                .into());
            }
            sleep(POLL).await;
        }
        let client = http::client_trusting(&ca(dir))?;
        wait_ready(&apiserver, client.get(format!("{url}/readyz")).bearer_auth(token), READY)
            .await?;
        Ok((apiserver, url))
    })
    .await
}

/// Writes the administrator's token file and the key pair that signs service-account tokens.
/// Returns the token.
fn write_credentials(dir: &Path) -> Result<String, Error> {
    let mut random = [0; 24];
    aws_lc_rs::rand::fill(&mut random).map_err(|e| format!("no random bytes: {e}"))?;
    let token = URL_SAFE_NO_PAD.encode(random);
    write(&dir.join("tokens.csv"), &format!("{token},admin,admin,\"system:masters\"\n"))?;

    let pkcs8 =
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .map_err(|e| format!("cannot generate a service-account key: {e}"))?;
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref())
        .map_err(|e| format!("cannot read the service-account key just generated: {e}"))?;
    let public: PublicKeyX509Der<'_> = pair
        .public_key()
        .as_der()
        .map_err(|e| format!("cannot encode the service-account key: {e}"))?;
    write(&dir.join("service-accounts.key"), &pem("PRIVATE KEY", pkcs8.as_ref()))?;
    write(&dir.join("service-accounts.pub"), &pem("PUBLIC KEY", public.as_ref()))?;
    Ok(token)
}

fn ca(dir: &Path) -> PathBuf {
    dir.join("certs/apiserver.crt")
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = tail;
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(|e| format!("cannot write {}: {e}", path.display()).into())
}
