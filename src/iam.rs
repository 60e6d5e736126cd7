//! IAM actions that the work on a repository needs. `tests/it/permissions.rs` withholds each of them
//! in turn.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::api::v1alpha1::{ArchivedImages, DeletionPolicy};
use crate::ecr::policy::Wanted;
use crate::ecr::{Host, is_public, partition};
use crate::registry::Reference;
use crate::spec::{Chart, Image, Spec};

/// A use of a repository. A new one needs a line here, one in [`Use::actions`] and one in [`uses`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Use {
    /// The repository is created and read.
    Repository,
    /// The repository is tagged with its owner.
    Marks,
    /// Resource tags are set and removed.
    ResourceTags,
    /// The lifecycle policy is set.
    LifecyclePolicy,
    /// The lifecycle policy is removed.
    NoLifecyclePolicy,
    /// The permission policy is set.
    PermissionPolicy,
    /// The permission policy is removed.
    NoPermissionPolicy,
    /// Tag mutability is set.
    Mutability,
    /// Scanning on push is set.
    Scanning,
    /// Images and charts are listed and pushed.
    Artifacts,
    /// Wanted tags are restored from the archive.
    Restore,
    /// Tags that are no longer wanted are removed.
    Prune,
    /// The repository is deleted with its resource.
    Deletion,
}

impl Use {
    /// All uses.
    pub(crate) const ALL: [Self; 13] = [
        Self::Repository,
        Self::Marks,
        Self::ResourceTags,
        Self::LifecyclePolicy,
        Self::NoLifecyclePolicy,
        Self::PermissionPolicy,
        Self::NoPermissionPolicy,
        Self::Mutability,
        Self::Scanning,
        Self::Artifacts,
        Self::Restore,
        Self::Prune,
        Self::Deletion,
    ];

    /// IAM actions on the repository.
    pub(crate) const fn actions(self) -> &'static [&'static str] {
        match self {
            Self::Repository => {
                &["ecr:CreateRepository", "ecr:DescribeRepositories", "ecr:ListTagsForResource"]
            }
            Self::Marks => &["ecr:TagResource"],
            Self::ResourceTags => &["ecr:TagResource", "ecr:UntagResource"],
            Self::LifecyclePolicy => &["ecr:GetLifecyclePolicy", "ecr:PutLifecyclePolicy"],
            Self::NoLifecyclePolicy => &["ecr:GetLifecyclePolicy", "ecr:DeleteLifecyclePolicy"],
            Self::PermissionPolicy => &["ecr:GetRepositoryPolicy", "ecr:SetRepositoryPolicy"],
            Self::NoPermissionPolicy => &["ecr:GetRepositoryPolicy", "ecr:DeleteRepositoryPolicy"],
            Self::Mutability => &["ecr:PutImageTagMutability"],
            Self::Scanning => &["ecr:PutImageScanningConfiguration"],
            // The action of each call of /v2/ is inferred from AWS's own list for pushing.
            Self::Artifacts => &[
                "ecr:BatchCheckLayerAvailability",
                "ecr:CompleteLayerUpload",
                "ecr:DescribeImages",
                "ecr:InitiateLayerUpload",
                "ecr:ListImages",
                "ecr:PutImage",
                "ecr:UploadLayerPart",
            ],
            Self::Restore => &["ecr:UpdateImageStorageClass"],
            Self::Prune => &["ecr:BatchDeleteImage"],
            Self::Deletion => &["ecr:DeleteRepository"],
        }
    }
}

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

