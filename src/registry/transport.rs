//! The process's HTTP client: one constructor, one redirect policy, one way to read a bounded body.

use std::error::Error as StdError;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{
    AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE,
};
use reqwest::{Method, Response, StatusCode, Url};
use rustls::AlertDescription;

use super::answer::Answer;
use super::challenge::Challenge;
use super::error::{Error, Failure};
use super::retry;
use super::warnings::Warnings;
use crate::meter::{Meter, Silent};

/// What reqwest and curl allow too; a registry needs one or two.
const MOST_REDIRECTS: usize = 10;
/// Error bodies beyond this are cut: a hostile or broken proxy sends megabytes.
const MOST_ERROR_BYTES: usize = 64 * 1024;
/// A SYN that is not answered within three retransmissions (1 + 2 + 4 s) will not be.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// The longest wait for the head of an answer to a small request. Docker Hub's tag lists take some
/// seconds.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// The longest silence inside a small body.
const CHUNK_WITHIN: Duration = Duration::from_secs(30);

/// How to reach servers. The default trusts the system's roots and honours `HTTPS_PROXY`,
/// `HTTP_PROXY`, `NO_PROXY`.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct TransportOptions {
    /// Authorities to trust besides the system's, PEM.
    pub roots: Option<Bytes>,
    /// A client certificate with its chain and its key, PEM.
    pub identity: Option<ClientIdentity>,
    /// A proxy for everything, in place of the environment's.
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
    /// Name and password, if the proxy wants them.
    pub login: Option<(String, String)>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An address can hold a password too.
        f.write_str("Proxy(…)")
    }
}

/// Connections and TLS, shared by every registry client of the process. Cloning is cheap and shares
/// the pool.
///
/// # Guarantees
/// Bodies arrive as they were sent (no decompression). Credentials never cross host, port or
/// scheme.
#[derive(Clone, Debug)]
pub struct Transport {
    http: reqwest::Client,
    has_identity: bool,
    /// Where connections go first, for messages.
    via: Option<Via>,
    warnings: Arc<Warnings>,
    meter: Arc<dyn Meter>,
}

/// The proxy of a transport.
#[derive(Clone, Debug)]
struct Via {
    /// Host and port.
    proxy: Arc<str>,
    has_login: bool,
}

/// One request. The body is either small and kept, so that it can be sent again, or a stream, which
/// cannot.
#[derive(Debug)]
pub struct Request {
    /// HTTP method.
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// Headers except `Authorization`.
    pub headers: HeaderMap,
    /// The `Authorization` header; not sent on to other hosts.
    pub authorization: Option<HeaderValue>,
    /// The body.
    pub body: Body,
    /// The longest wait for the head of the answer, unless the body is a stream.
    pub answer: Duration,
}

/// A request body.
#[derive(Debug, Default)]
pub enum Body {
    /// None.
    #[default]
    Empty,
    /// Small, can be sent again.
    Bytes(Bytes),
    /// Sent once; its length is in the headers. The caller guards its progress, the transport sets
    /// no deadline.
    Stream(reqwest::Body),
}

impl Request {
    /// A request without headers and body.
    #[must_use]
    pub fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            authorization: None,
            body: Body::Empty,
            answer: ANSWER_WITHIN,
        }
    }

    /// A GET request.
    #[must_use]
    pub fn get(url: Url) -> Self {
        Self::new(Method::GET, url)
    }
}

