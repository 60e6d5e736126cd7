//! Names of requests in the proxy's log: AWS operation, Kubernetes verb and resource, or registry
//! operation.

use axum::http::request;

use crate::traffic::{Plane, Route};

/// Returns plane, operation and object of a request, see [`Proxy::log`](super::Proxy::log).
pub(super) fn name(request: &request::Parts) -> (Plane, String, String) {
    let (method, path) = (request.method.as_str(), request.uri.path());
    let target = request.headers.get("x-amz-target").and_then(|target| target.to_str().ok());
    if let Some((_, operation)) = target.and_then(|target| target.rsplit_once('.')) {
        return (Plane::Control, operation.to_owned(), String::new());
    }
    let (operation, object) = kubernetes(method, path, request.uri.query().unwrap_or_default())
        .unwrap_or_else(|| {
            let route = Route::parse(method, path);
            (route.operation.to_owned(), route.repository)
        });
    (Plane::Data, operation, object)
}

/// Reads `/api/VERSION/…` and `/apis/GROUP/VERSION/…` ("API Concepts" of the Kubernetes reference);
/// `None` for other paths.
fn kubernetes(method: &str, path: &str, query: &str) -> Option<(String, String)> {
    let parts: Vec<_> = path.split('/').skip(1).collect();
    let of_group = match parts.as_slice() {
        ["api", _, rest @ ..] | ["apis", _, _, rest @ ..] if !rest.is_empty() => rest,
        _ => return None,
    };
    let (namespace, resource, rest) = match of_group {
        // A namespace is an object, too, and has subresources of its own.
        ["namespaces", _, "status" | "finalize"] => ("", "namespaces", &of_group[1..]),
        ["namespaces", namespace, resource, rest @ ..] => (*namespace, *resource, rest),
        [resource, rest @ ..] => ("", *resource, rest),
        [] => return None,
    };
    let name = rest.first().copied().unwrap_or_default();
    let subresource: String = rest.iter().skip(1).map(|part| format!("/{part}")).collect();
    let verb = match method {
        "GET" | "HEAD" if query.split('&').any(|pair| matches!(pair, "watch=true" | "watch=1")) => {
            "watch"
        }
        "GET" | "HEAD" if name.is_empty() => "list",
        "GET" | "HEAD" => "get",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" if name.is_empty() => "deletecollection",
        "DELETE" => "delete",
        _ => return None,
    };
    let object: Vec<_> = [namespace, name].into_iter().filter(|part| !part.is_empty()).collect();
    Some((format!("{verb} {resource}{subresource}"), object.join("/")))
}

#[cfg(test)]
mod tests {
    use axum::extract::Request;

    use super::*;

    #[test]
    fn requests_of_an_aws_json_api_are_named_by_their_operation() {
        let target = "AmazonEC2ContainerRegistry_V20150921.PutImage";
        let request = Request::post("/")
            .header("X-Amz-Target", target)
            .body(())
            .expect("a request")
            .into_parts()
            .0;
        assert_eq!(name(&request), (Plane::Control, "PutImage".to_owned(), String::new()));
    }

    #[test]
    fn requests_of_the_kubernetes_api_are_named_by_verb_and_resource() {
        let group = "/apis/ecr-sync.io/v1alpha1";
        let table = [
            ("GET", format!("{group}/ecrrepositorysyncs?limit=500"), "list ecrrepositorysyncs", ""),
            (
                "GET",
                format!("{group}/namespaces/a/ecrrepositorysyncs?&watch=true"),
                "watch ecrrepositorysyncs",
                "a",
            ),
            (
                "GET",
                format!("{group}/namespaces/a/ecrrepositorysyncs/b"),
                "get ecrrepositorysyncs",
                "a/b",
            ),
            (
                "PATCH",
                format!("{group}/namespaces/a/ecrrepositorysyncs/b?force=true"),
                "patch ecrrepositorysyncs",
                "a/b",
            ),
            (
                "PATCH",
                format!("{group}/namespaces/a/ecrrepositorysyncs/b/status"),
                "patch ecrrepositorysyncs/status",
                "a/b",
            ),
            (
                "DELETE",
                format!("{group}/namespaces/a/ecrrepositorysyncs"),
                "deletecollection ecrrepositorysyncs",
                "a",
            ),
            ("POST", "/apis/events.k8s.io/v1/namespaces/a/events".to_owned(), "create events", "a"),
            (
                "PUT",
                "/apis/coordination.k8s.io/v1/namespaces/a/leases/b".to_owned(),
                "update leases",
                "a/b",
            ),
            ("GET", "/api/v1/namespaces/a/secrets/b".to_owned(), "get secrets", "a/b"),
            ("GET", "/api/v1/secrets?watch=1".to_owned(), "watch secrets", ""),
            ("GET", "/api/v1/namespaces".to_owned(), "list namespaces", ""),
            ("GET", "/api/v1/namespaces/kube-system".to_owned(), "get namespaces", "kube-system"),
            ("PUT", "/api/v1/namespaces/a/finalize".to_owned(), "update namespaces/finalize", "a"),
            ("DELETE", "/api/v1/nodes/n".to_owned(), "delete nodes", "n"),
            ("GET", "/v2/library/demo/manifests/1".to_owned(), "GetManifest", "library/demo"),
            ("GET", "/readyz".to_owned(), "Unknown", ""),
        ];
        for (method, path, operation, object) in table {
            let (request, ()) = axum::http::Request::builder()
                .method(method)
                .uri(&path)
                .body(())
                .expect("a request")
                .into_parts();
            let expected = (Plane::Data, operation.to_owned(), object.to_owned());
            assert_eq!(name(&request), expected, "{method} {path}");
        }
    }
}
