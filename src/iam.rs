//! IAM actions that the work on a repository needs. `tests/it/permissions.rs` withholds each of them
//! in turn.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::api::v1alpha1::{ArchivedImages, DeletionPolicy};
use crate::ecr::policy::Wanted;
use crate::ecr::{Host, is_public, partition};
use crate::registry::Reference;
use crate::spec::Spec;
use crate::violation::Violation;

/// Whether a spec needs actions.
type Needs = fn(&Spec, Circumstances) -> bool;

/// Actions on a repository, and whether a spec needs them.
const ACTIONS: [(Needs, &[&str]); 13] = [
    // The repository is created and read.
    (|_, _| true, &["ecr:CreateRepository", "ecr:DescribeRepositories", "ecr:ListTagsForResource"]),
    // The repository is tagged with its owner.
    (|_, circumstances| circumstances.marks, &["ecr:TagResource"]),
    // Resource tags are set and removed.
    (
        |spec, circumstances| {
            circumstances.default_tags
                || spec.resource_tags.as_ref().is_some_and(|tags| !tags.is_empty())
        },
        &["ecr:TagResource", "ecr:UntagResource"],
    ),
    // Policies are set, or removed.
    (
        |spec, circumstances| sets(&spec.lifecycle, circumstances.default_lifecycle),
        &["ecr:GetLifecyclePolicy", "ecr:PutLifecyclePolicy"],
    ),
    (
        |spec, _| spec.lifecycle == Ok(Wanted::None),
        &["ecr:GetLifecyclePolicy", "ecr:DeleteLifecyclePolicy"],
    ),
    (
        |spec, circumstances| sets(&spec.permission, circumstances.default_permission),
        &["ecr:GetRepositoryPolicy", "ecr:SetRepositoryPolicy"],
    ),
    (
        |spec, _| spec.permission == Ok(Wanted::None),
        &["ecr:GetRepositoryPolicy", "ecr:DeleteRepositoryPolicy"],
    ),
    // Settings are set.
    (|spec, _| spec.settings.mutability.is_some(), &["ecr:PutImageTagMutability"]),
    (|spec, _| spec.settings.scan_on_push.is_some(), &["ecr:PutImageScanningConfiguration"]),
    // Images and charts are listed and pushed. The action of each call of /v2/ is inferred from
    // AWS's own list for pushing.
    (
        |spec, _| spec.copies(),
        &[
            "ecr:BatchCheckLayerAvailability",
            "ecr:CompleteLayerUpload",
            "ecr:DescribeImages",
            "ecr:InitiateLayerUpload",
            "ecr:ListImages",
            PUSH_ACTION,
            "ecr:UploadLayerPart",
        ],
    ),
    // Wanted tags are restored from the archive.
    (|spec, _| spec.archived_images == ArchivedImages::Restore, &["ecr:UpdateImageStorageClass"]),
    // Tags that are no longer wanted are removed.
    (|spec, _| spec.prune.is_some(), &["ecr:BatchDeleteImage"]),
    // The repository is deleted with its resource.
    (|spec, _| spec.deletion_policy != DeletionPolicy::Retain, &["ecr:DeleteRepository"]),
];

/// The action that needs a token, as all of /v2/ does.
const PUSH_ACTION: &str = "ecr:PutImage";
/// Actions on a customer managed key, for the identity that creates the repository (User Guide,
/// "Encryption at rest").
const KEY_ACTIONS: [&str; 3] = ["kms:CreateGrant", "kms:DescribeKey", "kms:RetireGrant"];
/// Actions on a private ECR registry that is a source. Without the last one, which saves requests,
/// its tags are requested one by one.
const SOURCE_ACTIONS: [&str; 3] =
    ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:DescribeImages"];
/// The action that gets a token. It has no resource.
const TOKEN_ACTION: &str = "ecr:GetAuthorizationToken";
/// The same for public.ecr.aws.
const PUBLIC_TOKEN_ACTIONS: [&str; 2] =
    ["ecr-public:GetAuthorizationToken", "sts:GetServiceBearerToken"];

/// Settings of the operator that need actions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Circumstances {
    /// Repositories are tagged with their owner, as by the controller.
    pub(crate) marks: bool,
    /// There is a default lifecycle policy.
    pub(crate) default_lifecycle: bool,
    /// There is a default permission policy.
    pub(crate) default_permission: bool,
    /// There are default resource tags.
    pub(crate) default_tags: bool,
}

/// Returns the actions on the repository of `spec`.
pub(crate) fn actions(spec: &Spec, circumstances: Circumstances) -> BTreeSet<&'static str> {
    let needed = ACTIONS.iter().filter(|(needs, _)| needs(spec, circumstances));
    needed.flat_map(|(_, actions)| *actions).copied().collect()
}

