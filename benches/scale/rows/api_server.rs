//! The API server is away for a minute, and then wants a new list.

use std::time::{Duration, Instant};

use testbed::traffic::{Fault, Match, Then};

use super::{configured, seconds};
use crate::Error;
use crate::options::Build;
use crate::page::Cell;
use crate::rig::Rig;

/// Longer than any deadline of the operator.
const OUTAGE: Duration = Duration::from_secs(60);
const LIST: &str = "list ecrrepositorysyncs";
const WATCH: &str = "watch ecrrepositorysyncs";

pub async fn measure(rig: &Rig, build: &Build) -> Result<Vec<Cell>, Error> {
    let (ecr, crowd, proxy) = (rig.ecr().await?, rig.crowd().await?, rig.proxy().await?);
    let operator = rig.operator_behind(&proxy, build, &ecr).await?;
    crowd.create("crowd", "resource", rig.resources, configured).await?;
    crowd.until_ready("crowd", "resource", rig.resources).await;
    let before = operator.rss()?;

    proxy.faults().add(Fault::new(Match::any(), Then::Reset));
    proxy.hang_up(|_| true);
    tokio::time::sleep(OUTAGE).await;
    let mark = proxy.mark();
    proxy.faults().clear();
    proxy.faults().add(Fault::new(Match::operation(WATCH), Then::status(410)).once());
    let started = Instant::now();
    crowd.create("others", "after", 1, configured).await?;
    crowd.until_ready("others", "after", 1).await;
    let time = started.elapsed();
    let lists = proxy.log_since(mark).into_iter().filter(|request| request.operation == LIST);
    let took: Vec<_> = lists.filter_map(|list| list.took).collect();
    let list = took.iter().sum::<Duration>();

    let memory = operator.rss()? - before;
    operator.kill().await?;
    crowd.clear().await?;
    Ok(vec![
        Cell::new("a new resource is Ready after the API server is back", seconds(time), "s"),
        Cell::new("of it, the pages of the new list", seconds(list), "s"),
        Cell::new("memory that this took", memory, "MiB"),
    ])
}
