//! One run of the controller: resources that come, change and go, replicas that are killed and
//! lose their lease, and the checks.

use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};
use tokio::time::{advance, sleep};

use super::dice::{Seed, happens, one_of};
use super::invariants::{Broken, converged, nothing_is_written, only_ours_is_written};
use super::invariants::{budgets_hold, tags_are_complete};
use super::replica::Replica;
use super::run::{Summary, nothing_leaks};
use super::witness::path;
use super::world::{AFTER_ALL_PAUSES, FOREIGN, World, spec};

/// The repositories that resources want. Nobody else uses the first ones.
const REPOSITORIES: [&str; 4] = ["app", "web", "shared", FOREIGN];
const NAMESPACES: [&str; 2] = ["blue", "red"];
const NAMES: [&str; 3] = ["a", "b", "c"];

/// Longest interval of a resource, and time in which every one has a pass and a drift check.
const LONGEST_INTERVAL: Duration = Duration::from_secs(30 * 60);

pub(super) async fn simulate(seed: Seed) -> Result<Summary, Broken> {
    let world = World::new(seed);
    let mut summary = Summary::default();
    let mut rng = seed.rng("cluster");
    let mut cluster = Cluster::start(&world, &mut rng);

    for _ in 0..rng.usize(4..16) {
        summary.interruptions += u64::from(cluster.disturb(&mut rng).await?);
        for repository in REPOSITORIES {
            tags_are_complete(&world, repository)?;
        }
        world.witness.verdict()?;
    }

    world.weather.calm();
    only_ours_is_written(&world, &world.ecr.log(), &REPOSITORIES[..3])?;
    cluster.pass_time(AFTER_ALL_PAUSES).await;
    cluster.stop_followers().await?;
    cluster.pass_time(LONGEST_INTERVAL * 2).await;
    world.witness.verdict()?;
    cluster.settled()?;

    let mark = world.ecr.mark();
    cluster.pass_time(LONGEST_INTERVAL + Duration::from_secs(300)).await;
    let quiet = world.ecr.log_since(mark);
    nothing_is_written(&quiet)?;
    budgets_hold(&quiet, 0)?;
    cluster.settled()?;

    let records = world.ecr.log();
    only_ours_is_written(&world, &records, &REPOSITORIES[..3])?;
    world.witness.verdict()?;
    cluster.stop().await?;
    nothing_leaks()?;

    summary.faults = world.weather.faults();
    summary.requests = records.len() as u64;
    summary.trace = world.weather.trace();
    Ok(summary)
}

/// The operator with its replicas, and the users of the cluster.
struct Cluster<'a> {
    world: &'a World,
    replicas: Vec<Replica>,
    /// Number of processes so far.
    processes: u64,
    /// Number of resources so far, which gives each its age.
    resources: u64,
}

impl<'a> Cluster<'a> {
    fn start(world: &'a World, rng: &mut Rng) -> Self {
        let mut cluster = Self { world, replicas: Vec::new(), processes: 0, resources: 0 };
        let count = if world.elects { rng.usize(1..3) } else { 1 };
        for _ in 0..count {
            cluster.start_replica();
        }
        for _ in 0..rng.usize(1..5) {
            cluster.apply(rng);
        }
        cluster
    }

    fn start_replica(&mut self) {
        self.processes += 1;
        self.replicas.push(Replica::start(self.world, self.processes));
    }

    /// Lets time pass. Processes that ended by themselves are started again, as a kubelet does.
    async fn pass_time(&mut self, time: Duration) {
        let end = tokio::time::Instant::now() + time;
        while tokio::time::Instant::now() < end {
            let left = end - tokio::time::Instant::now();
            sleep(left.min(Duration::from_secs(10))).await;
            let before = self.replicas.len();
            self.replicas.retain(|replica| !replica.has_ended());
            for _ in self.replicas.len()..before {
                self.start_replica();
            }
        }
    }

