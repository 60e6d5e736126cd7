//! The ECR stand-in is honest: programs that are not ours work against it, and it is as nasty as
//! ECR is known to be.

mod clients;
mod control;
mod faults;
mod iam;
mod public;
mod quirks;

use std::path::PathBuf;

use serde_json::{Value, json};
use testbed::Error;
use testbed::ecr::{Config, StandIn};
use testbed::tools::Call;

pub(crate) const ACCOUNT: &str = "123456789012";
pub(crate) const REGION: &str = "eu-west-1";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A stand-in with one registry that every client is logged in to.
pub(crate) struct Bench {
    pub(crate) ecr: StandIn,
    /// `127.0.0.1:PORT`.
    pub(crate) registry: String,
    pub(crate) token: String,
    home: tempfile::TempDir,
}

impl Bench {
    pub(crate) async fn new() -> Result<Self, Error> {
        Self::with(Config::default()).await
    }

    pub(crate) async fn with(config: Config) -> Result<Self, Error> {
        let ecr = StandIn::start(config).await?;
        let registry = ecr.registry(ACCOUNT, REGION).await;
        let token = ecr.authorization_token(ACCOUNT, REGION);
        let bench = Self { ecr, registry, token, home: tempfile::tempdir()? };
        let mut auths = json!({});
        auths[&bench.registry] = json!({"auth": bench.token});
        std::fs::write(bench.home.path().join("config.json"), json!({"auths": auths}).to_string())?;
        Ok(bench)
    }

    pub(crate) fn create(&self, name: &str) {
        self.ecr.create_repository(ACCOUNT, REGION, name, Default::default());
    }

    pub(crate) fn view(&self, name: &str) -> testbed::ecr::RepositoryView {
        self.ecr.repository(ACCOUNT, REGION, name).expect("the repository exists")
    }

    /// `REGISTRY/name`, for the command line of a client.
    pub(crate) fn at(&self, name: &str) -> String {
        format!("{}/{name}", self.registry)
    }

