//! Token servers ("realms") that may get a login. A registry names its token server itself; without
//! a rule, it could have the login sent to any host.

use std::str::FromStr;

use super::grammar::api_host;
use crate::wildcard;

/// One value of `--allow-realm`: a registry and the host of its token server. In both, `*` stands
/// for any number of characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedRealm {
    registry: String,
    realm: String,
}

impl FromStr for AllowedRealm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_host = |host: &str| {
            let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-._*:[]".contains(c);
            !host.is_empty() && host.chars().all(is_allowed)
        };
        match text.trim().to_ascii_lowercase().split_once('=') {
            Some((registry, realm)) if is_host(registry) && is_host(realm) => {
                Ok(Self { registry: registry.to_owned(), realm: realm.to_owned() })
            }
            _ => Err(format!(
                "{text:?} is not REGISTRY=HOST: write, for example, \
                 registry.example.com=gitlab.example.com"
            )),
        }
    }
}

/// Registries whose token server has a name of its own.
const KNOWN: [(&str, &str); 8] = [
    ("registry-1.docker.io", "auth.docker.io"),
    ("dhi.io", "auth.docker.io"),
    // <https://docs.gitlab.com/administration/packages/container_registry/>
    ("registry.gitlab.com", "gitlab.com"),
    ("docker.elastic.co", "docker-auth.elastic.co"),
    // <https://access.redhat.com/articles/3560571>
    ("registry.redhat.io", "sso.redhat.com"),
    ("registry.connect.redhat.com", "sso.redhat.com"),
    ("registry.digitalocean.com", "api.digitalocean.com"),
    ("rg.*.scw.cloud", "api.scaleway.com"),
];

/// The rules for token servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Realms(Vec<AllowedRealm>);

impl Realms {
    pub(super) fn new(allowed: Vec<AllowedRealm>) -> Self {
        Self(allowed)
    }

    /// Whether a login for `registry` may be sent to the token server `realm`; both are hosts
    /// without a port. Without a rule of the operator, it may be sent to the registry's own host, to
    /// names below it, whose owner is the same, and to the known token server of the registry.
    pub(super) fn allow(&self, registry: &str, realm: &str) -> bool {
        let is_number = realm.starts_with('[') || realm.parse::<std::net::IpAddr>().is_ok();
        let is_below = || realm.strip_suffix(registry).is_some_and(|rest| rest.ends_with('.'));
        if realm == registry || (!is_number && is_below()) {
            return true;
        }

        let matches = |(of, host): (&str, &str)| {
            wildcard::matches(api_host(of), registry) && wildcard::matches(host, realm)
        };
        let of_operator =
            self.0.iter().map(|allowed| (without_port(&allowed.registry), &*allowed.realm));
        KNOWN.into_iter().chain(of_operator).any(matches) || is_alibaba(registry, realm)
    }
}

/// `registry.REGION.aliyuncs.com` has its token server at `dockerauth.REGION.aliyuncs.com`.
fn is_alibaba(registry: &str, realm: &str) -> bool {
    let region = |host: &str, name: &str| -> Option<String> {
        Some(host.strip_prefix(name)?.strip_suffix(".aliyuncs.com")?.to_owned())
    };
    let of_registry = region(registry, "registry.");
    of_registry.is_some() && of_registry == region(realm, "dockerauth.")
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_goes_to_the_registrys_own_or_known_token_server() {
        let realms = Realms::default();
        for (registry, realm, allowed) in [
            ("ghcr.io", "ghcr.io", true),
            ("europe-docker.pkg.dev", "europe-docker.pkg.dev", true),
            ("team.azurecr.io", "team.azurecr.io", true),
            ("registry.example", "auth.registry.example", true),
            ("127.0.0.1", "127.0.0.1", true),
            ("registry-1.docker.io", "auth.docker.io", true),
            ("registry.gitlab.com", "gitlab.com", true),
            ("rg.fr-par.scw.cloud", "api.scaleway.com", true),
            ("registry.cn-hangzhou.aliyuncs.com", "dockerauth.cn-hangzhou.aliyuncs.com", true),
            ("registry.cn-hangzhou.aliyuncs.com", "dockerauth.cn-beijing.aliyuncs.com", false),
            ("registry.example", "gitlab.example", false),
            ("registry.example", "evilregistry.example", false),
            ("registry.example", "example", false),
            ("ghcr.io", "auth.docker.io", false),
            ("team.azurecr.io", "other.azurecr.io", false),
            ("0.0.1", "127.0.0.1", false),
        ] {
            assert_eq!(realms.allow(registry, realm), allowed, "{registry} {realm}");
        }
    }

    #[test]
    fn the_operator_allows_others() {
        let allowed = ["registry.corp.example:5000=gitlab.corp.example", "docker.io=auth.example"];
        let allowed = allowed.map(|text| text.parse().expect("valid")).to_vec();
        let realms = Realms::new(allowed);
        assert!(realms.allow("registry.corp.example", "gitlab.corp.example"));
        assert!(realms.allow("registry-1.docker.io", "auth.example"));
        assert!(!realms.allow("registry.corp.example", "auth.example"));

        for wrong in ["", "a", "a=", "=b", "a=https://b", "a=b/c"] {
            assert!(wrong.parse::<AllowedRealm>().is_err(), "{wrong}");
        }
    }
}
