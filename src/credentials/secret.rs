//! Secret -> credential.

use k8s_openapi::api::core::v1::Secret;

use crate::registry::{Credential, Reference, docker_config};

/// Key of a Secret of type kubernetes.io/dockerconfigjson.
const DOCKER_CONFIG: &str = ".dockerconfigjson";

/// A Secret that holds no credential that we can use. The text never shows the value.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither kind of credential.
    #[error(
        "has neither the key .dockerconfigjson (type kubernetes.io/dockerconfigjson) nor username and password (type kubernetes.io/basic-auth)"
    )]
    NoKey,
    /// The docker config cannot be read.
    #[error("has a .dockerconfigjson that cannot be used: {0}")]
    Malformed(#[source] crate::registry::Error),
    /// The docker config is for other registries.
    #[error("has a .dockerconfigjson without an entry for {0}")]
    OtherHosts(String),
    /// Not text.
    #[error("has a {0} that is not UTF-8 text")]
    NotText(&'static str),
}

/// The credential that a Secret has for `reference`: of type kubernetes.io/dockerconfigjson or kubernetes.io/basic-auth.
///
/// # Errors
/// When it has none. Helpers that a docker config names are never run: the Secret may be a tenant's.
pub fn from_secret(secret: &Secret, reference: &Reference) -> Result<Credential, Error> {
    let values = secret.data.as_ref();
    let value = |key: &str| values.and_then(|values| values.get(key)).map(|value| value.0.as_slice());
    if let Some(config) = value(DOCKER_CONFIG) {
        return docker_config::credential(config, reference)
            .map_err(Error::Malformed)?
            .ok_or_else(|| Error::OtherHosts(reference.host.clone()));
    }
    let text = |key: &'static str| {
        let bytes = value(key).ok_or(Error::NoKey)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| Error::NotText(key))
    };
    Ok(Credential::Basic { username: text("username")?, password: text("password")? })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn secret(entries: &[(&str, &str)]) -> Secret {
        let data =
            entries.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec()))).collect();
        Secret { data: Some(data), ..Secret::default() }
    }

    fn reference() -> Reference {
        "registry.example:5000/team/app".parse().expect("a reference")
    }

    #[test]
    fn both_kinds_of_secret_are_read() {
        let basic = Credential::Basic { username: "reader".to_owned(), password: "secret".to_owned() };
        let docker = r#"{"auths": {"registry.example:5000": {"username": "reader", "password": "secret"}}}"#;
        assert_eq!(from_secret(&secret(&[(".dockerconfigjson", docker)]), &reference()).expect("usable"), basic);
        let plain = secret(&[("username", "reader"), ("password", "secret")]);
        assert_eq!(from_secret(&plain, &reference()).expect("usable"), basic);
    }

    #[test]
    fn what_is_missing_is_named_and_the_value_never_shown() {
        let text =
            |entries: &[(&str, &str)]| from_secret(&secret(entries), &reference()).expect_err("unusable").to_string();
        assert!(text(&[]).contains(".dockerconfigjson"));
        assert!(text(&[("username", "reader")]).contains("basic-auth"));
        assert!(text(&[(".dockerconfigjson", r#"{"auths": {}}"#)]).contains("registry.example:5000"));
        let broken = text(&[(".dockerconfigjson", r#"{"auths": {"registry.example:5000": {"auth": "hunter2"}}}"#)]);
        assert!(!broken.contains("hunter2"), "{broken}");
    }
}
