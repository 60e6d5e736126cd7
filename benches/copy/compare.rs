//! Compares the tools: every corpus at every latency, cold and then warm, interleaved over tools.

use std::time::Duration;

use serde_json::{Value, json};
use testbed::tools::Call;
use testbed::upstream::Upstream;

use crate::child::{self, Cost};
use crate::corpus::Corpus;
use crate::rig::{ACCOUNT, PUT_IMAGE_RATE, REGION, Rig, Seen};
use crate::tools::{Kind, Tool};
use crate::{Error, median};

/// A tool that needs longer for a cold copy is measured once, because repeating takes too long.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Maximum number of images per corpus that other tools read back.
const READ_BACK: usize = 5;

/// The cost of one run.
#[derive(Debug, Clone)]
pub struct Sample {
    pub cost: Cost,
    pub seen: Seen,
    /// Whether the tool succeeded and the target has the same tags as the source.
    pub ok: bool,
}

/// All runs of a tool on a corpus at a latency, cold or warm.
#[derive(Debug)]
pub struct Row {
    pub tool: &'static str,
    pub version: String,
    pub corpus: &'static str,
    pub latency: Duration,
    pub phase: &'static str,
    pub samples: Vec<Sample>,
}

impl Row {
    pub fn new(
        tool: &'static str,
        version: &str,
        corpus: &'static str,
        latency: Duration,
        phase: &'static str,
    ) -> Self {
        Self { tool, version: version.to_owned(), corpus, latency, phase, samples: Vec::new() }
    }

    pub fn ok(&self) -> bool {
        self.samples.iter().all(|sample| sample.ok)
    }

    pub fn median(&self, of: impl Fn(&Sample) -> f64) -> f64 {
        median(self.samples.iter().map(of))
    }

    pub fn wall(&self) -> f64 {
        self.median(|sample| sample.cost.wall.as_secs_f64())
    }

    pub fn requests(&self) -> f64 {
        self.median(|sample| (sample.seen.source + sample.seen.target) as f64)
    }

    /// The peak memory, in MiB.
    pub fn rss(&self) -> f64 {
        self.median(|sample| sample.cost.rss as f64 / f64::from(1 << 20))
    }

    /// The shortest and the longest wall time.
    fn spread(&self) -> (f64, f64) {
        let walls = self.samples.iter().map(|sample| sample.cost.wall.as_secs_f64());
        (walls.clone().fold(f64::INFINITY, f64::min), walls.fold(0.0, f64::max))
    }

    pub fn json(&self) -> Value {
        let (least, most) = self.spread();
        let count = |of: fn(&Sample) -> usize| self.median(|sample| of(sample) as f64);
        json!({
            "tool": self.tool,
            "version": self.version,
            "corpus": self.corpus,
            "latency_ms": self.latency.as_millis() as u64,
            "phase": self.phase,
            "runs": self.samples.len(),
            "requests": self.requests(),
            "source_requests": count(|sample| sample.seen.source),
            "target_requests": count(|sample| sample.seen.target),
            "login_requests": count(|sample| sample.seen.logins),
            "throttled": count(|sample| sample.seen.throttled),
            "connections": count(|sample| sample.seen.connections),
            "wall_s": self.wall(),
            "wall_min_s": least,
            "wall_max_s": most,
            "cpu_s": self.median(|sample| sample.cost.cpu.as_secs_f64()),
            "rss_mib": self.rss(),
            "ok": self.ok(),
        })
    }

    /// A line of the table under [`HEAD`].
    pub fn line(&self) -> String {
        let (least, most) = self.spread();
        let count = |of: fn(&Sample) -> usize| self.median(|sample| of(sample) as f64);
        format!(
            "| {} | {} | {} | {} | {}+{} | {} | {} | {} | {:.2} ({:.2}-{:.2}) | {:.2} | {:.0} | {} \
             | {} |",
            self.corpus,
            self.latency.as_millis(),
            self.phase,
            self.tool,
            count(|sample| sample.seen.source),
            count(|sample| sample.seen.target),
            count(|sample| sample.seen.logins),
            count(|sample| sample.seen.throttled),
            count(|sample| sample.seen.connections),
            self.wall(),
            least,
            most,
            self.median(|sample| sample.cost.cpu.as_secs_f64()),
            self.rss(),
            self.samples.len(),
            if self.ok() { "yes" } else { "NO" },
        )
    }
}

/// The head of the table.
pub const HEAD: &str = "| corpus | ms | phase | tool | requests | logins | 429 | connections | \
                        wall s (least-most) | CPU s | RSS MiB | runs | ok |\n\
                        |---|---|---|---|---|---|---|---|---|---|---|---|---|";

