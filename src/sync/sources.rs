//! Clients for the sources, with connections, limits and quotas that all passes share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::engine::Engine;
use super::job::{Access, EcrLogin, EcrSource, Job, Way};
use super::origin::Origin;
use crate::failure::Failure;
use crate::hash::Fingerprint;
use crate::helm;
use crate::registry::{
    self, Client, Credential, Digest, Endpoint, Options, Reference, StaticAuthenticator, Tag,
    Transport, TransportOptions,
};

/// Bytes of a connection without its own certificates: 106 KB were measured, and certificates take
/// about as much as their text.
const TRANSPORT_BYTES: usize = 128 * 1024;
/// Bytes of limits or a quota.
const LIMITS_BYTES: usize = 1024;

impl Engine {
    /// Opens a source repository.
    pub(super) async fn origin(
        &self,
        access: &Access,
        reference: &Reference,
    ) -> Result<Origin, Failure> {
        let reader = Fingerprint::of((&reference.host, &access.way));
        let client = self.source_client(access, reference, reader).await?;
        Ok(Origin::new(client, reader, reference.repository.clone()))
    }

    /// Creates a client for a source registry.
    async fn source_client(
        &self,
        access: &Access,
        reference: &Reference,
        reader: Fingerprint,
    ) -> Result<Client, Failure> {
        let host = reference.host.as_str();
        let limits = Some(self.limits(reader));
        let quota = Some(self.quota(reader));
        let options = Options { limits, quota, ..Options::default() };

        // Each login is paired with the connection of its owner, here and nowhere else.
        let (transport, login, insecure) = match &access.way {
            Way::Ecr(EcrLogin { registry: EcrSource::Private(location), identity }) => {
                let registry = self.aws.registry(location, identity).await?;
                return Ok(registry.reader(host, options)?);
            }
            Way::Ecr(EcrLogin { registry: EcrSource::Public, identity }) => {
                return Ok(self.aws.public_reader(identity, host, options)?);
            }
            Way::Mirror { login, insecure } => (self.to_mirrors.clone(), login, *insecure),
            // Without options of a resource, it is the operator's own connection.
            Way::Operator { login, insecure } => {
                (self.transport(&TransportOptions::default())?, login, *insecure)
            }
            Way::Resource { login, connection } => {
                (self.transport(&connection.options)?, login, connection.insecure)
            }
        };
        let authenticator = Arc::new(StaticAuthenticator(login.clone()));
        Ok(Client::new(transport, Endpoint::of(reference, insecure), authenticator, options)?)
    }

    /// Returns the connection to a chart repository, which has no AWS identities.
    pub(super) fn chart_connection(
        &self,
        way: &Way,
        host: &str,
    ) -> Result<helm::Connection, Failure> {
        let (login, options) = match way {
            // No chart repository is in ECR or has a mirror.
            Way::Ecr(_) | Way::Mirror { .. } => (&Credential::Anonymous, None),
            Way::Operator { login, .. } => (login, None),
            Way::Resource { login, connection } => (login, Some(&connection.options)),
        };
        let options = options.cloned().unwrap_or_default();
        let transport = self.transport(&options)?;
        let mut connection = helm::Connection::new(transport, options, login.clone());
        connection.limits = self.limits(Fingerprint::of((host, way)));
        Ok(connection)
    }

    /// Returns the digests of these tags if the source is a private ECR registry, with one request
    /// per hundred tags instead of one per tag. Tags that are missing in the result must be
    /// resolved by HEAD, which gives the reason.
    pub(super) async fn digests_in_ecr(
        &self,
        access: &Access,
        repository: &str,
        tags: BTreeSet<Tag>,
    ) -> BTreeMap<Tag, Digest> {
        let none = BTreeMap::new();
        let Some(EcrLogin { registry: EcrSource::Private(location), identity }) = access.ecr()
        else {
            return none;
        };
        // HEAD of a single tag needs no permission beyond those for pulling.
        if tags.len() < 2 {
            return none;
        }
        let Ok(registry) = self.aws.registry(location, identity).await else { return none };
        // With a pull-through cache rule, ECR asks its upstream for changes only on requests to
        // `/v2/`.
        if registry.pull_through_rule(repository).await.is_some() {
            return none;
        }

        match registry.images(repository, &tags).await {
            Ok(images) => images.unwrap_or_default().tags,
            Err(error) => {
                tracing::debug!(%error, repository, "resolving the source's tags one by one");
                none
            }
        }
    }

    /// Returns the limits of one way to a source host.
    fn limits(&self, reader: Fingerprint) -> Arc<registry::Limits> {
        let new = || Arc::new(registry::Limits::of_source());
        self.limits.lock().get_or_insert_with(reader, LIMITS_BYTES, new)
    }

