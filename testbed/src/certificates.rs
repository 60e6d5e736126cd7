//! A new private certificate authority with a server and a client certificate, which nothing else
//! trusts.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

use crate::Error;

/// Names in the server's certificate. No resolver knows names under `.test` (RFC 6761); a
/// [`crate::forward_proxy::ForwardProxy`] does.
const SERVER_NAMES: [&str; 3] = ["127.0.0.1", "localhost", "registry.test"];

/// The certificates and keys of one authority, all PEM.
#[derive(Clone)]
pub struct Certificates {
    /// The authority's own certificate, `ca.crt`.
    pub authority: String,
    /// Certificate for 127.0.0.1, localhost, registry.test and the names that were asked for.
    pub server: Identity,
    /// Certificate of a client.
    pub client: Identity,
}

/// A certificate and its key, both PEM.
#[derive(Clone)]
pub struct Identity {
    /// `tls.crt`.
    pub certificate: String,
    /// `tls.key`.
    pub key: String,
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Certificates(…)")
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity(…)")
    }
}

impl Certificates {
    /// Creates an authority and its certificates.
    ///
    /// # Errors
    /// When the crypto library fails.
    pub fn generate() -> Result<Self, Error> {
        Self::generate_for(&[])
    }

    /// Creates an authority and its certificates; that of the server is for these names too.
    ///
    /// # Errors
    /// When the crypto library fails.
    pub fn generate_for(names: &[&str]) -> Result<Self, Error> {
        let names = [&SERVER_NAMES, names].concat();
        let mut params = named("testbed authority", &[])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let sign = |name: &str, names: &[&str], usage| -> Result<Identity, Error> {
            let key = KeyPair::generate()?;
            let mut params = named(name, names)?;
            params.extended_key_usages = vec![usage];
            let certificate = params.signed_by(&key, &authority)?;
            Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem() })
        };
        Ok(Self {
            authority: authority.pem(),
            server: sign("testbed server", &names, ExtendedKeyUsagePurpose::ServerAuth)?,
            client: sign("testbed client", &[], ExtendedKeyUsagePurpose::ClientAuth)?,
        })
    }
}

fn named(name: &str, names: &[&str]) -> Result<CertificateParams, Error> {
    let mut params =
        CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())?;
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}
