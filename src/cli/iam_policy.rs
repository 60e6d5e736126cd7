//! `ecr-sync iam-policy`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::screen::Screen;
use crate::ecr::{RoleArn, partition};
use crate::iam::{Circumstances, Grants, Spot, Use, uses};
use crate::inventory::{self, Entry};
use crate::sync::DefaultFiles;

/// Longest managed policy that IAM takes, without white space.
const LONGEST: usize = 6144;

/// Prints the least IAM policy that these repositories need
///
/// For the operator's own identity; with --role for a role that resources name (registry.roleArn),
/// with --service-account for the role of one (registry.serviceAccountName). What is not known of
/// account and region is written as *.
///
///   ecr-sync iam-policy --account-id 123456789012 --region eu-west-1 repositories/
///   ecr-sync iam-policy --all-features --repositories 'platform/*'
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Arguments {
    /// Files, or folders that are read with everything below them (*.yml, *.yaml, *.json)
    #[arg(required_unless_present = "all_features", value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Everything that the operator can do, whatever resources there are
    #[arg(long, conflicts_with_all = ["paths", "role", "service_account"])]
    all_features: bool,

    /// With --all-features: repositories, where * stands for any characters
    #[arg(long, value_name = "PATTERN", default_value = "*", requires = "all_features")]
    repositories: String,

    /// For the command line (ecr-sync sync), which marks no repository with its owner
    #[arg(long)]
    one_shot: bool,

    /// For this role: resources whose registry.roleArn it is
    #[arg(long, value_name = "ARN", conflicts_with = "service_account")]
    role: Option<String>,

    /// For the role of this ServiceAccount: resources whose registry.serviceAccountName it is
    #[arg(long, value_name = "NAME")]
    service_account: Option<String>,

    /// Account of repositories that name none
    #[arg(long, env = "ECR_ACCOUNT_ID", value_name = "ID", value_parser = super::account_id)]
    account_id: Option<String>,

    /// Region of repositories that name none
    #[arg(long, env = "ECR_REGION", value_name = "REGION", value_parser = super::region)]
    region: Option<String>,

    /// With the login to public.ecr.aws, for sources there (--public-ecr-login of the other
    /// commands)
    #[arg(long, env = "PUBLIC_ECR_LOGIN", value_name = "BOOL", default_value = "false", num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set, value_parser = clap::builder::BoolishValueParser::new())]
    public_ecr_login: bool,

    #[command(flatten)]
    defaults: super::Defaults,
}

pub(super) fn run(arguments: Arguments, screen: &Screen) -> ExitCode {
    let DefaultFiles { lifecycle_policy, permission_policy, resource_tags } =
        arguments.defaults.into();
    let writer = Writer {
        account: arguments.account_id.unwrap_or_else(|| "*".to_owned()),
        region: arguments.region.unwrap_or_else(|| "*".to_owned()),
        circumstances: Circumstances {
            marks: !arguments.one_shot,
            default_lifecycle: lifecycle_policy.is_some(),
            default_permission: permission_policy.is_some(),
            default_tags: resource_tags.is_some(),
        },
        public_ecr_login: arguments.public_ecr_login,
        whose: match (arguments.role, arguments.service_account) {
            (Some(role), _) => Whose::Role(role),
            (None, Some(name)) => Whose::ServiceAccount(name),
            (None, None) => Whose::Operator,
        },
    };
    let grants = if arguments.all_features {
        writer.all_features(&arguments.repositories)
    } else {
        match inventory::read(&arguments.paths, &inventory::Options::default()) {
            Ok(entries) => writer.entries(&entries),
            Err(problems) => {
                for problem in &problems {
                    screen.err(&format!("error: {problem}\n"));
                }
                return ExitCode::from(super::WRONG_INPUT);
            }
        }
    };
    let document = grants.document();
    let length = document.to_string().len();
    if length > LONGEST {
        screen.err(&format!(
            "warning: the policy has {length} characters, IAM takes {LONGEST} in a managed policy: use --all-features with \
             --repositories 'PREFIX/*', or several policies\n"
        ));
    }
    screen.out(&format!("{document:#}\n"));
    ExitCode::SUCCESS
}

/// Whose policy is wanted.
#[derive(Debug, PartialEq, Eq)]
enum Whose {
    Operator,
    Role(String),
    ServiceAccount(String),
}

struct Writer {
    account: String,
    region: String,
    circumstances: Circumstances,
    public_ecr_login: bool,
    whose: Whose,
}

impl Writer {
    fn all_features(&self, repositories: &str) -> Grants {
        let spot = Spot { account: &self.account, region: &self.region };
        let mut grants = Grants::default();
        let needed = |one: &Use| *one != Use::Marks || self.circumstances.marks;
        grants.repository(spot, repositories, &Use::ALL.into_iter().filter(needed).collect());
        grants.key_named(spot, "*");
        grants.any_source(&self.region);
        if partition(&self.region) == "aws" {
            grants.public_login();
        }
        grants
    }

    fn entries(&self, entries: &[Entry]) -> Grants {
        let mut grants = Grants::default();
        for entry in entries {
            let registry = entry.spec.registry.clone().unwrap_or_default();
            // Who comes first in the chain reads the sources; who comes last works on the
            // repository.
            let first =
                registry.service_account_name.map_or(Whose::Operator, Whose::ServiceAccount);
            if first == self.whose {
                grants.sources(&entry.spec);
                if self.public_ecr_login {
                    grants.public_source(&entry.spec);
                }
                if let Some(role) = &registry.role_arn {
                    grants.role(role);
                }
            }
            if registry.role_arn.map_or(first, Whose::Role) == self.whose {
                self.repository(entry, &mut grants);
            }
        }
        grants
    }

    fn repository(&self, entry: &Entry, grants: &mut Grants) {
        let registry = entry.spec.registry.clone().unwrap_or_default();
        let of_role = registry.role_arn.as_deref().and_then(|role| role.parse().ok());
        let of_role = of_role.map(|role: RoleArn| role.account().to_owned());
        // A ServiceAccount's role is known to the cluster only.
        let own = if registry.service_account_name.is_some() { "*" } else { &self.account };
        let account = registry.account_id.or(of_role).unwrap_or_else(|| own.to_owned());
        let region = registry.region.as_deref().unwrap_or(&self.region);
        let spot = Spot { account: &account, region };
        grants.repository(spot, entry.repository(), &uses(&entry.spec, self.circumstances));
        grants.key(spot, &entry.spec);
    }
}
