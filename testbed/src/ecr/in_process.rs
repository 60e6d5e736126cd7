//! A stand-in without servers: requests are answered in the task that makes them, so that a
//! simulation controls time and order.

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{CONTENT_LENGTH, HOST};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderValue, Method, Uri};
use axum::response::Response;

use super::blob::Blob;
use super::quantities::digest;
use super::shared::{Config, Shared};
use super::store::Repository;
use super::{StandIn, control, data, public};
use crate::traffic::Cut;

impl StandIn {
    /// Creates a stand-in without servers and threads, see [`StandIn::answer`].
    pub fn in_process(config: Config) -> Self {
        Self { shared: Shared::in_process(config), _host: None }
    }

    /// Answers a request in this task, as the server of its host does. A name that is not AWS's is
    /// another name of the public registry. `None` if the connection was cut instead.
    pub async fn answer(&self, mut request: Request) -> Option<Response> {
        let host = request.uri().authority().map(|host| host.to_string()).unwrap_or_default();
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        if let Ok(value) = HeaderValue::try_from(&host) {
            request.headers_mut().insert(HOST, value);
        }

        let is_head = request.method() == Method::HEAD;
        let cut = Cut::default();
        let line = ConnectInfo(cut.clone());
        let response = match Server::of(&host) {
            Server::Control => control::handle(State(self.shared.clone()), line, request).await,
            Server::Storage => {
                data::storage_handle(State(self.shared.clone()), line, request).await
            }
            Server::Registry { account, region } => {
                let site = data::Site::new(self.shared.clone(), account, region);
                data::handle(State(site), line, request).await
            }
        };
        (!cut.is_cut()).then(|| sent(response, is_head))
    }

    /// Stores an image in the public registry as its owner would, without a request: its blobs, and
    /// the manifest under a tag. Returns its digest.
    ///
    /// # Panics
    /// On a manifest that the stand-in does not accept.
    pub fn publish_image(
        &self,
        name: &str,
        tag: Option<&str>,
        (media_type, manifest): (&str, &[u8]),
        blobs: &[Bytes],
    ) -> String {
        let mut state = self.shared.state();
        let repositories = &mut state.registry_mut(public::ACCOUNT, public::REGION).repositories;
        let repository = repositories
            .entry(name.to_owned())
            .or_insert_with(|| Repository::new(public::ACCOUNT, public::REGION, name));
        for blob in blobs {
            repository.blobs.insert(digest(blob), Blob::Memory(blob.clone()));
        }

        let body = Bytes::copy_from_slice(manifest);
        let put = repository.put(body, Some(media_type), tag, None, self.shared.quotas());
        put.unwrap_or_else(|error| panic!("not accepted: {}", error.message)).digest
    }
}

/// A server, by its host name.
#[derive(Debug, PartialEq, Eq)]
enum Server<'a> {
    Control,
    Storage,
    Registry { account: &'a str, region: &'a str },
}

impl<'a> Server<'a> {
    fn of(host: &'a str) -> Self {
        let public = Self::Registry { account: public::ACCOUNT, region: public::REGION };
        let Some(name) = host.strip_suffix(".amazonaws.com") else { return public };
        match name.split_once(".dkr.ecr.") {
            Some((account, region)) => Self::Registry { account, region },
            None if name.contains(".s3.") => Self::Storage,
            None => Self::Control,
        }
    }
}

/// The response as it arrives at a client: with its length, and without a body for HEAD.
fn sent(mut response: Response, is_head: bool) -> Response {
    if is_head {
        *response.body_mut() = Body::empty();
    } else if let Some(length) = response.body().size_hint().exact() {
        response.headers_mut().entry(CONTENT_LENGTH).or_insert(length.into());
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_leads_to_its_server() {
        let public = Server::Registry { account: "public", region: "us-east-1" };
        for (host, server) in [
            ("api.ecr.eu-west-1.amazonaws.com", Server::Control),
            ("sts.eu-west-1.amazonaws.com", Server::Control),
            ("prod-eu-west-1-starport-layer-bucket.s3.eu-west-1.amazonaws.com", Server::Storage),
            (
                "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
                Server::Registry { account: "123456789012", region: "eu-west-1" },
            ),
            ("public.ecr.aws", public),
        ] {
            assert_eq!(Server::of(host), server, "{host}");
        }
    }
}