    /// Creates a resource or changes its spec.
    fn apply(&mut self, rng: &mut Rng) {
        let (namespace, name) = (*one_of(rng, &NAMESPACES), *one_of(rng, &NAMES));
        let old = self.world.api.get(super::api_server::RESOURCES, namespace, name);
        let mut new = spec(self.world, rng);
        new["repositoryName"] = match &old {
            Some(old) => old["spec"]["repositoryName"].clone(),
            None => json!(one_of(rng, &REPOSITORIES)),
        };
        new["interval"] = json!(*one_of(rng, &["5m", "10m", "30m"]));
        new["driftInterval"] = json!(*one_of(rng, &["10m", "30m"]));
        new["deletionPolicy"] = json!(*one_of(rng, &["Retain", "ForceDelete"]));
        if happens(rng, 0.1) {
            new["suspend"] = json!(true);
        }
        self.resources += u64::from(old.is_none());
        let created =
            format!("2026-01-01T00:{:02}:{:02}Z", self.resources / 60, self.resources % 60);
        self.world.api.apply(namespace, name, &created, &new);
        self.world.witness.wants(&format!("{namespace}/{name}"));
    }

    /// Does something to the operator or to what it watches. Returns whether a process ended.
    async fn disturb(&mut self, rng: &mut Rng) -> Result<bool, Broken> {
        self.pass_time(Duration::from_secs(rng.u64(1..240))).await;
        match rng.u8(..15) {
            0..=2 => self.apply(rng),
            3 => {
                let (namespace, name) = (*one_of(rng, &NAMESPACES), *one_of(rng, &NAMES));
                self.world.api.delete(namespace, name);
            }
            4..=6 => {
                let repository = *one_of(rng, &REPOSITORIES[..3]);
                self.world.change(rng, repository);
            }
            7 => {
                self.replicas.swap_remove(0).kill();
                self.start_replica();
                return Ok(true);
            }
            8 => {
                self.replicas.swap_remove(0).stop().await?;
                self.start_replica();
                return Ok(true);
            }
            9 => self.world.api.compact(),
            // The machine sleeps: all deadlines pass at once.
            10 => advance(Duration::from_secs(rng.u64(1..900))).await,
            // The leader may lose its lease to another replica.
            11..=13 => {
                self.replicas[0].cut_off(true);
                self.pass_time(Duration::from_secs(rng.u64(1..90))).await;
                self.replicas.iter().for_each(|replica| replica.cut_off(false));
            }
            _ => {}
        }
        Ok(false)
    }

    /// Every resource is as it should be.
    fn settled(&self) -> Result<(), Broken> {
        let mut resources = self.world.api.resources();
        resources.sort_by_key(|object| object["metadata"]["creationTimestamp"].to_string());
        for object in &resources {
            let name = path(object);
            let wrong = |problem: &str| {
                let status = &object["status"]["conditions"];
                Err(format!("{name} does not converge: {problem}: {status}"))
            };
            if !object["metadata"]["deletionTimestamp"].is_null() {
                // An adopted repository with images is not deleted.
                if ready(object)["reason"] == "RepositoryNotEmpty" {
                    continue;
                }
                return wrong("it should be deleted");
            }
            if object["spec"]["suspend"] == true {
                continue;
            }

            let repository = object["spec"]["repositoryName"].as_str().unwrap_or_default();
            let owner = resources
                .iter()
                .find(|other| other["spec"]["repositoryName"] == repository)
                .map(path);
            let is_owner = owner.as_ref() == Some(&name);
            let reason = match (is_owner, repository) {
                (false, _) => "Conflict",
                (true, FOREIGN) => "RepositoryNotOwned",
                (true, _) => "",
            };
            let ready = ready(object);
            if ready["observedGeneration"] != object["metadata"]["generation"] {
                return wrong("the status is of another generation");
            }
            match reason {
                "" if ready["status"] == "True" => {
                    converged(self.world, repository, &object["spec"])
                        .map_err(|problem| format!("{name}: {problem}"))?;
                    tags_are_complete(self.world, repository)?;
                }
                "" => return wrong("it is not ready"),
                reason if ready["reason"] != reason => {
                    return wrong(&format!("the reason should be {reason}"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Stops all processes but the leader. Their reads of the lease take most of the time of a run.
    async fn stop_followers(&mut self) -> Result<(), Broken> {
        let is_follower = |replica: &mut Replica| self.world.elects && !replica.leads(self.world);
        for follower in self.replicas.extract_if(.., is_follower) {
            follower.stop().await?;
        }
        Ok(())
    }

    async fn stop(self) -> Result<(), Broken> {
        for replica in self.replicas {
            replica.stop().await?;
        }
        // What is left of killed processes ends with their deadlines.
        sleep(AFTER_ALL_PAUSES).await;
        Ok(())
    }
}

/// The condition Ready.
fn ready(object: &Value) -> Value {
    let conditions = object["status"]["conditions"].as_array();
    let ready = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready");
    ready.cloned().unwrap_or_default()
}
