//! The grammar of image references: schemes, hosts, ports, repository paths, and messages for the
//! usual mistakes.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use super::reference::DOCKER_HUB;

/// The host of Docker Hub's `/v2/` API; `docker.io` itself is a web site.
const DOCKER_HUB_API: &str = "registry-1.docker.io";

/// The distribution spec asks registries to accept names of this length, host included.
const MAX_REPOSITORY: usize = 255;

/// The host of the `/v2/` API of a registry.
pub(crate) fn api_host(host: &str) -> &str {
    if host == DOCKER_HUB { DOCKER_HUB_API } else { host }
}

/// Removes `oci://` (Helm) or `docker://` (skopeo); other schemes are mistakes.
pub(super) fn without_scheme(text: &str) -> Result<&str, &'static str> {
    match text.split_once("://") {
        None => Ok(text),
        Some((scheme, rest))
            if scheme.eq_ignore_ascii_case("oci") || scheme.eq_ignore_ascii_case("docker") =>
        {
            Ok(rest)
        }
        Some((scheme, _))
            if scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http") =>
        {
            Err("leave the scheme out and write host/repository (plain http is a separate setting)")
        }
        Some(_) => Err("write host/repository without a scheme"),
    }
}

/// Splits off the host. Docker's rule: the first segment is a host if it contains a dot or a colon,
/// or is `localhost`.
pub(super) fn split_host(text: &str) -> Result<(String, &str), String> {
    let hub = || Ok((DOCKER_HUB.to_owned(), text));
    let Some((first, path)) = text.split_once('/') else {
        if text.starts_with('[') || text.eq_ignore_ascii_case("localhost") {
            return Err("the repository is missing; write host/repository".into());
        }
        return hub();
    };

    let is_host = first.starts_with('[')
        || first.contains(['.', ':'])
        // Docker also reads a first segment with capitals, such as `Grafana/loki`, as a host, which
        // nobody means.
        || first.eq_ignore_ascii_case("localhost");
    if !is_host {
        return hub();
    }

    let host = first.to_ascii_lowercase();
    check_host(&host)?;
    let host = match host.as_str() {
        "index.docker.io" | DOCKER_HUB_API | "www.docker.io" => DOCKER_HUB.to_owned(),
        _ => host,
    };
    Ok((host, path))
}

fn check_host(host: &str) -> Result<(), String> {
    let (name, port) = if let Some(rest) = host.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else {
            return Err(format!("the host {host:?} has no closing bracket"));
        };
        if address.parse::<Ipv6Addr>().is_err() {
            return Err(format!("{address:?} is not an IPv6 address"));
        }
        let port = match port.strip_prefix(':') {
            Some(port) => Some(port),
            None if port.is_empty() => None,
            None => return Err(format!("the host {host:?} has text after its bracket")),
        };
        ("ipv6", port)
    } else {
        match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        }
    };

    if let Some(port) = port
        && (port.parse::<u16>().is_err() || port.starts_with('+'))
    {
        return Err(format!("{port:?} is not a port"));
    }

    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };

    // DNS names may end with a dot.
    if !name.strip_suffix('.').unwrap_or(name).split('.').all(is_label) {
        return Err(format!("{host:?} is not a host name"));
    }
    Ok(())
}

/// Checks `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/…)*`, with a message for each usual mistake.
pub(super) fn check_repository(repository: &str) -> Result<(), String> {
    if repository.is_empty() {
        return Err("the repository is missing; write host/repository".into());
    }
    if repository.ends_with('/') {
        return Err("remove the slash at the end".into());
    }
    if repository.len() > MAX_REPOSITORY {
        return Err(format!("the repository is longer than {MAX_REPOSITORY} characters"));
    }

    if repository.chars().any(|c| c.is_ascii_uppercase()) {
        return Err(format!(
            "repository names are lower case; write {}",
            repository.to_ascii_lowercase()
        ));
    }

    for component in repository.split('/') {
        if component.is_empty() {
            return Err("it has two slashes in a row".into());
        }
        if !is_component(component) {
            return Err(format!(
                "{component:?} is not a path component: write lower-case letters and digits, with \
                 `.`, `_`, `__` or `-` between them"
            ));
        }
    }

    Ok(())
}

fn is_component(component: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let edges = component.starts_with(alphanumeric) && component.ends_with(alphanumeric);
    edges
        && component.split(alphanumeric).all(|between| {
            matches!(between, "" | "." | "_" | "__") || between.chars().all(|c| c == '-')
        })
}

/// Cuts a text to the length of a message, so that hostile input cannot flood a log.
pub(super) fn shortened(text: &str) -> Cow<'_, str> {
    crate::text::shortened(text, 300)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_hub_has_an_api_host_of_its_own() {
        assert_eq!(api_host("docker.io"), "registry-1.docker.io");
        assert_eq!(api_host("ghcr.io"), "ghcr.io");
    }
}