/// Returns the uses of the repository of `spec`.
pub(crate) fn uses(spec: &Spec, circumstances: Circumstances) -> BTreeSet<Use> {
    let Circumstances { marks, default_lifecycle, default_permission, default_tags } =
        circumstances;

    let lifecycle = spec.lifecycle.as_ref().unwrap_or(&Wanted::Unmanaged);
    let permission = spec.permission.as_ref().unwrap_or(&Wanted::Unmanaged);
    let has = |wanted: &Wanted, default| match wanted {
        Wanted::Document(_) => true,
        Wanted::Unmanaged => default,
        Wanted::None => false,
    };

    let table = [
        (Use::Repository, true),
        (Use::Marks, marks),
        (
            Use::ResourceTags,
            default_tags || spec.resource_tags.as_ref().is_some_and(|tags| !tags.is_empty()),
        ),
        (Use::LifecyclePolicy, has(lifecycle, default_lifecycle)),
        (Use::NoLifecyclePolicy, *lifecycle == Wanted::None),
        (Use::PermissionPolicy, has(permission, default_permission)),
        (Use::NoPermissionPolicy, *permission == Wanted::None),
        (Use::Mutability, spec.settings.mutability.is_some()),
        (Use::Scanning, spec.settings.scan_on_push.is_some()),
        (Use::Artifacts, spec.copies()),
        (Use::Restore, spec.archived_images == ArchivedImages::Restore),
        (Use::Prune, spec.prune.is_some()),
        (Use::Deletion, spec.deletion_policy != DeletionPolicy::Retain),
    ];
    table.into_iter().filter_map(|(one, needed)| needed.then_some(one)).collect()
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
    /// Adds the uses of a repository (`*` in its name matches any characters).
    pub(crate) fn repository(&mut self, spot: Spot<'_>, name: &str, uses: &BTreeSet<Use>) {
        self.add(
            spot.arn("ecr", &format!("repository/{name}")),
            uses.iter().flat_map(|one| one.actions()).copied(),
        );
        if uses.contains(&Use::Artifacts) {
            self.add("*".to_owned(), [TOKEN_ACTION]);
        }
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
        // Pruning and selectors list the tags of the source.
        let prunes = spec.prune.is_some();
        let image = image_without_login(spec)
            .map(|(image, reference)| (reference, "", prunes || image.selector.is_some()));
        // A chart's address may lack its name.
        let chart = chart_without_login(spec)
            .map(|(chart, reference)| (reference, "*", prunes || chart.selector.is_some()));

        for (reference, below, lists) in image.into_iter().chain(chart) {
            let Some(Host { account, region }) = Host::parse(&reference.host) else { continue };
            let spot = Spot { account: &account, region: &region };
            let arn = spot.arn("ecr", &format!("repository/{}{below}", reference.repository));
            self.add(arn, SOURCE_ACTIONS.into_iter().chain(lists.then_some("ecr:ListImages")));
            self.add("*".to_owned(), [TOKEN_ACTION]);
        }
    }

    /// Adds the login to public.ecr.aws, if `spec` reads from there without a secretRef.
    pub(crate) fn public_source(&mut self, spec: &Spec) {
        let image = image_without_login(spec).map(|(_, reference)| reference);
        let chart = chart_without_login(spec).map(|(_, reference)| reference);
        if image.into_iter().chain(chart).any(|reference| is_public(&reference.host)) {
            self.public_login();
        }
    }

    /// Adds the login to public.ecr.aws.
    pub(crate) fn public_login(&mut self) {
        self.add("*".to_owned(), PUBLIC_TOKEN_ACTIONS);
    }

    /// Adds the actions on all private ECR registries of the partition.
    pub(crate) fn any_source(&mut self, region: &str) {
        let spot = Spot { account: "*", region: "*" };
        let arn = spot.arn("ecr", "repository/*").replacen(
            "arn:aws:",
            &format!("arn:{}:", partition(region)),
            1,
        );
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

/// The image, unless a Secret has the login for it.
fn image_without_login(spec: &Spec) -> Option<(&Image, &Reference)> {
    let image = spec.image.as_ref().filter(|image| image.secrets.login.is_none())?;
    Some((image, &image.reference))
}

/// The chart in an OCI registry, unless a Secret has the login for it.
fn chart_without_login(spec: &Spec) -> Option<(&Chart, &Reference)> {
    let chart = spec.chart.as_ref().filter(|chart| chart.secrets.login.is_none())?;
    Some((chart, chart.address.oci()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(value: Value) -> Spec {
        let written = serde_json::from_value(value).expect("a spec");
        crate::spec::parse("app", &written).expect("no violations")
    }

    fn actions(value: Value, circumstances: Circumstances) -> BTreeSet<&'static str> {
        uses(&spec(value), circumstances)
            .into_iter()
            .flat_map(|one| one.actions().iter().copied())
            .collect()
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
        let bare = uses(&spec(json!({})), Circumstances::default());
        grants.repository(spot, "b", &bare);
        grants.repository(spot, "a", &bare);
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
