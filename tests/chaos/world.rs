//! Everything outside of the program: ECR and the sources. It goes on when the program is killed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use parking_lot::Mutex;
use serde_json::{Value, json};
use testbed::ecr::{Config, RepositoryView, StandIn};
use testbed::traffic::{Fault, Match, Then};

use super::api_server::ApiServer;
use super::dice::{Seed, happens, one_of};
use super::image::Image;
use super::weather::Weather;
use super::witness::Witness;

pub(super) const ACCOUNT: &str = "123456789012";
pub(super) const REGION: &str = "eu-west-1";
/// The host of the sources.
pub(super) const SOURCE: &str = "registry.example";
/// A repository of somebody else.
pub(super) const FOREIGN: &str = "foreign";
/// Tags that a source may have.
const TAGS: [&str; 8] = ["1.0", "1.1", "1.2", "2.0", "latest", "stable", "edge", "nightly"];

/// ECR and the sources.
pub(super) struct World {
    pub(super) ecr: Arc<StandIn>,
    pub(super) api: ApiServer,
    pub(super) weather: Arc<Weather>,
    /// Whether ECR refuses manifests whose content is missing.
    checks_references: bool,
    pub(super) witness: Witness,
    /// Whether the replicas of the operator elect a leader.
    pub(super) elects: bool,
    /// Repositories that resources may adopt.
    pub(super) adoptable: &'static [&'static str],
    /// Tag -> digest, by repository of the source.
    sources: Mutex<BTreeMap<String, BTreeMap<String, String>>>,
    /// The content of the repository of somebody else.
    foreign: Vec<(String, String)>,
}

impl World {
    pub(super) fn new(seed: Seed) -> Self {
        let mut rng = seed.rng("world");
        // Without checks, the order of the program's own writes keeps images complete.
        let checks_references = rng.bool();
        let redirect_blobs = rng.bool();
        let config = Config { redirect_blobs, checks_references, ..Config::default() };
        let ecr = Arc::new(StandIn::in_process(config));
        let weather = Arc::new(Weather::new(seed));
        let (api, elects) = (ApiServer::new(), rng.bool());
        let witness = Witness::new(api.clone(), elects);
        let (chooser, watcher) = (weather.clone(), witness.clone());
        let choose = Then::choose(move |record| {
            watcher.see(record);
            chooser.effects(record)
        });
        ecr.faults().add(Fault::new(Match::any(), choose));
        ecr.set_blob_mounting(ACCOUNT, REGION, rng.bool());
        ecr.create_repository(ACCOUNT, REGION, FOREIGN, BTreeMap::new());

        let foreign = contents(&ecr, FOREIGN);
        let world = Self {
            ecr,
            api,
            weather,
            checks_references,
            witness,
            elects,
            adoptable: &["app", "web", "shared"],
            sources: Mutex::default(),
            foreign,
        };
        for tag in TAGS.iter().take(rng.usize(1..TAGS.len())) {
            world.publish("team/app", tag, &Image::random(&mut rng));
        }
        world
    }

    /// Points a tag of a source to an image.
    fn publish(&self, repository: &str, tag: &str, image: &Image) {
        let store = |image: &Image, tag| {
            let manifest = (image.media_type, &*image.manifest);
            self.ecr.publish_image(repository, tag, manifest, &image.blobs)
        };
        image.children.iter().for_each(|child| drop(store(child, None)));
        let digest = store(image, Some(tag));
        let mut sources = self.sources.lock();
        sources.entry(repository.to_owned()).or_default().insert(tag.to_owned(), digest);
    }

    /// The tags of a source.
    pub(super) fn source(&self, repository: &str) -> BTreeMap<String, String> {
        self.sources.lock().get(repository).cloned().unwrap_or_default()
    }

    /// The repository in ECR.
    pub(super) fn repository(&self, name: &str) -> Option<RepositoryView> {
        self.ecr.repository(ACCOUNT, REGION, name)
    }

