//! Kinds of addresses: public, private, of this machine, of a cloud's metadata service.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::Url;

/// The kind of an address. An IPv6 address that stands for an IPv4 address is of that one's kind.
/// The order is that of the danger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum AddressKind {
    Public,
    /// Networks that are not routed on the internet: RFC 1918, RFC 6598, RFC 4193, RFC 2544.
    Private,
    Loopback,
    LinkLocal,
    /// Unspecified, multicast and reserved addresses, which no server has.
    Special,
    /// Services that give credentials to whoever asks on the same machine.
    Metadata,
}

impl AddressKind {
    /// Returns the worst kind among the spellings of an address.
    pub(super) fn of(address: IpAddr) -> Self {
        spellings(address).map(Self::of_spelling).max().unwrap_or(Self::Special)
    }

    /// The text that follows the host in a message.
    pub(super) const fn refusal(self) -> &'static str {
        match self {
            Self::Public | Self::Private => {
                "has a private address: the operator connects to it only if \
                 --allow-private-sources names the host or the network (docs/security.md)"
            }
            Self::Loopback => {
                "has a loopback address: the operator connects to it only if \
                 --allow-private-sources names the host or the network"
            }
            Self::LinkLocal => {
                "has a link-local address: the operator connects to it only if \
                 --allow-private-sources names the host or the network"
            }
            Self::Special => {
                "has a reserved, multicast or unspecified address, which no server can have"
            }
            Self::Metadata => "has the address of a metadata service, which is never allowed",
        }
    }

    fn is_of_this_machine(address: IpAddr) -> bool {
        matches!(Self::of_spelling(address), Self::Loopback | Self::LinkLocal | Self::Metadata)
    }

    fn of_spelling(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => Self::of_v6(address),
        }
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        match address.octets() {
            // EC2 and most others, DNS and time of EC2; ECS tasks and EKS Pod Identity; Tencent;
            // Scaleway.
            [169, 254, 169 | 170, _] | [169, 254, 0, 23] | [169, 254, 42, 42] => Self::Metadata,
            // Alibaba Cloud, Oracle Cloud, Azure's host ("WireServer").
            [100, 100, 100, 200] | [192, 0, 0, 192] | [168, 63, 129, 16] => Self::Metadata,
            [127, ..] => Self::Loopback,
            [169, 254, ..] => Self::LinkLocal,
            [0 | 224..=255, ..] => Self::Special,
            [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Self::Private,
            [100, 64..=127, ..] | [198, 18..=19, ..] | [192, 0, 0, _] => Self::Private,
            _ => Self::Public,
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        let segments = address.segments();
        match segments {
            // EC2's metadata, time and DNS, and EKS Pod Identity.
            [0xfd00, 0x0ec2, ..] => Self::Metadata,
            // Scaleway, Google Cloud.
            [0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42] => Self::Metadata,
            [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254] => Self::Metadata,
            _ if address.is_loopback() => Self::Loopback,
            _ if address.is_unspecified() || address.is_multicast() => Self::Special,
            _ if address.is_unicast_link_local() => Self::LinkLocal,
            // Unique local, and site local, which was deprecated and is still in use.
            _ if address.is_unique_local() || segments[0] & 0xffc0 == 0xfec0 => Self::Private,
            _ => Self::Public,
        }
    }
}

/// Returns the address, or the IPv4 addresses that it stands for.
pub(super) fn spellings(address: IpAddr) -> impl Iterator<Item = IpAddr> {
    let IpAddr::V6(v6) = address else { return vec![address].into_iter() };
    let v4 =
        |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));

    let inner = match v6.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => vec![],
        // IPv4-mapped (RFC 4291), IPv4-translated (RFC 2765), IPv4-compatible (deprecated).
        [0, 0, 0, 0, 0, 0xffff, a, b]
        | [0, 0, 0, 0, 0xffff, 0, a, b]
        | [0, 0, 0, 0, 0, 0, a, b] => {
            vec![v4(a, b)]
        }
        // NAT64 (RFC 6052).
        [0x64, 0xff9b, 0, 0, 0, 0, a, b] => vec![v4(a, b)],
        // NAT64 for local use (RFC 8215): the length of the prefix is not known, and each length
        // has another place for the address (RFC 6052, section 2.2). Other places than the usual
        // one count only for what they would reach.
        [0x64, 0xff9b, 1, a, b, c, d, e] => {
            let shifted = |high: u16, low: u16| (high << 8) | (low >> 8);
            let others = [
                v4(a, shifted(b, c)),
                v4((a << 8) | (b & 0xff), c),
                v4(shifted(b, c), shifted(c, d)),
            ];
            let reaches = |place: &IpAddr| AddressKind::is_of_this_machine(*place);
            let mut inner: Vec<_> = others.into_iter().filter(reaches).collect();
            inner.push(v4(d, e));
            inner
        }
        // 6to4 (RFC 3056), Teredo (RFC 4380).
        [0x2002, a, b, ..] => vec![v4(a, b)],
        [0x2001, 0, .., a, b] => vec![v4(!a, !b)],
        _ => vec![],
    };
    if inner.is_empty() { vec![address].into_iter() } else { inner.into_iter() }
}

