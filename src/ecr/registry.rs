//! The control plane of one (account, region).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_ecr::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ecr::types::Tag;
use tokio::sync::OnceCell;

use super::error::Error;
use super::rate_limits::{Queue, RateLimits};
use super::repository::Repository;
use super::settings::{self, Encryption, Mutability, Settings};
use super::token::Token;
use crate::meter::Meter;
use crate::registry::{self, Endpoint, Transport};

/// Calls to ECR in one account and region. Shared by all resources that live there.
#[derive(Debug)]
pub struct Registry {
    /// The account.
    pub account: String,
    /// The region.
    pub region: String,
    /// What ECR lets this account and region do per second.
    pub limits: Arc<RateLimits>,
    /// Who is told of the work.
    pub meter: Arc<dyn Meter>,
    pub(super) client: aws_sdk_ecr::Client,
    transport: Transport,
    /// Requests and streams of the data plane, by all resources together: a stream holds two
    /// buffers of 256 KiB at most, so that this bounds the bytes in flight.
    data: Arc<registry::Limits>,
    token: Arc<Token>,
    /// Whether repositories take blobs from each other; asked once.
    mounts: OnceCell<bool>,
    /// Prefixes of pull-through cache rules; empty where they cannot be read.
    pub(super) pull_through: OnceCell<Vec<String>>,
}

/// ECR takes some thousands of requests per second (its quotas), a node's link carries some dozens
/// of streams: 32 uploads have at most 16 MiB in flight.
const WIDTHS: registry::Widths = registry::Widths { requests: 64, downloads: 32, uploads: 32 };

/// What an ECR error of "there is none" means.
fn none_if<T, E>(
    result: Result<T, SdkError<E, aws_sdk_ecr::config::http::HttpResponse>>,
    code: &str,
    operation: &'static str,
    thing: &str,
) -> Result<Option<T>, Error>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match result {
        Ok(answer) => Ok(Some(answer)),
        Err(SdkError::ServiceError(error)) if error.err().code() == Some(code) => Ok(None),
        Err(error) => Err(Error::from_sdk(operation, thing, &error)),
    }
}

