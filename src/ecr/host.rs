//! Host names of private ECR registries.

/// The account and region in the host name of a private ECR registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    /// The AWS account ID.
    pub account: String,
    /// The AWS region.
    pub region: String,
}

/// Domains after the region, as AWS's own tool has them (amazon-ecr-credential-helper,
/// `ecr-login/api/client.go`).
const SUFFIXES: [&str; 9] = [
    "amazonaws.com",
    "amazonaws.com.cn",
    "amazonaws.eu",
    "on.aws",
    "on.amazonwebservices.com.cn",
    "sc2s.sgov.gov",
    "c2s.ic.gov",
    "cloud.adc-e.uk",
    "csp.hci.ic.gov",
];

/// Patterns of the hosts that serve ECR's content. Nobody but AWS sets their addresses, which are
/// private behind a VPC endpoint: the registries, and the buckets that they redirect to.
pub(crate) const HOSTS: [&str; 12] = [
    "public.ecr.aws",
    "ecr-public.aws.com",
    "*.dkr.ecr.*.amazonaws.com",
    "*.dkr.ecr-fips.*.amazonaws.com",
    "*.dkr.ecr.*.amazonaws.com.cn",
    "*.dkr.ecr.*.amazonaws.eu",
    "*.dkr-ecr.*.on.aws",
    "*.dkr-ecr-fips.*.on.aws",
    "*.dkr-ecr.*.on.amazonwebservices.com.cn",
    "*-starport-layer-bucket.s3.*.amazonaws.com",
    "*-starport-layer-bucket.s3.*.amazonaws.com.cn",
    "*-starport-layer-bucket.s3.*.amazonaws.eu",
];

impl Host {
    /// Reads `123456789012.dkr.ecr.eu-west-1.amazonaws.com` and its FIPS, dual-stack, China and
    /// sovereign forms.
    #[must_use]
    pub(crate) fn parse(host: &str) -> Option<Self> {
        let host = host.to_ascii_lowercase();
        let (account, rest) = host.split_at_checked(12)?;
        if !account.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }

        let rest = ["dkr.ecr", "dkr-ecr"]
            .iter()
            .find_map(|service| rest.strip_prefix('.')?.strip_prefix(service))?;
        let rest = rest.strip_prefix("-fips").unwrap_or(rest).strip_prefix('.')?;
        let (region, suffix) = rest.split_once('.')?;
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let is_region = region.bytes().all(is_allowed)
            && region.starts_with(|c: char| c.is_ascii_alphanumeric());

        (is_region && SUFFIXES.contains(&suffix))
            .then(|| Self { account: account.to_owned(), region: region.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_private_registry_is_known_and_nothing_else() {
        for (host, region) in [
            ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", "eu-west-1"),
            ("123456789012.DKR.ECR.EU-West-1.amazonaws.com", "eu-west-1"),
            ("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
            ("123456789012.dkr-ecr.eu-west-1.on.aws", "eu-west-1"),
            ("123456789012.dkr-ecr-fips.us-east-2.on.aws", "us-east-2"),
            ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", "cn-north-1"),
            ("123456789012.dkr-ecr.cn-north-1.on.amazonwebservices.com.cn", "cn-north-1"),
            ("123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1"),
            ("123456789012.dkr.ecr.us-isob-east-1.sc2s.sgov.gov", "us-isob-east-1"),
            ("123456789012.dkr.ecr.us-iso-east-1.c2s.ic.gov", "us-iso-east-1"),
            ("123456789012.dkr.ecr.eu-isoe-west-1.cloud.adc-e.uk", "eu-isoe-west-1"),
            ("123456789012.dkr.ecr.us-isof-south-1.csp.hci.ic.gov", "us-isof-south-1"),
        ] {
            let wanted = Host { account: "123456789012".to_owned(), region: region.to_owned() };
            assert_eq!(Host::parse(host), Some(wanted), "{host}");
        }

        for host in [
            "",
            "docker.io",
            "public.ecr.aws",
            "12345678901.dkr.ecr.eu-west-1.amazonaws.com",
            "1234567890123.dkr.ecr.eu-west-1.amazonaws.com",
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.example",
            "123456789012.dkr.ecr.eu-west-1.evil.example",
            "123456789012.dkr.ecr.evil.example/eu-west-1.amazonaws.com",
            "x123456789012.dkr.ecr.eu-west-1.amazonaws.com",
            "123456789012.dkr.s3.eu-west-1.amazonaws.com",
            "123456789012.dkr.ecr..amazonaws.com",
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com:8080",
            "ééééééééé.dkr.ecr.eu-west-1.amazonaws.com",
        ] {
            assert_eq!(Host::parse(host), None, "{host}");
        }
    }
}
