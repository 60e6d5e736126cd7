//! The HTTP client of the testbed.
//!
//! The product builds its clients in one function, with its own limits and trust; the testbed must
//! not depend on it, so it has this one constructor.

use std::time::Duration;

/// Returns a client that follows no redirect, uses no proxy and times out after 30 s: a test sees
/// the unchanged answer of the server.
///
/// # Panics
/// When the TLS backend cannot be set up, which depends on the build alone.
#[allow(clippy::disallowed_methods)] // the one place in this crate
pub fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(Duration::from_secs(5))
        .timeout(Duration::from_secs(30))
        .build()
        .expect("the TLS backend is compiled in")
}

/// Returns a client like [`client`] that trusts only the certificates in this PEM file.
///
/// # Errors
/// When the file cannot be read or has no certificate.
#[allow(clippy::disallowed_methods)] // as above
pub fn client_trusting(pem: &std::path::Path) -> Result<reqwest::Client, crate::Error> {
    let cannot = |e: &dyn std::fmt::Display| {
        format!("cannot use the certificates of {}: {e}", pem.display())
    };
    let bytes = std::fs::read(pem).map_err(|e| cannot(&e))?;
    let certificates = reqwest::Certificate::from_pem_bundle(&bytes).map_err(|e| cannot(&e))?;
    let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy();
    let builder = builder.tls_certs_only(certificates).connect_timeout(Duration::from_secs(5));
    Ok(builder.timeout(Duration::from_secs(30)).build().map_err(|e| cannot(&e))?)
}

/// Returns a client like [`client`] that trusts only this authority and sends its client
/// certificate to a server that requests it.
///
/// # Errors
/// When the certificates cannot be used.
#[allow(clippy::disallowed_methods)] // as above
pub fn client_of(
    certificates: &crate::certificates::Certificates,
) -> Result<reqwest::Client, crate::Error> {
    let authority = reqwest::Certificate::from_pem_bundle(certificates.authority.as_bytes())?;
    let client = &certificates.client;
    let identity =
        reqwest::Identity::from_pem(format!("{}{}", client.certificate, client.key).as_bytes())?;
    let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy();
    let builder = builder
        .tls_certs_only(authority)
        .identity(identity)
        .connect_timeout(Duration::from_secs(5));
    Ok(builder.timeout(Duration::from_secs(30)).build()?)
}
