//! Healthy resources beside resources whose source does not work.

use tokio::net::TcpListener;

use super::{image, seconds};
use crate::Error;
use crate::options::Build;
use crate::page::Cell;
use crate::rig::Rig;

pub async fn hanging(rig: &Rig, build: &Build) -> Result<Vec<Cell>, Error> {
    // Connections wait in the queue of the listener, and nobody reads from them.
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let host = listener.local_addr()?.to_string();
    measure(rig, build, &host, 100, "hangs").await
}

pub async fn refusing(rig: &Rig, build: &Build) -> Result<Vec<Cell>, Error> {
    let host = format!("127.0.0.1:{}", testbed::process::free_port()?);
    measure(rig, build, &host, 500, "refuses").await
}

async fn measure(
    rig: &Rig,
    build: &Build,
    broken: &str,
    number: usize,
    does: &str,
) -> Result<Vec<Cell>, Error> {
    let alone = time(rig, build, None, number).await?;
    let beside = time(rig, build, Some(broken), number).await?;
    let what = |how: &str| format!("{number} healthy resources {how}");
    Ok(vec![
        Cell::new(what("alone"), alone, "s"),
        Cell::new(what(&format!("beside {number} whose source {does}")), beside, "s"),
    ])
}

async fn time(rig: &Rig, build: &Build, broken: Option<&str>, number: usize) -> Result<f64, Error> {
    let (ecr, crowd) = (rig.ecr().await?, rig.crowd().await?);
    // All are there before the operator begins, so that the order of their creation is no help.
    if let Some(broken) = broken {
        crowd.create("others", "broken", number, |_| image(broken)).await?;
    }
    let host = rig.source.host();
    crowd.create("crowd", "healthy", number, |_| image(&host)).await?;

    let operator = rig.operator(build, &ecr).await?;
    let time = crowd.until_ready("crowd", "healthy", number).await;
    operator.kill().await?;
    crowd.clear().await?;
    Ok(seconds(time))
}
