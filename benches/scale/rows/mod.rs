//! The rows of the table.

mod api_server;
mod beside;
mod crowd;
mod failover;
mod newcomer;

use std::time::Duration;

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::Error;
use crate::options::Build;
use crate::page::Cell;
use crate::rig::Rig;

/// A row, or several that are measured together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Row {
    /// 100 healthy resources beside 100 whose source does not answer.
    Hanging,
    /// 500 healthy resources beside 500 whose source refuses connections.
    Refusing,
    /// A new resource during an import of 1,000 images.
    Import,
    /// The crowd: made, checked again after a restart; memory, requests, writes, /metrics; new
    /// resources during that check.
    Crowd,
    /// A follower after the leader was stopped, and after it was killed.
    Failover,
    /// The API server is away for a minute.
    ApiServer,
}

impl Row {
    pub const ALL: [Self; 6] =
        [Self::Hanging, Self::Refusing, Self::Import, Self::Crowd, Self::Failover, Self::ApiServer];

    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    pub async fn measure(self, rig: &Rig, build: &Build) -> Result<Vec<Cell>, Error> {
        match self {
            Self::Hanging => beside::hanging(rig, build).await,
            Self::Refusing => beside::refusing(rig, build).await,
            Self::Import => newcomer::import(rig, build).await,
            Self::Crowd => crowd::measure(rig, build).await,
            Self::Failover => failover::measure(rig, build).await,
            Self::ApiServer => api_server::measure(rig, build).await,
        }
    }
}

/// A spec without an image: a repository with two policies.
fn configured(number: usize) -> Value {
    let keep = json!({"rules": [{"rulePriority": 1, "action": {"type": "expire"}, "selection":
        {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 50}}]});
    json!({"lifecyclePolicy": keep, "resourceTags": {"number": number.to_string()}})
}

/// A spec with an image of one tag from this host.
fn image(host: &str) -> Value {
    json!({"image":
        {"pullUrl": format!("{host}/scale/image"), "tags": ["1"], "insecure": true}})
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}
