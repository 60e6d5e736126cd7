//! How to reach a source, from Secrets: read live at every pass.

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt};

use super::api::in_time;
use crate::api::v1alpha1::{Chart, EcrRepositorySync, Image, LocalReference};
use crate::class::Class;
use crate::credentials::{self, DockerConfig, chart_reference};
use crate::ecr::Identity;
use crate::mirrors::{Login, Mirror, Mirrors};
use crate::registry::{Credential, Reference, TransportOptions};
use crate::sync::{Access, Accesses, EcrLogin, Failure, Mirrored};
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
    let named =
        object.spec.image.iter().map(of_image).chain(object.spec.chart.iter().map(of_chart));
    named
        .flat_map(|named| [named.login, named.certificates, named.proxy])
        .flatten()
        .map(|named| named.name.as_str())
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
    /// Where images are read from instead of their own places.
    pub(super) mirrors: &'a Mirrors,
    /// Whether the AWS identity logs in to public.ecr.aws too.
    pub(super) public_ecr_login: bool,
}

impl Reader<'_> {
    /// How to reach the sources of a resource, and the mirror of its image.
    pub(super) async fn accesses(&self) -> (Accesses, Option<Mirrored>) {
        let image = async {
            let mirrored = self.mirrored().await;
            // What is not read needs no login.
            let is_read = mirrored.as_ref().is_none_or(|mirrored| mirrored.fallback);
            (if is_read { self.image().await } else { Ok(Access::default()) }, mirrored)
        };
        let ((image, mirrored), chart) = tokio::join!(image, self.chart());
        (Accesses { image, chart }, mirrored)
    }

    async fn image(&self) -> Result<Access, Failure> {
        let Some(image) = &self.object.spec.image else { return Ok(Access::default()) };
        self.access(&of_image(image), &image.pull_url.parse()?).await
    }

    async fn mirrored(&self) -> Option<Mirrored> {
        // One that cannot be parsed is told by the engine.
        let reference = self.object.spec.image.as_ref()?.pull_url.parse().ok()?;
        let (mirror, place) = self.mirrors.find(&reference)?;
        let access = self.mirror_access(mirror, &place).await;
        Some(Mirrored {
            reference: place,
            insecure: mirror.insecure,
            access,
            fallback: mirror.fallback,
        })
    }

    /// The mirror is the operator's: so are its login and, where it is an ECR registry, the
    /// identity. The resource's Secrets are for the image's own place.
    async fn mirror_access(&self, mirror: &Mirror, place: &Reference) -> Result<Access, Failure> {
        let what_for = format!("login of the mirror of {}", mirror.matched);
        let wrong = |what: &dyn std::fmt::Display, problem: &dyn std::fmt::Display| {
            Failure::new(Class::SecretNotFound, format!("{what} ({what_for}) {problem}"))
        };
        let credential = match &mirror.login {
            Some(Login::Secret(named)) => {
                let secret = self.secret(&named.namespace, &named.name, &what_for).await?;
                let what = format!("Secret {named}");
                credentials::from_secret(&secret, place).map_err(|error| wrong(&what, &error))?
            }
            Some(Login::File(path)) => {
                let config =
                    DockerConfig::read(path).map_err(|error| wrong(&path.display(), &error))?;
                config.credential_without_helpers(place)?
            }
            Some(Login::Known(credential)) => credential.clone(),
            None => self.configured(place)?,
        };
        let ecr = match credential {
            Credential::Anonymous => EcrLogin::of(place, Identity::default()).or_else(|| {
                EcrLogin::public(place, Identity::default()).filter(|_| self.public_ecr_login)
            }),
            _ => None,
        };
        Ok(Access { credential, ecr, ..Access::default() })
    }

    /// The login that `--registry-config` has for a place, if the namespace may use it.
    fn configured(&self, reference: &Reference) -> Result<Credential, Failure> {
        let config = self.fallback.filter(|_| self.permit.registry_config);
        Ok(config
            .map(|config| config.credential_without_helpers(reference))
            .transpose()?
            .unwrap_or_default())
    }

    async fn chart(&self) -> Result<Access, Failure> {
        let Some(chart) = &self.object.spec.chart else { return Ok(Access::default()) };
        self.access(&of_chart(chart), &chart_reference(&chart.pull_url)?).await
    }

    /// # Errors
    /// `SecretNotFound` when a Secret is missing or has no usable key.
    async fn access(&self, named: &Named<'_>, reference: &Reference) -> Result<Access, Failure> {
        let (credential, ecr) = match named.login {
            Some(login) => {
                let field = format!("{}.secretRef", named.field);
                let secret = self.read(&field, login).await?;
                (self.used(&field, login, credentials::from_secret(&secret, reference))?, None)
            }
            None => match self.configured(reference)? {
                Credential::Anonymous => (Credential::Anonymous, self.ecr_login(reference)?),
                login => (login, None),
            },
        };
        let mut transport = TransportOptions::default();
        if let Some(certificates) = named.certificates {
            let field = format!("{}.certSecretRef", named.field);
            let secret = self.read(&field, certificates).await?;
            self.used(
                &field,
                certificates,
                credentials::trust_from_secret(&secret, &mut transport),
            )?;
        }
        if let Some(proxy) = named.proxy {
            let field = format!("{}.proxySecretRef", named.field);
            let secret = self.read(&field, proxy).await?;
            self.used(&field, proxy, credentials::proxy_from_secret(&secret, &mut transport))?;
        }
        Ok(Access { credential, ecr, transport, hosts: self.permit.hosts.clone() })
    }

    /// Who reads an ECR registry: the ServiceAccount of the resource, else the operator where it
    /// may. The role of the target is not the source's.
    fn ecr_login(&self, reference: &Reference) -> Result<Option<EcrLogin>, Failure> {
        let service_account = self.identity.service_account.clone();
        let is_own = service_account.is_some();
        let identity = Identity { service_account, role: None };
        let public =
            EcrLogin::public(reference, identity.clone()).filter(|_| self.public_ecr_login);
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
        self.secret(&self.object.namespace().unwrap_or_default(), &named.name, field).await
    }

    async fn secret(&self, namespace: &str, name: &str, what_for: &str) -> Result<Secret, Failure> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let secret = in_time(secrets.get_opt(name)).await.map_err(|error| {
            let class =
                if error.is_forbidden() { Class::AccessDenied } else { Class::RegistryUnavailable };
            Failure::new(
                class,
                format!("cannot read Secret {namespace}/{name} ({what_for}): {error}"),
            )
        })?;
        secret.ok_or_else(|| {
            Failure::new(
                Class::SecretNotFound,
                format!("Secret {namespace}/{name} ({what_for}) does not exist: create it, or correct the name"),
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
            Failure::new(
                Class::SecretNotFound,
                format!("Secret {namespace}/{} ({field}) {error}", named.name),
            )
        })
    }
}
