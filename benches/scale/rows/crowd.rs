//! The crowd: made, checked again after a restart, and at rest.

use std::time::{Duration, Instant};

use testbed::ecr::StandIn;
use testbed::traffic::{Mark, Record};

use super::newcomer::newcomers;
use super::{configured, seconds};
use crate::Error;
use crate::crowd::LONGEST;
use crate::operator::Operator;
use crate::options::Build;
use crate::page::Cell;
use crate::rig::Rig;

pub async fn measure(rig: &Rig, build: &Build) -> Result<Vec<Cell>, Error> {
    let number = rig.resources;
    let (ecr, crowd) = (rig.ecr().await?, rig.crowd().await?);
    let mut cells = Vec::new();

    let operator = rig.operator(build, &ecr).await?;
    let started = Instant::now();
    crowd.create("crowd", "resource", number, configured).await?;
    cells.push(Cell::new("all created", seconds(started.elapsed()), "s"));
    crowd.until_ready("crowd", "resource", number).await;
    cells.push(Cell::new("all Ready", seconds(started.elapsed()), "s"));
    cells.push(per(&ecr.log(), number, "AWS calls of each, made"));
    let writes = operator.metric("ecrsync_status_writes_total").await?;
    cells.push(Cell::new("status writes of each, made", writes / count(number), ""));
    cells.push(Cell::new("memory, made", operator.rss()?, "MiB"));
    operator.stop().await?;

    let mark = ecr.mark();
    let operator = rig.operator(build, &ecr).await?;
    cells.push(Cell::new("memory, restarted and ready", operator.rss()?, "MiB"));
    let started = Instant::now();
    let checked = checked(&ecr, mark, number).await;
    cells.push(Cell::new("all checked after a restart", seconds(started.elapsed()), "s"));
    cells.push(Cell::new("checked after a restart", checked, ""));
    cells.push(Cell::new("processor time of the restart", operator.cpu()?, "s"));
    let calls = ecr.log_since(mark);
    cells.push(per(&calls, number, "AWS calls of each, checked"));
    let writes = calls.iter().filter(|call| call.is_write()).count();
    cells.push(Cell::new("AWS writes, checked", count(writes), ""));
    let writes = operator.metric("ecrsync_status_writes_total").await?;
    cells.push(Cell::new("status writes, checked", writes, ""));
    cells.push(Cell::new("memory, checked", operator.rss()?, "MiB"));
    cells.extend(scrapes(&operator).await?);
    operator.stop().await?;

    // Of all, so that it lasts longer than the newcomers.
    let operator = rig.operator(build, &ecr).await?;
    cells.extend(newcomers(&crowd, &ecr, "a check of all").await?);
    operator.kill().await?;
    crowd.clear().await?;
    Ok(cells)
}

/// Waits until every repository of the crowd was asked for. Returns the number of those that were.
async fn checked(ecr: &StandIn, mark: Mark, number: usize) -> f64 {
    let deadline = Instant::now() + LONGEST;
    loop {
        let calls = ecr.log_since(mark);
        let asked = calls.iter().map(|call| &call.repository);
        let asked: std::collections::HashSet<_> =
            asked.filter(|name| name.starts_with("resource-")).collect();
        if asked.len() >= number || Instant::now() > deadline {
            return count(asked.len());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn scrapes(operator: &Operator) -> Result<Vec<Cell>, Error> {
    let mut size = 0;
    let mut longest = Duration::ZERO;
    for _ in 0..3 {
        let started = Instant::now();
        size = operator.page("/metrics").await?.len();
        longest = longest.max(started.elapsed());
    }
    Ok(vec![
        Cell::new("size of /metrics", count(size) / 1000.0, "kB"),
        Cell::new("time of a scrape", seconds(longest), "s"),
        Cell::new("memory after three scrapes", operator.rss()?, "MiB"),
    ])
}

/// Calls that concern a repository of the crowd, for each of them.
fn per(calls: &[Record], number: usize, what: &str) -> Cell {
    let of_crowd = calls.iter().filter(|call| call.repository.starts_with("resource-"));
    Cell::new(what, count(of_crowd.count()) / count(number), "")
}

fn count(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::MAX, f64::from)
}
