//! Logins, certificates and proxies from the Secrets of a resource, read live at every pass.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;

use super::api::in_time;
use super::context::Context;
use crate::class::Class;
use crate::credentials::{self, DockerConfig};
use crate::ecr::Identity;
use crate::failure::Failure;
use crate::logins::{Logins, Source};
use crate::mirrors::{Login, Mirror};
use crate::registry::{AllowedHosts, Credential, Reference, TransportOptions};
use crate::spec;
use crate::tenancy::Permit;

/// The Secrets of a source, with the field that names them: `image` or `chart`. `None` for a mirror:
/// it is the operator's, and a resource's Secrets are not for it.
fn secrets_of(source: Source<'_>) -> Option<(&'static str, &spec::Secrets)> {
    match source {
        Source::Image(image) => Some(("image", &image.secrets)),
        Source::Chart(chart) => Some(("chart", &chart.secrets)),
        Source::Mirror(_) => None,
    }
}

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
        if let Source::Mirror(mirror) = source {
            return self.login_of_mirror(mirror, reference).await;
        }
        let Some((field, spec::Secrets { login: Some(login), .. })) = secrets_of(source) else {
            return Ok(None);
        };
        let secret = self.read(&format!("{field}.secretRef"), login).await?;
        secret.take(|secret| credentials::from_secret(secret, reference)).map(Some)
    }

    async fn configured(&self, reference: &Reference) -> Result<Credential, Failure> {
        let config =
            self.context.options.registry_config.as_ref().filter(|_| self.permit.registry_config);
        let credential = config.map(|config| config.credential_without_helpers(reference));
        Ok(credential.transpose()?.unwrap_or_default())
    }

    /// A mirror is read with the operator's identity. Another source is read with the
    /// ServiceAccount of the resource, else with the operator's identity if the namespace may use
    /// it. The role of the target is not used for sources.
    fn identity(&self, source: Source<'_>, reference: &Reference) -> Result<Identity, Failure> {
        if matches!(source, Source::Mirror(_)) {
            return Ok(Identity::default());
        }
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
        let Some((field, spec::Secrets { certificates, proxy, .. })) = secrets_of(source) else {
            return Ok(options);
        };

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
    async fn login_of_mirror(
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
        let secrets: Api<Secret> = Api::namespaced(self.context.client.clone(), namespace);

        let secret = in_time(secrets.get_opt(name)).await.map_err(|error| {
            let is_forbidden = error.is_forbidden();
            let class = if is_forbidden { Class::AccessDenied } else { Class::RegistryUnavailable };
            Failure::new(class, format!("cannot read {title}: {error}"))
        })?;
        let missing = || {
            let message = format!("{title} does not exist: create it, or correct the name");
            Failure::new(Class::SecretNotFound, message)
        };
        Ok(NamedSecret { secret: secret.ok_or_else(missing)?, title })
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
