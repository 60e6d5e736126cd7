//! Host names of AWS that lead to the stand-in, for the operator's own connections.

use std::path::{Path, PathBuf};

use testbed::certificates::Certificates;
use testbed::forward_proxy::{ForwardProxy, Seen};
use testbed::tls_front::TlsFront;

/// A registry with a host name of AWS and with TLS. The operator reaches it through the proxy of
/// its environment, and trusts its authority as one of the system's.
pub struct AwsHosts {
    proxy: ForwardProxy,
    authority: PathBuf,
    _front: TlsFront,
}

impl AwsHosts {
    /// Leads `name` to the stand-in's registry at `registry`.
    pub fn start(folder: &Path, name: &str, registry: &str) -> Self {
        let certificates = Certificates::generate_for(&[name]).expect("certificates");
        let authority = folder.join("authority.crt");
        std::fs::write(&authority, &certificates.authority).expect("a file");
        let front = TlsFront::start(&certificates.server, registry).expect("a front");
        let places = [(&*format!("{name}:443"), &*front.host())];
        let proxy = ForwardProxy::start_with(None, &places).expect("a proxy");
        Self { proxy, authority, _front: front }
    }

    /// The environment of a process that uses these names.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("HTTPS_PROXY", self.proxy.url()),
            ("NO_PROXY", "127.0.0.1".to_owned()),
            ("SSL_CERT_FILE", self.authority.to_string_lossy().into_owned()),
        ]
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.proxy.seen()
    }
}

/// The environment as [`super::Rig::operator_with`] takes it.
pub fn borrowed<'a>(environment: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    environment.iter().map(|(name, value)| (*name, value.as_str())).collect()
}
