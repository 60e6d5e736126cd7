//! Flags that several subcommands have: AWS, sources, default policies, and how values are parsed.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use clap::builder::RangedI64ValueParser;

use super::switch::Switch;
use crate::ecr;
use crate::memory_budget::{Budget, Limit};
use crate::registry::{AllowedRealm, Reserve};
use crate::reload::{self, Reloaded};
use crate::spec;
use crate::sync::DefaultFiles;

/// Flags about AWS.
#[derive(Debug, Args)]
#[command(next_help_heading = "AWS")]
pub(super) struct Aws {
    /// Account of the ECR registry for repositories that do not name one
    ///
    /// Default: the account of the AWS identity in use.
    #[arg(long, env = "ECR_ACCOUNT_ID", value_name = "ID", value_parser = account_id)]
    account_id: Option<String>,

    /// Region of the ECR registry for repositories that do not name one
    ///
    /// Default: as for other AWS tools, AWS_REGION or the profile's region.
    #[arg(long, env = "ECR_REGION", value_name = "REGION", value_parser = region)]
    region: Option<String>,

    /// Manifests to write per second for each account and region: ECR's PutImage quota
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = rate())]
    put_image_rate: u32,

    /// Blobs to upload per second for each account and region: ECR's InitiateLayerUpload and
    /// CompleteLayerUpload quotas
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = rate())]
    layer_upload_rate: u32,

    /// URL of the ECR API, for example a VPC endpoint; same as AWS_ENDPOINT_URL_ECR
    #[arg(long, env = "ECR_ENDPOINT_URL", value_name = "URL", value_parser = endpoint)]
    ecr_endpoint_url: Option<String>,

    /// YAML list of {roleArn, externalId}: the external IDs of the roles that repositories name
    /// (registry.roleArn)
    ///
    /// In roleArn, * matches any number of characters; the first match is used. The file is read
    /// again when it changes.
    #[arg(long, env = "ROLES_FILE", value_name = "FILE")]
    roles_file: Option<PathBuf>,
}

impl Aws {
    /// Returns the options for a session; reads the roles file.
    pub(super) fn options(&self) -> Result<ecr::Options, reload::Error> {
        let roles = self.roles_file.as_ref().map(|path| Reloaded::load(path, ecr::Roles::parse));

        Ok(ecr::Options {
            account: self.account_id.clone(),
            region: self.region.clone(),
            rates: ecr::Rates { put_image: self.put_image_rate, uploads: self.layer_upload_rate },
            endpoint: self.ecr_endpoint_url.clone(),
            roles: roles.transpose()?,
            session_name: "ecr-sync".to_owned(),
            share: ecr::Share::default(),
        })
    }
}

/// Flags about the registries that images and charts are copied from.
#[derive(Debug, Args)]
#[command(next_help_heading = "Sources")]
pub(super) struct Sources {
    /// Pulls to reserve for other clients, if the source reports the remaining pulls (Docker Hub
    /// does): a number, or a percentage such as 10%
    ///
    /// When only the reserve is left, tags that need a pull fail with RateLimited until more pulls
    /// are available. Tags that are up to date are still checked: a check is not a pull. 0 reserves
    /// nothing.
    #[arg(long, env = "RATE_RESERVE", default_value_t, value_name = "N[%]")]
    pub(super) rate_reserve: Reserve,

    /// Host of the token server that gets the logins of a registry, for example
    /// registry.example.com=gitlab.example.com; comma-separated
    ///
    /// A login is sent to a token server on the registry's own host, on a host below it, or on the
    /// known host of a public registry (Docker Hub, GitLab.com and others). A registry with another
    /// token server, such as a self-managed GitLab, needs this flag. * matches any number of
    /// characters.
    #[arg(long, env = "ALLOW_REALM", value_name = "REGISTRY=HOST,...", value_delimiter = ',')]
    pub(super) allow_realm: Vec<Entry<AllowedRealm>>,

    #[command(flatten)]
    pub(super) public_ecr: PublicEcr,
}

/// The flag for the memory of documents.
#[derive(Debug, Args)]
#[command(next_help_heading = "Memory")]
pub(super) struct Memory {
    /// Memory for everything that is read from sources: lists of tags, manifests, chart indexes and
    /// archives; for example 96Mi
    ///
    /// Default: three eighths of the memory limit of the container (96Mi of 256Mi), or 512Mi
    /// without a limit; at least 32Mi. A document that needs more memory than is allowed fails; the
    /// others are not affected.
    #[arg(long, env = "MEMORY_BUDGET", value_name = "SIZE", value_parser = memory)]
    memory_budget: Option<usize>,
}

impl Memory {
    pub(super) fn limit(&self) -> Limit {
        Limit::new(self.memory_budget)
    }
}

/// The flag for the login to public.ecr.aws.
#[derive(Debug, Args)]
pub(super) struct PublicEcr {
    /// Log in to public.ecr.aws with the AWS identity; pulls with a login have a higher rate limit
    ///
    /// Needs ecr-public:GetAuthorizationToken and sts:GetServiceBearerToken (`iam-policy` grants
    /// them with this flag). Without them, a warning is logged and the pulls are anonymous. The API
    /// is in us-east-1 only.
    #[arg(long = "public-ecr-login", env = "PUBLIC_ECR_LOGIN", switch = false)]
    pub(super) login: bool,
}

