//! Connections to registries and chart repositories: the one HTTP client of the process, with TLS,
//! client certificates, proxies, timeouts and redirects.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Method, Response, StatusCode, Url};
use rustls::AlertDescription;

use super::addresses::{Names, authority, check_target, redirect_target, same_origin};
use super::cause::{Cause, causes};
use super::error::Error;
use super::warnings::Warnings;
use crate::meter::{Meter, Silent};

/// The bound of reqwest and curl; a registry needs one or two.
const MAX_REDIRECTS: usize = 10;
/// A SYN without an answer after three retransmissions (1 + 2 + 4 s) will not get one.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest wait for the head of an answer to a small request. Docker Hub's tag lists take some
/// seconds.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Trust, client certificate and proxy of a [`Transport`]. The default trusts the system's roots
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

/// Connections and TLS, shared by all registry clients of the process. Cloning is cheap and shares
/// the connection pool.
///
/// # Guarantees
/// Bodies arrive as they were sent (no decompression). Credentials are never sent to another host,
/// port or scheme.
#[derive(Clone, Debug)]
pub struct Transport {
    http: reqwest::Client,
    has_identity: bool,
    /// For messages.
    proxy: Option<ProxyInUse>,
    warnings: Arc<Warnings>,
    meter: Arc<dyn Meter>,
}

/// The proxy of a transport, as messages name it.
#[derive(Clone, Debug)]
struct ProxyInUse {
    /// Host and port.
    authority: Arc<str>,
    has_login: bool,
}

/// One request. A small body is kept in memory and can be sent again; a stream cannot.
#[derive(Debug)]
pub(crate) struct Request {
    /// HTTP method.
    pub(crate) method: Method,
    /// The address.
    pub(crate) url: Url,
    /// Headers except `Authorization`.
    pub(crate) headers: HeaderMap,
    /// The `Authorization` header; not sent to other hosts after a redirect.
    pub(crate) authorization: Option<HeaderValue>,
    /// The body.
    pub(crate) body: Body,
    /// The longest wait for the head of the answer, unless the body is a stream.
    pub(crate) timeout: Duration,
}

/// A request body.
#[derive(Debug, Default)]
pub(crate) enum Body {
    /// No body.
    #[default]
    Empty,
    /// A small body that can be sent again.
    Bytes(Bytes),
    /// A body that is sent once; its length is in the headers. The caller watches its progress, the
    /// transport sets no deadline.
    Stream(reqwest::Body),
}

impl Request {
    /// A request without headers and body.
    #[must_use]
    pub(crate) fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            authorization: None,
            body: Body::Empty,
            timeout: ANSWER_TIMEOUT,
        }
    }

    /// A GET request.
    #[must_use]
    pub(crate) fn get(url: Url) -> Self {
        Self::new(Method::GET, url)
    }
}

