//! The AWS identity for a registry: the operator's own, a role that it assumes, or that of a
//! ServiceAccount. The operator's roles file with its external IDs. Role session names.

use std::fmt;

use async_trait::async_trait;

use super::role::RoleArn;
use crate::class::Class;
use crate::nesting;
use crate::wildcard;

/// The identity for calls to a registry. Both fields empty: the operator's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The ServiceAccount whose role is assumed first.
    pub service_account: Option<ServiceAccount>,
    /// The role that is assumed from there, or from the operator's identity.
    pub role: Option<RoleArn>,
}

impl Identity {
    /// Returns the account that this identity belongs to; `None` for the operator's own identity.
    #[must_use]
    pub fn account(&self) -> Option<&str> {
        let role =
            self.role.as_ref().or(self.service_account.as_ref().map(|account| &account.role));
        role.map(RoleArn::account)
    }

    /// Whether it is the own identity of this process, or is assumed from it. A ServiceAccount has
    /// a token of its own.
    pub(super) const fn is_based_on_own(&self) -> bool {
        self.service_account.is_none()
    }
}

/// A Kubernetes ServiceAccount with an IAM role (IRSA).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceAccount {
    /// The ServiceAccount's namespace.
    pub namespace: String,
    /// The ServiceAccount's name.
    pub name: String,
    /// The role in the ServiceAccount's annotation.
    pub role: RoleArn,
}

/// Requests tokens of ServiceAccounts for STS.
#[async_trait]
pub trait ServiceAccountTokens: Send + Sync + fmt::Debug {
    /// Returns a token with the audience `sts.amazonaws.com`.
    ///
    /// # Errors
    /// When the API server gives none.
    async fn token(&self, account: &ServiceAccount) -> Result<String, NoToken>;
}

/// The API server gave no token of a ServiceAccount.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct NoToken {
    /// The kind of failure.
    pub class: Class,
    /// Text for people.
    pub message: String,
}

/// External IDs by role, set by the operator's administrator. They never come from a resource: its
/// author could then use a trust that was given to somebody else (the confused deputy problem).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles(Vec<RoleRule>);

/// The external ID of all roles that match a pattern.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RoleRule {
    /// Role ARN; `*` matches any number of characters.
    role_arn: String,
    external_id: String,
}

impl Roles {
    /// Parses a YAML list of `{roleArn, externalId}`.
    ///
    /// # Errors
    /// Text for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let rules: Option<Vec<RoleRule>> = nesting::yaml(text)?;
        let rules = rules.unwrap_or_default();

        for rule in &rules {
            let id = &rule.external_id;
            // sts:AssumeRole, ExternalId.
            let is_allowed =
                |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@:/-".contains(&byte);
            if !(2..=1224).contains(&id.len()) || !id.bytes().all(is_allowed) {
                return Err(format!(
                    "the externalId of {} must have 2 to 1224 characters out of \
                     a-z A-Z 0-9 _+=,.@:/-",
                    rule.role_arn
                ));
            }
            if !rule.role_arn.starts_with("arn:") {
                return Err(format!(
                    "roleArn {:?} does not start with arn:, so it matches no role",
                    rule.role_arn
                ));
            }
        }

        Ok(Self(rules))
    }

    /// Returns the external ID for a role: that of the first matching pattern.
    #[must_use]
    pub fn external_id(&self, role: &RoleArn) -> Option<&str> {
        let rule = self.0.iter().find(|rule| wildcard::matches(&rule.role_arn, role.as_str()));
        rule.map(|rule| rule.external_id.as_str())
    }
}

/// Turns any text into a valid role session name: 2 to 64 characters of a small set
/// (sts:AssumeRole, RoleSessionName).
pub(super) fn session_name(wanted: &str) -> String {
    const LONGEST: usize = 64;
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "_=,.@-".contains(c);
    let clean: String = wanted.chars().map(|c| if is_allowed(c) { c } else { '-' }).collect();
    if clean.len() <= LONGEST {
        return if clean.len() < 2 { "ecr-sync".to_owned() } else { clean };
    }
    // The hash keeps two long names apart in CloudTrail.
    let hash = crate::registry::Digest::sha256_of(wanted.as_bytes());
    let (head, tail) =
        (clean.get(..LONGEST - 9).unwrap_or_default(), hash.hex().get(..8).unwrap_or_default());
    format!("{head}-{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_pattern_that_matches_a_role_has_its_external_id() {
        let roles = Roles::parse(
            "- {roleArn: 'arn:aws:iam::123456789012:role/special', externalId: special-id}\n\
             - {roleArn: 'arn:aws:iam::123456789012:role/*', externalId: 'all:the-others'}\n",
        )
        .expect("a table");
        let external_id = |name: &str| {
            let role: RoleArn = name.parse().expect("a role");
            roles.external_id(&role).map(str::to_owned)
        };

        assert_eq!(
            external_id("arn:aws:iam::123456789012:role/special").as_deref(),
            Some("special-id")
        );
        assert_eq!(
            external_id("arn:aws:iam::123456789012:role/team/x").as_deref(),
            Some("all:the-others")
        );
        assert_eq!(external_id("arn:aws:iam::210987654321:role/special"), None);
        assert_eq!(Roles::parse("").expect("empty"), Roles::default());

        for (wrong, part) in [
            ("- {roleArn: 'arn:aws:iam::1:role/*'}", "externalId"),
            ("- {roleArn: 'arn:aws:iam::1:role/*', externalId: 'x'}", "2 to 1224"),
            ("- {roleArn: special, externalId: abc}", "does not start with arn:"),
            ("- {roleArn: 'arn:*', externalID: abc}", "externalID"),
            ("roles: []", ""),
        ] {
            let error = Roles::parse(wrong).expect_err(wrong);
            assert!(error.contains(part), "{wrong}: {error}");
        }
    }

    #[test]
    fn session_names_fit_into_the_limits_of_sts_and_stay_apart() {
        assert_eq!(session_name("ecr-sync-team/a:b"), "ecr-sync-team-a-b");
        assert_eq!(session_name("ä"), "ecr-sync");
        let long = |end: &str| session_name(&format!("{}{end}", "n".repeat(100)));
        assert_eq!(long("a").len(), 64);
        assert_ne!(long("a"), long("b"));
    }
}
