//! One ECR registry, that is one (account, region) under one identity: its client, its login for
//! the data plane, its rate limits. The calls are in `repositories`, `policies`, `images`,
//! `contents` and `archive`.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_ecr::error::ProvideErrorMetadata;
use tokio::sync::OnceCell;

use super::error::Error;
use super::rate_limits::{Queue, RateLimits};
use super::repository::Repository;
use super::token::Token;
use crate::meter::Meter;
use crate::registry::{self, Endpoint, Scheme, Transport};

/// Calls to ECR in one account and region, shared by all resources that live there.
#[derive(Debug)]
pub struct Registry {
    /// The AWS account ID.
    pub account: String,
    /// The AWS region.
    pub region: String,
    /// Calls per second that ECR allows in this account and region.
    pub limits: Arc<RateLimits>,
    /// Receives counts of requests, waits and bytes.
    pub meter: Arc<dyn Meter>,
    pub(super) client: aws_sdk_ecr::Client,
    transport: Transport,
    /// Limits requests and streams of the data plane over all resources together: a stream holds
    /// at most two buffers of 256 KiB, so this bounds the bytes in flight.
    data: Arc<registry::Limits>,
    token: Arc<Token>,
    /// Whether repositories can mount blobs from each other; read once.
    mounts: OnceCell<bool>,
    /// Prefixes of pull-through cache rules; empty where they cannot be read.
    pub(super) pull_through: OnceCell<Vec<String>>,
}

/// ECR takes some thousands of requests per second (its quotas), a node's link carries some dozens
/// of streams: 32 uploads have at most 16 MiB in flight.
const WIDTHS: registry::Widths = registry::Widths { requests: 64, downloads: 32, uploads: 32 };

impl Registry {
    pub(super) fn new(
        account: String,
        region: String,
        client: aws_sdk_ecr::Client,
        transport: Transport,
        limits: Arc<RateLimits>,
        meter: Arc<dyn Meter>,
    ) -> Self {
        let token =
            Arc::new(Token::new(client.clone(), account.clone(), region.clone(), meter.clone()));

        Self {
            account,
            region,
            limits,
            meter,
            client,
            transport,
            data: Arc::new(registry::Limits::new(WIDTHS)),
            token,
            mounts: OnceCell::new(),
            pull_through: OnceCell::new(),
        }
    }

    /// Gets the password for the data plane (`/v2/`), unless there is a valid one.
    ///
    /// # Errors
    /// As AWS answers.
    pub async fn log_in(&self) -> Result<(), Error> {
        self.token.scheme().await.map(drop)
    }

    /// Returns a client for the data plane (`/v2/`) of the registry that holds `repository`. Each
    /// pass takes a new one, since its manifests have a queue of their own.
    ///
    /// # Errors
    /// When ECR gives no authorization token.
    pub(crate) async fn data_plane(
        &self,
        repository: &Repository,
    ) -> Result<registry::Client, Error> {
        let endpoint =
            Endpoint { scheme: self.token.scheme().await?, host: repository.host().to_owned() };
        let options = registry::Options {
            preemptive_basic: true,
            limits: Some(self.data.clone()),
            manifests: Some(Arc::new(Queue::before(self.limits.put_image.clone()))),
            uploads: Some(self.limits.uploads.clone()),
            ..registry::Options::default()
        };

        Ok(registry::Client::new(self.transport.clone(), endpoint, self.token.clone(), options)?)
    }

    /// Returns a client that reads from the registry at `host`, as a source. The password does not
    /// leave this module: it is sent over the operator's connection, with TLS.
    ///
    /// # Errors
    /// When `host` is not valid.
    pub(crate) fn reader(
        &self,
        host: &str,
        options: registry::Options,
    ) -> Result<registry::Client, registry::Error> {
        // ECR accepts only Basic, so no challenge is needed.
        let options = registry::Options { preemptive_basic: true, ..options };
        let endpoint = Endpoint { scheme: Scheme::Https, host: host.to_owned() };
        registry::Client::new(self.transport.clone(), endpoint, self.token.clone(), options)
    }

    /// Whether the account lets a repository mount a blob of another one (setting
    /// `BLOB_MOUNTING`). The setting is read once per process. If it cannot be read in time, blobs
    /// are uploaded.
    pub async fn mounts_blobs(&self) -> bool {
        let read = async {
            let request = self.client.get_account_setting().name("BLOB_MOUNTING").send();
            let problem = "cannot read the setting BLOB_MOUNTING: uploading blobs";
            let answer = in_time(request, problem).await;
            answer.is_some_and(|answer| answer.value() == Some("ENABLED"))
        };

        *self.mounts.get_or_init(|| read).await
    }
}

/// Returns the answer to a call that the work can do without; `None` if there is none in time.
pub(super) async fn in_time<T, E: ProvideErrorMetadata>(
    request: impl Future<Output = Result<T, E>>,
    problem: &str,
) -> Option<T> {
    /// Neither advice nor the upload of a small blob is worth a longer wait.
    const TIMEOUT: Duration = Duration::from_secs(5);

    match tokio::time::timeout(TIMEOUT, request).await.ok()? {
        Ok(answer) => Some(answer),
        Err(error) => {
            tracing::debug!(code = ?error.code(), "{problem}");
            None
        }
    }
}