    /// Changes something outside of the program.
    pub(super) fn change(&self, rng: &mut Rng, repository: &str) {
        match rng.u8(..10) {
            0..=2 => {
                let tags = self.source("team/app");
                let tags: Vec<_> = tags.keys().collect();
                let tag = (*one_of(rng, &tags)).clone();
                self.publish("team/app", &tag, &Image::random(rng));
            }
            3 => self.ecr.expire_tokens(),
            4 => drop(self.ecr.drop_uploads(ACCOUNT, REGION, repository)),
            5 => {
                let tags = self.repository(repository).map(|found| found.tags).unwrap_or_default();
                if let Some(tag) = tags.keys().next() {
                    self.ecr.delete_tag(ACCOUNT, REGION, repository, tag);
                }
            }
            6 if self.checks_references => self.remove_unused_blobs(rng, repository),
            7 => {
                let policy = happens(rng, 0.5).then(|| json!({"rules": []}));
                self.ecr.set_lifecycle_policy(ACCOUNT, REGION, repository, policy.as_ref());
            }
            8 => drop(self.ecr.set_policy(ACCOUNT, REGION, repository, None)),
            _ => {}
        }
    }

    /// Removes blobs that no image uses, as ECR does at any time.
    fn remove_unused_blobs(&self, rng: &mut Rng, repository: &str) {
        let Some(view) = self.repository(repository) else { return };
        let used: Vec<_> = view.images.values().map(|image| text(&image.manifest)).collect();
        for blob in view.blobs.keys() {
            if !used.iter().any(|manifest| manifest.contains(blob)) && rng.bool() {
                self.ecr.remove_blob(ACCOUNT, REGION, repository, blob);
            }
        }
    }

    /// Whether nobody changed what belongs to somebody else.
    pub(super) fn foreign_is_unchanged(&self) -> bool {
        contents(&self.ecr, FOREIGN) == self.foreign
    }
}

/// The spec of a resource with a random selection of the source's tags.
pub(super) fn spec(world: &World, rng: &mut Rng) -> Value {
    let tags = world.source("team/app");
    let mut wanted: Vec<_> = tags.keys().filter(|_| rng.u8(..4) > 0).collect();
    wanted.extend(tags.keys().next().filter(|_| wanted.is_empty()));
    let mut spec = json!({
        "image": {"pullUrl": format!("{SOURCE}/team/app"), "tags": wanted},
        "timeout": format!("{}m", rng.u8(1..31)),
    });
    if rng.bool() {
        spec["lifecyclePolicy"] = json!({"rules": [{"rulePriority": 1, "selection":
            {"tagStatus": "untagged", "countType": "sinceImagePushed", "countUnit": "days",
            "countNumber": rng.u8(1..90)}, "action": {"type": "expire"}}]});
    }
    if rng.bool() {
        spec["permissionPolicy"] = json!({"Version": "2012-10-17", "Statement": [{"Sid": "pull",
            "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::210987654321:root"},
            "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]}]});
    }
    if rng.u8(..4) == 0 {
        spec["prune"] = json!({"enabled": true, "minUnpulled": "0s", "maxPercent": 100});
    }
    if rng.bool() {
        spec["resourceTags"] = json!({"team": "a"});
    }
    spec
}

/// Time that is longer than every pause that a fault asks for.
pub(super) const AFTER_ALL_PAUSES: Duration = Duration::from_secs(30 * 60);

/// Everything in a repository, to compare.
fn contents(ecr: &StandIn, name: &str) -> Vec<(String, String)> {
    let Some(view) = ecr.repository(ACCOUNT, REGION, name) else { return Vec::new() };
    let RepositoryView { mutability, lifecycle_policy, policy, resource_tags, tags, .. } = view;
    [
        ("mutability", mutability),
        ("lifecycle", format!("{lifecycle_policy:?}")),
        ("policy", format!("{policy:?}")),
        ("resource tags", format!("{resource_tags:?}")),
        ("tags", format!("{tags:?}")),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