/// Returns the actions on a repository that any spec may need.
pub(crate) fn all_actions() -> BTreeSet<&'static str> {
    ACTIONS.iter().flat_map(|(_, actions)| *actions).copied().collect()
}

/// Whether a policy is set. A policy that is not valid is not managed.
fn sets(policy: &Result<Wanted, Vec<Violation>>, default: bool) -> bool {
    match policy {
        Ok(Wanted::Document(_)) => true,
        Ok(Wanted::Unmanaged) | Err(_) => default,
        Ok(Wanted::None) => false,
    }
}

/// Actions by resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Grants(BTreeMap<String, BTreeSet<&'static str>>);

/// Account and region of a repository; `*` if unknown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spot<'a> {
    /// The account.
    pub(crate) account: &'a str,
    /// The region.
    pub(crate) region: &'a str,
}

impl Spot<'_> {
    fn arn(&self, service: &str, resource: &str) -> String {
        format!(
            "arn:{}:{service}:{}:{}:{resource}",
            partition(self.region),
            self.region,
            self.account
        )
    }
}

impl Grants {
    /// Adds actions on a repository (`*` in its name matches any characters).
    pub(crate) fn repository(
        &mut self,
        spot: Spot<'_>,
        name: &str,
        actions: BTreeSet<&'static str>,
    ) {
        if actions.contains(PUSH_ACTION) {
            self.add("*".to_owned(), [TOKEN_ACTION]);
        }
        self.add(spot.arn("ecr", &format!("repository/{name}")), actions);
    }

    /// Adds the actions on the KMS key of `spec`, if it names one.
    pub(crate) fn key(&mut self, spot: Spot<'_>, spec: &Spec) {
        if let Some(key) = spec.settings.encryption.as_ref().and_then(|kept| kept.key.as_deref()) {
            self.key_named(spot, key);
        }
    }

    /// Adds the actions on a KMS key. IAM identifies keys by id: an alias may stand for any key.
    pub(crate) fn key_named(&mut self, spot: Spot<'_>, key: &str) {
        let arn = match key {
            arn if arn.starts_with("arn:") && !arn.contains(":alias/") => arn.to_owned(),
            alias if alias.contains("alias/") || alias == "*" => spot.arn("kms", "key/*"),
            id => spot.arn("kms", &format!("key/{id}")),
        };
        self.add(arn, KEY_ACTIONS);
    }

    /// Adds the actions on the sources of `spec` that are private ECR registries without a
    /// secretRef.
    pub(crate) fn sources(&mut self, spec: &Spec) {
        for (reference, below, lists) in without_login(spec) {
            let Some(Host { account, region }) = Host::parse(&reference.host) else { continue };
            let spot = Spot { account: &account, region: &region };
            let arn = spot.arn("ecr", &format!("repository/{}{below}", reference.repository));
            self.add(arn, SOURCE_ACTIONS.into_iter().chain(lists.then_some("ecr:ListImages")));
            self.add("*".to_owned(), [TOKEN_ACTION]);
        }
    }

    /// Adds the login to public.ecr.aws, if `spec` reads from there without a secretRef.
    pub(crate) fn public_source(&mut self, spec: &Spec) {
        if without_login(spec).any(|(reference, ..)| is_public(&reference.host)) {
            self.public_login();
        }
    }

    /// Adds the login to public.ecr.aws.
    pub(crate) fn public_login(&mut self) {
        self.add("*".to_owned(), PUBLIC_TOKEN_ACTIONS);
    }

    /// Adds the actions on all private ECR registries of the partition.
    pub(crate) fn any_source(&mut self, region: &str) {
        let arn = format!("arn:{}:ecr:*:*:repository/*", partition(region));
        self.add(arn, SOURCE_ACTIONS.into_iter().chain(["ecr:ListImages"]));
    }

    /// Adds the assumption of a role.
    pub(crate) fn role(&mut self, role: &str) {
        self.add(role.to_owned(), ["sts:AssumeRole"]);
    }

    fn add(&mut self, resource: String, actions: impl IntoIterator<Item = &'static str>) {
        self.0.entry(resource).or_default().extend(actions);
    }

    /// The policy document. Resources with the same actions share a statement.
    pub(crate) fn document(&self) -> Value {
        let mut statements: BTreeMap<&BTreeSet<&str>, Vec<&str>> = BTreeMap::new();
        for (resource, actions) in &self.0 {
            statements.entry(actions).or_default().push(resource);
        }

        let statements: Vec<_> = statements
            .into_iter()
            .map(|(actions, resources)| {
                json!({"Effect": "Allow", "Action": actions, "Resource": resources})
            })
            .collect();

        json!({"Version": "2012-10-17", "Statement": statements})
    }
}

