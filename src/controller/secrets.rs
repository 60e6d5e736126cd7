//! How to reach a source, from Secrets: read live at every pass.

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt};

use super::context::{ApiError, in_time};
use crate::api::v1alpha1::{EcrRepositorySync, LocalReference};
use crate::class::Class;
use crate::credentials::{self, DockerConfig};
use crate::registry::{Credential, Reference, TransportOptions};
use crate::sync::{Access, Failure};

/// Names of the Secrets that a resource refers to, all in its own namespace.
pub(super) fn references(object: &EcrRepositorySync) -> impl Iterator<Item = &str> {
    let image = object.spec.image.iter();
    image
        .flat_map(|image| [&image.secret_ref, &image.cert_secret_ref, &image.proxy_secret_ref])
        .flatten()
        .map(|reference| reference.name.as_str())
}

/// Reads the Secrets of one resource.
pub(super) struct Reader<'a> {
    pub(super) client: &'a Client,
    /// For sources without a secretRef.
    pub(super) fallback: Option<&'a DockerConfig>,
    pub(super) object: &'a EcrRepositorySync,
}

impl Reader<'_> {
    /// How to reach the source of the resource's image.
    ///
    /// # Errors
    /// `SecretNotFound` when a Secret is missing or has no usable key.
    pub(super) async fn access(&self) -> Result<Access, Failure> {
        let Some(image) = &self.object.spec.image else { return Ok(Access::default()) };
        let reference: Reference = image.pull_url.parse()?;
        let credential = match (&image.secret_ref, self.fallback) {
            (Some(named), _) => {
                let secret = self.read("image.secretRef", named).await?;
                self.used("image.secretRef", named, credentials::from_secret(&secret, &reference))?
            }
            (None, Some(config)) => config.credential_without_helpers(&reference)?,
            (None, None) => Credential::Anonymous,
        };
        let mut transport = TransportOptions::default();
        if let Some(named) = &image.cert_secret_ref {
            let secret = self.read("image.certSecretRef", named).await?;
            self.used("image.certSecretRef", named, credentials::trust_from_secret(&secret, &mut transport))?;
        }
        if let Some(named) = &image.proxy_secret_ref {
            let secret = self.read("image.proxySecretRef", named).await?;
            self.used("image.proxySecretRef", named, credentials::proxy_from_secret(&secret, &mut transport))?;
        }
        Ok(Access { credential, transport })
    }

    async fn read(&self, field: &str, named: &LocalReference) -> Result<Secret, Failure> {
        let namespace = self.object.namespace().unwrap_or_default();
        let name = &named.name;
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &namespace);
        let secret = in_time(secrets.get_opt(name)).await.map_err(|error| {
            let class = match &error {
                ApiError::Kube(kube::Error::Api(status)) if status.is_forbidden() => Class::AccessDenied,
                _ => Class::RegistryUnavailable,
            };
            Failure::new(class, format!("cannot read Secret {namespace}/{name} ({field}): {error}"))
        })?;
        secret.ok_or_else(|| {
            Failure::new(
                Class::SecretNotFound,
                format!("Secret {namespace}/{name} ({field}) does not exist: create it, or correct the name"),
            )
        })
    }

    fn used<T>(
        &self,
        field: &str,
        named: &LocalReference,
        result: Result<T, credentials::SecretError>,
    ) -> Result<T, Failure> {
        result.map_err(|error| {
            let namespace = self.object.namespace().unwrap_or_default();
            Failure::new(Class::SecretNotFound, format!("Secret {namespace}/{} ({field}) {error}", named.name))
        })
    }
}
