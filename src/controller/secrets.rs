//! Logins, certificates and proxies from the Secrets of a resource, read live at every pass.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;

use super::api::in_time;
use super::context::Context;
use super::guarded::Guarded;
use crate::class::Class;
use crate::credentials::{self, DockerConfig};
use crate::ecr::Identity;
use crate::failure::Failure;
use crate::logins::{Logins, Source};
use crate::mirrors::{Login, Mirror};
use crate::registry::{AllowedHosts, Credential, Reference, TransportOptions};
use crate::spec;
use crate::tenancy::Permit;

/// The Secrets and logins for the sources of one resource.
pub(super) struct Secrets<'a> {
    pub(super) context: &'a Context,
    /// Namespace of the resource.
    pub(super) namespace: &'a str,
    /// Identity that reads private ECR registries.
    pub(super) identity: &'a Identity,
    /// Limits of the namespace.
    pub(super) permit: &'a Permit,
}

#[async_trait]
impl Logins for Secrets<'_> {
    /// # Errors
    /// `SecretNotFound` if a Secret is missing or has no usable key.
    async fn named(
        &self,
        source: Source<'_>,
        reference: &Reference,
    ) -> Result<Option<Credential>, Failure> {
        let Some(login) = &source.secrets().login else { return Ok(None) };
        let secret = self.read(&format!("{}.secretRef", source.field()), login).await?;
        secret.take(|secret| credentials::from_secret(secret, reference)).map(Some)
    }

    async fn of_mirror(
        &self,
        mirror: &Mirror,
        reference: &Reference,
    ) -> Result<Option<Credential>, Failure> {
        let purpose = format!("login of the mirror of {}", mirror.matched);
        Ok(match &mirror.login {
            Some(Login::Secret(named)) => {
                let secret = self.secret(&named.namespace, &named.name, purpose).await?;
                Some(secret.take(|secret| credentials::from_secret(secret, reference))?)
            }
            Some(Login::File(path)) => {
                let config = DockerConfig::read(path).map_err(|error| {
                    let message = format!("{} ({purpose}) {error}", path.display());
                    Failure::new(Class::SecretNotFound, message)
                })?;
                Some(config.credential_without_helpers(reference)?)
            }
            Some(Login::Known(credential)) => Some(credential.clone()),
            None => None,
        })
    }

    async fn configured(&self, reference: &Reference) -> Result<Credential, Failure> {
        let config =
            self.context.options.registry_config.as_ref().filter(|_| self.permit.registry_config);
        let credential = config.map(|config| config.credential_without_helpers(reference));
        Ok(credential.transpose()?.unwrap_or_default())
    }

    /// A source is read with the ServiceAccount of the resource, else with the operator's identity
    /// if the namespace may use it. The role of the target is not used for sources.
    fn identity(&self, reference: &Reference) -> Result<Identity, Failure> {
        let service_account = self.identity.service_account.clone();
        if service_account.is_some() || self.permit.reads_ecr(reference) {
            return Ok(Identity { service_account, role: None });
        }

        let message = format!(
            "namespace {} may not read {} with the operator's identity: list it among ecrSources \
             in the operator's tenants file, name a secretRef, or set registry.serviceAccountName",
            self.namespace,
            reference.name()
        );
        Err(Failure::new(Class::AccessDenied, message))
    }

    fn public_ecr_login(&self) -> bool {
        self.context.options.public_ecr_login
    }

    async fn transport(&self, source: Source<'_>) -> Result<TransportOptions, Failure> {
        let mut options = TransportOptions::default();
        let spec::Secrets { certificates, proxy, .. } = source.secrets();
        let field = source.field();

        if let Some(certificates) = certificates {
            let secret = self.read(&format!("{field}.certSecretRef"), certificates).await?;
            secret.take(|secret| credentials::trust_from_secret(secret, &mut options))?;
        }
        if let Some(proxy) = proxy {
            let secret = self.read(&format!("{field}.proxySecretRef"), proxy).await?;
            secret.take(|secret| credentials::proxy_from_secret(secret, &mut options))?;
        }

        Ok(options)
    }

    fn hosts(&self) -> Option<Arc<AllowedHosts>> {
        self.permit.hosts.clone()
    }
}

impl Secrets<'_> {
    /// Reads the Secret that a field of the spec names.
    async fn read(&self, field: &str, name: &str) -> Result<NamedSecret, Failure> {
        self.secret(self.namespace, name, field.to_owned()).await
    }

    async fn secret(
        &self,
        namespace: &str,
        name: &str,
        purpose: String,
    ) -> Result<NamedSecret, Failure> {
        let title = format!("Secret {namespace}/{name} ({purpose})");
        let secrets: Api<Guarded<Secret>> = Api::namespaced(self.context.client.clone(), namespace);

        let secret = in_time(secrets.get_opt(name)).await.map_err(|error| {
            let is_forbidden = error.is_forbidden();
            let class = if is_forbidden { Class::AccessDenied } else { Class::RegistryUnavailable };
            Failure::new(class, format!("cannot read {title}: {error}"))
        })?;
        let missing = || {
            let message = format!("{title} does not exist: create it, or correct the name");
            Failure::new(Class::SecretNotFound, message)
        };
        match secret.ok_or_else(missing)? {
            Guarded(Ok(secret)) => Ok(NamedSecret { secret, title }),
            // The reason could name what it quotes, and a Secret is not quoted.
            Guarded(Err(_)) => {
                Err(Failure::new(Class::SecretNotFound, format!("{title} cannot be decoded")))
            }
        }
    }
}

/// A Secret, with its name and purpose for messages.
struct NamedSecret {
    secret: Secret,
    title: String,
}

impl NamedSecret {
    /// Takes a value out of the Secret.
    fn take<T>(
        &self,
        value: impl FnOnce(&Secret) -> Result<T, credentials::SecretError>,
    ) -> Result<T, Failure> {
        value(&self.secret)
            .map_err(|error| Failure::new(Class::SecretNotFound, format!("{} {error}", self.title)))
    }
}