impl Transport {
    /// Connections as the options say.
    ///
    /// # Errors
    /// [`Error::Setup`] for certificates, keys and proxies that cannot be used.
    #[allow(clippy::disallowed_methods)] // the one place
    pub fn new(options: &TransportOptions) -> Result<Self, Error> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("ecr-sync/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .dns_resolver(Arc::new(Names))
            // One HTTP/2 connection with 16 streams was measured at an eightieth of its link
            // (zot#4333).
            .http1_only()
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .connect_timeout(CONNECT_WITHIN)
            .tcp_keepalive(Duration::from_secs(30))
            .pool_idle_timeout(Duration::from_secs(50));
        if let Some(pem) = &options.roots {
            let roots = reqwest::Certificate::from_pem_bundle(pem).map_err(|e| {
                Error::Setup(format!("ca.crt holds no certificates in PEM form: {e}"))
            })?;
            if roots.is_empty() {
                return Err(Error::Setup("ca.crt holds no certificate in PEM form".into()));
            }
            builder = builder.tls_certs_merge(roots);
        }
        if let Some(ClientIdentity { certificate, key }) = &options.identity {
            let pem = [&certificate[..], b"\n", &key[..]].concat();
            let identity = reqwest::Identity::from_pem(&pem).map_err(|e| {
                Error::Setup(format!(
                    "tls.crt and tls.key are no certificate and key in PEM form: {e}"
                ))
            })?;
            builder = builder.identity(identity);
        }
        let mut via = None;
        if let Some(Proxy { address, login }) = &options.proxy {
            let url = proxy_url(address).ok_or_else(|| {
                Error::Setup("the proxy's address is no HTTP URL; write http://host:port".into())
            })?;
            let has_login = login.is_some() || !url.username().is_empty();
            via = Some(Via { proxy: authority(&url).into(), has_login });
            let mut proxy = reqwest::Proxy::all(url)
                .map_err(|_| {
                    Error::Setup(
                        "the proxy's address cannot be used; write http://host:port".into(),
                    )
                })?
                .no_proxy(reqwest::NoProxy::from_env());
            if let Some((name, password)) = login {
                proxy = proxy.basic_auth(name, password);
            }
            builder = builder.proxy(proxy);
        }
        let http = builder.build().map_err(|e| {
            let root = causes(&e).last().map(ToString::to_string); // reqwest itself says "builder error"
            Error::Setup(format!("cannot set up TLS: {}", root.unwrap_or_default()))
        })?;
        let (has_identity, warnings) = (options.identity.is_some(), Arc::default());
        Ok(Self { http, has_identity, via, warnings, meter: Arc::new(Silent) })
    }

    /// Sends a request and follows redirects. Any status is a success here, save redirects that
    /// must not be followed.
    ///
    /// # Errors
    /// [`Failure`] for connections and redirects.
    pub async fn send(&self, request: Request) -> Result<Response, Failure> {
        let Request { method, url, headers, mut authorization, mut body, answer } = request;
        let home = url.clone();
        let mut at = url;
        for _ in 0..=MOST_REDIRECTS {
            let sent = self
                .send_once(&method, &at, &headers, authorization.as_ref(), &mut body, answer)
                .await;
            let status = sent.as_ref().ok().map(|response| response.status().as_u16());
            self.meter.registry_request(at.host_str().unwrap_or_default(), method.as_str(), status);
            let response = sent?;
            self.warnings.heed(&authority(&at), response.headers());
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
                // S3 refuses a request with two authentications, and the credential is not for
                // others' eyes.
                authorization = None;
            }
            at = next;
        }
        Err(Failure::Redirect(format!(
            "{} redirects more than {MOST_REDIRECTS} times",
            authority(&at)
        )))
    }

    async fn send_once(
        &self,
        method: &Method,
        url: &Url,
        headers: &HeaderMap,
        authorization: Option<&HeaderValue>,
        body: &mut Body,
        answer: Duration,
    ) -> Result<Response, Failure> {
        let mut request = reqwest::Request::new(method.clone(), url.clone());
        *request.headers_mut() = headers.clone();
        if let Some(value) = authorization {
            request.headers_mut().insert(AUTHORIZATION, value.clone());
        }
        let sent = match std::mem::take(body) {
            Body::Stream(stream) => {
                *request.body_mut() = Some(stream);
                // A body that was sent is gone: mark it so that no redirect sends an empty one in
                // its place.
                *body = Body::Stream(reqwest::Body::default());
                return self.sorted(self.http.execute(request).await, url);
            }
            Body::Bytes(bytes) => {
                *request.body_mut() = Some(bytes.clone().into());
                *body = Body::Bytes(bytes);
                self.http.execute(request)
            }
            Body::Empty => self.http.execute(request),
        };
        match tokio::time::timeout(answer, sent).await {
            Ok(result) => self.sorted(result, url),
            Err(_) => Err(Failure::NoAnswer { host: self.way_to(url), after: answer }),
        }
    }

    /// Takes a refusal of the proxy, or of our certificate, for what it is: neither is an answer of
    /// the registry.
    fn sorted(
        &self,
        sent: Result<Response, reqwest::Error>,
        url: &Url,
    ) -> Result<Response, Failure> {
        let error = match sent {
            Ok(response) if response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                return Err(self.proxy_wants_login());
            }
            Ok(response) => return Ok(response),
            Err(error) => error,
        };
        // The error type of the tunnel is not public.
        if causes(&error).any(|cause| cause.to_string().contains("proxy authorization required")) {
            return Err(self.proxy_wants_login());
        }
        // Where the server closes at once, a reset can overtake its alert; that is tried again.
        let alert = causes(&error).find_map(about_our_certificate);
        let host = authority(url);
        Err(match alert {
            None => Failure::from_reqwest(error, &self.way_to(url)),
            Some(_) if !self.has_identity => Failure::Challenge(format!(
                "{host} asks for a client certificate: give tls.crt and tls.key in certSecretRef"
            )),
            Some(alert) => Failure::Challenge(format!(
                "{host} does not accept the client certificate in tls.crt ({alert:?})"
            )),
        })
    }

    fn proxy_wants_login(&self) -> Failure {
        Failure::Challenge(match &self.via {
            Some(Via { proxy, has_login: true }) => {
                format!(
                    "the proxy {proxy} does not accept the login: correct username and password in proxySecretRef"
                )
            }
            Some(Via { proxy, has_login: false }) => {
                format!(
                    "the proxy {proxy} asks for a login: give username and password in proxySecretRef"
                )
            }
            None => {
                "the proxy of the environment (HTTPS_PROXY, HTTP_PROXY) asks for a login".to_owned()
            }
        })
    }

    /// Host and port, and the proxy before them, for messages.
    fn way_to(&self, url: &Url) -> String {
        match &self.via {
            Some(Via { proxy, .. }) => format!("{} (by way of the proxy {proxy})", authority(url)),
            None => authority(url),
        }
    }

    pub(crate) fn meter(&self) -> &dyn Meter {
        &*self.meter
    }

    /// Tells `meter` of every request.
    #[must_use]
    pub fn metered(self, meter: Arc<dyn Meter>) -> Self {
        Self { meter, ..self }
    }
}

