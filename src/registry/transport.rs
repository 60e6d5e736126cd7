//! Connections to registries and chart repositories: the one HTTP client of the process, with TLS,
//! client certificates, proxies, timeouts and redirects.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{ClientBuilder, Method, Response, StatusCode, Url};
use rustls::AlertDescription;

use super::addresses::{authority, check_target, redirect_target, same_origin};
use super::cause::{Cause, causes};
use super::egress::{Egress, Names};
use super::error::Error;
use super::proxy_route::ProxyRoute;
use super::request::{Body, Request};
use super::round_trip::RoundTrip;
use super::transport_options::{ClientIdentity, TransportOptions};
use super::warnings::Warnings;
use crate::memory_budget::Budget;
use crate::meter::{Meter, Silent};

/// The bound of reqwest and curl; a registry needs one or two.
const MAX_REDIRECTS: usize = 10;
/// A SYN without an answer after three retransmissions (1 + 2 + 4 s) will not get one.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections and TLS, shared by all registry clients of the process. Cloning is cheap and shares
/// the connection pool.
///
/// # Guarantees
/// Bodies arrive as they were sent (no decompression). Credentials are never sent to another host,
/// port or scheme.
#[derive(Clone, Debug)]
pub struct Transport {
    /// For hosts that are reached without a proxy.
    http: Arc<dyn RoundTrip>,
    /// For the other hosts.
    proxy: Option<Proxied>,
    has_identity: bool,
    egress: Arc<Egress>,
    warnings: Arc<Warnings>,
    meter: Arc<dyn Meter>,
    budget: Budget,
}

/// The client that uses a proxy.
#[derive(Clone, Debug)]
struct Proxied {
    http: Arc<dyn RoundTrip>,
    route: Arc<ProxyRoute>,
}

impl Transport {
    /// Creates an HTTP client with these options, which connects as `egress` allows.
    ///
    /// # Errors
    /// [`Error::Setup`] for certificates, keys and proxies that cannot be used.
    pub fn new(options: &TransportOptions, egress: &Arc<Egress>) -> Result<Self, Error> {
        let http = build(builder(options, egress)?.no_proxy())?;
        let proxy = match &options.proxy {
            Some(proxy) => {
                // The resource chose the proxy, so its address is judged as a source's.
                let route = ProxyRoute::of_resource(&proxy.address, proxy.login.is_some())?;
                let client = builder(options, egress)?.proxy(route.proxy(proxy.login.as_ref())?);
                Some(Proxied { http: build(client)?, route: Arc::new(route) })
            }
            None => match ProxyRoute::of_environment() {
                Some(route) => {
                    let client = builder(options, &Arc::new(Egress::trusting()))?;
                    Some(Proxied { http: build(client)?, route: Arc::new(route) })
                }
                None => None,
            },
        };

        let has_identity = options.identity.is_some();
        Ok(Self { proxy, has_identity, ..Self::over(http, egress) })
    }

    /// Sends all requests over `http`, without a proxy.
    #[must_use]
    pub fn over(http: Arc<dyn RoundTrip>, egress: &Arc<Egress>) -> Self {
        Self {
            http,
            proxy: None,
            has_identity: false,
            egress: egress.clone(),
            warnings: Arc::default(),
            meter: Arc::new(Silent),
            budget: Budget::default(),
        }
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

        let (http, is_direct) = self.client(url)?;
        let sent = match std::mem::take(body) {
            Body::Stream(stream) => {
                *request.body_mut() = Some(stream);
                // The stream is used up: the mark prevents that a redirect sends an empty body.
                *body = Body::Stream(reqwest::Body::default());
                return self.classify(http.round_trip(request).await, url, is_direct);
            }
            Body::Bytes(bytes) => {
                *request.body_mut() = Some(bytes.clone().into());
                *body = Body::Bytes(bytes);
                http.round_trip(request)
            }
            Body::Empty => http.round_trip(request),
        };

        match tokio::time::timeout(timeout, sent).await {
            Ok(result) => self.classify(result, url, is_direct),
            Err(_) => Err(Cause::NoAnswer { host: self.route(url), after: timeout }),
        }
    }

