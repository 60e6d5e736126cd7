//! [moto](https://docs.getmoto.org), an independent emulator of AWS: a second judge beside the
//! stand-in, for the control plane of ECR. It has no registry.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::process::{Process, retry_ports, wait_ready};
use crate::{Error, http, scratch, tools};

/// Python imports it in about 3 s on two idle cores; the rest is for a machine that also compiles.
const READY: Duration = Duration::from_secs(90);

/// A running moto. Dropping it stops it.
#[derive(Debug)]
pub struct Moto {
    host: String,
    _server: Process,
}

impl Moto {
    /// The account of every caller with an unknown key.
    pub const ACCOUNT: &str = "123456789012";

    /// Starts moto with its log (`moto.log`) in `dir`, and returns when it answers.
    ///
    /// # Errors
    /// When the tool is missing, ends, or is not ready in time; the message has the end of its log.
    pub async fn start(dir: &Path) -> Result<Self, Error> {
        let program = tools::find("moto_server")?;
        retry_ports(async |[port]: [u16; 1]| {
            let mut command = Command::new(&program);
            // moto answers for every AWS host name; the rest of the environment does not matter.
            command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
            let server = Process::spawn("moto", &command, &dir.join("moto.log"))?;
            let host = format!("127.0.0.1:{port}");
            wait_ready(&server, http::client().get(format!("http://{host}/moto-api/")), READY)
                .await?;
            Ok(Self { host, _server: server })
        })
        .await
    }

    /// The moto of this test binary, started by the first caller. It ends with the binary.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Moto> = OnceCell::const_new();
        let start = async { Self::start(&scratch::folder("moto")?).await };
        match SHARED.get_or_try_init(|| start).await {
            Ok(moto) => moto,
            Err(e) => panic!("moto cannot be started: {e}"),
        }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Calls ECR independently of the operator: to prepare a test and to check its result.
    ///
    /// # Errors
    /// For an answer of AWS whose status is not 200: the error code and the message.
    pub async fn ecr(&self, region: &str, operation: &str, input: &Value) -> Result<Value, Error> {
        let answer = http::client()
            .post(format!("http://{}/", self.host))
            .header(CONTENT_TYPE, "application/x-amz-json-1.1")
            .header("X-Amz-Target", format!("AmazonEC2ContainerRegistry_V20150921.{operation}"))
            // Service and region are read from the scope; the signature is not verified.
            .header(
                AUTHORIZATION,
                format!(
                    "AWS4-HMAC-SHA256 Credential=any/20260101/{region}/ecr/aws4_request, \
                         SignedHeaders=host, Signature=0"
                ),
            )
            .body(input.to_string())
            .send()
            .await?;
        let (status, text) = (answer.status(), answer.text().await?);
        let body: Value = serde_json::from_str(&text)
            .map_err(|e| format!("{operation}: {status}: {e}: {text}"))?;
        if status.is_success() {
            return Ok(body);
        }
        let part = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        Err(format!("{}: {}", part("__type"), part("message")).into())
    }
}