    /// Returns a way of the job to a source whose host is down.
    pub(super) fn outage(&self, job: &Job) -> Option<Fingerprint> {
        let Job { spec, access, mirrored, .. } = job;
        let image = spec.image.as_ref().map(|image| (image.reference.host.as_str(), &access.image));
        let chart = spec.chart.as_ref().map(|chart| (chart.address.host(), &access.chart));
        let mirror =
            mirrored.as_ref().map(|mirrored| (mirrored.reference.host.as_str(), &mirrored.access));

        let mut ways = [image, chart, mirror]
            .into_iter()
            .flatten()
            .filter_map(|(host, access)| Some(Fingerprint::of((host, &access.as_ref().ok()?.way))));
        ways.find(|way| self.is_down(*way))
    }

    /// Whether the host of this way to a source is down.
    pub(crate) fn is_down(&self, way: Fingerprint) -> bool {
        self.limits.lock().get(&way).is_some_and(|limits| limits.is_down())
    }

    /// Whether a pass should probe whether the host of this way answers again.
    pub(crate) fn wants_probe(&self, way: Fingerprint) -> bool {
        self.limits.lock().get(&way).is_some_and(|limits| limits.wants_probe())
    }

    /// Returns the remaining pulls of one way to a source host.
    fn quota(&self, reader: Fingerprint) -> Arc<registry::Quota> {
        let new = || Arc::new(registry::Quota::new(self.bounds.reserve));
        self.quotas.lock().get_or_insert_with(reader, LIMITS_BYTES, new)
    }

    /// Returns the connections of resources with these options.
    fn transport(&self, options: &TransportOptions) -> Result<Transport, registry::Error> {
        if let Some(transport) = &self.to_sources
            && *options == TransportOptions::default()
        {
            return Ok(transport.clone());
        }

        let key = Fingerprint::of(options);
        let mut transports = self.transports.lock();
        if let Some(transport) = transports.get(&key) {
            return Ok(transport.clone());
        }

        let transport = Transport::new(options, &self.egress)?
            .metered(self.aws.meter())
            .within(self.to_mirrors.budget().clone());
        transports.insert(key, transport.clone(), TRANSPORT_BYTES + options.bytes());
        Ok(transport)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::class::Class;
    use crate::ecr;
    use crate::meter::Silent;
    use crate::registry::{Egress, Proxy};
    use crate::sync::engine::TRANSPORTS_BYTES;
    use crate::sync::{Bounds, Connection};

    fn engine() -> Engine {
        let egress = Arc::new(Egress::trusting());
        let transport = Transport::new(&TransportOptions::default(), &egress).expect("a transport");
        let sdk = aws_config::SdkConfig::builder().build();
        let options = ecr::Options::default();
        let aws = ecr::Session::new(sdk, options, transport.clone(), Arc::new(Silent), None);
        Engine::new(aws, transport, egress, None, Bounds::default())
    }

    fn way(login: &str, proxy: Option<&str>) -> Way {
        let proxy = proxy.map(|address| Proxy { address: address.to_owned(), login: None });
        let options = TransportOptions { proxy, ..TransportOptions::default() };
        let login = Credential::Basic { username: login.to_owned(), password: "pw".to_owned() };
        Way::Resource { login, connection: Connection { insecure: false, options } }
    }

    #[test]
    fn a_pause_holds_for_one_login_over_one_connection() {
        let engine = engine();
        let limits = |host: &str, way: &Way| engine.limits(Fingerprint::of((host, way)));
        let paused = |host: &str, way: &Way| limits(host, way).pause().is_some();
        let hostile = way("tenant", Some("http://proxy.tenant.example:3128"));
        limits("docker.io", &hostile).pause_for(Duration::from_secs(60));

        assert!(paused("docker.io", &hostile), "all resources on this way wait");
        for other in [
            way("tenant", None),
            way("tenant", Some("http://proxy.other.example:3128")),
            way("other", None),
            Way::Operator { login: Credential::Anonymous, insecure: false },
            Way::default(),
        ] {
            assert!(!paused("docker.io", &other), "{other:?}");
        }
        assert!(!paused("quay.io", &hostile));
    }

    /// Each rotation of a Secret makes another login and another connection.
    #[tokio::test]
    async fn rotated_secrets_leave_a_bounded_number_of_bytes_behind() {
        let engine = engine();
        for rotation in 0..400 {
            let address = format!("http://proxy-{rotation}.example:3128");
            let way = way(&"x".repeat(100_000), Some(&address));
            engine.chart_connection(&way, "charts.example").expect("a connection");
        }
        assert!(engine.transports.lock().bytes() <= TRANSPORTS_BYTES);
        assert!(engine.limits.lock().bytes() < 400 * 2 * LIMITS_BYTES, "keys hold no passwords");
    }

    #[tokio::test]
    async fn the_address_of_a_configured_host_is_checked() {
        let mut engine = engine();
        (engine.egress, engine.to_sources) = (Arc::default(), None);
        let way = Way::Operator { login: Credential::Anonymous, insecure: true };
        let reader = Fingerprint::of(("127.0.0.1:1", &way));
        let access = Access { way, hosts: None };
        let reference = "127.0.0.1:1/app:1".parse().expect("a reference");

        let client = engine.source_client(&access, &reference, reader).await.expect("a client");
        let failure = Failure::from(client.tags("app").await.expect_err("refused"));
        assert_eq!(failure.class, Class::AccessDenied, "{failure}");
    }
}
