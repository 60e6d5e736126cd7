//! The time until a follower leads.

use std::time::Instant;

use super::seconds;
use crate::Error;
use crate::options::Build;
use crate::page::Cell;
use crate::rig::Rig;

pub async fn measure(rig: &Rig, build: &Build) -> Result<Vec<Cell>, Error> {
    let ecr = rig.ecr().await?;
    let mut cells = Vec::new();
    for (what, kills) in [("stopped", false), ("killed", true)] {
        let leader = rig.operator(build, &ecr).await?;
        let follower = rig.follower(build, &ecr).await?;

        let started = Instant::now();
        if kills {
            leader.kill().await?
        } else {
            leader.stop().await?
        }
        follower.leads().await?;
        let time = seconds(started.elapsed());
        cells.push(Cell::new(format!("a follower leads after the leader was {what}"), time, "s"));
        follower.stop().await?;
    }
    Ok(cells)
}
