//! Addresses and token servers that may be asked on behalf of a source. An address is judged when
//! it is connected to, after the name was resolved, so that no name can be pointed elsewhere
//! afterwards.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::address_kind::{AddressKind, literal, spellings};
use super::realms::{AllowedRealm, Realms};
use crate::wildcard;

/// One value of `--allow-private-sources`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedAddress {
    /// All private networks.
    Private,
    /// A network.
    Network(IpNet),
    /// A host name, in which `*` stands for any number of characters.
    Host(String),
}

impl FromStr for AllowedAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        if matches!(text.as_str(), "*" | "all") {
            return Ok(Self::Private);
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Network(address.into()));
        }
        if text.contains('/') {
            let wrong = |_| format!("{text:?} is not a network: write, for example, 10.20.0.0/16");
            return text
                .parse()
                .map(|network: IpNet| Self::Network(network.trunc()))
                .map_err(wrong);
        }

        let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-._*".contains(c);
        if text.is_empty() || !text.chars().all(is_allowed) {
            return Err(format!(
                "{text:?} is not valid: write a host name (without a port), a network, or all, for \
                 example registry.corp.example.com or 10.20.0.0/16"
            ));
        }
        Ok(Self::Host(text))
    }
}

/// The rules for connections.
///
/// # Guarantees
/// Metadata services of clouds are never connected to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Egress {
    /// Whether everything but metadata services is allowed.
    trusts_all: bool,
    allows_private: bool,
    networks: Vec<IpNet>,
    hosts: Vec<String>,
    api_server: Vec<SocketAddr>,
    realms: Realms,
}

impl Egress {
    /// The rules for addresses that the operator, or the user of the command line, chose: all are
    /// allowed but metadata services.
    #[must_use]
    pub fn trusting() -> Self {
        Self { trusts_all: true, ..Self::default() }
    }

    /// The rules for addresses that tenants chose: public ones, and those of `allowed`. `own` are
    /// patterns of host names whose addresses nobody but AWS sets; they may be private, since VPC
    /// endpoints are.
    #[must_use]
    pub fn of_tenants(allowed: Vec<AllowedAddress>, own: &[&str]) -> Self {
        let mut egress = Self::default();
        egress.hosts.extend(own.iter().map(|&host| host.to_owned()));
        for allowed in allowed {
            match allowed {
                AllowedAddress::Private => egress.allows_private = true,
                AllowedAddress::Network(network) => egress.networks.push(network),
                AllowedAddress::Host(host) => egress.hosts.push(host),
            }
        }
        egress
    }

    /// Refuses the API server of the cluster, which a private network may include.
    #[must_use]
    pub fn without(self, api_server: Vec<SocketAddr>) -> Self {
        Self { api_server, ..self }
    }

    /// Allows token servers besides those of a registry's own host and the known ones.
    #[must_use]
    pub fn with_realms(self, allowed: Vec<AllowedRealm>) -> Self {
        Self { realms: Realms::new(allowed), ..self }
    }

    /// The token servers that may get a login.
    pub(super) const fn realms(&self) -> &Realms {
        &self.realms
    }

    /// Judges the host of a URL if it is a number: no name is resolved then.
    pub(super) fn check_literal(&self, url: &Url) -> Result<(), Refused> {
        let Some(address) = literal(url) else { return Ok(()) };
        let host = url.host_str().unwrap_or_default();
        self.check(host, address)?;
        match url.port_or_known_default() {
            Some(port) => self.check_connected(host, SocketAddr::new(address, port)),
            None => Ok(()),
        }
    }

    /// Judges the address that a connection led to. Only port and address together tell the API
    /// server from another server on the same machine.
    pub(super) fn check_connected(&self, host: &str, peer: SocketAddr) -> Result<(), Refused> {
        if self.api_server.contains(&peer) {
            return Err(Refused::new(host, Why::ApiServer));
        }
        Ok(())
    }

    /// Judges an address of `host`.
    pub(super) fn check(&self, host: &str, address: IpAddr) -> Result<(), Refused> {
        let kind = AddressKind::of(address);
        if kind == AddressKind::Metadata {
            return Err(Refused::new(host, Why::Kind(kind)));
        }
        if self.trusts_all {
            return Ok(());
        }

        let is_listed = spellings(address).any(|address| self.is_in_network(address));
        // A process outside of the cluster may share the loopback address with the API server.
        let is_api_server = self.api_server.iter().any(|server| server.ip() == address);
        if is_api_server && !is_listed && !address.is_loopback() {
            return Err(Refused::new(host, Why::ApiServer));
        }
        let is_allowed = match kind {
            AddressKind::Public => true,
            AddressKind::Private => self.allows_private || is_listed || self.is_listed(host),
            // 0.0.0.0 leads to this machine, and no server has one of the others.
            AddressKind::Special => false,
            _ => is_listed || self.is_listed(host),
        };
        if is_allowed { Ok(()) } else { Err(Refused::new(host, Why::Kind(kind))) }
    }

