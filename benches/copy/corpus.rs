//! The corpora: images that crane creates in the distribution registry.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::Error;
use crate::maker::{Image, Maker};

/// Large enough that bytes cost more than requests.
const LARGE: usize = 32 << 20;

/// Images of one repository.
#[derive(Debug, Clone)]
pub struct Corpus {
    pub name: &'static str,
    pub repository: &'static str,
    /// Digests by tag.
    pub tags: BTreeMap<String, String>,
    /// Whether the repository has no other tags, so that a tool can copy the whole repository.
    pub whole: bool,
    /// Whether the target accepts 10 manifests per second, the default quota of ECR.
    pub limited: bool,
    /// Latencies to measure with.
    pub latencies: &'static [Duration],
}

const NONE: Duration = Duration::ZERO;
const WAN: Duration = Duration::from_millis(30);

/// Name, repository, whether limited, latencies.
const ALL: [(&str, &str, bool, &[Duration]); 5] = [
    ("tags-20", "many/tags", false, &[NONE, WAN]),
    ("index-5", "one/index", false, &[NONE, WAN]),
    ("layers-8", "large/layers", false, &[NONE, WAN]),
    ("tags-200", "many/more", false, &[NONE, WAN]),
    ("tags-200-limited", "many/more", true, &[NONE]),
];

impl Corpus {
    /// One image with the tag `1`.
    pub fn of_one(name: &'static str, repository: &'static str, digest: &str) -> Self {
        let tags = BTreeMap::from([("1".to_owned(), digest.to_owned())]);
        Self { name, repository, tags, whole: true, limited: false, latencies: &[NONE] }
    }
}

/// Creates the wanted corpora in the registry at `host`.
pub async fn make(host: &str, wanted: impl Fn(&str) -> bool) -> Result<Vec<Corpus>, Error> {
    let maker = Maker::new(host);
    let mut corpora: Vec<Corpus> = Vec::new();
    for (name, repository, limited, latencies) in ALL.into_iter().filter(|(name, ..)| wanted(name))
    {
        let known = corpora
            .iter()
            .find(|corpus| corpus.repository == repository)
            .map(|corpus| corpus.tags.clone());
        let tags = match known {
            Some(tags) => tags,
            None => digests(host, repository, fill(&maker, repository).await).await,
        };
        let whole = repository != "one/index"; // it has its children's tags besides
        corpora.push(Corpus { name, repository, tags, whole, limited, latencies });
    }
    Ok(corpora)
}

async fn fill(maker: &Maker, repository: &str) -> Vec<String> {
    match repository {
        "many/tags" => maker.tags_that_share(repository, 20, 7).await,
        "many/more" => maker.tags_that_share(repository, 200, 2).await,
        "one/index" => {
            let platforms =
                ["linux/amd64", "linux/arm64/v8", "linux/arm/v7", "linux/s390x", "linux/ppc64le"];
            maker.index(repository, "1", &platforms, 10).await;
            vec!["1".to_owned()]
        }
        _ => {
            let layers: Vec<_> =
                (0..8).map(|at| maker.layer(&format!("large-{at}"), LARGE)).collect();
            maker.image(&maker.reference(repository, "1"), None, &layers).await;
            vec!["1".to_owned()]
        }
    }
}

async fn digests(host: &str, repository: &str, tags: Vec<String>) -> BTreeMap<String, String> {
    let mut digests = BTreeMap::new();
    for tag in tags {
        let digest = Image::read(host, repository, &tag).await.digest;
        digests.insert(tag, digest);
    }
    digests
}
