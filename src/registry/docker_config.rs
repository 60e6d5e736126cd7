//! Credentials in docker's file format: `.dockerconfigjson` of a Secret, `~/.docker/config.json`.
//!
//! Only `auths` is read here. Credential helpers are never run: the file may be a tenant's.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::{alphabet, engine::DecodePaddingMode};
use serde::Deserialize;

use crate::nesting;

use super::auth::Credential;
use super::error::Error;
use super::reference::{DOCKER_HUB, Reference};

/// Docker and kubectl write base64 with padding, people without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    auths: Option<BTreeMap<String, Entry>>,
}

/// No `Debug`: all fields are secret.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

/// Finds the credential for a reference in a docker config: the entry with the longest matching
/// key. `None` if no key matches, or if its entry is empty (a helper has the credential).
///
/// # Errors
/// [`Error::Setup`] if the file or the entry is malformed. The message never shows a value.
pub fn credential(config: &[u8], reference: &Reference) -> Result<Option<Credential>, Error> {
    nesting::check_json(config).map_err(Error::Setup)?;
    let config: Config = serde_json::from_slice(config).map_err(|error| {
        // serde's own message can quote a secret value.
        Error::Setup(format!(
            "it is not docker config JSON (line {}, column {})",
            error.line(),
            error.column()
        ))
    })?;

    let auths = config.auths.unwrap_or_default();
    let best = auths
        .iter()
        .filter_map(|(key, entry)| Some((fit(key, reference)?, key, entry)))
        .max_by_key(|best| best.0);
    let Some((_, key, entry)) = best else { return Ok(None) };
    entry.credential().map_err(|why| Error::Setup(format!("the entry {key:?} {why}")))
}

impl Entry {
    fn credential(&self) -> Result<Option<Credential>, &'static str> {
        let full = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if let Some(token) = full(&self.identitytoken) {
            return Ok(Some(Credential::IdentityToken(token)));
        }

        if let Some(auth) = full(&self.auth) {
            let decoded =
                BASE64.decode(auth.trim()).map_err(|_| "has an auth that is not base64")?;
            let decoded =
                String::from_utf8(decoded).map_err(|_| "has an auth that is not UTF-8 text")?;
            // Docker pads what it decodes with NULs.
            let (username, password) = decoded
                .trim_end_matches('\0')
                .split_once(':')
                .ok_or("has an auth that is not user:password")?;
            return Ok(Some(basic(username.to_owned(), password.to_owned())));
        }

        match (full(&self.username), full(&self.password)) {
            (Some(username), Some(password)) => Ok(Some(basic(username, password))),
            (None, None) => Ok(None),
            (Some(_), None) => Err("has a username without a password"),
            (None, Some(_)) => Err("has a password without a username"),
        }
    }
}

/// Makes a Basic credential, except for the name that Azure's `docker login` writes for an identity
/// token.
fn basic(username: String, password: String) -> Credential {
    if username == "<token>" {
        return Credential::IdentityToken(password);
    }
    Credential::Basic { username, password }
}

/// The length of a matching key's path; 0 for a host alone.
fn fit(key: &str, reference: &Reference) -> Option<usize> {
    let (host, path) = split(key);
    if host != reference.host {
        return None;
    }
    if path.is_empty() {
        return Some(0);
    }
    let rest = reference.repository.strip_prefix(path)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(path.len())
}