impl Transport {
    /// Creates an HTTP client with these options.
    ///
    /// # Errors
    /// [`Error::Setup`] for certificates, keys and proxies that cannot be used.
    #[allow(clippy::disallowed_methods)] // the only HTTP client constructor
    pub fn new(options: &TransportOptions) -> Result<Self, Error> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("ecr-sync/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .dns_resolver(Arc::new(Names))
            // HTTP/2 with 16 streams on one connection used an eightieth of the link (zot#4333).
            .http1_only()
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_keepalive(Duration::from_secs(30))
            .pool_idle_timeout(Duration::from_secs(50));

        if let Some(pem) = &options.roots {
            let roots = reqwest::Certificate::from_pem_bundle(pem).map_err(|e| {
                Error::Setup(format!("ca.crt contains no certificate in PEM form: {e}"))
            })?;
            if roots.is_empty() {
                return Err(Error::Setup("ca.crt contains no certificate in PEM form".into()));
            }
            builder = builder.tls_certs_merge(roots);
        }

        if let Some(ClientIdentity { certificate, key }) = &options.identity {
            let pem = [&certificate[..], b"\n", &key[..]].concat();
            let identity = reqwest::Identity::from_pem(&pem).map_err(|e| {
                Error::Setup(format!(
                    "tls.crt and tls.key are not a certificate and a key in PEM form: {e}"
                ))
            })?;
            builder = builder.identity(identity);
        }

        let mut proxy_in_use = None;
        if let Some(Proxy { address, login }) = &options.proxy {
            let url = proxy_url(address).ok_or_else(|| {
                Error::Setup("the proxy address is not an HTTP URL; write http://host:port".into())
            })?;
            let has_login = login.is_some() || !url.username().is_empty();
            proxy_in_use = Some(ProxyInUse { authority: authority(&url).into(), has_login });

            let mut proxy = reqwest::Proxy::all(url)
                .map_err(|_| {
                    Error::Setup("the proxy address cannot be used; write http://host:port".into())
                })?
                .no_proxy(reqwest::NoProxy::from_env());
            if let Some((name, password)) = login {
                proxy = proxy.basic_auth(name, password);
            }
            builder = builder.proxy(proxy);
        }

        let http = builder.build().map_err(|e| {
            // reqwest itself only says "builder error".
            let root = causes(&e).last().map(ToString::to_string);
            Error::Setup(format!("cannot set up TLS: {}", root.unwrap_or_default()))
        })?;

        Ok(Self {
            http,
            has_identity: options.identity.is_some(),
            proxy: proxy_in_use,
            warnings: Arc::default(),
            meter: Arc::new(Silent),
        })
    }

    /// Sends a request and follows redirects. Any status is a success here, except redirects that
    /// must not be followed.
    ///
    /// # Errors
    /// [`Cause`] for connections and redirects.
    pub(crate) async fn send(&self, request: Request) -> Result<Response, Cause> {
        let Request { method, url, headers, mut authorization, mut body, timeout } = request;
        let home = url.clone();
        let mut at = url;
        for _ in 0..=MAX_REDIRECTS {
            let sent = self
                .send_once(&method, &at, &headers, authorization.as_ref(), &mut body, timeout)
                .await;
            let status = sent.as_ref().ok().map(|response| response.status().as_u16());
            self.meter.registry_request(at.host_str().unwrap_or_default(), method.as_str(), status);

            let response = sent?;
            self.warnings.log(&authority(&at), response.headers());

            let Some(next) = redirect_target(
                &method,
                &at,
                &response,
                matches!(body, Body::Empty | Body::Bytes(_)),
            )?
            else {
                return Ok(response);
            };

            check_target(&at, &next, &home)?;
            if !same_origin(&at, &next) {
                // S3 refuses a request with two authentications, and no other host may see the
                // credential.
                authorization = None;
            }
            at = next;
        }
        Err(Cause::Redirect(format!("{} sent more than {MAX_REDIRECTS} redirects", authority(&at))))
    }

    async fn send_once(
        &self,
        method: &Method,
        url: &Url,
        headers: &HeaderMap,
        authorization: Option<&HeaderValue>,
        body: &mut Body,
        timeout: Duration,
    ) -> Result<Response, Cause> {
        let mut request = reqwest::Request::new(method.clone(), url.clone());
        *request.headers_mut() = headers.clone();
        if let Some(value) = authorization {
            request.headers_mut().insert(AUTHORIZATION, value.clone());
        }

        let sent = match std::mem::take(body) {
            Body::Stream(stream) => {
                *request.body_mut() = Some(stream);
                // The stream is used up: the mark prevents that a redirect sends an empty body.
                *body = Body::Stream(reqwest::Body::default());
                return self.classify(self.http.execute(request).await, url);
            }
            Body::Bytes(bytes) => {
                *request.body_mut() = Some(bytes.clone().into());
                *body = Body::Bytes(bytes);
                self.http.execute(request)
            }
            Body::Empty => self.http.execute(request),
        };

        match tokio::time::timeout(timeout, sent).await {
            Ok(result) => self.classify(result, url),
            Err(_) => Err(Cause::NoAnswer { host: self.route(url), after: timeout }),
        }
    }

