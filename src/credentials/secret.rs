//! Secret -> credential, certificates, proxy.

use k8s_openapi::api::core::v1::Secret;

use crate::registry::{ClientIdentity, Credential, Proxy, Reference, TransportOptions, docker_config};

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
    /// No certificate.
    #[error("has none of the keys ca.crt, tls.crt and tls.key")]
    NoCertificate,
    /// Half a client certificate.
    #[error("has only one of tls.crt and tls.key: a client certificate needs both")]
    HalfIdentity,
    /// No proxy.
    #[error("has no key address, for example http://proxy.example.com:3128")]
    NoAddress,
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
    if let Some(config) = value(secret, DOCKER_CONFIG) {
        return docker_config::credential(config, reference)
            .map_err(Error::Malformed)?
            .ok_or_else(|| Error::OtherHosts(reference.host.clone()));
    }
    let text = |key| text(secret, key)?.ok_or(Error::NoKey);
    Ok(Credential::Basic { username: text("username")?, password: text("password")? })
}

/// Certificates of a Secret: `ca.crt`, and `tls.crt` with `tls.key`. Whether they are PEM shows when they are used.
///
/// # Errors
/// When it has none, or half a client certificate.
pub fn trust_from_secret(secret: &Secret, options: &mut TransportOptions) -> Result<(), Error> {
    let bytes = |key| value(secret, key).map(bytes::Bytes::copy_from_slice);
    let identity = match (bytes("tls.crt"), bytes("tls.key")) {
        (Some(certificate), Some(key)) => Some(ClientIdentity { certificate, key }),
        (None, None) => None,
        _ => return Err(Error::HalfIdentity),
    };
    let roots = bytes("ca.crt");
    if roots.is_none() && identity.is_none() {
        return Err(Error::NoCertificate);
    }
    options.roots = roots;
    options.identity = identity;
    Ok(())
}

/// The proxy of a Secret: `address`, and `username` with `password`.
///
/// # Errors
/// When it has no address.
pub fn proxy_from_secret(secret: &Secret, options: &mut TransportOptions) -> Result<(), Error> {
    let address = text(secret, "address")?.ok_or(Error::NoAddress)?;
    let login = text(secret, "username")?.zip(text(secret, "password")?);
    options.proxy = Some(Proxy { address, login });
    Ok(())
}

fn value<'a>(secret: &'a Secret, key: &str) -> Option<&'a [u8]> {
    secret.data.as_ref()?.get(key).map(|value| value.0.as_slice())
}

/// A value without the line end that an editor left behind.
fn text(secret: &Secret, key: &'static str) -> Result<Option<String>, Error> {
    let Some(bytes) = value(secret, key) else { return Ok(None) };
    let text = std::str::from_utf8(bytes).map_err(|_| Error::NotText(key))?;
    Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
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