    /// Returns the client for a URL, and whether it connects to the host itself. The addresses of
    /// names are judged when the client connects; a number in the URL is judged here.
    fn client(&self, url: &Url) -> Result<(&dyn RoundTrip, bool), Cause> {
        let refused = |refused| Cause::Refused(format!("{refused}"));
        let Some(Proxied { http, route }) = self.proxy.as_ref().filter(|p| p.route.leads_to(url))
        else {
            self.egress.check_literal(url).map_err(refused)?;
            return Ok((&*self.http, true));
        };

        // The proxy of a resource is judged; what the resource reads through it is its own affair.
        // The operator's proxy is the operator's choice, and resolves the names itself.
        let judged = route.url_of_resource().unwrap_or(url);
        self.egress.check_literal(judged).map_err(refused)?;
        Ok((&**http, false))
    }

    /// Tells a refusal by the proxy, or of the client certificate, from an answer of the registry.
    fn classify(
        &self,
        sent: Result<Response, reqwest::Error>,
        url: &Url,
        is_direct: bool,
    ) -> Result<Response, Cause> {
        let error = match sent {
            Ok(response) if response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                return Err(self.proxy_requires_login());
            }
            Ok(response) => {
                if let Some(peer) = response.remote_addr().filter(|_| is_direct) {
                    let host = url.host_str().unwrap_or_default();
                    let checked = self.egress.check_connected(host, peer);
                    checked.map_err(|refused| Cause::Refused(refused.to_string()))?;
                }
                return Ok(response);
            }
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
        let route = self.proxy.as_ref().map(|proxied| &proxied.route);
        Cause::Challenge(match route.and_then(|route| route.named()) {
            Some((authority, true)) => format!(
                "the proxy {authority} does not accept the login: correct username and password \
                 in proxySecretRef"
            ),
            Some((authority, false)) => format!(
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
        let route = self.proxy.as_ref().map(|proxied| &proxied.route);
        match route.and_then(|route| route.named()) {
            Some((proxy, _)) => format!("{} (through the proxy {proxy})", authority(url)),
            None => authority(url),
        }
    }

    /// The rules for connections and logins.
    pub(super) fn egress(&self) -> &Egress {
        &self.egress
    }

    pub(crate) fn meter(&self) -> &dyn Meter {
        &*self.meter
    }

    /// Reports every request to `meter`.
    #[must_use]
    pub(crate) fn metered(self, meter: Arc<dyn Meter>) -> Self {
        Self { meter, ..self }
    }

    /// Takes the memory for documents from `budget`; by default from one of its own.
    #[must_use]
    pub fn within(self, budget: Budget) -> Self {
        Self { budget, ..self }
    }

    pub(crate) const fn budget(&self) -> &Budget {
        &self.budget
    }
}

/// A client with the certificates of these options, and without a proxy of its own.
#[allow(clippy::disallowed_methods)] // the only HTTP client constructor
fn builder(options: &TransportOptions, egress: &Arc<Egress>) -> Result<ClientBuilder, Error> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("ecr-sync/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .dns_resolver(Arc::new(Names(egress.clone())))
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
    Ok(builder)
}

fn build(builder: ClientBuilder) -> Result<Arc<dyn RoundTrip>, Error> {
    let client = builder.build().map_err(|e| {
        // reqwest itself only says "builder error".
        let root = causes(&e).last().map(ToString::to_string);
        Error::Setup(format!("cannot set up TLS: {}", root.unwrap_or_default()))
    })?;
    Ok(Arc::new(client))
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
    use bytes::Bytes;

    use super::*;
    use crate::registry::Proxy;

    #[tokio::test]
    async fn a_name_that_leads_to_an_address_that_is_not_allowed_gets_no_connection() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let url: Url = format!("http://localhost:{port}/v2/").parse().expect("a URL");
        let transport = Transport::new(&TransportOptions::default(), &Arc::default());
        let transport = transport.expect("a transport");

        // The check of the URL is left out: only the resolver is between the client and the port.
        let request = reqwest::Request::new(Method::GET, url);
        let error = transport.http.round_trip(request).await.expect_err("refused");
        let cause = Cause::from_reqwest(error, "localhost");
        assert!(matches!(cause, Cause::Refused(_)), "{cause:?}");
        assert!(cause.to_string().contains("localhost has a loopback address"), "{cause}");
        listener.set_nonblocking(true).expect("set");
        assert!(listener.accept().is_err(), "nobody connected");
    }

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
            let error = Transport::new(&options, &Arc::default()).expect_err(hint);
            assert_eq!(error.class(), crate::class::Class::InvalidSpec);
            let text = format!("{error} {options:?}");
            assert!(
                text.contains(hint) && !text.contains("secret") && !text.contains("hunter2"),
                "{text}"
            );
        }
    }
}
