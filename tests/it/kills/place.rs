//! The servers and the program of one round: the command line, or the controller.

use std::time::Duration;

use serde_json::{Value, json};
use testbed::ecr::{RepositoryView, StandIn};
use testbed::proxy::Proxy;
use testbed::traffic::{Fault, Match, Then};

use super::content::{Content, REPOSITORY, VERSION};
use crate::support::desk::{self, Desk};
use crate::support::{ACCOUNT, DEADLINE, Operator, REGION, Rig, Sources, condition, eventually};

/// The repository of the target, and the name of the resource.
pub(super) const NAME: &str = "app";

/// Bytes per second of a blob, and the latency of each side: a sync takes some seconds, so that
/// kills hit all its phases.
const RATE: u64 = 200_000;
const LATENCY: Duration = Duration::from_millis(10);
const PUT_IMAGE_RATE: &str = "--put-image-rate=20";

/// The program that is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    CommandLine,
    Controller,
}

impl Program {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::CommandLine => "command line",
            Self::Controller => "controller",
        }
    }
}

/// A stand-in, a source behind a slow proxy, and what the program syncs.
pub(super) enum Place {
    CommandLine(Box<Desk>),
    Controller(Box<Rig>),
}

/// A program that was started.
pub(super) enum Running {
    CommandLine(desk::Running),
    Controller(Box<Operator>),
}

impl Place {
    /// Prepares a round. `name` is unique in the cluster.
    pub(super) async fn new(program: Program, name: &str, content: &Content) -> Self {
        let place = match program {
            Program::CommandLine => {
                Self::CommandLine(Box::new(Desk::before(Sources::shared().await.open.host()).await))
            }
            Program::Controller => Self::Controller(Box::new(Rig::new(name).await)),
        };
        let faults = place.source().faults();
        faults.add(Fault::new(Match::any(), Then::Delay(LATENCY)));
        faults.add(Fault::new(Match::operation("GetBlob"), Then::Slow(RATE)));
        place.ecr().set_latency(LATENCY);

        let tags = content.tags();
        let (image, chart) =
            (format!("{}/{REPOSITORY}", place.source().host()), content.chart_url());
        match &place {
            Self::CommandLine(desk) => {
                let entry = json!([{"name": NAME,
                    "image": {"pull_url": image, "tags": tags, "insecure": true},
                    "chart": {"pull_url": chart, "name": "app", "tags": [VERSION]}}]);
                desk.write("all.yaml", &entry.to_string());
            }
            Self::Controller(rig) => {
                let spec: Value = json!({
                    "image": {"pullUrl": image, "tags": tags, "insecure": true},
                    "chart": {"pullUrl": chart, "name": "app", "tags": [VERSION]}});
                rig.apply(NAME, spec).await;
            }
        }
        place
    }

    pub(super) fn ecr(&self) -> &StandIn {
        match self {
            Self::CommandLine(desk) => &desk.ecr,
            Self::Controller(rig) => &rig.ecr,
        }
    }

    pub(super) fn source(&self) -> &Proxy {
        match self {
            Self::CommandLine(desk) => &desk.source,
            Self::Controller(rig) => &rig.source,
        }
    }

    /// The target repository, if it exists.
    pub(super) fn target(&self) -> Option<RepositoryView> {
        self.ecr().repository(ACCOUNT, REGION, NAME)
    }

    /// Starts the program. Returns at once.
    pub(super) async fn start(&self) -> Running {
        match self {
            Self::CommandLine(desk) => {
                Running::CommandLine(desk.start(&["sync", "all.yaml", PUT_IMAGE_RATE]))
            }
            // With an election, each restart would wait for the Lease of the killed process.
            Self::Controller(rig) => {
                let flags = ["--leader-election=false", PUT_IMAGE_RATE];
                Running::Controller(Box::new(rig.operator_at_once(&flags, &[]).await))
            }
        }
    }

    /// Waits until a program has synced everything.
    pub(super) async fn finishes(&self, running: &mut Running) -> Result<(), String> {
        match (self, running) {
            (Self::CommandLine(desk), Running::CommandLine(running)) => {
                match tokio::time::timeout(DEADLINE, exits(running)).await {
                    Ok(0) => Ok(()),
                    Ok(code) => Err(format!("exit code {code}: {}", desk.log())),
                    Err(_) => Err(format!("it runs after {DEADLINE:?}: {}", desk.log())),
                }
            }
            (Self::Controller(rig), Running::Controller(_)) => {
                rig.wait_synced(NAME).await;
                Ok(())
            }
            _ => unreachable!("a place starts its own program"),
        }
    }

    /// Makes a pass over what is synced. `running` is the program that has synced it.
    pub(super) async fn pass_again(&self, running: &mut Running) -> Result<(), String> {
        match self {
            Self::CommandLine(_) => {
                *running = self.start().await;
                self.finishes(running).await
            }
            Self::Controller(rig) => {
                rig.request(NAME, "again").await;
                self.finishes(running).await
            }
        }
    }

    /// Waits until the stand-in has handled everything that a killed program has sent.
    pub(super) async fn is_quiet(&self) {
        let log = self.ecr().traffic();
        eventually("quiet", async || log.open_connections() == 0).await;
    }

    /// Whether the status of the resource says that everything is in the target.
    pub(super) async fn reports_ready(&self) -> bool {
        match self {
            Self::CommandLine(_) => false,
            Self::Controller(rig) => {
                let object = rig.resources().get(NAME).await.expect("it is there");
                condition(&object, "Ready").is_some_and(|(status, ..)| status == "True")
            }
        }
    }
}

impl Running {
    /// SIGKILL.
    pub(super) async fn kill(&mut self) {
        match self {
            Self::CommandLine(running) => running.kill(),
            Self::Controller(operator) => operator.kill().await,
        }
    }

    /// Waits until the program ends by itself, which a controller does not.
    pub(super) async fn ends(&mut self) {
        match self {
            Self::CommandLine(running) => {
                exits(running).await;
            }
            Self::Controller(_) => std::future::pending().await,
        }
    }
}

async fn exits(running: &mut desk::Running) -> i32 {
    loop {
        if let Some(code) = running.exit_code() {
            return code;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
