//! The proxy of a transport: a resource's, or that of the environment, and the hosts that are
//! reached through it.

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::Url;

use super::addresses::authority;
use super::error::Error;

/// A proxy and the hosts that are reached through it.
#[derive(Debug)]
pub(super) struct ProxyRoute {
    matcher: Matcher,
    /// The proxy of a resource; `None` for that of the environment.
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    url: Url,
    /// Host and port, for messages.
    authority: String,
    has_login: bool,
}

impl ProxyRoute {
    /// The proxy that a resource names. `NO_PROXY` of the environment applies to it, too.
    ///
    /// # Errors
    /// [`Error::Setup`] if the address cannot be used.
    pub(super) fn of_resource(address: &str, has_login: bool) -> Result<Self, Error> {
        let url = proxy_url(address).ok_or_else(|| {
            Error::Setup("the proxy address is not an HTTP URL; write http://host:port".into())
        })?;
        let no_proxy = ["NO_PROXY", "no_proxy"].iter().find_map(|name| std::env::var(name).ok());
        let matcher =
            Matcher::builder().all(url.to_string()).no(no_proxy.unwrap_or_default()).build();

        let has_login = has_login || !url.username().is_empty();
        let own = Own { authority: authority(&url), has_login, url };
        Ok(Self { matcher, own: Some(own) })
    }

    /// The proxy of the environment, if it has one.
    pub(super) fn of_environment() -> Option<Self> {
        let route = Self { matcher: Matcher::from_env(), own: None };
        // No resolver knows names under `.invalid` (RFC 6761), and no rule of NO_PROXY names them.
        let probes = ["http://proxy.invalid/", "https://proxy.invalid/"];
        let is_used =
            probes.iter().any(|probe| probe.parse().is_ok_and(|url| route.leads_to(&url)));
        is_used.then_some(route)
    }

    /// The proxy of a resource for the HTTP client.
    ///
    /// # Errors
    /// [`Error::Setup`] if the address cannot be used.
    pub(super) fn proxy(&self, login: Option<&(String, String)>) -> Result<reqwest::Proxy, Error> {
        let wrong =
            || Error::Setup("the proxy address cannot be used; write http://host:port".into());
        let own = self.own.as_ref().ok_or_else(wrong)?;
        let proxy = reqwest::Proxy::all(own.url.clone()).map_err(|_| wrong())?;
        let proxy = proxy.no_proxy(reqwest::NoProxy::from_env());
        Ok(match login {
            Some((name, password)) => proxy.basic_auth(name, password),
            None => proxy,
        })
    }

    /// Whether requests for this URL go through the proxy.
    pub(super) fn leads_to(&self, url: &Url) -> bool {
        url.as_str().parse().is_ok_and(|uri| self.matcher.intercept(&uri).is_some())
    }

    /// The address of a resource's proxy.
    pub(super) fn url_of_resource(&self) -> Option<&Url> {
        self.own.as_ref().map(|own| &own.url)
    }

    /// Host and port of a resource's proxy, and whether it has a login.
    pub(super) fn named(&self) -> Option<(&str, bool)> {
        self.own.as_ref().map(|own| (own.authority.as_str(), own.has_login))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resources_proxy_serves_all_hosts() {
        let route = ProxyRoute::of_resource("proxy.example:3128", false).expect("a proxy");
        for url in ["http://r.example/v2/", "https://r.example:5000/v2/"] {
            assert!(route.leads_to(&url.parse().expect("a URL")), "{url}");
        }
        assert_eq!(route.named(), Some(("proxy.example:3128", false)));
        assert_eq!(route.url_of_resource().map(Url::as_str), Some("http://proxy.example:3128/"));

        let with_login = ProxyRoute::of_resource("http://me:pw@proxy.example", false);
        assert_eq!(with_login.expect("a proxy").named(), Some(("proxy.example", true)));
        for wrong in ["", "::", "socks5://proxy.example", "ftp://proxy.example"] {
            assert!(ProxyRoute::of_resource(wrong, false).is_err(), "{wrong}");
        }
    }
}
