//! Faults of the servers, one after the other at random: single requests that fail, and outages
//! that are shorter than the retries of a pass.

use std::time::Duration;

use testbed::traffic::{Fault, Faults, Match, Plane, Then};

use super::site::Site;

/// Requests that a small fault hits.
const TIMES: u32 = 5;

/// A server that misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    Source,
    Tokens,
    Charts,
    Ecr,
}

/// Makes faults, each in place of the one before.
#[derive(Debug)]
pub(super) struct Trouble {
    random: fastrand::Rng,
    pub(super) count: usize,
    /// The name of the fault in force.
    pub(super) now: String,
}

impl Trouble {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: fastrand::Rng::with_seed(seed), count: 0, now: "none".to_owned() }
    }

    /// Ends the fault in force.
    pub(super) fn end(&mut self, site: &Site) {
        for server in [Server::Source, Server::Tokens, Server::Charts, Server::Ecr] {
            faults(site, server).clear();
        }
        "none".clone_into(&mut self.now);
    }

    /// Ends the fault in force, and begins another one.
    pub(super) fn next(&mut self, site: &Site) {
        self.end(site);
        self.count += 1;
        let servers = [Server::Source, Server::Tokens, Server::Charts, Server::Ecr, Server::Ecr];
        let server = servers[self.random.usize(..servers.len())];
        // One in six is an outage. It ends with the next fault.
        if self.random.usize(..6) == 0 {
            let then = if self.random.bool() { Then::status(503) } else { Then::Reset };
            self.now = format!("outage of {server:?}");
            faults(site, server).add(Fault::new(Match::any(), then));
            return;
        }

        let (name, when, then) = match server {
            Server::Ecr => self.of_ecr(),
            Server::Source | Server::Tokens | Server::Charts => self.of_a_source(),
        };
        if name == "expired tokens" {
            site.rig.ecr.expire_tokens();
        } else {
            faults(site, server).add(Fault::new(when, then).times(TIMES));
        }
        self.now = format!("{name} of {server:?}");
    }

    fn of_a_source(&mut self) -> (&'static str, Match, Then) {
        let blob = Match::operation("GetBlob");
        let any = Match::any();
        let kinds = [
            ("truncated blobs", blob.clone(), Then::Truncate(100)),
            ("corrupt blobs", blob.clone(), Then::Corrupt(50)),
            ("resets", any.clone(), Then::Reset),
            ("503", any.clone(), Then::status(503)),
            ("500", any.clone(), Then::status(500)),
            ("429 for a second", any.clone(), Then::too_many_requests(Some(1))),
            ("429", any.clone(), Then::too_many_requests(None)),
            ("slow blobs", blob, Then::Slow(2_000)),
            ("late answers", any.clone(), Then::Delay(Duration::from_secs(5))),
            ("truncated answers", any, Then::Truncate(20)),
        ];
        self.pick(&kinds)
    }

    fn of_ecr(&mut self) -> (&'static str, Match, Then) {
        let control = Match::plane(Plane::Control);
        let data = Match::plane(Plane::Data);
        let throttled = Then::aws_error(400, "ThrottlingException", "Rate exceeded");
        let kinds = [
            ("throttled calls", control.clone(), throttled),
            ("500", control.clone(), Then::aws_error(500, "ServerException", "Try again")),
            ("resets of calls", control.clone(), Then::Reset),
            ("late answers", control, Then::Delay(Duration::from_secs(5))),
            ("lost answers", data.clone(), Then::LoseAnswer),
            ("resets", data.clone(), Then::Reset),
            ("429", data.clone(), Then::too_many_requests(None)),
            ("503", data, Then::status(503)),
            ("cut uploads", Match::operation("PutBlob"), Then::ResetUpload(100)),
            ("expired tokens", Match::any(), Then::Reset),
        ];
        self.pick(&kinds)
    }

    fn pick(&mut self, kinds: &[(&'static str, Match, Then)]) -> (&'static str, Match, Then) {
        kinds[self.random.usize(..kinds.len())].clone()
    }
}

fn faults(site: &Site, server: Server) -> &Faults {
    match server {
        Server::Source => site.rig.source.faults(),
        Server::Tokens => site.tokens.faults(),
        Server::Charts => site.charts.faults(),
        Server::Ecr => site.rig.ecr.faults(),
    }
}
