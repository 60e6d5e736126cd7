//! The ECR stand-in: the JSON control plane and the `/v2/` data plane over one store, for several
//! accounts and regions, with the known quirks of ECR.
//!
//! - One control endpoint ([`StandIn::endpoint`]) for ECR and STS. The caller's account is read
//!   from the access key ([`StandIn::access_key`]), the region from the signature's scope.
//!   Signatures are not verified.
//! - One registry listener per (account, region) ([`StandIn::registry`]), opened when first named.
//! - public.ecr.aws ([`StandIn::public_registry`]) and ECR Public's call for a login, on the same
//!   control endpoint.
//! - One object store that blob reads are redirected to, as ECR redirects to S3.
//!
//! Every quirk is documented where it is implemented, with its source, a thread or an AWS page.
//! Where AWS's behaviour is not known, the comment says "assumed".

mod blob;
mod control;
mod data;
mod deny;
mod errors;
mod iam;
mod in_process;
mod lifecycle;
mod limits;
mod manifest;
mod paging;
mod policy;
mod public;
mod quantities;
mod shared;
mod sigv4;
mod state;
mod store;
mod token;
mod view;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde_json::Value;

use crate::traffic::{Faults, Host, Log, Mark, Record};

pub use iam::Trust;
pub use shared::Config;
pub use store::ImageStatus;
pub use view::{ImageView, RepositoryView};

use shared::Shared;
use sigv4::Caller;

/// Scheme and host of a registry, as clients see it. The host names of AWS lead here through TLS
/// ([`crate::tls_front`]) only, and without servers all names do.
fn origin(host: &str) -> String {
    let has_tls = host.contains(".amazonaws.com")
        || host.starts_with("public.ecr.aws")
        || host.ends_with(".example");
    format!("{}://{host}", if has_tls { "https" } else { "http" })
}

/// A running stand-in; dropping it stops its servers.
#[derive(Debug)]
pub struct StandIn {
    shared: Arc<Shared>,
    // Dropped last: the servers run on this thread.
    _host: Option<Host>,
}

impl StandIn {
    /// Starts the control plane and the object store; registries open when first named.
    ///
    /// # Errors
    /// When no thread can be started or no port of 127.0.0.1 be bound.
    pub async fn start(config: Config) -> io::Result<Self> {
        let host = Host::start("ecr-stand-in")?;
        let shared = Shared::start(config, host.handle())?;
        Ok(Self { shared, _host: Some(host) })
    }