/// The address of a proxy; without a scheme it is HTTP.
fn proxy_url(address: &str) -> Option<Url> {
    let url: Url = match address.split_once("://") {
        Some(_) => address.parse().ok()?,
        None => format!("http://{address}").parse().ok()?,
    };
    (matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(url)
}

/// An error and what caused it, however it is wrapped: an `io::Error` gives the source of what it
/// wraps, not what it wraps.
fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| {
        match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        }
    })
}

/// What the server said about the certificate that we showed, or did not show.
fn about_our_certificate(error: &(dyn StdError + 'static)) -> Option<AlertDescription> {
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

/// Where the answer sends us, if it does.
fn redirect_target(
    method: &Method,
    at: &Url,
    response: &Response,
    replayable: bool,
) -> Result<Option<Url>, Failure> {
    let status = response.status();
    let keeps_method =
        matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
    if !keeps_method
        && !matches!(
            status,
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND | StatusCode::SEE_OTHER
        )
    {
        return Ok(None);
    }
    let host = authority(at);
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let Some(next) = location.and_then(|location| at.join(location).ok()) else {
        return Err(Failure::Redirect(format!("{host} redirects without a usable Location")));
    };
    if matches!(*method, Method::GET | Method::HEAD) || (keeps_method && replayable) {
        return Ok(Some(next));
    }
    Err(Failure::Redirect(format!(
        "{host} answers {method} with a redirect to {}://{}; write that host",
        next.scheme(),
        authority(&next)
    )))
}

/// Refuses to go from https to http, to other schemes, and to the machine itself and its metadata
/// services, unless `home`, which somebody configured, is such an address too.
pub(crate) fn check_target(from: &Url, to: &Url, home: &Url) -> Result<(), Failure> {
    let refuse = |why: &str| {
        Err(Failure::Redirect(format!(
            "{} sends us to {}://{}: {why}",
            authority(from),
            to.scheme(),
            authority(to)
        )))
    };
    match (from.scheme(), to.scheme()) {
        ("https", "http") => refuse("https must not become http"),
        (_, "http" | "https") if to.host().is_none() => refuse("it names no host"),
        (_, "http" | "https") if is_link_local(to) && !is_link_local(home) => {
            refuse("link-local addresses are not followed")
        }
        (_, "http" | "https") if is_loopback(to) && !is_loopback(home) => {
            refuse("loopback addresses are not followed")
        }
        (_, "http" | "https") => Ok(()),
        _ => refuse("only http and https are followed"),
    }
}

/// Addresses where clouds serve credentials to whoever asks; in every way to write them.
pub(crate) fn is_link_local(url: &Url) -> bool {
    // `url` has already turned 0xa9fea9fe and 2852039166 into dotted form.
    let host = url.host_str().unwrap_or_default();
    host.trim_start_matches('[').trim_end_matches(']').parse().is_ok_and(is_link_local_address)
}

/// 169.254.0.0/16 and fe80::/10. EC2's IPv6 metadata address fd00:ec2::254 is not link-local but
/// the same thing.
fn is_link_local_address(address: IpAddr) -> bool {
    let v4 = |ip: Ipv4Addr| ip.is_link_local();
    match address {
        IpAddr::V4(ip) => v4(ip),
        IpAddr::V6(ip) => {
            ip.is_unicast_link_local()
                || ip.segments()[..2] == [0xfd00, 0x0ec2]
                || ip.to_ipv4().is_some_and(v4)
        }
    }
}

/// Resolves names, but to no link-local address: whoever means one writes it. A name is somebody
/// else's to point there, at metadata services above all.
#[derive(Debug)]
struct Names;

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let addresses = Box::new(without_link_local(name.as_str(), found)?.into_iter());
            Ok(addresses as Addrs)
        })
    }
}

