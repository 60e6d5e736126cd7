//! Operations of the registry API, by method and path of a `/v2/` request.

/// The operation of a registry request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    /// See [`Record::operation`](super::Record::operation).
    pub(crate) operation: &'static str,
    pub(crate) repository: String,
    /// Tag, digest or upload session; empty where the path has none.
    pub(crate) reference: String,
}

impl Route {
    pub(crate) fn parse(method: &str, path: &str) -> Self {
        let route = |operation, repository: &str, reference: &str| Self {
            operation,
            repository: repository.to_owned(),
            reference: reference
                .replace("%3A", ":")
                .replace("%3a", ":")
                .replace("%2B", "+")
                .replace("%2b", "+"),
        };
        let Some(rest) = path.strip_prefix("/v2/") else {
            return route(if path == "/v2" { "Ping" } else { "Unknown" }, "", "");
        };
        if rest.is_empty() {
            return route("Ping", "", "");
        }
        if let Some(name) = rest.strip_suffix("/tags/list") {
            return route("ListTags", name, "");
        }
        if let Some((name, session)) =
            rest.rsplit_once("/blobs/uploads").filter(|(_, s)| s.is_empty() || s.starts_with('/'))
        {
            let operation = match method {
                "POST" => "StartUpload",
                "PATCH" => "PatchUpload",
                "PUT" => "PutBlob",
                "GET" | "HEAD" => "UploadStatus",
                "DELETE" => "CancelUpload",
                _ => "Unknown",
            };
            return route(operation, name, session.trim_start_matches('/'));
        }
        let operations: [(&str, &[(&str, &'static str)]); 3] = [
            ("/blobs/", &[("HEAD", "HeadBlob"), ("GET", "GetBlob"), ("DELETE", "DeleteBlob")]),
            (
                "/manifests/",
                &[
                    ("HEAD", "HeadManifest"),
                    ("GET", "GetManifest"),
                    ("PUT", "PutManifest"),
                    ("DELETE", "DeleteManifest"),
                ],
            ),
            ("/referrers/", &[("GET", "ListReferrers")]),
        ];
        for (part, methods) in operations {
            if let Some((name, reference)) = rest.rsplit_once(part) {
                let operation = methods
                    .iter()
                    .find(|(known, _)| *known == method)
                    .map_or("Unknown", |(_, name)| name);
                return route(operation, name, reference);
            }
        }
        route("Unknown", "", "")
    }
}
