//! A real Prometheus that scrapes the demo's operator: `make demo MONITORING=1`.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::narrator::Narrator;
use super::shown;
use crate::process::{self, Process};
use crate::{Error, http, tools};

const READY: Duration = Duration::from_secs(30);

/// A running Prometheus. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Monitoring {
    process: Process,
    address: String,
}

impl Monitoring {
    /// Starts Prometheus for the operator at `target`, with the alerts of `deploy/monitoring`.
    pub(super) async fn start(
        dir: &Path,
        target: &str,
        narrator: &Narrator,
    ) -> Result<Self, Error> {
        if Command::new("prometheus").arg("--version").output().is_err() {
            return Err(
                "MONITORING=1 needs prometheus on the PATH (Debian and Ubuntu: apt-get install \
                 prometheus)"
                    .into(),
            );
        }

        let alerts = tools::workspace().join("deploy/monitoring/alerts.yaml");
        let config = dir.join("prometheus.yml");
        let text = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 5s}}\nrule_files: [{}]\n\
             scrape_configs:\n  - job_name: ecr-sync\n    \
             static_configs: [{{targets: ['{target}']}}]\n",
            alerts.display()
        );
        std::fs::write(&config, text)
            .map_err(|e| format!("cannot write {}: {e}", config.display()))?;

        let monitoring = process::retry_ports(async |[port]: [u16; 1]| {
            let address = format!("127.0.0.1:{port}");
            let mut command = Command::new("prometheus");
            command
                .arg(format!("--config.file={}", config.display()))
                .arg(format!("--storage.tsdb.path={}", dir.join("prometheus").display()))
                .arg(format!("--web.listen-address={address}"));
            let process = Process::spawn("prometheus", &command, &dir.join("prometheus.log"))?;
            process::wait_ready(
                &process,
                http::client().get(format!("http://{address}/-/ready")),
                READY,
            )
            .await?;
            Ok::<_, Error>(Self { process, address })
        })
        .await?;

        narrator.say(format!(
            "http://{}/graph, log in {}",
            monitoring.address,
            shown(monitoring.process.log())
        ));
        Ok(monitoring)
    }

    /// Waits until Prometheus counts all resources, and checks that every alert rule can
    /// be evaluated.
    pub(super) async fn check(&self, resources: usize, narrator: &Narrator) -> Result<(), Error> {
        let deadline = Instant::now() + READY;

        loop {
            let count = self.value("sum(ecrsync_resources)").await?;
            if count.as_deref() == Some(resources.to_string().as_str()) {
                break;
            }
            if Instant::now() > deadline {
                return Err(format!("Prometheus has {count:?} resources, not {resources}").into());
            }
            sleep(Duration::from_millis(200)).await;
        }

        let rules = self.ask("/api/v1/rules").await?;
        let rules = rules["data"]["groups"][0]["rules"].as_array().cloned().unwrap_or_default();
        if let Some(bad) = rules.iter().find(|rule| rule["health"] == "err") {
            return Err(format!(
                "the rule {} cannot be evaluated: {}",
                bad["name"], bad["lastError"]
            )
            .into());
        }

        narrator.proven(format!(
            "Prometheus counts {resources} resources and evaluates {} alerts",
            rules.len()
        ));
        Ok(())
    }

    /// Returns the value of an expression, if it has one.
    async fn value(&self, expression: &str) -> Result<Option<String>, Error> {
        let answer = self.ask(&format!("/api/v1/query?query={expression}")).await?;
        Ok(answer["data"]["result"][0]["value"][1].as_str().map(str::to_owned))
    }

    async fn ask(&self, path: &str) -> Result<Value, Error> {
        let url = format!("http://{}{path}", self.address);
        let answer =
            http::client().get(&url).send().await.map_err(|e| format!("cannot read {url}: {e}"))?;
        Ok(serde_json::from_str(&answer.text().await?)
            .map_err(|e| format!("the answer of {url} is not JSON: {e}"))?)
    }
}