fn without_link_local(
    name: &str,
    found: impl Iterator<Item = SocketAddr>,
) -> Result<Vec<SocketAddr>, String> {
    let (refused, good): (Vec<_>, Vec<_>) =
        found.partition(|address| is_link_local_address(address.ip()));
    match (good.is_empty(), refused.first()) {
        (true, Some(address)) => {
            Err(format!("{name} is the link-local address {}, which is not asked", address.ip()))
        }
        _ => Ok(good),
    }
}

/// The machine itself: what listens there only trusts whoever is on it.
pub(crate) fn is_loopback(url: &Url) -> bool {
    let v4 = |ip: Ipv4Addr| ip.is_loopback() || ip.is_unspecified();
    let v6 = |ip: Ipv6Addr| {
        ip.is_loopback() || ip.is_unspecified() || ip.to_ipv4_mapped().is_some_and(v4)
    };
    let host = url.host_str().unwrap_or_default();
    match host.trim_start_matches('[').trim_end_matches(']').parse() {
        Ok(IpAddr::V4(ip)) => v4(ip),
        Ok(IpAddr::V6(ip)) => v6(ip),
        Err(_) => matches!(host.trim_end_matches('.').rsplit('.').next(), Some("localhost")),
    }
}

/// Scheme, host and port are the same: the credential of one is the credential of the other.
pub(crate) fn same_origin(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme()
        && a.host_str() == b.host_str()
        && a.port_or_known_default() == b.port_or_known_default()
}

/// Host and port for messages. Paths and queries are left out: they can be signed.
pub(crate) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// Reads a body of at most `limit` bytes.
pub(crate) async fn read_body(response: Response, limit: usize) -> Result<Bytes, Failure> {
    read_body_within(response, limit, CHUNK_WITHIN).await
}

