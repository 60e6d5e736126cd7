//! Clients for the sources: what all passes share of connections, limits and quotas.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::engine::Engine;
use super::job::{Access, EcrLogin, EcrSource};
use crate::failure::Failure;
use crate::registry::{
    self, Authenticator, Client, Digest, Endpoint, Options, Reference, StaticAuthenticator, Tag,
    Transport, TransportOptions,
};

impl Engine {
    /// A client for a source registry.
    pub(super) async fn source_client(
        &self,
        access: &Access,
        reference: &Reference,
        insecure: bool,
    ) -> Result<Client, Failure> {
        let endpoint = Endpoint::of(reference, insecure);
        let limits = Some(self.host_limits(&endpoint.host));
        let quota = Some(self.quota(&endpoint.host, access));
        let (authenticator, preemptive_basic): (Arc<dyn Authenticator>, _) = match &access.ecr {
            // Asks ECR for no challenge: it takes nothing but Basic.
            Some(EcrLogin { registry: EcrSource::Private(location), identity }) => {
                (self.aws.registry(location, identity).await?.authenticator(), true)
            }
            Some(EcrLogin { registry: EcrSource::Public, identity }) => {
                (self.aws.public_login(identity)?, false)
            }
            None => (Arc::new(StaticAuthenticator(access.credential.clone())), false),
        };
        let options = Options { limits, quota, preemptive_basic, ..Options::default() };
        Ok(Client::new(self.transport(&access.transport)?, endpoint, authenticator, options)?)
    }

    /// The digests of these tags where the image's source is a private ECR registry: a request for
    /// a hundred of them instead of one for each. Empty where that is not to be had; whoever is not
    /// in the answer is asked for by HEAD, which knows why.
    pub(super) async fn digests_in_ecr(
        &self,
        access: &Access,
        repository: &str,
        tags: BTreeSet<Tag>,
    ) -> BTreeMap<Tag, Digest> {
        let none = BTreeMap::new();
        let Access {
            ecr: Some(EcrLogin { registry: EcrSource::Private(location), identity }), ..
        } = access
        else {
            return none;
        };
        // One is asked for by HEAD, which needs no right that pulling does not need.
        if tags.len() < 2 {
            return none;
        }
        let Ok(registry) = self.aws.registry(location, identity).await else { return none };
        // Below a pull-through cache rule ECR looks for news when it is asked through `/v2/`, and
        // not when it is asked here.
        if registry.pull_through_rule(repository).await.is_some() {
            return none;
        }
        match registry.images(repository, &tags).await {
            Ok(images) => images.unwrap_or_default().tags,
            Err(error) => {
                tracing::debug!(%error, repository, "the source's tags are asked for one by one");
                none
            }
        }
    }

    /// The limits of a source host.
    pub(super) fn host_limits(&self, host: &str) -> Arc<registry::Limits> {
        self.hosts.lock().entry(host.to_owned()).or_default().clone()
    }

    /// What the login of `access` may still pull from a source host.
    pub(super) fn quota(&self, host: &str, access: &Access) -> Arc<registry::Quota> {
        let key = (host.to_owned(), (access.credential.clone(), access.ecr.clone()));
        let mut quotas = self.quotas.lock();
        let make = || Arc::new(registry::Quota::new(self.bounds.reserve));
        quotas.get_or_insert_with(key, make).clone()
    }

    /// The connections for these options.
    pub(super) fn transport(
        &self,
        options: &TransportOptions,
    ) -> Result<Transport, crate::registry::Error> {
        /// Rotated certificates leave old entries behind; more than this many live ones are unheard
        /// of.
        const MOST_KEPT: usize = 256;
        let mut transports = self.transports.lock();
        if let Some(transport) = transports.get(options) {
            return Ok(transport.clone());
        }
        let transport = Transport::new(options)?.metered(self.aws.meter());
        if transports.len() >= MOST_KEPT {
            transports.retain(|options, _| *options == TransportOptions::default());
        }
        transports.insert(options.clone(), transport.clone());
        Ok(transport)
    }
}