    /// Tells a refusal by the proxy, or of the client certificate, from an answer of the registry.
    fn classify(
        &self,
        sent: Result<Response, reqwest::Error>,
        url: &Url,
    ) -> Result<Response, Cause> {
        let error = match sent {
            Ok(response) if response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                return Err(self.proxy_requires_login());
            }
            Ok(response) => return Ok(response),
            Err(error) => error,
        };

        // The error type of the tunnel is not public.
        if causes(&error).any(|cause| cause.to_string().contains("proxy authorization required")) {
            return Err(self.proxy_requires_login());
        }
        // If the server closes the connection at once, a reset can overtake its alert; the retry
        // then reads the alert.
        let alert = causes(&error).find_map(client_certificate_alert);

        let host = authority(url);
        Err(match alert {
            None => Cause::from_reqwest(error, &self.route(url)),
            Some(_) if !self.has_identity => Cause::Challenge(format!(
                "{host} requires a client certificate: set tls.crt and tls.key in certSecretRef"
            )),
            Some(alert) => Cause::Challenge(format!(
                "{host} does not accept the client certificate in tls.crt ({alert:?})"
            )),
        })
    }

    fn proxy_requires_login(&self) -> Cause {
        Cause::Challenge(match &self.proxy {
            Some(ProxyInUse { authority, has_login: true }) => format!(
                "the proxy {authority} does not accept the login: correct username and password \
                 in proxySecretRef"
            ),
            Some(ProxyInUse { authority, has_login: false }) => format!(
                "the proxy {authority} requires a login: set username and password in \
                 proxySecretRef"
            ),
            None => {
                "the proxy of the environment (HTTPS_PROXY, HTTP_PROXY) requires a login".to_owned()
            }
        })
    }

    /// Host and port, and the proxy in use, for messages.
    fn route(&self, url: &Url) -> String {
        match &self.proxy {
            Some(proxy) => format!("{} (through the proxy {})", authority(url), proxy.authority),
            None => authority(url),
        }
    }

    pub(crate) fn meter(&self) -> &dyn Meter {
        &*self.meter
    }

    /// Reports every request to `meter`.
    #[must_use]
    pub(crate) fn metered(self, meter: Arc<dyn Meter>) -> Self {
        Self { meter, ..self }
    }
}

/// Reads the address of a proxy; without a scheme it is HTTP.
fn proxy_url(address: &str) -> Option<Url> {
    let url: Url = match address.split_once("://") {
        Some(_) => address.parse().ok()?,
        None => format!("http://{address}").parse().ok()?,
    };
    (matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(url)
}

/// The TLS alert of a server that refuses our client certificate, or requires one.
fn client_certificate_alert(error: &(dyn StdError + 'static)) -> Option<AlertDescription> {
    use AlertDescription as Alert;
    match error.downcast_ref::<rustls::Error>() {
        Some(rustls::Error::AlertReceived(
            alert @ (Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA),
        )) => Some(*alert),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unusable_certificates_and_proxies_are_named() {
        for (options, hint) in [
            (
                TransportOptions { roots: Some(Bytes::from_static(b"junk")), ..Default::default() },
                "ca.crt",
            ),
            (
                TransportOptions {
                    identity: Some(ClientIdentity {
                        certificate: Bytes::new(),
                        key: Bytes::from_static(b"secret"),
                    }),
                    ..Default::default()
                },
                "tls.key",
            ),
            (
                TransportOptions {
                    proxy: Some(Proxy { address: "::hunter2::".into(), login: None }),
                    ..Default::default()
                },
                "proxy",
            ),
        ] {
            let error = Transport::new(&options).expect_err(hint);
            assert_eq!(error.class(), crate::class::Class::InvalidSpec);
            let text = format!("{error} {options:?}");
            assert!(
                text.contains(hint) && !text.contains("secret") && !text.contains("hunter2"),
                "{text}"
            );
        }
    }
}