    /// `http://127.0.0.1:PORT`: ECR's JSON 1.1 API, and STS's query API (`GetCallerIdentity`,
    /// `AssumeRole`, `AssumeRoleWithWebIdentity`).
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.shared.control_address())
    }

    /// Returns `127.0.0.1:PORT` of the registry of an account in a region.
    ///
    /// # Panics
    /// When no port of 127.0.0.1 can be bound.
    pub async fn registry(&self, account: &str, region: &str) -> String {
        self.shared.registry(account, region).expect("a port of 127.0.0.1 to listen on")
    }

    /// `127.0.0.1:PORT` of public.ecr.aws.
    ///
    /// # Panics
    /// When no port of 127.0.0.1 can be bound.
    pub async fn public_registry(&self) -> String {
        self.registry(public::ACCOUNT, public::REGION).await
    }

    /// Moves a repository to public.ecr.aws, under another name. Returns whether it exists.
    pub fn publish(&self, account: &str, region: &str, name: &str, public_name: &str) -> bool {
        let mut state = self.shared.state();
        let Some(mut repository) = state.registry_mut(account, region).repositories.remove(name)
        else {
            return false;
        };
        repository.name = public_name.to_owned();
        (repository.account, repository.region) =
            (public::ACCOUNT.to_owned(), public::REGION.to_owned());
        let public = &mut state.registry_mut(public::ACCOUNT, public::REGION).repositories;
        public.insert(public_name.to_owned(), repository);
        true
    }

    /// Returns an access key ID that makes its user a caller from `account` (12 digits). Any secret
    /// key fits.
    pub fn access_key(account: &str) -> String {
        format!("AKIA{account}TEST")
    }

    /// Returns `AWS:PASSWORD` in base64, as `GetAuthorizationToken` does, without a request.
    pub fn authorization_token(&self, account: &str, region: &str) -> String {
        self.shared.tokens.issue(caller(account, region)).0
    }

    /// The password of a new authorization token, as `aws ecr get-login-password` prints it.
    pub fn password(&self, account: &str, region: &str) -> String {
        self.shared.tokens.password(caller(account, region)).0
    }

    /// Returns every request so far, oldest first.
    pub fn log(&self) -> Vec<Record> {
        self.shared.log.all()
    }

    /// Returns the current position in the log, for [`StandIn::log_since`].
    pub fn mark(&self) -> Mark {
        self.shared.log.mark()
    }

    /// Returns the requests that arrived after `mark`.
    pub fn log_since(&self, mark: Mark) -> Vec<Record> {
        self.shared.log.since(mark)
    }

    /// Counts the requests that satisfy `wanted`.
    pub fn count(&self, wanted: impl Fn(&Record) -> bool) -> usize {
        self.shared.log.count(wanted)
    }

    /// Returns the log; a clone stays readable after the stand-in is dropped.
    pub fn traffic(&self) -> &Log {
        &self.shared.log
    }

    /// Returns the faults in force on all planes.
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// Delays every request on every plane.
    pub fn set_latency(&self, latency: Duration) {
        self.shared.set_latency(latency);
    }

    /// Allows `per_second` calls of an API action (`PutImage`, `DescribeImages` …) per account and
    /// region, after a burst. Registry requests count as the action behind them: `PutManifest` is
    /// `PutImage`.
    pub fn limits(&self, action: &str, per_second: f64, burst: u32) {
        self.shared.limits.set(action, per_second, burst);
    }

    /// Sets the published default quotas of ECR.
    pub fn limits_like_ecr(&self) {
        self.shared.limits.like_ecr();
    }

    /// Removes every limit.
    pub fn no_limits(&self) {
        self.shared.limits.clear();
    }

    /// Expires every authorization token now.
    pub fn expire_tokens(&self) {
        self.shared.tokens.expire();
    }

    /// Sets the lifetime of new tokens: 12 hours on ECR and by default here.
    pub fn token_life(&self, life: Duration) {
        self.shared.tokens.set_life(life);
    }

    /// Denies an action (`ecr:PutLifecyclePolicy`, `ecr:*`) on repositories whose name matches a
    /// pattern with `*`. `*` alone also denies where no repository is named.
    pub fn deny(&self, action: &str, repositories: &str) {
        self.shared.denials.add(action, repositories);
    }

    /// Lifts every [`StandIn::deny`].
    pub fn allow_all(&self) {
        self.shared.denials.clear();
    }

    /// Creates an IAM role with its trust and a policy (`Allow` and `Deny` of actions and
    /// resources, no conditions). Once a role exists, no other can be assumed.
    ///
    /// # Panics
    /// On a policy that is not evaluated here.
    pub fn put_role(&self, arn: &str, trust: &[Trust], policy: serde_json::Value) {
        self.shared.iam.put_role(arn, trust.to_vec(), policy);
    }

    /// Gives the users of an account ([`StandIn::access_key`]) a policy; without one they may do
    /// everything.
    ///
    /// # Panics
    /// On a policy that is not evaluated here.
    pub fn put_user_policy(&self, account: &str, policy: serde_json::Value) {
        self.shared.iam.put_user_policy(account, policy);
    }

    /// Sets the lifetime of new keys of roles, whatever the caller requests.
    pub fn session_life(&self, life: Duration) {
        self.shared.iam.set_life(life);
    }

    /// Returns the content of a repository.
    pub fn repository(&self, account: &str, region: &str, name: &str) -> Option<RepositoryView> {
        self.shared.state().repository(account, region, name).map(RepositoryView::of)
    }

    /// Returns the names of the repositories of a registry, sorted.
    pub fn repositories(&self, account: &str, region: &str) -> Vec<String> {
        self.shared.state().registry(account, region).repositories.keys().cloned().collect()
    }

    /// Creates a repository with ECR's defaults, unless it exists, without a request.
    pub fn create_repository(
        &self,
        account: &str,
        region: &str,
        name: &str,
        tags: BTreeMap<String, String>,
    ) {
        self.shared.create_repository(account, region, name, tags);
    }

    /// Removes a repository with all its content.
    pub fn delete_repository(&self, account: &str, region: &str, name: &str) -> bool {
        self.shared.state().registry_mut(account, region).repositories.remove(name).is_some()
    }

    /// Sets `MUTABLE`, `IMMUTABLE`, `IMMUTABLE_WITH_EXCLUSION` or `MUTABLE_WITH_EXCLUSION` and the
    /// wildcard filters of the exclusion. Returns whether the repository exists, as the other
    /// changes below do.
    pub fn set_mutability(
        &self,
        account: &str,
        region: &str,
        name: &str,
        mutability: &str,
        filters: &[&str],
    ) -> bool {
        self.shared.change(account, region, name, |repository| {
            repository.mutability = mutability.to_owned();
            repository.exclusions = filters.iter().map(|&filter| filter.to_owned()).collect();
            true
        })
    }

    /// Replaces or removes the lifecycle policy, as another client would, without ECR's checks.
    pub fn set_lifecycle_policy(
        &self,
        account: &str,
        region: &str,
        name: &str,
        policy: Option<&Value>,
    ) -> bool {
        self.shared.change(account, region, name, |repository| {
            repository.lifecycle = policy.cloned();
            true
        })
    }

    /// Replaces or removes the repository policy, as another client would, without ECR's checks.
    pub fn set_policy(
        &self,
        account: &str,
        region: &str,
        name: &str,
        policy: Option<&Value>,
    ) -> bool {
        self.shared.change(account, region, name, |repository| {
            repository.policy = policy.cloned();
            true
        })
    }

    /// Changes every policy that is put from now on: a rule gets a description, a statement a
    /// `Sid`. ECR is not known to do so today, but IAM changed policies whenever AWS taught it to
    /// normalise more (hashicorp/terraform-provider-aws#19365).
    pub fn rewrite_policies(&self, account: &str, region: &str, name: &str) -> bool {
        self.shared.change(account, region, name, |repository| {
            repository.rewrites = true;
            true
        })
    }

    /// Adds images until there are `images`, each with a tag `filler-N`, without requests: pushing
    /// 100,000 takes hours. They are copies of the image `reference` under invented digests, so
    /// that they can be listed but not pulled.
    pub fn fill(
        &self,
        account: &str,
        region: &str,
        name: &str,
        reference: &str,
        images: usize,
    ) -> bool {
        self.shared.change(account, region, name, |repository| repository.fill(reference, images))
    }

    /// Switches scanning on push.
    pub fn set_scan_on_push(&self, account: &str, region: &str, name: &str, scan: bool) -> bool {
        self.shared.change(account, region, name, |repository| {
            repository.scan_on_push = scan;
            true
        })
    }

    /// Replaces the resource tags.
    pub fn set_resource_tags(
        &self,
        account: &str,
        region: &str,
        name: &str,
        tags: BTreeMap<String, String>,
    ) -> bool {
        self.shared.change(account, region, name, |repository| {
            repository.resource_tags = tags;
            true
        })
    }

    /// Moves an image to archive storage: listed as `ARCHIVED`, 404 when pulled.
    pub fn archive(&self, account: &str, region: &str, name: &str, reference: &str) -> bool {
        self.shared.change(account, region, name, |repository| {
            repository.find_mut(reference).is_some_and(|image| {
                image.status = ImageStatus::Archived;
                true
            })
        })
    }

    /// Removes a tag as a lifecycle rule would; with its last tag the image is removed unless an
    /// index has it as a child.
    pub fn delete_tag(&self, account: &str, region: &str, name: &str, tag: &str) -> bool {
        self.shared.change(account, region, name, |repository| repository.untag(tag))
    }

    /// Removes an image and its tags, without any checks.
    pub fn remove_image(&self, account: &str, region: &str, name: &str, digest: &str) -> bool {
        self.shared.change(account, region, name, |repository| repository.remove_image(digest))
    }

    /// Returns the content of a blob, whether or not an image uses it.
    pub fn blob(&self, account: &str, region: &str, name: &str, digest: &str) -> Option<Bytes> {
        let blob =
            self.shared.state().repository(account, region, name)?.blobs.get(digest).cloned();
        blob.and_then(|blob| blob.read().ok())
    }

    /// Removes a blob, as ECR cleans up layers that no image uses.
    pub fn remove_blob(&self, account: &str, region: &str, name: &str, digest: &str) -> bool {
        self.shared
            .change(account, region, name, |repository| repository.blobs.remove(digest).is_some())
    }

    /// Ends every upload session of a repository: clients get `BLOB_UPLOAD_UNKNOWN`.
    pub fn drop_uploads(&self, account: &str, region: &str, name: &str) -> bool {
        self.shared.change(account, region, name, |repository| {
            repository.uploads.clear();
            true
        })
    }

    /// Sets the time of an image's last pull, `None` for never.
    pub fn set_last_pull(
        &self,
        account: &str,
        region: &str,
        name: &str,
        reference: &str,
        at: Option<SystemTime>,
    ) -> bool {
        self.shared.change(account, region, name, |repository| {
            repository.find_mut(reference).is_some_and(|image| {
                image.last_pull = at;
                true
            })
        })
    }

    /// Sets the time of an image's push.
    pub fn set_pushed(
        &self,
        account: &str,
        region: &str,
        name: &str,
        reference: &str,
        at: SystemTime,
    ) -> bool {
        self.shared.change(account, region, name, |repository| {
            repository.find_mut(reference).is_some_and(|image| {
                image.pushed_at = at;
                true
            })
        })
    }

    /// Returns a push by somebody else, to run later: it points a tag to the image that `reference`
    /// names.
    pub fn later_push(
        &self,
        (account, region, name): (&str, &str, &str),
        tag: &str,
        reference: &str,
    ) -> impl Fn() + Send + Sync + 'static {
        let shared = self.shared.clone();
        let [account, region, name, tag, reference] =
            [account, region, name, tag, reference].map(str::to_owned);
        move || {
            let is_moved = shared.change(&account, &region, &name, |repository| {
                let digest = repository.resolve(&reference).map(str::to_owned);
                digest.map(|digest| repository.tags.insert(tag.clone(), digest)).is_some()
            });
            assert!(is_moved, "there is no image {reference}");
        }
    }

    /// Adds a pull-through cache rule for repositories below `prefix`.
    pub fn add_pull_through_rule(&self, account: &str, region: &str, prefix: &str) {
        self.shared.state().registry_mut(account, region).pull_through.push(prefix.to_owned());
    }

    /// Switches cross-repository blob mounting (account setting `BLOB_MOUNTING`) on or off.
    pub fn set_blob_mounting(&self, account: &str, region: &str, enabled: bool) {
        let value = if enabled { "ENABLED" } else { "DISABLED" };
        let mut state = self.shared.state();
        state
            .registry_mut(account, region)
            .settings
            .insert("BLOB_MOUNTING".to_owned(), value.to_owned());
    }
}

/// A user of the account, as one with [`StandIn::access_key`] is.
fn caller(account: &str, region: &str) -> Caller {
    Caller {
        key: StandIn::access_key(account),
        account: account.to_owned(),
        region: region.to_owned(),
        session: None,
    }
}
