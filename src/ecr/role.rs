//! The ARN of an IAM role.

use std::fmt;
use std::str::FromStr;

/// The ARN of an IAM role: `arn:aws:iam::123456789012:role/path/name`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoleArn(String);

impl RoleArn {
    /// Returns the partition: `aws`, `aws-cn`, `aws-us-gov`.
    #[must_use]
    pub fn partition(&self) -> &str {
        self.0.split(':').nth(1).unwrap_or_default()
    }

    /// Returns the account of the role.
    #[must_use]
    pub fn account(&self) -> &str {
        self.0.split(':').nth(4).unwrap_or_default()
    }

    /// Returns the ARN.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RoleArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is not the ARN of a role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not the ARN of an IAM role: write for example arn:aws:iam::123456789012:role/ecr-sync"
)]
pub struct NotARole(String);

impl FromStr for RoleArn {
    type Err = NotARole;

    fn from_str(text: &str) -> Result<Self, NotARole> {
        let wrong = || NotARole(text.to_owned());
        let parts: Vec<_> = text.splitn(6, ':').collect();
        let ["arn", partition, "iam", "", account, resource] = parts[..] else {
            return Err(wrong());
        };
        let is_partition = partition == "aws"
            || partition.strip_prefix("aws-").is_some_and(|rest| !rest.is_empty());
        let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());

        // IAM: paths of printable characters, names of letters, digits and +=,.@_-
        let path = resource.strip_prefix("role/").unwrap_or_default();
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-/".contains(&byte);
        let is_path = !path.is_empty() && !path.ends_with('/') && path.bytes().all(is_allowed);

        if is_partition && is_account && is_path && text.len() <= 2048 {
            Ok(Self(text.to_owned()))
        } else {
            Err(wrong())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_has_a_partition_and_an_account() {
        let role: RoleArn =
            "arn:aws-us-gov:iam::123456789012:role/team/a/ecr-sync".parse().expect("a role");
        assert_eq!((role.partition(), role.account()), ("aws-us-gov", "123456789012"));

        for wrong in [
            "",
            "ecr-sync",
            "arn:aws:iam::123456789012:user/somebody",
            "arn:aws:iam::12345:role/x",
            "arn:aws:iam:eu-west-1:123456789012:role/x",
            "arn:aws:iam::123456789012:role/",
            "arn:aws:iam::123456789012:role/a b",
            "arn:gcp:iam::123456789012:role/x",
            "arn:aws:sts::123456789012:assumed-role/x/y",
        ] {
            let error = wrong.parse::<RoleArn>().expect_err(wrong).to_string();
            assert!(error.contains("write for example arn:aws:iam::"), "{error}");
        }
    }
}
