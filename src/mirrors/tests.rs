use super::*;

const PREFIX: &str = "gitlab.example.com/group/dependency_proxy/containers";

fn environment(missing: &[&'static str]) -> impl Fn(&str) -> Option<String> {
    let missing = missing.to_vec();
    move |name| {
        let value = if name.ends_with("PREFIX") { PREFIX } else { "value" };
        (!missing.contains(&name)).then(|| value.to_owned())
    }
}

fn found(mirrors: &Mirrors, image: &str) -> Option<String> {
    mirrors.find(&image.parse().expect("a reference")).map(|(_, reference)| reference.to_string())
}

#[test]
fn gitlabs_proxy_is_for_docker_hub_only() {
    let (mirror, warning) = gitlab::proxy(environment(&[]));
    assert_eq!(warning, None);
    let mirrors = Mirrors(mirror.into_iter().collect());

    for (image, expected) in [
        ("grafana/loki:latest", Some("/grafana/loki:latest")),
        ("docker.io/library/nginx:alpine", Some("/library/nginx:alpine")),
        ("nginx:alpine", Some("/library/nginx:alpine")),
        ("index.docker.io/library/nginx", Some("/library/nginx")),
        ("registry-1.docker.io/grafana/loki", Some("/grafana/loki")),
        ("registry.example.com/app:tag", None),
        ("docker.io.example.com/app", None),
    ] {
        assert_eq!(
            found(&mirrors, image),
            expected.map(|path| format!("{PREFIX}{path}")),
            "{image}"
        );
    }
}

#[test]
fn a_part_of_gitlabs_variables_is_one_warning() {
    let (mirror, warning) = gitlab::proxy(environment(&["CI_DEPENDENCY_PROXY_PASSWORD"]));
    assert!(mirror.is_none());
    assert_eq!(
        warning.as_deref(),
        Some("GitLab's dependency proxy is not used: CI_DEPENDENCY_PROXY_PASSWORD not set")
    );
    assert_eq!(gitlab::proxy(|_| None), (None, None));

    let (mirror, warning) = gitlab::proxy(|_| Some("https://gitlab".to_owned()));
    assert!(
        mirror.is_none()
            && warning.is_some_and(|warning| warning.contains("not a host with a path"))
    );
}

#[test]
fn the_longest_match_counts_and_ends_at_a_slash() {
    let mirrors = Mirrors::parse(
        "mirrors:\n- {match: index.docker.io, rewrite: m.example/hub}\n- {match: docker.io/library, rewrite: \
         'M.example:5000/official/', fallback: true}\n- {match: docker.io/team, direct: true}\n\
         - {match: quay.io/team/app, rewrite: m.example/app}\n",
    )
    .expect("a table");

    for (image, expected) in [
        ("nginx:1", Some("m.example:5000/official/nginx:1")),
        ("grafana/loki", Some("m.example/hub/grafana/loki")),
        ("libraryx/y", Some("m.example/hub/libraryx/y")),
        ("quay.io/x", None),
        ("quay.io/team/app:2", Some("m.example/app:2")),
        ("quay.io/team/app/part:2", Some("m.example/app/part:2")),
        ("team/app", None),
    ] {
        assert_eq!(found(&mirrors, image).as_deref(), expected, "{image}");
    }

    assert!(
        mirrors
            .find(&"nginx".parse().expect("a reference"))
            .is_some_and(|(mirror, _)| mirror.fallback)
    );
}

#[test]
fn a_wrong_table_says_what_to_write() {
    for (line, hint) in [
        ("{match: docker, rewrite: m.example/x}", "write docker.io"),
        ("{match: docker.io, rewrite: 'https://m.example'}", "without a scheme"),
        ("{match: docker.io, rewrite: mirror}", "write mirror.example.com/path"),
        ("{match: docker.io, rewrite: m.example/UPPER}", "not a host with a path"),
        ("{match: docker.io, rewrit: m.example}", "rewrit"),
        ("{match: docker.io}", "direct: true"),
        ("{match: docker.io, direct: true, rewrite: m.example}", "remove one of them"),
        ("{match: docker.io/library/nginx, rewrite: m.example}", "append the image's name"),
        ("{match: docker.io, rewrite: m.example, credentialsFile: /nowhere}", "/nowhere"),
        ("{match: docker.io, rewrite: m.example, credentialsSecretRef: {name: a}}", "namespace"),
        (
            "{match: docker.io, rewrite: m.example, credentialsFile: /x, \
             credentialsSecretRef: {name: a, namespace: b}}",
            "remove one of them",
        ),
        (
            "{match: docker.io, rewrite: m.example}\n- {match: index.docker.io, rewrite: n.example}",
            "twice",
        ),
    ] {
        let error = Mirrors::parse(&format!("mirrors:\n- {line}\n")).expect_err(hint);
        assert!(error.contains(hint), "{hint}: {error}");
    }
}

#[test]
fn a_login_is_never_shown_and_a_secret_needs_a_cluster() {
    let login = Login::Known(Credential::Basic {
        username: "me".to_owned(),
        password: "hidden".to_owned(),
    });
    assert_eq!(format!("{login:?}"), "Known");

    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("mirrors.yaml");
    let text = "mirrors: [{match: docker.io, rewrite: m.example, credentialsSecretRef: {name: a, namespace: b}}]";
    std::fs::write(&file, text).expect("a file");

    let error = Mirrors::load(Some(&file), false).expect_err("no cluster");
    assert!(error.contains("Secret b/a, which needs a cluster: write credentialsFile"), "{error}");
    Mirrors::parse(text).expect("a controller has one");
}