/// The address that the host of a URL is, if it is a number or the name of this machine. `url` has
/// turned 0xa9fea9fe and 2852039166 into dotted form already.
pub(super) fn literal(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse() {
        return Some(address);
    }
    let is_here = host.trim_end_matches('.').rsplit('.').next() == Some("localhost");
    is_here.then_some(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_has_its_kind() {
        use AddressKind::{LinkLocal, Loopback, Metadata, Private, Public, Special};
        for (address, kind) in [
            ("192.0.2.1", Public),
            ("172.15.255.255", Public),
            ("172.32.0.0", Public),
            ("100.63.255.255", Public),
            ("100.128.0.0", Public),
            ("2001:db8::1", Public),
            ("10.0.0.1", Private),
            ("172.16.0.1", Private),
            ("172.31.255.255", Private),
            ("192.168.1.1", Private),
            ("100.64.0.1", Private),
            ("100.127.255.255", Private),
            ("198.19.0.1", Private),
            ("fc00::1", Private),
            ("fd12::1", Private),
            ("fec0::1", Private),
            ("127.0.0.1", Loopback),
            ("127.255.255.254", Loopback),
            ("::1", Loopback),
            ("169.254.1.1", LinkLocal),
            ("fe80::1", LinkLocal),
            ("febf::1", LinkLocal),
            ("0.0.0.0", Special),
            ("0.1.2.3", Special),
            ("::", Special),
            ("224.0.0.1", Special),
            ("255.255.255.255", Special),
            ("240.0.0.1", Special),
            ("ff02::1", Special),
            ("169.254.169.254", Metadata),
            ("169.254.170.2", Metadata),
            ("169.254.170.23", Metadata),
            ("100.100.100.200", Metadata),
            ("192.0.0.192", Metadata),
            ("168.63.129.16", Metadata),
            ("fd00:ec2::254", Metadata),
            ("fd00:ec2::23", Metadata),
            ("fd20:ce::254", Metadata),
        ] {
            let parsed: IpAddr = address.parse().expect("an address");
            assert_eq!(AddressKind::of(parsed), kind, "{address}");
        }
    }

    #[test]
    fn an_ipv4_address_is_judged_in_every_spelling_of_ipv6() {
        use AddressKind::{Loopback, Metadata, Private, Public};
        for (address, kind) in [
            ("::ffff:192.0.2.1", Public),
            ("::ffff:127.0.0.1", Loopback),
            ("::ffff:0:127.0.0.1", Loopback),
            ("::127.0.0.1", Loopback),
            ("::ffff:169.254.169.254", Metadata),
            ("64:ff9b::192.0.2.1", Public),
            ("64:ff9b::169.254.169.254", Metadata),
            ("64:ff9b::10.0.0.1", Private),
            // Prefixes of 96, 48, 56 and 64 bits (RFC 6052, section 2.2).
            ("64:ff9b:1::169.254.169.254", Metadata),
            ("64:ff9b:1:a9fe:a9:fe00::", Metadata),
            ("64:ff9b:1:a9:fe:a9fe::", Metadata),
            ("64:ff9b:1:0:a9:fea9:fe00:0", Metadata),
            ("64:ff9b:1::192.0.2.1", Public),
            ("64:ff9b:1:fffe::10.0.0.1", Private),
            ("2002:a9fe:a9fe::1", Metadata),
            ("2002:c000:201::1", Public),
            ("2002:7f00:1::", Loopback),
            ("2001:0:c000:201:0:0:5601:5601", Metadata),
            ("2001:1::1", Public),
        ] {
            let parsed: IpAddr = address.parse().expect("an address");
            assert_eq!(AddressKind::of(parsed), kind, "{address}");
        }
    }

    #[test]
    fn names_of_this_machine_are_a_number() {
        for (url, address) in [
            ("http://127.1/", Some("127.0.0.1")),
            ("http://[::1]:5000/", Some("::1")),
            ("http://localhost/", Some("127.0.0.1")),
            ("http://a.localhost./", Some("127.0.0.1")),
            ("http://localhost.example/", None),
            ("http://r.example/", None),
        ] {
            let address = address.map(|address| address.parse().expect("an address"));
            assert_eq!(literal(&url.parse().expect("a URL")), address, "{url}");
        }
    }
}
