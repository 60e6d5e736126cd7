//! Calls about repositories: describe, create, delete, settings, resource tags.

use std::collections::BTreeMap;

use aws_sdk_ecr::types::Tag;

use super::error::{Error, none_if};
use super::registry::Registry;
use super::repository::Repository;
use super::settings::{Encryption, Mutability, Settings, scanning};

impl Registry {
    /// Returns the repository, if it exists.
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
        let described = answer.repositories().first();

        described.map(|described| Repository::from_described(OPERATION, described)).transpose()
    }

    /// Returns all repositories of the registry.
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

    /// Creates the repository with its resource tags and settings, in one call. Returns `None` if
    /// it already exists.
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
            .set_image_scanning_configuration(settings.scan_on_push.map(scanning))
            .set_encryption_configuration(settings.encryption.as_ref().and_then(Encryption::to_sdk))
            .send()
            .await;

        let Some(answer) = none_if(result, "RepositoryAlreadyExistsException", OPERATION, name)?
        else {
            return Ok(None);
        };

        let described =
            answer.repository().ok_or_else(|| Error::incomplete(OPERATION, name, "repository"))?;

        Repository::from_described(OPERATION, described).map(Some)
    }

    /// Deletes the repository; succeeds if it does not exist. Only `force` deletes one that has
    /// images.
    ///
    /// # Errors
    /// As AWS answers; class `RepositoryNotEmpty` if it has images and `force` is false.
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

    /// Sets the tag mutability. Replaces the exclusion filters.
    ///
    /// # Errors
    /// As AWS answers.
    pub async fn put_mutability(&self, name: &str, mutability: &Mutability) -> Result<(), Error> {
        self.client
            .put_image_tag_mutability()
            .registry_id(&self.account)
            .repository_name(name)
            .image_tag_mutability(mutability.to_sdk())
            .set_image_tag_mutability_exclusion_filters(mutability.filters_to_sdk())
            .send()
            .await
            .map(drop)
            .map_err(|error| Error::from_sdk("ecr:PutImageTagMutability", name, &error))
    }

    /// Sets whether ECR scans images when they are pushed.
    ///
    /// # Errors
    /// As AWS answers.
    pub async fn put_scan_on_push(&self, name: &str, on_push: bool) -> Result<(), Error> {
        self.client
            .put_image_scanning_configuration()
            .registry_id(&self.account)
            .repository_name(name)
            .image_scanning_configuration(scanning(on_push))
            .send()
            .await
            .map(drop)
            .map_err(|error| Error::from_sdk("ecr:PutImageScanningConfiguration", name, &error))
    }

    /// Returns the resource tags of a repository, without AWS's own (`aws:…`).
    ///
    /// # Errors
    /// As AWS answers.
    pub async fn resource_tags(
        &self,
        repository: &Repository,
    ) -> Result<BTreeMap<String, String>, Error> {
        let answer = self
            .client
            .list_tags_for_resource()
            .resource_arn(&repository.arn)
            .send()
            .await
            .map_err(|error| {
                Error::from_sdk("ecr:ListTagsForResource", &repository.name, &error)
            })?;

        Ok(answer
            .tags()
            .iter()
            .filter(|tag| !tag.key().starts_with("aws:"))
            .map(|tag| (tag.key().to_owned(), tag.value().to_owned()))
            .collect())
    }

    /// Sets these resource tags; keeps all other keys.
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

    /// Removes the resource tags with these keys; succeeds if a key does not exist.
    ///
    /// # Errors
    /// As AWS answers.
    pub async fn untag_resource(
        &self,
        repository: &Repository,
        keys: &[String],
    ) -> Result<(), Error> {
        self.client
            .untag_resource()
            .resource_arn(&repository.arn)
            .set_tag_keys(Some(keys.to_vec()))
            .send()
            .await
            .map(drop)
            .map_err(|error| Error::from_sdk("ecr:UntagResource", &repository.name, &error))
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
        .map_err(|_| Error::incomplete(operation, thing, "tags"))
}
