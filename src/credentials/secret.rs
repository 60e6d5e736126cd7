//! Kubernetes Secret -> credential, certificates, proxy.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;

use crate::registry::{
    ClientIdentity, Credential, Proxy, Reference, Transport, TransportOptions, docker_config,
};

/// Key of a Secret of type kubernetes.io/dockerconfigjson.
const DOCKER_CONFIG: &str = ".dockerconfigjson";

/// A Secret that cannot be used. The text never shows a value.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The Secret has no credential.
    #[error(
        "has neither the key .dockerconfigjson (type kubernetes.io/dockerconfigjson) nor username \
         and password (type kubernetes.io/basic-auth)"
    )]
    NoKey,
    /// The Secret has no certificate.
    #[error("has none of the keys ca.crt, tls.crt and tls.key")]
    NoCertificate,
    /// The Secret has only the certificate or only the key of a client certificate.
    #[error("has only one of tls.crt and tls.key: a client certificate needs both")]
    HalfIdentity,
    /// The Secret has no address of a proxy.
    #[error("has no key address, for example http://proxy.example.com:3128")]
    NoAddress,
    /// The docker config cannot be read.
    #[error("has a .dockerconfigjson that cannot be used: {0}")]
    Malformed(#[source] crate::registry::Error),
    /// The docker config has only other registries.
    #[error("has a .dockerconfigjson without an entry for {0}")]
    OtherHosts(String),
    /// The Secret has only the user name or only the password of a proxy.
    #[error("has only one of username and password: a login to the proxy needs both")]
    HalfLogin,
    /// A certificate, key or address with which no connection can be made.
    #[error("has a {key} that cannot be used: {source}")]
    Unusable {
        /// The key of the Secret.
        key: &'static str,
        /// The cause.
        source: crate::registry::Error,
    },
    /// A value is not text.
    #[error("has a {0} that is not UTF-8 text")]
    NotText(&'static str),
}

/// Returns the credential for `reference` in a Secret of type kubernetes.io/dockerconfigjson or
/// kubernetes.io/basic-auth. Credential helpers that a docker config names are never run: the
/// Secret may be a tenant's.
///
/// # Errors
/// When the Secret has none.
pub(crate) fn from_secret(secret: &Secret, reference: &Reference) -> Result<Credential, Error> {
    if let Some(config) = value(secret, DOCKER_CONFIG) {
        return docker_config::credential(config, reference)
            .map_err(Error::Malformed)?
            .ok_or_else(|| Error::OtherHosts(reference.host.clone()));
    }
    let text = |key| text(secret, key)?.ok_or(Error::NoKey);
    Ok(Credential::Basic { username: text("username")?, password: text("password")? })
}

/// Sets the certificates of a Secret: `ca.crt`, and `tls.crt` with `tls.key`.
///
/// # Errors
/// When the Secret has none, only half of a client certificate, or some that cannot be used.
pub(crate) fn trust_from_secret(
    secret: &Secret,
    options: &mut TransportOptions,
) -> Result<(), Error> {
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

    if roots.is_some() {
        check("ca.crt", &TransportOptions { roots: roots.clone(), ..TransportOptions::default() })?;
    }

    if identity.is_some() {
        check(
            "tls.crt or tls.key",
            &TransportOptions { identity: identity.clone(), ..TransportOptions::default() },
        )?;
    }

    options.roots = roots;
    options.identity = identity;
    Ok(())
}

/// Sets the proxy of a Secret: `address`, and `username` with `password`.
///
/// # Errors
/// When the Secret has no address, one that cannot be used, or half a login.
pub(crate) fn proxy_from_secret(
    secret: &Secret,
    options: &mut TransportOptions,
) -> Result<(), Error> {
    let address = text(secret, "address")?.ok_or(Error::NoAddress)?;
    let login = match (text(secret, "username")?, text(secret, "password")?) {
        (Some(username), Some(password)) => Some((username, password)),
        (None, None) => None,
        _ => return Err(Error::HalfLogin),
    };
    let proxy = Some(Proxy { address, login });
    check("address", &TransportOptions { proxy: proxy.clone(), ..TransportOptions::default() })?;
    options.proxy = proxy;
    Ok(())
}

/// Builds a transport, since only that shows whether certificate and key are valid and belong
/// together.
fn check(key: &'static str, options: &TransportOptions) -> Result<(), Error> {
    Transport::new(options, &Arc::default())
        .map(drop)
        .map_err(|source| Error::Unusable { key, source })
}

fn value<'a>(secret: &'a Secret, key: &str) -> Option<&'a [u8]> {
    secret.data.as_ref()?.get(key).map(|value| value.0.as_slice())
}

