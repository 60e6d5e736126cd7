//! The source registries of all tests: real registries, filled once.

use testbed::scratch;
use testbed::upstream::{Auth, Seeded, Upstream};
use tokio::sync::OnceCell;

/// Size of the layer of `large/blob:1`: larger than any buffer, but quick to copy.
const LARGE_LAYER: usize = 24 * 1024 * 1024;

/// Three registries with the same content.
pub struct Sources {
    /// Reads need no login.
    pub open: Upstream,
    /// Reads need Basic.
    pub basic: Upstream,
    /// Reads need a Bearer token.
    pub token: Upstream,
    /// The content of the registries.
    pub seeded: Seeded,
}

impl Sources {
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Sources> = OnceCell::const_new();
        SHARED
            .get_or_init(|| async {
                let start = |name: &'static str, auth| async move {
                    let upstream =
                        Upstream::start(scratch::folder(name).expect("a folder"), auth).await;
                    let upstream = upstream.expect("a registry starts");
                    let seeded = upstream.seed(LARGE_LAYER).await.expect("crane and oras fill it");
                    (upstream, seeded)
                };
                let ((open, seeded), (basic, _), (token, _)) = tokio::join!(
                    start("open", Auth::None),
                    start("basic", Auth::Basic),
                    start("token", Auth::TOKEN)
                );
                Self { open, basic, token, seeded }
            })
            .await
    }
}
