//! The resources of a soak, and their churn: they are created, changed, suspended and deleted, and
//! so are the Secrets that they use.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use testbed::upstream::User;

use super::looks::Looks;
use super::site::{PRIVATE, REPOSITORIES, Site, TAGS, VERSIONS};
use crate::support::policies::keep;

/// Number of resources at any time.
pub(super) const RESOURCES: usize = 500;
/// Secrets with logins, and Secrets with certificates.
const SECRETS: usize = 20;
/// Bytes of comments in a Secret with certificates: a cache that keeps each of them shows.
const PADDING: usize = 100_000;
/// Time for which a password is wrong. A pass that fails for it is not repeated for a minute, so
/// that the correction has to start the next pass.
const WRONG_FOR: Duration = Duration::from_secs(20);
/// Requests to the API server at the same time, at the start.
const CONCURRENT: usize = 8;

/// The kind of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// `soak/image-N`, which needs no login.
    Open(usize),
    /// One of [`PRIVATE`], with the login of Secret `login-N`.
    Private(usize, usize),
    /// The chart, with the authority of Secret `trust-N`.
    Chart(usize),
}

/// A resource as it was written last.
#[derive(Clone, Debug)]
struct Written {
    source: Source,
    tags: BTreeSet<String>,
    suspended: bool,
    deletes: bool,
    /// Changes of resource tags and policies.
    changes: usize,
}

/// All resources, by name.
pub(super) struct Resources<'a> {
    site: &'a Site,
    random: fastrand::Rng,
    all: BTreeMap<String, Written>,
    next: usize,
    /// A Secret with a wrong password, and since when it is wrong.
    wrong: Option<(usize, Instant)>,
    /// Changes by kind.
    pub(super) changes: BTreeMap<&'static str, usize>,
}

impl<'a> Resources<'a> {
    pub(super) fn new(site: &'a Site, seed: u64) -> Self {
        Self {
            site,
            random: fastrand::Rng::with_seed(seed),
            all: BTreeMap::new(),
            next: 0,
            wrong: None,
            changes: BTreeMap::new(),
        }
    }

    /// Creates all Secrets and resources.
    pub(super) async fn create(&mut self) {
        for number in 0..SECRETS {
            self.write_login(number, User::Reader.password()).await;
            self.write_trust(number).await;
        }
        let mut names = Vec::new();
        for _ in 0..RESOURCES {
            names.push(self.invent());
        }
        let this = &*self;
        stream::iter(names)
            .map(|name| async move { this.apply(&name).await })
            .buffer_unordered(CONCURRENT)
            .collect::<Vec<()>>()
            .await;
    }

    /// Expects looks at all resources from now on.
    pub(super) fn expect(&self, looks: &mut Looks) {
        for (name, _) in self.all.iter().filter(|(_, resource)| !resource.suspended) {
            looks.expect(name);
        }
    }

    /// Makes one change. `looks` expects looks at the resources that exist after it.
    pub(super) async fn change(&mut self, looks: &mut Looks) {
        if self.wrong.is_some_and(|(_, since)| since.elapsed() >= WRONG_FOR) {
            self.correct().await;
        }
        let kind = match self.random.usize(..20) {
            0..8 => self.replace(looks).await,
            8..13 => self.change_tags().await,
            13..16 => self.change_configuration().await,
            16..18 => self.suspend(looks).await,
            18 => self.change_login().await,
            _ => {
                let number = self.random.usize(..SECRETS);
                self.write_trust(number).await;
                "certificates changed"
            }
        };
        *self.changes.entry(kind).or_default() += 1;
    }

    /// Undoes everything that keeps resources from being ready.
    pub(super) async fn settle(&mut self, looks: &mut Looks) {
        self.correct().await;
        let suspended = self.all.iter().filter(|(_, resource)| resource.suspended);
        let suspended: Vec<_> = suspended.map(|(name, _)| name.clone()).collect();
        for name in suspended {
            self.all.get_mut(&name).expect("there").suspended = false;
            self.apply(&name).await;
            looks.expect(&name);
        }
    }

    /// Lists the resources that are not in sync, with the reason.
    pub(super) async fn unfinished(&self) -> Vec<String> {
        let listed = self.site.rig.resources().list(&Default::default()).await;
        let listed = listed.expect("resources can be listed").items;
        let objects: BTreeMap<_, _> = listed
            .iter()
            .map(|object| (object.metadata.name.as_deref().unwrap_or_default(), object))
            .collect();
        let mut unfinished = Vec::new();
        for (name, written) in &self.all {
            let Some(object) = objects.get(name.as_str()) else {
                unfinished.push(format!("{name} does not exist"));
                continue;
            };
            let ready = crate::support::condition(object, "Ready");
            let is_ready = ready.is_some_and(|(status, ..)| status == "True");
            if !is_ready || !crate::support::is_observed(object) {
                unfinished.push(format!("{name}: {ready:?}"));
                continue;
            }
            let held = self.site.rig.repository(name).tags;
            let missing: Vec<_> =
                written.tags.iter().filter(|tag| !held.contains_key(*tag)).collect();
            if !missing.is_empty() {
                unfinished.push(format!("{name} is Ready without {missing:?}"));
            }
        }
        unfinished
    }

