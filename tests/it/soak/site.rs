//! The servers of a soak: the rig, a registry whose tokens live a minute, and a chart repository
//! with a private certificate; each behind a proxy that makes faults.

use std::time::Duration;

use testbed::certificates::Certificates;
use testbed::chart_repository::ChartRepository;
use testbed::ecr::StandIn;
use testbed::proxy::Proxy;
use testbed::scratch;
use testbed::tls_front::TlsFront;
use testbed::upstream::{Auth, Upstream};

use crate::support::Rig;
use crate::support::raw::Repository;

/// Lifetime of the tokens of ECR and of the source.
const TOKEN_LIFE: Duration = Duration::from_secs(60);
/// Repositories of the open source, and the tags of each.
pub(super) const REPOSITORIES: usize = 20;
pub(super) const TAGS: usize = 5;
/// Repositories behind tokens, with their tags.
pub(super) const PRIVATE: [(&str, [&str; 2]); 2] =
    [("library/demo", ["1.26", "1.27"]), ("team/app", ["v1", "v3"])];
/// Versions of the chart.
pub(super) const VERSIONS: [&str; 3] = ["1.0.0", "1.1.0", "2.0.0"];
/// Size of the layer of `large/blob`, which no resource copies.
const LARGE_LAYER: usize = 1_000_000;

/// All servers.
pub(super) struct Site {
    pub(super) rig: Rig,
    /// The proxy in front of the registry with tokens.
    pub(super) tokens: Proxy,
    /// The proxy in front of the chart repository.
    pub(super) charts: Proxy,
    pub(super) certificates: Certificates,
    front: TlsFront,
    _upstream: Upstream,
    _repository: ChartRepository,
}

impl Site {
    pub(super) async fn new(name: &str) -> Self {
        let mut rig = Rig::new(name).await;
        // A stand-in that keeps the blobs of 500 repositories would need their memory.
        let config = testbed::ecr::Config { keep_blobs: false, ..Default::default() };
        rig.ecr = StandIn::start(config).await.expect("the stand-in starts");
        rig.ecr.token_life(TOKEN_LIFE);
        push(rig.sources.open.host()).await;

        let folder = scratch::folder("soak-tokens").expect("a folder");
        let upstream =
            Upstream::start(folder, Auth::Token { life: TOKEN_LIFE }).await.expect("a registry");
        upstream.seed_images(LARGE_LAYER).await.expect("crane fills it");
        let tokens = Proxy::start(upstream.host()).await.expect("a proxy");

        let folder = scratch::folder("soak-charts").expect("a folder");
        let repository = ChartRepository::start(folder, None).await.expect("a chart repository");
        for version in VERSIONS {
            repository.package("stable", "app", version).await.expect("helm packages");
        }
        repository.index("stable").await.expect("helm indexes");
        let charts = Proxy::start(repository.host()).await.expect("a proxy");
        let certificates = Certificates::generate().expect("certificates");
        let front = TlsFront::start(&certificates.server, &charts.host()).expect("a front");
        Self {
            rig,
            tokens,
            charts,
            certificates,
            front,
            _upstream: upstream,
            _repository: repository,
        }
    }

    /// The address of the charts.
    pub(super) fn chart_url(&self) -> String {
        format!("https://{}/stable", self.front.host())
    }

    /// Forgets the requests to the sources.
    pub(super) fn forget(&self) {
        for proxy in [&self.rig.source, &self.tokens, &self.charts] {
            proxy.traffic().clear();
        }
    }
}

/// Pushes the images of the open source: each has a layer of its own.
async fn push(host: &str) {
    for number in 0..REPOSITORIES {
        let repository = Repository::new(host, &format!("soak/image-{number}"));
        for tag in 0..TAGS {
            let name = format!("soak {number} {tag} ").repeat(100);
            repository.image_as(&name, Some(&format!("t{tag}"))).await;
        }
    }
}
