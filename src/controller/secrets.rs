//! How to reach a source, from Secrets: read live at every pass.

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt};

use super::context::{ApiError, in_time};
use crate::api::v1alpha1::{Chart, EcrRepositorySync, Image, LocalReference};
use crate::class::Class;
use crate::credentials::{self, DockerConfig, chart_reference};
use crate::ecr::Identity;
use crate::registry::{Credential, Reference, TransportOptions};
use crate::sync::{Access, Accesses, EcrLogin, Failure};
use crate::tenancy::Permit;

/// The references of one artifact.
struct Named<'a> {
    /// `image` or `chart`.
    field: &'static str,
    login: Option<&'a LocalReference>,
    certificates: Option<&'a LocalReference>,
    proxy: Option<&'a LocalReference>,
}

fn of_image(image: &Image) -> Named<'_> {
    Named {
        field: "image",
        login: image.secret_ref.as_ref(),
        certificates: image.cert_secret_ref.as_ref(),
        proxy: image.proxy_secret_ref.as_ref(),
    }
}

fn of_chart(chart: &Chart) -> Named<'_> {
    Named {
        field: "chart",
        login: chart.secret_ref.as_ref(),
        certificates: chart.cert_secret_ref.as_ref(),
        proxy: chart.proxy_secret_ref.as_ref(),
    }
}

/// Names of the Secrets that a resource refers to, all in its own namespace.
pub(super) fn references(object: &EcrRepositorySync) -> impl Iterator<Item = &str> {
    let named = object.spec.image.iter().map(of_image).chain(object.spec.chart.iter().map(of_chart));
    named.flat_map(|named| [named.login, named.certificates, named.proxy]).flatten().map(|named| named.name.as_str())
}

/// Reads the Secrets of one resource.
pub(super) struct Reader<'a> {
    pub(super) client: &'a Client,
    /// For sources without a secretRef.
    pub(super) fallback: Option<&'a DockerConfig>,
    pub(super) object: &'a EcrRepositorySync,
    /// Whose rights a private ECR source is read with.
    pub(super) identity: &'a Identity,
    /// What the namespace may use.
    pub(super) permit: &'a Permit,
    /// Whether the AWS identity logs in to public.ecr.aws too.
    pub(super) public_ecr_login: bool,
}

impl Reader<'_> {
    /// How to reach the sources of a resource.
    pub(super) async fn accesses(&self) -> Accesses {
        let (image, chart) = tokio::join!(self.image(), self.chart());
        Accesses { image, chart }
    }

    async fn image(&self) -> Result<Access, Failure> {
        let Some(image) = &self.object.spec.image else { return Ok(Access::default()) };
        self.access(&of_image(image), &image.pull_url.parse()?).await
    }

    async fn chart(&self) -> Result<Access, Failure> {
        let Some(chart) = &self.object.spec.chart else { return Ok(Access::default()) };
        self.access(&of_chart(chart), &chart_reference(&chart.pull_url)?).await
    }

    /// # Errors
    /// `SecretNotFound` when a Secret is missing or has no usable key.
    async fn access(&self, named: &Named<'_>, reference: &Reference) -> Result<Access, Failure> {
        let fallback = self.fallback.filter(|_| self.permit.registry_config);
        let (credential, ecr) = match (named.login, fallback) {
            (Some(login), _) => {
                let field = format!("{}.secretRef", named.field);
                let secret = self.read(&field, login).await?;
                (self.used(&field, login, credentials::from_secret(&secret, reference))?, None)
            }
            (None, fallback) => {
                let config = fallback.map(|config| config.credential_without_helpers(reference)).transpose()?;
                match config.unwrap_or_default() {
                    Credential::Anonymous => (Credential::Anonymous, self.ecr_login(reference)?),
                    login => (login, None),
                }
            }
        };
        let mut transport = TransportOptions::default();
        if let Some(certificates) = named.certificates {
            let field = format!("{}.certSecretRef", named.field);
            let secret = self.read(&field, certificates).await?;
            self.used(&field, certificates, credentials::trust_from_secret(&secret, &mut transport))?;
        }
        if let Some(proxy) = named.proxy {
            let field = format!("{}.proxySecretRef", named.field);
            let secret = self.read(&field, proxy).await?;
            self.used(&field, proxy, credentials::proxy_from_secret(&secret, &mut transport))?;
        }
        Ok(Access { credential, ecr, transport, hosts: self.permit.hosts.clone() })
    }

    /// Who reads an ECR registry: the ServiceAccount of the resource, else the operator where it may. The role of
    /// the target is not the source's.
    fn ecr_login(&self, reference: &Reference) -> Result<Option<EcrLogin>, Failure> {
        let service_account = self.identity.service_account.clone();
        let is_own = service_account.is_some();
        let identity = Identity { service_account, role: None };
        let public = EcrLogin::public(reference, identity.clone()).filter(|_| self.public_ecr_login);
        if public.is_some() {
            // Who may not use the identity reads without.
            return Ok(public.filter(|_| is_own || self.permit.reads_ecr(reference)));
        }
        let Some(login) = EcrLogin::of(reference, identity) else { return Ok(None) };
        if is_own || self.permit.reads_ecr(reference) {
            return Ok(Some(login));
        }
        let namespace = self.object.namespace().unwrap_or_default();
        Err(Failure::new(
            Class::AccessDenied,
            format!(
                "namespace {namespace} may not read {} with the operator's identity: list it among ecrSources in the operator's \
                 tenants file, name a secretRef, or set registry.serviceAccountName",
                reference.name()
            ),
        ))
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