/// Splits a key into host and path. Keys are `host`, `host:port`, `host/path`, and URLs: Docker
/// Hub's is `https://index.docker.io/v1/`.
fn split(key: &str) -> (String, &str) {
    let rest = key.split_once("://").map_or(key, |(_, rest)| rest);
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = path.trim_matches('/');
    // The roots of APIs are not repositories.
    let path = if matches!(path, "v1" | "v2") { "" } else { path };
    let host = host.to_ascii_lowercase();
    let host = match host.as_str() {
        "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB.to_owned(),
        _ => host.strip_suffix(":443").map(str::to_owned).unwrap_or(host),
    };
    (host, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(auths: &str, reference: &str) -> Result<Option<Credential>, Error> {
        credential(format!("{{\"auths\":{auths}}}").as_bytes(), &reference.parse().unwrap())
    }

    fn user(name: &str) -> Option<Credential> {
        Some(Credential::Basic { username: name.into(), password: "p:w".into() })
    }

    /// An `auth` of the name and the password `p:w`.
    fn auth(name: &str) -> String {
        base64::engine::general_purpose::STANDARD.encode(format!("{name}:p:w"))
    }

    #[test]
    fn longest_matching_key_is_taken() {
        let auths = format!(
            r#"{{"https://index.docker.io/v1/":{{"auth":"{}"}},"GHCR.io":{{"username":"host","password":"p:w"}},
            "ghcr.io/team":{{"auth":"{}"}},"ghcr.io/team/app":{{"auth":"{}"}},
            "https://r.example:5000/v2/":{{"auth":"{}"}},
            "acr.example":{{"auth":"{}","identitytoken":"refresh"}},"helper.example":{{}},"[::1]:5000":{{"auth":"{}"}},
            "tls.example:443":{{"auth":"{}"}}}}"#,
            auth("hub"),
            auth("team"),
            auth("app").trim_end_matches('='),
            auth("port"),
            auth("00000000-0000-0000-0000-000000000000"),
            auth("six"),
            auth("tls"),
        );

        for (reference, expected) in [
            ("nginx", user("hub")),
            ("docker.io/a/b", user("hub")),
            ("ghcr.io/x", user("host")),
            ("ghcr.io/team/other", user("team")),
            ("ghcr.io/team/app:1", user("app")),
            ("ghcr.io/team/app/sub", user("app")),
            ("ghcr.io/teams/app", user("host")),
            ("r.example:5000/a", user("port")),
            ("r.example/a", None),
            ("[::1]:5000/a", user("six")),
            ("tls.example/a", user("tls")),
            ("acr.example/a", Some(Credential::IdentityToken("refresh".into()))),
            ("helper.example/a", None),
            ("quay.io/a", None),
        ] {
            assert_eq!(find(&auths, reference).unwrap(), expected, "{reference}");
        }
    }

    #[test]
    fn malformed_files_are_named_without_their_secrets() {
        for (auths, hint) in [
            (r#"{"ghcr.io":{"auth":"!!hunter2!!"}}"#, "not base64"),
            (r#"{"ghcr.io":{"auth":"aHVudGVyMg=="}}"#, "not user:password"),
            (r#"{"ghcr.io":{"auth":"/////w=="}}"#, "not UTF-8"),
            (r#"{"ghcr.io":{"username":"hunter2"}}"#, "without a password"),
            (r#"{"ghcr.io":{"password":"hunter2"}}"#, "without a username"),
            (r#"{"ghcr.io":"hunter2"}"#, "not docker config JSON"),
            (r#"{"ghcr.io":{"auth":["hunter2"]}}"#, "not docker config JSON"),
        ] {
            let error = find(auths, "ghcr.io/a").unwrap_err().to_string();
            assert!(error.contains(hint) && !error.contains("hunter2"), "{auths}: {error}");
        }

        // Entries of other registries are not checked.
        assert_eq!(find(r#"{"quay.io":{"auth":"?"}}"#, "ghcr.io/a").unwrap(), None);
    }

    #[test]
    fn helpers_are_not_run() {
        for config in [
            "{}",
            r#"{"auths":null}"#,
            r#"{"credHelpers":{"ghcr.io":"evil"}}"#,
            r#"{"auths":{"ghcr.io":{}},"credsStore":"evil"}"#,
        ] {
            assert_eq!(credential(config.as_bytes(), &"ghcr.io/a".parse().unwrap()).unwrap(), None);
        }
    }
}