    /// Invents a resource. Of ten, six have an open source, three one with a login, one a chart.
    fn invent(&mut self) -> String {
        let number = self.next;
        self.next += 1;
        let name = format!("soak-{number:05}");
        let secret = number / 10 % SECRETS;
        let source = match number % 10 {
            0..6 => Source::Open(number % REPOSITORIES),
            6..9 => Source::Private(number % PRIVATE.len(), secret),
            _ => Source::Chart(secret),
        };
        let tags = self.some_tags(source);
        let deletes = self.random.bool();
        let resource = Written { source, tags, suspended: false, deletes, changes: 0 };
        self.all.insert(name.clone(), resource);
        name
    }

    fn some_tags(&mut self, source: Source) -> BTreeSet<String> {
        let all: Vec<String> = match source {
            Source::Open(_) => (0..TAGS).map(|tag| format!("t{tag}")).collect(),
            Source::Private(number, _) => PRIVATE[number].1.map(str::to_owned).into(),
            Source::Chart(_) => VERSIONS.map(str::to_owned).into(),
        };
        let count = self.random.usize(1..=2);
        self.random.choose_multiple(all, count).into_iter().collect()
    }

    fn any(&mut self) -> String {
        let number = self.random.usize(..self.all.len());
        self.all.keys().nth(number).expect("in range").clone()
    }

    async fn replace(&mut self, looks: &mut Looks) -> &'static str {
        let old = self.any();
        self.all.remove(&old);
        looks.release(&old);
        let resources = self.site.rig.resources();
        resources.delete(&old, &DeleteParams::default()).await.expect("deleted");
        let new = self.invent();
        self.apply(&new).await;
        looks.expect(&new);
        "replaced"
    }

    async fn change_tags(&mut self) -> &'static str {
        let name = self.any();
        let source = self.all[&name].source;
        let tags = self.some_tags(source);
        self.all.get_mut(&name).expect("there").tags = tags;
        self.apply(&name).await;
        "tags changed"
    }

    async fn change_configuration(&mut self) -> &'static str {
        let name = self.any();
        self.all.get_mut(&name).expect("there").changes += 1;
        self.apply(&name).await;
        "policies changed"
    }

    async fn suspend(&mut self, looks: &mut Looks) -> &'static str {
        let name = self.any();
        let resource = self.all.get_mut(&name).expect("there");
        resource.suspended = !resource.suspended;
        let is_suspended = resource.suspended;
        if is_suspended {
            looks.release(&name);
        }
        self.apply(&name).await;
        if is_suspended {
            return "suspended";
        }
        looks.expect(&name);
        "resumed"
    }

    /// A password becomes wrong, unless one is.
    async fn change_login(&mut self) -> &'static str {
        if self.wrong.is_none() {
            let number = self.random.usize(..SECRETS);
            self.write_login(number, "wrong").await;
            self.wrong = Some((number, Instant::now()));
        }
        "password wrong for a while"
    }

    async fn correct(&mut self) {
        if let Some((number, _)) = self.wrong.take() {
            self.write_login(number, User::Reader.password()).await;
        }
    }

    async fn write_login(&self, number: usize, password: &str) {
        let login = json!({"username": User::Reader.name(), "password": password});
        self.write_secret(&format!("login-{number}"), &login).await;
    }

    /// The authority, with other comments each time.
    async fn write_trust(&mut self, number: usize) {
        let line = format!("# {:016x} {}\n", self.random.u64(..), "-".repeat(60));
        let padding = line.repeat(PADDING / line.len());
        let authority = format!("{padding}{}", self.site.certificates.authority);
        self.write_secret(&format!("trust-{number}"), &json!({"ca.crt": authority})).await;
    }

    async fn write_secret(&self, name: &str, content: &Value) {
        let rig = &self.site.rig;
        let secrets: Api<Secret> = Api::namespaced(rig.client.clone(), &rig.namespace);
        let secret = json!({"apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": name, "namespace": rig.namespace}, "stringData": content});
        let patch = Patch::Apply(secret);
        secrets.patch(name, &PatchParams::apply("soak").force(), &patch).await.expect("written");
    }

    async fn apply(&self, name: &str) {
        self.site.rig.apply(name, self.spec(&self.all[name])).await;
    }

    fn spec(&self, resource: &Written) -> Value {
        let mut spec = json!({
            "interval": "1m",
            "driftInterval": "5m",
            "suspend": resource.suspended,
            "deletionPolicy": if resource.deletes { "ForceDelete" } else { "Retain" },
            "resourceTags": {"changes": resource.changes.to_string()},
            "lifecyclePolicy": keep(100 + u32::try_from(resource.changes).expect("few")),
        });
        let tags = &resource.tags;
        match resource.source {
            Source::Open(number) => {
                let host = self.site.rig.source.host();
                let url = format!("{host}/soak/image-{number}");
                spec["image"] = json!({"pullUrl": url, "tags": tags, "insecure": true});
            }
            Source::Private(number, secret) => {
                let url = format!("{}/{}", self.site.tokens.host(), PRIVATE[number].0);
                spec["image"] = json!({"pullUrl": url, "tags": tags, "insecure": true,
                    "secretRef": {"name": format!("login-{secret}")}});
            }
            Source::Chart(secret) => {
                spec["chart"] = json!({"pullUrl": self.site.chart_url(), "name": "app",
                    "tags": tags, "certSecretRef": {"name": format!("trust-{secret}")}});
            }
        }
        spec
    }
}
