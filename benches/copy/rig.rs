//! The servers of one run: a proxy that counts and delays requests to the source, and a new stand-in
//! for ECR.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use testbed::ecr::{self, StandIn};
use testbed::proxy::Proxy;
use testbed::traffic::{Fault, Log, Mark, Match, Record, Then};

use crate::Error;

pub const ACCOUNT: &str = "123456789012";
pub const REGION: &str = "eu-west-1";

/// Quota of ECR: 10 manifests per second, with a burst of 10.
pub const PUT_IMAGE_RATE: u32 = 10;

/// Servers and a folder.
#[derive(Debug)]
pub struct Rig {
    /// Host of the source registry.
    pub source: String,
    /// Host of ECR's registry.
    pub target: String,
    pub ecr: StandIn,
    proxy: Option<Proxy>,
    logs: [Log; 2],
    folder: tempfile::TempDir,
}

/// Requests that the servers received in a period, without logins.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    pub source: usize,
    pub target: usize,
    /// Logins: pings, 401s and the calls for a token.
    pub logins: usize,
    pub connections: usize,
    /// Answers 429, and ThrottlingException.
    pub throttled: usize,
    /// From the first request for a blob to the last answer to an upload.
    pub transfer: Duration,
}

/// A position in the logs.
#[derive(Debug)]
pub struct Place {
    marks: [Mark; 2],
    connections: usize,
}

impl Rig {
    /// A proxy for the registry at `upstream`; both sides answer with `latency`.
    pub async fn behind_proxy(upstream: &str, latency: Duration) -> Result<Self, Error> {
        let proxy = Proxy::start(upstream).await?;
        if !latency.is_zero() {
            proxy.faults().add(Fault::new(Match::any(), Then::Delay(latency)));
        }
        let ecr = StandIn::start(ecr::Config::default()).await?;
        ecr.set_latency(latency);
        let (source, log) = (proxy.host(), proxy.traffic().clone());
        Self::new(source, log, ecr, Some(proxy)).await
    }

    /// A source that counts requests itself, and a target that discards blobs.
    pub async fn direct(source: String, log: Log) -> Result<Self, Error> {
        let ecr =
            StandIn::start(ecr::Config { keep_blobs: false, ..ecr::Config::default() }).await?;
        Self::new(source, log, ecr, None).await
    }

    async fn new(
        source: String,
        log: Log,
        ecr: StandIn,
        proxy: Option<Proxy>,
    ) -> Result<Self, Error> {
        let target = ecr.registry(ACCOUNT, REGION).await;
        let logs = [log, ecr.traffic().clone()];
        let folder = tempfile::tempdir()?;
        let rig = Self { source, target, ecr, proxy, logs, folder };
        let login = serde_json::json!({"auths": {&rig.target: {"auth": rig.token()}}});
        std::fs::write(rig.path("config.json"), login.to_string())?;
        Ok(rig)
    }

    /// `AWS:PASSWORD` in base64.
    pub fn token(&self) -> String {
        self.ecr.authorization_token(ACCOUNT, REGION)
    }

    /// A file in the rig's folder, which has a `config.json` with the login to the target.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn place(&self) -> Place {
        Place { marks: self.logs.each_ref().map(Log::mark), connections: self.connections() }
    }

    pub fn since(&self, place: &Place) -> Seen {
        let [source, target] = [0, 1].map(|side| self.logs[side].since(place.marks[side]));
        let logins = source.iter().chain(&target).filter(|record| is_login(record)).count();
        let work = |records: &[Record]| records.iter().filter(|record| !is_login(record)).count();
        let throttled = |record: &&Record| {
            record.status == Some(429) || record.code.as_deref() == Some("ThrottlingException")
        };
        let first = source
            .iter()
            .filter(|record| record.operation == "GetBlob")
            .map(|record| record.started)
            .min();
        let uploads = target.iter().filter(|record| record.operation == "PutBlob");
        let last = uploads.map(|record| record.started + record.took.unwrap_or_default()).max();
        let transfer = first.zip(last).and_then(|(first, last)| last.duration_since(first).ok());
        Seen {
            source: work(&source),
            target: work(&target),
            logins,
            connections: self.connections() - place.connections,
            throttled: target.iter().filter(throttled).count(),
            transfer: transfer.unwrap_or_default(),
        }
    }

    /// Returns the number of calls of each operation since then, with the first and last time.
    pub fn timeline(&self, place: &Place) -> String {
        let mut lines = BTreeMap::<_, (usize, SystemTime, SystemTime)>::new();
        for (side, name) in ["source", "target"].iter().enumerate() {
            for record in self.logs[side].since(place.marks[side]) {
                let end = record.started + record.took.unwrap_or_default();
                let line = lines.entry(format!("{name} {}", record.operation)).or_insert((
                    0,
                    record.started,
                    end,
                ));
                *line = (line.0 + 1, line.1.min(record.started), line.2.max(end));
            }
        }
        let mut lines: Vec<_> = lines.into_iter().collect();
        lines.sort_by_key(|(_, (_, first, _))| *first);
        let Some(zero) = lines.first().map(|(_, (_, first, _))| *first) else {
            return String::new();
        };
        let after = |time: SystemTime| time.duration_since(zero).unwrap_or_default().as_millis();
        let lines = lines.iter().map(|(operation, (count, first, last))| {
            format!("  {operation}: {count}, {} to {} ms\n", after(*first), after(*last))
        });
        lines.collect()
    }

    /// Stops delays and refusals.
    pub fn relax(&self) {
        if let Some(proxy) = &self.proxy {
            proxy.faults().clear();
        }
        self.ecr.set_latency(Duration::ZERO);
        self.ecr.no_limits();
    }

    fn connections(&self) -> usize {
        self.logs.iter().map(Log::connections).sum()
    }
}

fn is_login(record: &Record) -> bool {
    matches!(&*record.operation, "Ping" | "GetAuthorizationToken" | "GetCallerIdentity")
        || record.status == Some(401)
}
