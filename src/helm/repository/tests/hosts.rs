//! Tests of the hosts that an index may point to.

use super::*;

#[tokio::test]
async fn an_index_points_only_to_hosts_that_are_allowed() {
    let other = Server::new(|_, _| reply(200, &[], "archive")).await;
    let server = Server::new(|_, _| reply(200, &[], "archive")).await;
    let written_in = "tenants.yaml, tenants[0].sources".to_owned();
    let hosts = |patterns: &[&str]| {
        let patterns = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        let mut repository = server.repository("/repo");
        let hosts = AllowedHosts { patterns, written_in: written_in.clone() };
        repository.access.hosts = Some(Arc::new(hosts));
        repository
    };
    let elsewhere = format!("http://{}/a.tgz", other.host);

    let error = hosts(&["charts.example"]).download(&entry(&[&elsewhere], None)).await.unwrap_err();
    assert_eq!(error.class(), Class::AccessDenied);
    let text = error.to_string();
    assert!(text.contains(&other.host) && text.contains(&written_in), "{text}");
    assert!(other.seen().is_empty(), "it was not asked");

    // The repository's own host, and a host that is listed.
    for (repository, url) in [(hosts(&[]), "a.tgz"), (hosts(&["127.0.0.1:*"]), &*elsewhere)] {
        assert_eq!(bytes(&repository, &entry(&[url], None)).await.unwrap(), "archive");
    }
    assert_eq!((server.seen().len(), other.seen().len()), (1, 1));
}
