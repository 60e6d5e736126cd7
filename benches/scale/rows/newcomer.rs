//! The time from the creation of a resource to its first AWS call, while the operator is busy.

use std::time::{Duration, SystemTime};

use testbed::ecr::StandIn;

use super::{configured, image, seconds};
use crate::Error;
use crate::crowd::{Crowd, LONGEST};
use crate::options::Build;
use crate::page::Cell;
use crate::rig::Rig;

/// New resources of one measurement.
const NUMBER: usize = 20;
/// Time between two of them.
const EVERY: Duration = Duration::from_millis(200);

pub async fn import(rig: &Rig, build: &Build) -> Result<Vec<Cell>, Error> {
    let (ecr, crowd) = (rig.ecr().await?, rig.crowd().await?);
    let host = rig.source.host();
    let operator = rig.operator(build, &ecr).await?;
    crowd.create("crowd", "import", 1000, |_| image(&host)).await?;

    let cells = newcomers(&crowd, &ecr, "an import of 1,000 images").await?;
    operator.kill().await?;
    crowd.clear().await?;
    Ok(cells)
}

/// Creates resources one after another, and reports when each had its first AWS call.
pub async fn newcomers(crowd: &Crowd, ecr: &StandIn, during: &str) -> Result<Vec<Cell>, Error> {
    let mut created = Vec::new();
    for number in 0..NUMBER {
        let name = format!("new{number}");
        crowd.create("others", &name, 1, configured).await?;
        created.push((format!("{name}-0"), SystemTime::now()));
        tokio::time::sleep(EVERY).await;
    }

    let mut times = Vec::new();
    for (repository, created) in created {
        times.push(seconds(first_call(ecr, &repository, created).await));
    }
    times.sort_by(f64::total_cmp);
    let what = |which| format!("first AWS call for a new resource during {during}, {which}");
    let (median, longest) = (times[NUMBER / 2], times[NUMBER - 1]);
    Ok(vec![Cell::new(what("median"), median, "s"), Cell::new(what("longest of 20"), longest, "s")])
}

async fn first_call(ecr: &StandIn, repository: &str, created: SystemTime) -> Duration {
    let deadline = created + LONGEST;
    while SystemTime::now() < deadline {
        let calls = ecr.log();
        let first = calls.iter().find(|call| call.repository == repository);
        if let Some(call) = first {
            return call.started.duration_since(created).unwrap_or_default();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    LONGEST
}