/// The registries that are read without the login of a Secret: the source, the pattern that may
/// follow its name, and whether its tags are listed.
fn without_login(spec: &Spec) -> impl Iterator<Item = (&Reference, &'static str, bool)> {
    // Pruning and selectors list the tags of the source.
    let prunes = spec.prune.is_some();
    let image = spec.image.iter().filter(|image| image.secrets.login.is_none());
    let image = image.map(move |image| (&image.reference, "", prunes || image.selector.is_some()));
    // A chart's address may lack its name.
    let chart = spec.chart.iter().filter(|chart| chart.secrets.login.is_none());
    let chart = chart.filter_map(move |chart| {
        Some((chart.address.oci()?, "*", prunes || chart.selector.is_some()))
    });
    image.chain(chart)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(value: Value) -> Spec {
        let written = serde_json::from_value(value).expect("a spec");
        crate::spec::parse("app", &written).expect("no violations")
    }

    fn actions(value: Value, circumstances: Circumstances) -> BTreeSet<&'static str> {
        super::actions(&spec(value), circumstances)
    }

    #[test]
    fn nothing_is_asked_for_that_the_spec_does_not_need() {
        let none = Circumstances::default();
        let bare = ["ecr:CreateRepository", "ecr:DescribeRepositories", "ecr:ListTagsForResource"];
        assert_eq!(actions(json!({}), none), bare.into());
        for (spec, circumstances, more) in [
            (json!({}), Circumstances { marks: true, ..none }, "ecr:TagResource"),
            (
                json!({}),
                Circumstances { default_lifecycle: true, ..none },
                "ecr:PutLifecyclePolicy",
            ),
            (
                json!({"lifecyclePolicy": {"rules": []}}),
                Circumstances { default_lifecycle: true, ..none },
                "ecr:DeleteLifecyclePolicy",
            ),
            (json!({"permissionPolicy": {"Statement": []}}), none, "ecr:DeleteRepositoryPolicy"),
            (json!({"imageTagMutability": "Immutable"}), none, "ecr:PutImageTagMutability"),
            (json!({"scanOnPush": false}), none, "ecr:PutImageScanningConfiguration"),
            (json!({"archivedImages": "Restore"}), none, "ecr:UpdateImageStorageClass"),
            (json!({"prune": {"enabled": true}}), none, "ecr:BatchDeleteImage"),
            (json!({"deletionPolicy": "Delete"}), none, "ecr:DeleteRepository"),
            (json!({"image": {"pullUrl": "nginx:1"}}), none, "ecr:PutImage"),
        ] {
            let found = actions(spec.clone(), circumstances);
            assert!(found.contains(more), "{more}: {found:?}");
        }
        assert!(
            !actions(json!({"prune": {"enabled": false}}), none).contains("ecr:BatchDeleteImage")
        );
        assert!(
            !actions(json!({"lifecyclePolicy": {"rules": []}}), none)
                .contains("ecr:PutLifecyclePolicy")
        );
    }

    #[test]
    fn resources_with_the_same_actions_share_a_statement() {
        let mut grants = Grants::default();
        let spot = Spot { account: "123456789012", region: "cn-north-1" };
        let bare = actions(json!({}), Circumstances::default());
        grants.repository(spot, "b", bare.clone());
        grants.repository(spot, "a", bare);
        grants.key(spot, &spec(json!({"encryption": {"type": "KMS", "kmsKey": "alias/ecr"}})));
        let source = "210987654321.dkr.ecr.eu-west-1.amazonaws.com/base/app:1";
        grants.sources(&spec(json!({"image": {"pullUrl": source}})));
        grants
            .sources(&spec(json!({"image": {"pullUrl": source, "secretRef": {"name": "login"}}})));
        let document = grants.document();
        let resources: Vec<_> = document["Statement"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|s| &s["Resource"])
            .collect();
        assert_eq!(
            resources,
            [
                &json!(["arn:aws:ecr:eu-west-1:210987654321:repository/base/app"]),
                &json!([
                    "arn:aws-cn:ecr:cn-north-1:123456789012:repository/a",
                    "arn:aws-cn:ecr:cn-north-1:123456789012:repository/b"
                ]),
                &json!(["*"]),
                &json!(["arn:aws-cn:kms:cn-north-1:123456789012:key/*"]),
            ]
        );
    }
}
