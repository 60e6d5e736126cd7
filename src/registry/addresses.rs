//! Allowed targets of redirects and upload locations. Refused are steps from https to http, and
//! from another host to this machine. [`super::egress`] judges the addresses of all connections.

use reqwest::header::LOCATION;
use reqwest::{Method, Response, StatusCode, Url};

use super::address_kind::{AddressKind, literal};
use super::cause::Cause;

/// The address that a redirect leads to; `None` for any other answer.
pub(super) fn redirect_target(
    method: &Method,
    asked: &Url,
    response: &Response,
    replayable: bool,
) -> Result<Option<Url>, Cause> {
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

    let host = authority(asked);
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let Some(next) = location.and_then(|location| asked.join(location).ok()) else {
        return Err(Cause::Redirect(format!(
            "{host} sent a redirect without a usable Location header"
        )));
    };

    // A body may hold a credential, such as the refresh token in a request for a token.
    let may_resend = keeps_method && replayable && same_origin(asked, &next);
    if matches!(*method, Method::GET | Method::HEAD) || may_resend {
        return Ok(Some(next));
    }

    Err(Cause::Redirect(format!(
        "{host} answers {method} with a redirect to {}://{}; use that host in the spec",
        next.scheme(),
        authority(&next)
    )))
}

/// Refuses steps from https to http, to other schemes, and to loopback and link-local addresses,
/// unless `home`, which the user configured, is such an address too.
pub(crate) fn check_target(from: &Url, to: &Url, home: &Url) -> Result<(), Cause> {
    let refuse = |why: &str| {
        Err(Cause::Redirect(format!(
            "{} redirects to {}://{}: {why}",
            authority(from),
            to.scheme(),
            authority(to)
        )))
    };

    match (from.scheme(), to.scheme()) {
        ("https", "http") => refuse("a redirect from https to http is not followed"),
        (_, "http" | "https") if to.host().is_none() => refuse("the address has no host"),
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

/// Whether the host is a link-local address, in any notation: clouds serve credentials there.
pub(crate) fn is_link_local(url: &Url) -> bool {
    matches!(kind(url), Some(AddressKind::LinkLocal | AddressKind::Metadata))
}

/// Whether the host is this machine: services that listen there trust local users only.
pub(crate) fn is_loopback(url: &Url) -> bool {
    matches!(kind(url), Some(AddressKind::Loopback | AddressKind::Special))
}

/// The kind of the address that the host is, if it is a number.
fn kind(url: &Url) -> Option<AddressKind> {
    literal(url).map(AddressKind::of)
}

/// Whether scheme, host and port are the same: only then the credential may be sent too.
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
        for (from, to, allowed) in [
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
            assert_eq!(check_target(from, &url(to), from).is_ok(), allowed, "{from} -> {to}");
        }

        for (home, to) in [
            ("http://169.254.1.1/", "http://169.254.1.2/"),
            ("http://localhost:5000/", "http://127.0.0.1:80/"),
        ] {
            assert!(check_target(&url(home), &url(to), &url(home)).is_ok(), "{home}");
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
}
