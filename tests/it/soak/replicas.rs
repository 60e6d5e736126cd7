//! Two operators, of which one leads; and what the leader uses.

use std::time::{Duration, Instant};

use super::looks::Looks;
use super::series::Series;
use crate::support::{Operator, Rig};

/// The default of the spread, 10m, is longer than the interval, which limits it: named here because
/// other tests spread nothing.
const FLAGS: [&str; 3] =
    ["--put-image-rate=100", "--layer-upload-rate=500", "--startup-spread=10m"];

/// The end of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Kill,
    Stop,
}

/// Both processes.
pub(super) struct Replicas {
    processes: Vec<Operator>,
    /// The process that leads, and whether it led at the last look.
    leader: Option<usize>,
    pub(super) changes: usize,
    pub(super) restarts: usize,
    /// What was wrong: processes that ended by themselves, panics, probes that failed.
    pub(super) problems: Vec<String>,
    pub(super) usage: Usage,
}

/// The resources of the leader, since it leads.
#[derive(Debug, Default)]
pub(super) struct Usage {
    /// MiB.
    pub(super) rss: Series,
    /// MiB, without files.
    pub(super) anonymous: Series,
    pub(super) descriptors: Series,
    pub(super) threads: Series,
    pub(super) tasks: Series,
    /// Seconds for which a pass was due, at most.
    pub(super) longest_due: f64,
    /// Gauges of bytes that the operator keeps, by name.
    pub(super) kept: std::collections::BTreeMap<String, Series>,
}

async fn start(rig: &Rig) -> Operator {
    // The default level: a log of every request would measure the disk.
    rig.operator_at_once(&FLAGS, &[("LOG_LEVEL", "info")]).await
}

/// The value of a series; `None` if it is not on the page.
pub(super) fn value(page: &str, series: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

impl Replicas {
    pub(super) async fn start(rig: &Rig) -> Self {
        Self {
            processes: vec![start(rig).await, start(rig).await],
            leader: None,
            changes: 0,
            restarts: 0,
            problems: Vec::new(),
            usage: Usage::default(),
        }
    }

    /// Looks at both processes: who leads, whether each is alive, and what the leader uses.
    pub(super) async fn watch(&mut self, time: Duration, looks: &mut Looks) {
        let mut leader = None;
        for number in 0..self.processes.len() {
            let process = &self.processes[number];
            if let Some(code) = process.exited() {
                let text = format!("replica {number} ended by itself with {code}");
                if !self.problems.contains(&text) {
                    println!("{text}:\n{}", process.log_end(20));
                    self.problems.push(text);
                }
                continue;
            }
            let Some((_, page)) = process.get("/metrics").await else { continue };
            if value(&page, "leader_election_master_status{name=\"ecr-sync\"}") != Some(1.0) {
                continue;
            }
            leader = Some(number);
            self.check(number, &page).await;
            if self.leader != leader {
                self.usage = Usage::default();
            }
            self.usage.add(time, self.processes[number].pid(), &page);
        }

        match leader {
            Some(_) => looks.led(),
            None => looks.vacant(),
        }
        if leader.is_some() && leader != self.leader {
            self.changes += usize::from(self.leader.is_some());
            self.leader = leader;
        }
    }

    async fn check(&mut self, number: usize, page: &str) {
        let panics = "controller_runtime_reconcile_panics_total{controller=\"ecrrepositorysync\"}";
        if value(page, panics).is_some_and(|count| count > 0.0) {
            self.problems.push(format!("a reconcile of replica {number} panicked"));
        }
        let probe = self.processes[number].get("/healthz").await;
        if let Some((status, text)) = probe.filter(|(status, _)| *status != 200) {
            self.problems.push(format!("/healthz of the leader: {status} {text}"));
        }
    }

    /// Ends the leader and starts another process in its place. The other one takes over.
    pub(super) async fn change_leader(&mut self, rig: &Rig, end: End, looks: &mut Looks) {
        if let Some(number) = self.leader {
            looks.vacant();
            self.replace(rig, number, end).await;
        }
    }

    /// Ends the follower and starts another process in its place.
    pub(super) async fn restart_follower(&mut self, rig: &Rig, end: End) {
        if let Some(number) = self.leader {
            self.replace(rig, 1 - number, end).await;
        }
    }

    async fn replace(&mut self, rig: &Rig, number: usize, end: End) {
        let process = &self.processes[number];
        let code = match end {
            End::Kill => {
                process.kill().await;
                0
            }
            End::Stop => process.terminate().await,
        };
        if code != 0 {
            self.problems.push(format!("replica {number} ended with {code} after SIGTERM"));
        }
        self.restarts += 1;
        self.processes[number] = start(rig).await;
    }

    /// The metrics page of the leader.
    pub(super) async fn page(&self) -> String {
        let page = match self.leader {
            Some(number) => self.processes[number].get("/metrics").await,
            None => None,
        };
        page.map(|(_, page)| page).unwrap_or_default()
    }

    /// The id of the leader's process.
    pub(super) fn leader(&self) -> Option<u32> {
        self.leader.map(|number| self.processes[number].pid())
    }

    /// Writes the logs next to each other, for a person to read after a failure.
    pub(super) fn logs(&self) -> String {
        self.processes.iter().map(|process| process.log_end(40) + "\n---\n").collect()
    }
}

impl Usage {
    fn add(&mut self, time: Duration, pid: u32, page: &str) {
        let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return };
        let field = |name: &str| -> f64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
            number.unwrap_or(f64::NAN)
        };
        self.rss.add(time, field("VmRSS:") / 1024.0);
        self.anonymous.add(time, field("RssAnon:") / 1024.0);
        self.threads.add(time, field("Threads:"));
        if let Ok(descriptors) = std::fs::read_dir(format!("/proc/{pid}/fd")) {
            self.descriptors.add(time, descriptors.count() as f64);
        }
        if let Some(seconds) = value(page, "ecrsync_oldest_due_seconds") {
            self.longest_due = self.longest_due.max(seconds);
        }
        if let Some(tasks) = value(page, "ecrsync_tasks") {
            self.tasks.add(time, tasks);
        }

        for line in page.lines().filter(|line| is_kept(line)) {
            let Some((name, number)) = line.rsplit_once(' ') else { continue };
            if let Ok(number) = number.parse() {
                self.kept.entry(name.to_owned()).or_default().add(time, number);
            }
        }
    }
}

/// Whether this is a gauge of bytes in caches or in the memory budget.
fn is_kept(line: &str) -> bool {
    let name = line.split(['{', ' ']).next().unwrap_or_default();
    name.starts_with("ecrsync_")
        && !name.ends_with("_total")
        && name.contains("bytes")
        && (name.contains("cache") || name.contains("memory"))
}

/// Waits until the time has come, for a loop with a fixed rhythm.
pub(super) async fn until(next: Instant) {
    tokio::time::sleep_until(next.into()).await;
}