/// Measures all tools on one corpus at one latency.
pub async fn compare(
    upstream: &Upstream,
    corpus: &Corpus,
    latency: Duration,
    tools: &[Tool],
    runs: usize,
) -> Result<Vec<Row>, Error> {
    let row =
        |tool: &Tool, phase| Row::new(tool.kind.name(), &tool.version, corpus.name, latency, phase);
    let mut rows: Vec<[Row; 2]> =
        tools.iter().map(|tool| [row(tool, "cold"), row(tool, "warm")]).collect();
    for turn in 0..runs {
        for (tool, pair) in tools.iter().zip(&mut rows) {
            let slow =
                pair[0].samples.iter().any(|sample| sample.cost.wall > PATIENCE || !sample.ok);
            if slow {
                continue;
            }
            let [cold, warm] = once(upstream, corpus, latency, tool, turn == 0).await?;
            pair[0].samples.push(cold);
            pair[1].samples.push(warm);
        }
    }
    Ok(rows.into_iter().flatten().collect())
}

/// A cold and a warm run against new servers.
async fn once(
    upstream: &Upstream,
    corpus: &Corpus,
    latency: Duration,
    tool: &Tool,
    first: bool,
) -> Result<[Sample; 2], Error> {
    let rig = Rig::behind_proxy(upstream.host(), latency).await?;
    // skopeo uses the last segment of the source's name; the others get the same name.
    let target = format!("mirror/{}", corpus.repository.rsplit('/').next().unwrap_or_default());
    if tool.kind != Kind::EcrSync {
        // Only ecr-sync creates its repository, which is one more request.
        rig.ecr.create_repository(ACCOUNT, REGION, &target, Default::default());
    }
    if corpus.limited {
        rig.ecr.limits("PutImage", f64::from(PUT_IMAGE_RATE), PUT_IMAGE_RATE);
    }
    let name = tool.kind.name();
    let cold = run(&rig, corpus, tool, &target, &format!("{name}-cold.log"), first).await?;
    let warm = run(&rig, corpus, tool, &target, &format!("{name}-warm.log"), first).await?;
    if first && cold.ok && tool.kind == Kind::EcrSync {
        rig.relax();
        read_back(&rig, corpus, &target).await?;
    }
    Ok([cold, warm])
}

/// Runs a tool and checks the result.
pub async fn run(
    rig: &Rig,
    corpus: &Corpus,
    tool: &Tool,
    target: &str,
    log: &str,
    show: bool,
) -> Result<Sample, Error> {
    let command = tool.command(rig, corpus, target)?;
    let place = rig.place();
    let cost = child::run(command, rig.path(log)).await?;
    let seen = rig.since(&place);
    let held =
        rig.ecr.repository(ACCOUNT, REGION, target).map(|view| view.tags).unwrap_or_default();
    let missing =
        corpus.tags.iter().filter(|(tag, digest)| held.get(*tag) != Some(*digest)).count();
    let ok = cost.succeeded && missing == 0;
    if !ok {
        let (name, tail) = (tool.kind.name(), child::tail(&rig.path(log)));
        eprintln!(
            "{name} on {}: {missing} tags differ from the source; its output:\n{tail}",
            corpus.name
        );
    }
    if show && tool.kind == Kind::EcrSync {
        eprint!("{} {log}:\n{}", corpus.name, rig.timeline(&place));
    }
    Ok(Sample { cost, seen, ok })
}

/// Lets crane check every byte and digest of images at the target, and regctl copy them to a folder.
async fn read_back(rig: &Rig, corpus: &Corpus, target: &str) -> Result<(), Error> {
    let config = rig.path("");
    let hosts = json!({"hosts": {&rig.target: {"tls": "disabled"}}});
    std::fs::write(rig.path("regctl.json"), hosts.to_string())?;
    for (tag, digest) in corpus.tags.iter().step_by(corpus.tags.len().div_ceil(READ_BACK).max(1)) {
        let image = format!("{}/{target}:{tag}", rig.target);
        let deadline = Duration::from_secs(300);
        let crane = |arguments: &[&str]| {
            Ok::<_, Error>(
                Call::new("crane")?
                    .args(arguments)
                    .env("DOCKER_CONFIG", &config)
                    .deadline(deadline),
            )
        };
        crane(&["validate", "--remote", &image])?.output().await?;
        let found = crane(&["digest", &image])?.output().await?;
        if found.trim() != digest {
            return Err(format!("crane finds {} at {image}, not {digest}", found.trim()).into());
        }
        let folder = format!("ocidir://{}:{tag}", rig.path("read-back").display());
        let regctl =
            Call::new("regctl")?.args(["image", "copy", &image, &folder]).deadline(deadline);
        regctl
            .env("DOCKER_CONFIG", &config)
            .env("REGCTL_CONFIG", rig.path("regctl.json"))
            .output()
            .await?;
    }
    Ok(())
}