    fn is_in_network(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }

    fn is_listed(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        self.hosts.iter().any(|pattern| wildcard::matches(pattern, &host))
    }
}

/// A connection that is not allowed. The text does not name the address: a tenant could look up
/// names of the internal network with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{host} {why}")]
pub(super) struct Refused {
    host: String,
    why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Why {
    #[error("{}", .0.refusal())]
    Kind(AddressKind),
    #[error("is the API server of the cluster, which is never allowed")]
    ApiServer,
}

impl Refused {
    fn new(host: &str, why: Why) -> Self {
        Self { host: host.to_owned(), why }
    }
}

/// The DNS resolver. Addresses that are not allowed are left out of its results.
#[derive(Debug)]
pub(super) struct Names(pub(super) Arc<Egress>);

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let egress = self.0.clone();
        Box::pin(async move {
            let resolved = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let addresses = allowed(&egress, name.as_str(), resolved)?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// Returns the allowed addresses of a name, or the reason why there are none.
fn allowed(
    egress: &Egress,
    name: &str,
    resolved: impl Iterator<Item = SocketAddr>,
) -> Result<Vec<SocketAddr>, Refused> {
    let mut refused = None;
    let mut addresses = Vec::new();
    for address in resolved {
        match egress.check(name, address.ip()) {
            Ok(()) => addresses.push(address),
            Err(refusal) => {
                tracing::debug!(name, address = %address.ip(), %refusal, "address refused");
                refused.get_or_insert(refusal);
            }
        }
    }
    match refused {
        Some(refused) if addresses.is_empty() => Err(refused),
        _ => Ok(addresses),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn egress(allowed: &[&str]) -> Egress {
        let allowed = allowed.iter().map(|text| text.parse().expect("valid")).collect();
        Egress::of_tenants(allowed, &["*.dkr.ecr.*.amazonaws.com"])
    }

    fn is_allowed(egress: &Egress, host: &str, address: &str) -> bool {
        egress.check(host, address.parse().expect("an address")).is_ok()
    }

    #[test]
    fn private_addresses_need_a_word_of_the_operator() {
        for (allowed, host, address, expected) in [
            (&[][..], "r.example", "192.0.2.1", true),
            (&[], "r.example", "10.1.2.3", false),
            (&["all"], "r.example", "10.1.2.3", true),
            (&["*"], "r.example", "fd12::1", true),
            (&["10.1.0.0/16"], "r.example", "10.1.2.3", true),
            (&["10.1.2.3"], "r.example", "10.1.2.3", true),
            (&["10.1.0.0/16"], "r.example", "::ffff:10.1.2.3", true),
            (&["10.1.0.0/16"], "r.example", "64:ff9b::a01:203", true),
            (&["10.1.0.0/16"], "r.example", "10.2.0.1", false),
            (&["r.corp.example"], "r.corp.example", "10.1.2.3", true),
            (&["r.corp.example"], "R.corp.example.", "10.1.2.3", true),
            (&["*.corp.example"], "r.corp.example", "10.1.2.3", true),
            (&["*.corp.example"], "corp.example.evil.example", "10.1.2.3", false),
            // The word for private networks is not one for this machine.
            (&["all"], "r.example", "127.0.0.1", false),
            (&["all"], "r.example", "169.254.1.1", false),
            (&["all"], "r.example", "0.0.0.0", false),
            (&["127.0.0.0/8"], "r.example", "127.0.0.1", true),
            (&["localhost"], "localhost", "127.0.0.1", true),
            (&["169.254.20.0/24"], "r.example", "169.254.20.10", true),
            // Never.
            (&["all", "169.254.0.0/16"], "r.example", "169.254.169.254", false),
            (&["r.example", "0.0.0.0/0", "::/0"], "r.example", "169.254.170.2", false),
            (&["r.example", "::/0"], "r.example", "fd00:ec2::254", false),
            // Addresses of ECR are private behind a VPC endpoint.
            (&[], "123456789012.dkr.ecr.eu-west-1.amazonaws.com", "10.1.2.3", true),
            (&[], "ec2-10-1-2-3.eu-west-1.compute.amazonaws.com", "10.1.2.3", false),
        ] {
            let egress = egress(allowed);
            assert_eq!(
                is_allowed(&egress, host, address),
                expected,
                "{allowed:?} {host} {address}"
            );
        }
    }

    #[test]
    fn the_operators_own_addresses_are_free_but_for_metadata() {
        let egress = Egress::trusting();
        for address in ["10.1.2.3", "127.0.0.1", "fd12::1", "169.254.20.10"] {
            assert!(is_allowed(&egress, "r.example", address), "{address}");
        }
        assert!(!is_allowed(&egress, "r.example", "169.254.169.254"));
    }

    #[test]
    fn an_address_that_no_server_has_cannot_be_allowed() {
        let all = egress(&["all", "0.0.0.0/0", "::/0", "r.example"]);
        for address in ["0.0.0.0", "0.1.2.3", "255.255.255.255", "224.0.0.1", "::", "ff02::1"] {
            let address = address.parse().expect("an address");
            let refused = all.check("r.example", address).expect_err("refused").to_string();
            assert!(refused.contains("which no server can have"), "{refused}");
        }
        assert!(all.check("r.example", "127.0.0.1".parse().expect("an address")).is_ok());
    }

    #[test]
    fn the_api_server_is_no_source() {
        let servers = ["10.96.0.1:443", "127.0.0.1:6443"].map(|at| at.parse().expect("an address"));
        let egress = egress(&["all", "127.0.0.0/8"]).without(servers.to_vec());
        assert!(!is_allowed(&egress, "evil.example", "10.96.0.1"));
        assert!(is_allowed(&egress, "r.example", "10.96.0.2"));
        assert!(is_allowed(&egress, "r.example", "127.0.0.1"), "another port of this machine");

        for (url, expected) in [
            ("https://127.0.0.1:6443/v2/", false),
            ("https://127.0.0.1:5000/v2/", true),
            ("https://10.96.0.1/v2/", false),
            ("https://10.96.0.1:8443/v2/", false),
        ] {
            let url = url.parse().expect("a URL");
            assert_eq!(egress.check_literal(&url).is_ok(), expected, "{url}");
        }
        let peer = servers[1];
        let refused = egress.check_connected("evil.example", peer).expect_err("refused");
        assert!(refused.to_string().starts_with("evil.example is the API server"), "{refused}");
    }

    #[test]
    fn numbers_in_urls_are_judged_however_they_are_written() {
        let egress = egress(&[]);
        for host in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "127.0.0.1.",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[64:ff9b::7f00:1]",
            "[2002:7f00:1::]",
            "0",
            "10.0.0.1",
            "0xa9fea9fe",
            "[fd00:ec2::23]",
        ] {
            let url = format!("https://{host}/v2/").parse().expect("a URL");
            assert!(egress.check_literal(&url).is_err(), "{host}");
        }
        for host in ["192.0.2.1", "[2001:db8::1]", "r.example"] {
            let url = format!("https://{host}/v2/").parse().expect("a URL");
            assert!(egress.check_literal(&url).is_ok(), "{host}");
        }
    }

    #[test]
    fn names_resolve_to_allowed_addresses_only() {
        let resolve = |addresses: &[&str]| {
            let addresses: Vec<_> = addresses
                .iter()
                .map(|address| SocketAddr::new(address.parse().expect("an address"), 0))
                .collect();
            allowed(&egress(&[]), "r.example", addresses.into_iter())
        };
        for (resolved, expected) in [
            (&["192.0.2.1", "2001:db8::1"][..], Some(2)),
            (&["169.254.169.254", "192.0.2.1"], Some(1)),
            (&["127.0.0.1"], None),
            (&["10.0.0.1", "::ffff:169.254.170.2"], None),
            (&[], Some(0)),
        ] {
            let addresses = resolve(resolved);
            assert_eq!(addresses.ok().map(|addresses| addresses.len()), expected, "{resolved:?}");
        }
        let text = resolve(&["10.0.0.1"]).expect_err("refused").to_string();
        assert!(text.contains("--allow-private-sources") && !text.contains("10.0.0.1"), "{text}");
    }

    #[test]
    fn values_of_the_flag_are_hosts_networks_or_all() {
        for (text, expected) in [
            ("all", AllowedAddress::Private),
            ("10.1.2.3/8", AllowedAddress::Network("10.0.0.0/8".parse().expect("a network"))),
            ("fd12::1", AllowedAddress::Network("fd12::1/128".parse().expect("a network"))),
            ("R.Corp", AllowedAddress::Host("r.corp".to_owned())),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for wrong in ["", "r.corp:5000", "https://r.corp", "10.0.0.0/99", "10.0.0.0/", "a b"] {
            assert!(wrong.parse::<AllowedAddress>().is_err(), "{wrong}");
        }
    }
}
