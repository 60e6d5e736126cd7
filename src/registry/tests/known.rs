//! Challenges and refusals of well-known registries, as their documents and bug reports show them.

use super::*;
use crate::class::Class;

const MANIFEST: &str = r#"{"schemaVersion":2,"manifests":[]}"#;

/// The behaviour of one kind of registry.
struct Known {
    name: &'static str,
    /// The path of the token server.
    realm: &'static str,
    /// Whether the token server is another host.
    elsewhere: bool,
    service: &'static str,
    /// The answer of the token server.
    token: &'static str,
    /// The further parameters of the challenge, after `realm` and `service`.
    more: &'static str,
    /// The token server's status and body for an image that is missing or hidden …
    no_token: Option<(u16, &'static str)>,
    /// … or the registry's, with or without a token.
    no_image: (u16, &'static str),
    class: Class,
}

const DENIED: &str =
    r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#;
const UNKNOWN: &str = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;

const KNOWN: [Known; 6] = [
    Known {
        name: "Docker Hub",
        realm: "/token",
        elsewhere: true,
        service: "registry.docker.io",
        token: r#"{"token":"t","access_token":"t","expires_in":300,"issued_at":"2026-01-01T00:00:00.123Z"}"#,
        more: r#",scope="repository:team/app:pull",error="insufficient_scope""#,
        no_token: None,
        no_image: (
            401,
            r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#,
        ),
        class: Class::AuthenticationFailed,
    },
    Known {
        name: "GHCR",
        realm: "/token",
        elsewhere: false,
        service: "ghcr.io",
        token: r#"{"token":"t"}"#,
        more: r#",scope="repository:team/app:pull""#,
        // For a private or missing package, the token server refuses the token.
        no_token: Some((403, DENIED)),
        no_image: (403, DENIED),
        class: Class::AuthenticationFailed,
    },
    Known {
        name: "Quay",
        realm: "/v2/auth",
        elsewhere: false,
        service: "quay.io",
        // All get a token, even one without permissions.
        token: r#"{"token":"t"}"#,
        more: r#",scope="repository:team/app:pull""#,
        no_token: None,
        no_image: (
            401,
            concat!(
                r#"{"errors":[{"code":"UNAUTHORIZED","detail":{},"#,
                r#""message":"access to the requested resource is not authorized"}]}"#
            ),
        ),
        class: Class::AuthenticationFailed,
    },
    Known {
        name: "GitLab",
        realm: "/jwt/auth",
        elsewhere: true,
        service: "container_registry",
        token: r#"{"token":"t"}"#,
        more: r#",scope="repository:team/app:pull",error="invalid_token""#,
        no_token: Some((403, r#"{"errors":[{"code":"DENIED","message":"access forbidden"}]}"#)),
        no_image: (
            404,
            r#"{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry"}]}"#,
        ),
        class: Class::AuthenticationFailed,
    },
    Known {
        name: "Azure",
        realm: "/oauth2/token",
        elsewhere: false,
        service: "acme.azurecr.io",
        token: r#"{"access_token":"t"}"#,
        more: r#",scope="repository:team/app:pull",error="invalid_token""#,
        no_token: None,
        no_image: (404, UNKNOWN),
        class: Class::SourceNotFound,
    },
    Known {
        name: "Google",
        realm: "/v2/token",
        elsewhere: false,
        service: "europe-docker.pkg.dev",
        token: r#"{"expires_in":3600,"issued_at":"2026-01-01T00:00:00Z","token":"t"}"#,
        more: r#",scope="repository:team/app:pull""#,
        no_token: None,
        no_image: (404, UNKNOWN),
        class: Class::SourceNotFound,
    },
];

impl Known {
    /// Starts the registry and its token server, which may be the same. `has` says whether the image
    /// exists and can be read.
    async fn start(&'static self, has: bool) -> (Peer, Option<Peer>) {
        let token = move |seen: &Seen| match self.no_token.filter(|_| !has) {
            Some((status, body)) => respond(status, &[], body),
            None if seen.authorization().is_empty() || seen.authorization() == BASIC => {
                respond(200, &[], self.token)
            }
            None => respond(401, &[], "{}"),
        };

        let server = if self.elsewhere { Some(Peer::new(token).await) } else { None };
        let realm = server.as_ref().map(|server| server.host.clone());
        let host = Arc::new(std::sync::OnceLock::<String>::new());
        let known = host.clone();
        let registry = Peer::new(move |seen| {
            if realm.is_none() && seen.line.contains(self.realm) {
                return token(seen);
            }
            match (seen.authorization(), has) {
                ("Bearer t", true) => respond(200, &[("content-type", OCI_INDEX)], MANIFEST),
                ("Bearer t", false) => respond(self.no_image.0, &[], self.no_image.1),
                _ => {
                    let host = realm.as_ref().or_else(|| known.get()).unwrap();
                    let (realm, service, more) = (self.realm, self.service, self.more);
                    let challenge =
                        format!(r#"Bearer realm="http://{host}{realm}",service="{service}"{more}"#);
                    respond(401, &[("www-authenticate", &challenge)], "{}")
                }
            }
        })
        .await;
        host.set(registry.host.clone()).unwrap();

        (registry, server)
    }
}

#[tokio::test]
async fn well_known_registries_are_read_with_one_token_and_the_password_goes_to_its_server_only() {
    for known in &KNOWN {
        let (registry, server) = known.start(true).await;
        let client = registry.client_as(user());
        let tag: Tag = "1".parse().unwrap();
        for _ in 0..2 {
            client
                .manifest("team/app", tag.clone())
                .await
                .unwrap_or_else(|error| panic!("{}: {error}", known.name));
        }
        let asked = server.as_ref().unwrap_or(&registry).seen();
        let tokens: Vec<_> = asked.iter().filter(|seen| seen.line.contains(known.realm)).collect();
        assert_eq!(tokens.len(), 1, "{}", known.name);
        let line = format!(
            "GET {}?scope=repository%3Ateam%2Fapp%3Apull&service={}",
            known.realm, known.service
        );
        assert_eq!((&tokens[0].line, tokens[0].authorization()), (&line, BASIC), "{}", known.name);
        let others = registry.seen().into_iter().filter(|seen| !seen.line.contains(known.realm));
        assert!(
            others.into_iter().all(|seen| !seen.authorization().contains("Basic")),
            "{}",
            known.name
        );
    }
}

#[tokio::test]
async fn hidden_images_of_well_known_registries_have_the_right_class() {
    for known in &KNOWN {
        let (registry, server) = known.start(false).await;
        let error =
            registry.client().manifest("team/app", "1".parse::<Tag>().unwrap()).await.unwrap_err();
        assert_eq!(error.class(), known.class, "{}: {error}", known.name);
        assert!(!error.is_retryable(), "{}: {error}", known.name);
        let requests = registry.lines().len() + server.map_or(0, |server| server.lines().len());
        assert!(requests <= 3, "{}: {requests}", known.name);
    }
}

#[tokio::test]
async fn names_of_robots_and_keys_are_sent_unchanged() {
    // Quay's robots, Harbor's robots, Google's keys, GitLab's deploy tokens.
    for name in ["team+robot", "robot$ci", "_json_key", "gitlab+deploy-token-1"] {
        let credential =
            Credential::Basic { username: name.into(), password: "{\"a\": \"b:c\"}\n".into() };
        let peer = Peer::new(|seen| match seen.authorization() {
            "" => respond(401, &[("www-authenticate", "Basic realm=\"x\"")], ""),
            _ => respond(200, &[], r#"{"tags":[]}"#),
        })
        .await;
        peer.client_as(credential).tags("a").await.unwrap();
        use base64::Engine as _;
        let sent = peer.seen()[1].authorization().trim_start_matches("Basic ").to_owned();
        let login = base64::engine::general_purpose::STANDARD.decode(sent).unwrap();
        assert_eq!(String::from_utf8(login).unwrap(), format!("{name}:{{\"a\": \"b:c\"}}\n"));
    }
}

#[tokio::test]
async fn tag_lists_of_well_known_registries_are_read_to_their_end() {
    for next in [
        // GHCR, with an empty page size; Quay; GitLab, with an absolute link.
        "</v2/a/tags/list?last=1&n=0>; rel=\"next\"",
        "</v2/a/tags/list?n=1&next_page=gAAAAA%3D%3D>; rel=\"next\"",
        "<http://HOST/v2/a/tags/list?last=1&n=1>; rel=\"next\"",
    ] {
        let host = Arc::new(std::sync::OnceLock::<String>::new());
        let known = host.clone();
        let peer = Peer::new(move |seen| {
            match seen.line.contains("last=") || seen.line.contains("next_page=") {
                false => {
                    let next = next.replace("HOST", known.get().unwrap());
                    respond(200, &[("link", &next)], r#"{"name":"a","tags":["1"]}"#)
                }
                true => respond(200, &[], r#"{"name":"a","tags":["2"]}"#),
            }
        })
        .await;
        host.set(peer.host.clone()).unwrap();
        let tags = peer.client().tags("a").await.unwrap();
        let tags: Vec<_> = tags.iter().map(ToString::to_string).collect();
        assert_eq!(tags, ["1", "2"], "{next}");
    }
}