/// [`read_body`] with another bound on silence.
pub(crate) async fn read_body_within(
    mut response: Response,
    limit: usize,
    silence: Duration,
) -> Result<Bytes, Failure> {
    if response.content_length().is_some_and(|length| length > limit as u64) {
        return Err(Failure::TooLarge { limit });
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = chunk_within(&mut response, silence).await? {
        if body.len() + chunk.len() > limit {
            return Err(Failure::TooLarge { limit });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

pub(crate) async fn next_chunk(response: &mut Response) -> Result<Option<Bytes>, Failure> {
    chunk_within(response, CHUNK_WITHIN).await
}

async fn chunk_within(
    response: &mut Response,
    silence: Duration,
) -> Result<Option<Bytes>, Failure> {
    let host = authority(response.url());
    match tokio::time::timeout(silence, response.chunk()).await {
        Ok(chunk) => chunk.map_err(|e| Failure::from_reqwest(e, &host)),
        Err(_) => Err(Failure::Stalled { host, bytes: 0, window: silence }),
    }
}

/// Turns an error answer into an [`Answer`]. Its body is read as far as it is short and comes.
pub(crate) async fn read_answer(
    mut response: Response,
    anonymous: bool,
) -> (Answer, Vec<Challenge>) {
    let status = response.status();
    let challenges = super::challenge::parse(response.headers().get_all(WWW_AUTHENTICATE));
    let retry_after = asked_wait(response.headers());
    let mut body = BytesMut::new();
    while body.len() < MOST_ERROR_BYTES
        && let Ok(Some(chunk)) = next_chunk(&mut response).await
    {
        let room = MOST_ERROR_BYTES - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }
    (Answer::new(status, retry_after, anonymous, &body), challenges)
}

/// `Retry-After` of an answer.
pub(crate) fn asked_wait(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?;
    retry::retry_after(value, SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn targets_that_steal_or_downgrade_are_refused() {
        let https = url("https://registry.example/v2/");
        let http = url("http://registry.example/v2/");
        for (from, to, good) in [
            (&https, "https://cdn.example/x", true),
            (&https, "https://10.0.0.1/x", true),
            (&https, "http://cdn.example/x", false),
            (&http, "http://cdn.example/x", true),
            (&http, "https://cdn.example/x", true),
            (&https, "ftp://cdn.example/x", false),
            (&https, "file:///etc/passwd", false),
            (&http, "http://169.254.169.254/latest/meta-data", false),
            (&http, "http://0xa9fea9fe/", false),
            (&http, "http://2852039166/", false),
            (&http, "http://[fe80::1]/", false),
            (&http, "http://[::ffff:169.254.169.254]/", false),
            (&http, "http://[fd00:ec2::254]/", false),
            (&http, "http://127.0.0.1:8080/", false),
            (&http, "http://2130706433/", false),
            (&https, "https://localhost/", false),
            (&http, "http://[::1]/", false),
            (&http, "http://[::ffff:127.0.0.1]/", false),
            (&http, "http://0.0.0.0/", false),
        ] {
            assert_eq!(check_target(from, &url(to), from).is_ok(), good, "{from} -> {to}");
        }
        for (home, to) in [
            ("http://169.254.1.1/", "http://169.254.1.2/"),
            ("http://localhost:5000/", "http://127.0.0.1:80/"),
        ] {
            assert!(check_target(&url(home), &url(to), &url(home)).is_ok(), "{home}");
        }
    }

    #[test]
    fn names_lead_to_no_link_local_address() {
        let of = |addresses: &[&str]| -> Vec<SocketAddr> {
            addresses.iter().map(|address| SocketAddr::new(address.parse().unwrap(), 0)).collect()
        };
        for (found, left) in [
            (&["10.0.0.1", "127.0.0.1", "2001:db8::1"][..], Some(3)),
            (&["169.254.169.254", "192.0.2.1"], Some(1)),
            (&["169.254.169.254"], None),
            (&["fe80::1", "fd00:ec2::254", "::ffff:169.254.170.2"], None),
            (&[], Some(0)),
        ] {
            let result = without_link_local("metadata.example", of(found).into_iter());
            assert_eq!(result.as_ref().ok().map(Vec::len), left, "{found:?}");
            assert!(result.err().is_none_or(|text| text.contains("metadata.example") && text.contains(found[0])));
        }
    }

    #[test]
    fn origin_is_scheme_host_and_port() {
        let a = url("https://r.example/a");
        for (b, same) in [
            ("https://r.example:443/b", true),
            ("https://R.example/b", true),
            ("https://r.example:444/b", false),
            ("http://r.example/b", false),
            ("https://s.example/b", false),
        ] {
            assert_eq!(same_origin(&a, &url(b)), same, "{b}");
        }
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