    /// A file in the bench's own folder.
    pub(crate) fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.home.path().join(name);
        std::fs::write(&path, content).expect("a temporary file can be written");
        path
    }

    pub(crate) fn folder(&self) -> &std::path::Path {
        self.home.path()
    }

    /// Runs a registry client that is logged in.
    pub(crate) async fn run(&self, tool: &str, args: &[&str]) -> Result<String, Error> {
        let home = self.home.path();
        let call = Call::new(tool)?.env("DOCKER_CONFIG", home).env("HOME", home).folder(home);
        let call = call.env("REGCTL_CONFIG", home.join("regctl.json"));
        match tool {
            "regctl" => {
                let host = format!("reg={},tls=disabled", self.registry);
                call.args(["--host", host.as_str()]).args(args).output().await
            }
            _ => call.args(args).output().await,
        }
    }

    /// Runs `aws …` as the bench's account and reads its JSON.
    pub(crate) async fn aws(&self, args: &[&str]) -> Result<Value, Error> {
        self.aws_as(&[StandIn::access_key(ACCOUNT), "secret".to_owned(), String::new()], args).await
    }

    /// Runs `aws …` with an access key, its secret and its session token.
    pub(crate) async fn aws_as(&self, keys: &[String; 3], args: &[&str]) -> Result<Value, Error> {
        let call = Call::new("aws")?
            .args(["--endpoint-url", &self.ecr.endpoint(), "--output", "json"])
            .args(args);
        let call = call.env("AWS_ACCESS_KEY_ID", &keys[0]).env("AWS_SECRET_ACCESS_KEY", &keys[1]);
        let call = if keys[2].is_empty() { call } else { call.env("AWS_SESSION_TOKEN", &keys[2]) };
        let call = call
            .env("AWS_DEFAULT_REGION", REGION)
            .env("AWS_MAX_ATTEMPTS", "1")
            .env("HOME", self.home.path());
        let output = call.env("AWS_PAGER", "").output().await?;
        if output.trim().is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_str(&output)?) }
    }

    /// Runs `aws ecr …` and returns the error that it must give.
    pub(crate) async fn aws_error(&self, args: &[&str]) -> String {
        self.aws(args).await.expect_err("the call is refused").to_string()
    }

    /// A call that the AWS CLI would refuse to send. Returns status and body.
    pub(crate) async fn call(&self, operation: &str, input: &Value) -> Result<(u16, Value), Error> {
        let key = StandIn::access_key(ACCOUNT);
        let scope = format!(
            "AWS4-HMAC-SHA256 Credential={key}/20260101/{REGION}/ecr/aws4_request, Signature=0"
        );
        let target = format!("AmazonEC2ContainerRegistry_V20150921.{operation}");
        let request =
            testbed::http::client().post(self.ecr.endpoint()).header("authorization", scope);
        let answer = request.header("x-amz-target", target).body(input.to_string()).send().await?;
        Ok((answer.status().as_u16(), serde_json::from_str(&answer.text().await?)?))
    }

    /// A request to the registry with the bench's token.
    pub(crate) fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = method.parse().expect("a method");
        let url = if path.starts_with("http://") {
            path.to_owned()
        } else {
            format!("http://{}{path}", self.registry)
        };
        testbed::http::client()
            .request(method, url)
            .header("authorization", format!("Basic {}", self.token))
    }

    /// Pushes a blob with POST and one PUT and returns its digest.
    pub(crate) async fn push_blob(&self, name: &str, content: &[u8]) -> Result<String, Error> {
        let location = self.start_upload(name).await?;
        let digest = digest(content);
        let put = self
            .request("PUT", &format!("{location}?digest={digest}"))
            .body(content.to_vec())
            .send()
            .await?;
        assert_eq!(put.status(), 201);
        Ok(digest)
    }

    pub(crate) async fn start_upload(&self, name: &str) -> Result<String, Error> {
        let post = self.request("POST", &format!("/v2/{name}/blobs/uploads/")).send().await?;
        assert_eq!(post.status(), 202);
        Ok(post.headers()["location"].to_str()?.to_owned())
    }

    pub(crate) async fn put_manifest(
        &self,
        name: &str,
        reference: &str,
        kind: &str,
        body: &[u8],
    ) -> Result<reqwest::Response, Error> {
        let request = self.request("PUT", &format!("/v2/{name}/manifests/{reference}"));
        Ok(request.header("content-type", kind).body(body.to_vec()).send().await?)
    }

    /// Pushes an image of one layer; the seed makes it different from others. Returns manifest and
    /// digest.
    pub(crate) async fn push_image(
        &self,
        name: &str,
        tag: &str,
        seed: &str,
    ) -> Result<(Vec<u8>, String), Error> {
        let config = json!({"architecture": "amd64", "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": []}, "seed": seed});
        let config = config.to_string();
        let layer = format!("layer {seed}");
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": self.push_blob(name, config.as_bytes()).await?,
                "size": config.len(),
            },
            "layers": [{
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": self.push_blob(name, layer.as_bytes()).await?,
                "size": layer.len(),
            }],
        });
        let body = manifest.to_string().into_bytes();
        let put = self.put_manifest(name, tag, OCI_MANIFEST, &body).await?;
        assert_eq!(put.status(), 201, "{}", put.text().await?);
        let digest = digest(&body);
        Ok((body, digest))
    }
}

pub(crate) fn digest(content: &[u8]) -> String {
    use sha2::Digest;
    let hex: String =
        sha2::Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// The first error of a registry's answer.
pub(crate) async fn refusal(response: reqwest::Response) -> Result<(u16, String, String), Error> {
    let status = response.status().as_u16();
    let body: Value = serde_json::from_str(&response.text().await?)?;
    let text = |name: &str| body["errors"][0][name].as_str().unwrap_or_default().to_owned();
    Ok((status, text("code"), text("message")))
}