fn to_sdk_tags(
    operation: &'static str,
    thing: &str,
    tags: &BTreeMap<String, String>,
) -> Result<Vec<Tag>, Error> {
    tags.iter()
        .map(|(key, value)| Tag::builder().key(key).value(value).build())
        .collect::<Result<_, _>>()
        .map_err(|_| Error::Incomplete { operation, thing: thing.to_owned(), field: "tags" })
}

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

    /// Gets the password for the data plane (`/v2/`), unless there is one.
    ///
    /// # Errors
    /// As AWS answers.
    pub async fn log_in(&self) -> Result<(), Error> {
        self.token.scheme().await.map(drop)
    }

    /// A client for the data plane (`/v2/`) of the registry that `repository` lives in; one for
    /// each pass, since its manifests have a queue of their own.
    ///
    /// # Errors
    /// When no authorization token is to be had.
    pub async fn data_plane(&self, repository: &Repository) -> Result<registry::Client, Error> {
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

    /// What logs in to registries of this region, for reading from them.
    #[must_use]
    pub fn authenticator(&self) -> Arc<dyn registry::Authenticator> {
        self.token.clone()
    }

    /// Whether the account lets a repository take a blob from another one (setting
    /// `BLOB_MOUNTING`). Asked once per process, and never a reason to fail or to wait: without it
    /// blobs are sent.
    pub async fn mounts_blobs(&self) -> bool {
        /// Sending a small blob takes no longer.
        const PATIENCE: Duration = Duration::from_secs(5);
        let ask = async {
            let asked = self.client.get_account_setting().name("BLOB_MOUNTING").send();
            match tokio::time::timeout(PATIENCE, asked).await {
                Ok(Ok(answer)) => answer.value() == Some("ENABLED"),
                Ok(Err(error)) => {
                    tracing::debug!(code = ?error.code(), "whether blobs can be mounted is not known: they are sent");
                    false
                }
                Err(_) => false,
            }
        };
        *self.mounts.get_or_init(|| ask).await
    }

    /// The repository, if it exists.
    ///
    /// # Errors
    /// As AWS answers.
    pub async fn repository(&self, name: &str) -> Result<Option<Repository>, Error> {
        const OPERATION: &str = "ecr:DescribeRepositories";
        let result = self
            .client
            .describe_repositories()
            .registry_id(&self.account)
            .repository_names(name)
            .send()
            .await;
        let Some(answer) = none_if(result, "RepositoryNotFoundException", OPERATION, name)? else {
            return Ok(None);
        };
        answer
            .repositories()
            .first()
            .map(|described| Repository::from_described(OPERATION, described))
            .transpose()
    }

    /// All repositories of the registry.
    ///
    /// # Errors
    /// As AWS answers.
    pub async fn repositories(&self) -> Result<Vec<Repository>, Error> {
        const OPERATION: &str = "ecr:DescribeRepositories";
        let mut pages =
            self.client.describe_repositories().registry_id(&self.account).into_paginator().send();
        let mut repositories = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| Error::from_sdk(OPERATION, &self.account, &error))?;
            for described in page.repositories() {
                repositories.push(Repository::from_described(OPERATION, described)?);
            }
        }
        Ok(repositories)
    }

    /// Creates the repository with its resource tags and settings, in one call. `None` if it
    /// already exists.
    ///
    /// # Errors
    /// As AWS answers. Tags need `ecr:TagResource` besides `ecr:CreateRepository`.
    pub async fn create_repository(
        &self,
        name: &str,
        tags: &BTreeMap<String, String>,
        settings: &Settings,
    ) -> Result<Option<Repository>, Error> {
        const OPERATION: &str = "ecr:CreateRepository";
        let mutability = settings.mutability.as_ref();
        let result = self
            .client
            .create_repository()
            .registry_id(&self.account)
            .repository_name(name)
            .set_tags(Some(to_sdk_tags(OPERATION, name, tags)?))
            .set_image_tag_mutability(mutability.map(Mutability::to_sdk))
            .set_image_tag_mutability_exclusion_filters(
                mutability.and_then(Mutability::filters_to_sdk),
            )
            .set_image_scanning_configuration(settings.scan_on_push.map(settings::scanning))
            .set_encryption_configuration(settings.encryption.as_ref().and_then(Encryption::to_sdk))
            .send()
            .await;
        let Some(answer) = none_if(result, "RepositoryAlreadyExistsException", OPERATION, name)?
        else {
            return Ok(None);
        };
        let described = answer.repository().ok_or_else(|| Error::Incomplete {
            operation: OPERATION,
            thing: name.to_owned(),
            field: "repository",
        })?;
        Repository::from_described(OPERATION, described).map(Some)
    }

    /// Deletes the repository; none there is success. With images in it only by `force`.
    ///
    /// # Errors
    /// As AWS answers; class `RepositoryNotEmpty` where images are in the way.
    pub async fn delete_repository(&self, name: &str, force: bool) -> Result<(), Error> {
        let result = self
            .client
            .delete_repository()
            .registry_id(&self.account)
            .repository_name(name)
            .force(force)
            .send()
            .await;
        none_if(result, "RepositoryNotFoundException", "ecr:DeleteRepository", name).map(drop)
    }

    /// The resource tags of a repository, AWS's own (`aws:…`) left out.
    ///
    /// # Errors
    /// As AWS answers.
    pub async fn resource_tags(
        &self,
        repository: &Repository,
    ) -> Result<BTreeMap<String, String>, Error> {
        const OPERATION: &str = "ecr:ListTagsForResource";
        let answer = self
            .client
            .list_tags_for_resource()
            .resource_arn(&repository.arn)
            .send()
            .await
            .map_err(|error| Error::from_sdk(OPERATION, &repository.name, &error))?;
        Ok(answer
            .tags()
            .iter()
            .filter(|tag| !tag.key().starts_with("aws:"))
            .map(|tag| (tag.key().to_owned(), tag.value().to_owned()))
            .collect())
    }

    /// Sets these resource tags; keys that are not named stay.
    ///
    /// # Errors
    /// As AWS answers.
    pub async fn tag_resource(
        &self,
        repository: &Repository,
        tags: &BTreeMap<String, String>,
    ) -> Result<(), Error> {
        const OPERATION: &str = "ecr:TagResource";
        self.client
            .tag_resource()
            .resource_arn(&repository.arn)
            .set_tags(Some(to_sdk_tags(OPERATION, &repository.name, tags)?))
            .send()
            .await
            .map(drop)
            .map_err(|error| Error::from_sdk(OPERATION, &repository.name, &error))
    }

    /// The lifecycle policy's text, if there is one.
    ///
    /// # Errors
    /// As AWS answers.
    pub async fn lifecycle_policy(&self, name: &str) -> Result<Option<String>, Error> {
        const OPERATION: &str = "ecr:GetLifecyclePolicy";
        let result = self
            .client
            .get_lifecycle_policy()
            .registry_id(&self.account)
            .repository_name(name)
            .send()
            .await;
        let answer = none_if(result, "LifecyclePolicyNotFoundException", OPERATION, name)?;
        Ok(answer.and_then(|answer| answer.lifecycle_policy_text().map(str::to_owned)))
    }

    /// Replaces the lifecycle policy; returns it as ECR says that it keeps it.
    ///
    /// # Errors
    /// As AWS answers; a text that AWS does not like has class `PolicyRejected`.
    pub async fn put_lifecycle_policy(
        &self,
        name: &str,
        text: &str,
    ) -> Result<Option<String>, Error> {
        self.client
            .put_lifecycle_policy()
            .registry_id(&self.account)
            .repository_name(name)
            .lifecycle_policy_text(text)
            .send()
            .await
            .map(|answer| answer.lifecycle_policy_text().map(str::to_owned))
            .map_err(|error| Error::from_sdk("ecr:PutLifecyclePolicy", name, &error))
    }

    /// Removes the lifecycle policy; none there is success.
    ///
    /// # Errors
    /// As AWS answers.
    pub async fn delete_lifecycle_policy(&self, name: &str) -> Result<(), Error> {
        let result = self
            .client
            .delete_lifecycle_policy()
            .registry_id(&self.account)
            .repository_name(name)
            .send()
            .await;
        none_if(result, "LifecyclePolicyNotFoundException", "ecr:DeleteLifecyclePolicy", name)
            .map(drop)
    }

    /// The repository policy's text, if there is one.
    ///
    /// # Errors
    /// As AWS answers.
    pub async fn permission_policy(&self, name: &str) -> Result<Option<String>, Error> {
        const OPERATION: &str = "ecr:GetRepositoryPolicy";
        let result = self
            .client
            .get_repository_policy()
            .registry_id(&self.account)
            .repository_name(name)
            .send()
            .await;
        let answer = none_if(result, "RepositoryPolicyNotFoundException", OPERATION, name)?;
        Ok(answer.and_then(|answer| answer.policy_text().map(str::to_owned)))
    }

    /// Replaces the repository policy; returns it as ECR says that it keeps it.
    ///
    /// # Errors
    /// As AWS answers; a text that AWS does not like has class `PolicyRejected`.
    pub async fn set_permission_policy(
        &self,
        name: &str,
        text: &str,
    ) -> Result<Option<String>, Error> {
        self.client
            .set_repository_policy()
            .registry_id(&self.account)
            .repository_name(name)
            .policy_text(text)
            .send()
            .await
            .map(|answer| answer.policy_text().map(str::to_owned))
            .map_err(|error| Error::from_sdk("ecr:SetRepositoryPolicy", name, &error))
    }

    /// Removes the repository policy; none there is success.
    ///
    /// # Errors
    /// As AWS answers.
    pub async fn delete_permission_policy(&self, name: &str) -> Result<(), Error> {
        let result = self
            .client
            .delete_repository_policy()
            .registry_id(&self.account)
            .repository_name(name)
            .send()
            .await;
        none_if(result, "RepositoryPolicyNotFoundException", "ecr:DeleteRepositoryPolicy", name)
            .map(drop)
    }
}
