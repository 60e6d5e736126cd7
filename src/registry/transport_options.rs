//! The options of a connection: trust, client certificate and proxy.

use std::fmt;

use bytes::Bytes;

/// Trust, client certificate and proxy of a [`Transport`](super::Transport). The default trusts the system's roots
/// and honours `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct TransportOptions {
    /// Certificate authorities to trust besides the system's, PEM.
    pub roots: Option<Bytes>,
    /// A client certificate with its chain and its key, PEM.
    pub identity: Option<ClientIdentity>,
    /// A proxy for all requests, in place of the environment's.
    pub proxy: Option<Proxy>,
}

impl TransportOptions {
    /// Returns the bytes of certificates and keys.
    pub(crate) fn bytes(&self) -> usize {
        let identity = self.identity.iter().flat_map(|pair| [&pair.certificate, &pair.key]);
        self.roots.iter().chain(identity).map(Bytes::len).sum()
    }
}

impl fmt::Debug for TransportOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransportOptions")
            .field("roots", &self.roots.is_some())
            .field("identity", &self.identity.is_some())
            .field("proxy", &self.proxy)
            .finish()
    }
}

/// A client certificate and its key, both PEM.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ClientIdentity {
    /// `tls.crt`.
    pub certificate: Bytes,
    /// `tls.key`.
    pub key: Bytes,
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientIdentity(…)")
    }
}

/// An HTTP proxy.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Proxy {
    /// `http://proxy:3128`.
    pub address: String,
    /// Name and password, if the proxy requires them.
    pub login: Option<(String, String)>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An address can hold a password too.
        f.write_str("Proxy(…)")
    }
}
