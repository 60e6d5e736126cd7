//! TLS in front of a server that speaks plain HTTP, as load balancers put it there.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::Error;
use crate::certificates::Identity;
use crate::traffic::Host;

/// A running front; dropping it stops it and cuts its connections.
#[derive(Debug)]
pub struct TlsFront {
    address: SocketAddr,
    _host: Host,
}

impl TlsFront {
    /// Starts a front of the server at `target` (`127.0.0.1:PORT`) with this certificate.
    ///
    /// # Errors
    /// When the certificate cannot be used, or no thread be started, or no port be bound.
    pub fn start(identity: &Identity, target: &str) -> Result<Self, Error> {
        let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes())?;
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));

        let host = Host::start("tls-front")?;
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let target = target.to_owned();
        host.handle().spawn(async move {
            let Ok(listener) = TcpListener::from_std(listener) else { return };
            while let Ok((client, _)) = listener.accept().await {
                let (acceptor, target) = (acceptor.clone(), target.clone());
                // The client reports a broken connection.
                tokio::spawn(async move { serve(client, &acceptor, &target).await });
            }
        });
        Ok(Self { address, _host: host })
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }
}

async fn serve(client: TcpStream, acceptor: &TlsAcceptor, target: &str) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut client = acceptor.accept(client).await?;
    let mut server = TcpStream::connect(target).await?;
    server.set_nodelay(true)?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}
