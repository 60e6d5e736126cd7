//! Source credentials from Secrets, read live at every pass.

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt};

use super::context::{ApiError, in_time};
use crate::api::v1alpha1::EcrRepositorySync;
use crate::class::Class;
use crate::credentials;
use crate::registry::{Credential, Reference};
use crate::sync::Failure;

/// The credential for the source of a resource's image; anonymous without a secretRef.
///
/// # Errors
/// `SecretNotFound` when the Secret is missing or has no usable key.
pub(super) async fn source_credential(client: &Client, object: &EcrRepositorySync) -> Result<Credential, Failure> {
    let Some(image) = &object.spec.image else { return Ok(Credential::Anonymous) };
    let Some(secret_ref) = &image.secret_ref else { return Ok(Credential::Anonymous) };
    let namespace = object.namespace().unwrap_or_default();
    let name = &secret_ref.name;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let secret = in_time(secrets.get_opt(name)).await.map_err(|error| {
        let class = match &error {
            ApiError::Kube(kube::Error::Api(status)) if status.is_forbidden() => Class::AccessDenied,
            _ => Class::RegistryUnavailable,
        };
        Failure::new(class, format!("cannot read Secret {namespace}/{name}: {error}"))
    })?;
    let Some(secret) = secret else {
        return Err(Failure::new(
            Class::SecretNotFound,
            format!("Secret {namespace}/{name} (image.secretRef) does not exist: create it, or correct the name"),
        ));
    };
    let reference: Reference = image.pull_url.parse()?;
    credentials::from_secret(&secret, &reference).map_err(|error| {
        Failure::new(Class::SecretNotFound, format!("Secret {namespace}/{name} (image.secretRef) {error}"))
    })
}