/// Returns a value as text, without a trailing line break.
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
        let data = entries
            .iter()
            .map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec())))
            .collect();
        Secret { data: Some(data), ..Secret::default() }
    }

    fn reference() -> Reference {
        "registry.example:5000/team/app".parse().expect("a reference")
    }

    #[test]
    fn both_kinds_of_secret_are_read() {
        let basic =
            Credential::Basic { username: "reader".to_owned(), password: "secret".to_owned() };
        let docker =
            r#"{"auths": {"registry.example:5000": {"username": "reader", "password": "secret"}}}"#;
        assert_eq!(
            from_secret(&secret(&[(".dockerconfigjson", docker)]), &reference()).expect("usable"),
            basic
        );
        let plain = secret(&[("username", "reader"), ("password", "secret")]);
        assert_eq!(from_secret(&plain, &reference()).expect("usable"), basic);
    }

    #[test]
    fn missing_keys_are_named_and_values_never_shown() {
        let text = |entries: &[(&str, &str)]| {
            from_secret(&secret(entries), &reference()).expect_err("unusable").to_string()
        };
        assert!(text(&[]).contains(".dockerconfigjson"));
        assert!(text(&[("username", "reader")]).contains("basic-auth"));
        assert!(
            text(&[(".dockerconfigjson", r#"{"auths": {}}"#)]).contains("registry.example:5000")
        );

        let broken = text(&[(
            ".dockerconfigjson",
            r#"{"auths": {"registry.example:5000": {"auth": "hunter2"}}}"#,
        )]);
        assert!(!broken.contains("hunter2"), "{broken}");
    }

    #[test]
    fn certificates_and_proxies_that_cannot_be_used_are_named() {
        // PEM, but not a certificate.
        let empty = "-----BEGIN CERTIFICATE-----\naHVudGVyMg==\n-----END CERTIFICATE-----\n";
        type Read = fn(&Secret, &mut TransportOptions) -> Result<(), Error>;

        let (trust, proxy): (Read, Read) = (trust_from_secret, proxy_from_secret);
        for (read, entries, hint) in [
            (trust, &[][..], "none of the keys"),
            (trust, &[("ca.crt", "hunter2")], "ca.crt"),
            (trust, &[("ca.crt", "")], "ca.crt"),
            (trust, &[("ca.crt", empty)], "ca.crt"),
            (trust, &[("tls.crt", empty)], "needs both"),
            (trust, &[("tls.crt", empty), ("tls.key", "hunter2")], "tls.key"),
            (proxy, &[], "address"),
            (proxy, &[("address", "socks5://hunter2:1080")], "http://host:port"),
            (proxy, &[("address", "http://hunter2:x")], "http://host:port"),
            (proxy, &[("address", "")], "http://host:port"),
            (proxy, &[("address", "proxy.example:3128"), ("password", "hunter2")], "needs both"),
        ] {
            let text = read(&secret(entries), &mut TransportOptions::default())
                .expect_err(hint)
                .to_string();
            assert!(text.contains(hint) && !text.contains("hunter2"), "{hint}: {text}");
        }

        for address in ["http://proxy.example:3128", "https://proxy.example", "proxy.example:3128"]
        {
            proxy(&secret(&[("address", address)]), &mut TransportOptions::default())
                .expect(address);
        }
    }
}