/// Flags about repositories whose spec leaves a policy or the resource tags open.
#[derive(Debug, Args)]
#[command(next_help_heading = "Defaults")]
pub(super) struct Defaults {
    /// Lifecycle policy (JSON or YAML) for repositories without lifecyclePolicy in their spec
    ///
    /// Applied to repositories that ecr-sync created; to other repositories only if they have no
    /// lifecycle policy.
    #[arg(long, env = "DEFAULT_LIFECYCLE_POLICY_FILE", value_name = "FILE")]
    default_lifecycle_policy_file: Option<OsString>,

    /// Permission policy (JSON or YAML) for repositories without permissionPolicy in their spec
    ///
    /// Applied like the default lifecycle policy.
    #[arg(long, env = "DEFAULT_PERMISSION_POLICY_FILE", value_name = "FILE")]
    default_permission_policy_file: Option<OsString>,

    /// Resource tags (a JSON or YAML map) for repositories without resourceTags in their spec
    ///
    /// Applied like the default lifecycle policy. `resourceTags: {}` in the spec opts out.
    #[arg(long, env = "DEFAULT_RESOURCE_TAGS_FILE", value_name = "FILE")]
    default_resource_tags_file: Option<OsString>,
}

impl Defaults {
    pub(super) fn files(&self) -> DefaultFiles {
        // An empty variable names no file; clap refuses an empty path, hence OsString above.
        let named = |path: &Option<OsString>| {
            path.clone().filter(|path| !path.is_empty()).map(PathBuf::from)
        };
        DefaultFiles {
            lifecycle_policy: named(&self.default_lifecycle_policy_file),
            permission_policy: named(&self.default_permission_policy_file),
            resource_tags: named(&self.default_resource_tags_file),
        }
    }
}

pub(super) fn account_id(text: &str) -> Result<String, String> {
    if spec::is_account_id(text) {
        Ok(text.to_owned())
    } else {
        Err("an AWS account ID has 12 digits".to_owned())
    }
}

pub(super) fn region(text: &str) -> Result<String, String> {
    if spec::is_region(text) {
        Ok(text.to_owned())
    } else {
        Err("write an AWS region, for example eu-west-1".to_owned())
    }
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    spec::parse_duration(text)
        .ok_or_else(|| "write a duration, for example 0s, 90s, 10m or 1h30m".to_owned())
}

/// One entry of a list. An empty text is no value: an unset variable of a template gives one.
#[derive(Clone, Debug)]
pub(super) struct Entry<T>(Option<T>);

impl<T: FromStr> FromStr for Entry<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        if text.trim().is_empty() {
            Ok(Self(None))
        } else {
            text.parse().map(|value| Self(Some(value)))
        }
    }
}

/// Returns the values of a list.
pub(super) fn values<T>(entries: Vec<Entry<T>>) -> Vec<T> {
    entries.into_iter().filter_map(|entry| entry.0).collect()
}

/// Parses a quantity of memory, as in a Pod.
fn memory(text: &str) -> Result<usize, String> {
    const UNITS: [(&str, usize); 6] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("k", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
    ];
    let suffix = UNITS.iter().find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, *bytes)));
    let (number, unit) = suffix.unwrap_or((text, 1));
    let bytes = number.parse::<usize>().ok().and_then(|number| number.checked_mul(unit));
    match bytes {
        Some(bytes) if bytes >= Budget::LEAST => Ok(bytes),
        Some(_) => Err("write at least 32Mi".to_owned()),
        None => Err("write a size, for example 96Mi or 1Gi".to_owned()),
    }
}

/// Parses the number of things to do at the same time.
pub(super) fn parallel() -> RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..=512)
}

/// Parses a number of calls per second.
fn rate() -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..)
}

fn endpoint(text: &str) -> Result<String, String> {
    let url = reqwest::Url::parse(text).map_err(|error| error.to_string())?;
    if matches!(url.scheme(), "http" | "https") && url.has_host() {
        Ok(text.trim_end_matches('/').to_owned())
    } else {
        Err("write a URL, for example https://vpce-0123-api.ecr.eu-west-1.vpce.amazonaws.com"
            .to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::memory;

    #[test]
    fn a_memory_budget_is_a_quantity_as_in_a_pod() {
        let mib = 1024 * 1024;
        for (text, bytes) in
            [("96Mi", 96 * mib), ("1Gi", 1024 * mib), ("98304Ki", 96 * mib), ("33554432", 32 * mib)]
        {
            assert_eq!(memory(text), Ok(bytes), "{text}");
        }
        assert_eq!(memory("100M"), Ok(100_000_000));
        assert_eq!(memory("31Mi"), Err("write at least 32Mi".to_owned()));
        for bad in ["", "Mi", "1.5Gi", "-1Gi", "96MB", "96 Mi", "18446744073709551615Gi"] {
            assert_eq!(memory(bad), Err("write a size, for example 96Mi or 1Gi".to_owned()));
        }
    }
}
