//! The API server is a real one: it serves, it authorises, it issues tokens.

use testbed::cluster::Cluster;

#[tokio::test]
async fn kubectl_works_against_it() {
    let cluster = Cluster::shared().await;
    cluster.create_namespace("objects").await.unwrap();
    let map = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: objects}, data: \
               {key: value}}";
    assert_eq!(cluster.apply(map).await.unwrap(), "configmap/a created\n");
    let value = cluster
        .kubectl(&["get", "configmap", "a", "-n", "objects", "-o", "jsonpath={.data.key}"])
        .await
        .unwrap();
    assert_eq!(value, "value");
    let version = cluster.kubectl(&["version"]).await.unwrap();
    assert!(version.contains("Server Version: v1."), "{version}");
    let error = cluster
        .apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: A_B}}")
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("Invalid value"), "{error}");
}

#[tokio::test]
async fn a_service_account_can_do_only_what_it_was_given() {
    let cluster = Cluster::shared().await;
    cluster.create_namespace("rights").await.unwrap();
    let kubeconfig = cluster.service_account_kubeconfig("rights", "robot").await.unwrap();
    let who = cluster
        .kubectl_as(&kubeconfig, &["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"])
        .await;
    assert_eq!(who.unwrap(), "system:serviceaccount:rights:robot");
    let refused =
        cluster.kubectl_as(&kubeconfig, &["get", "secrets"]).await.unwrap_err().to_string();
    assert!(refused.contains("Forbidden"), "{refused}");

    let grant = [
        "create",
        "rolebinding",
        "robot",
        "-n",
        "rights",
        "--clusterrole=cluster-admin",
        "--serviceaccount=rights:robot",
    ];
    cluster.kubectl(&grant).await.unwrap();
    // The authorizer sees a new binding through its watch, a moment later.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while let Err(e) = cluster.kubectl_as(&kubeconfig, &["get", "secrets"]).await {
        assert!(std::time::Instant::now() < end, "{e}");
    }
    let elsewhere = cluster
        .kubectl_as(&kubeconfig, &["get", "secrets", "-n", "default"])
        .await
        .unwrap_err()
        .to_string();
    assert!(elsewhere.contains("Forbidden"), "{elsewhere}");
}

#[tokio::test]
async fn it_stops_and_leaves_its_logs() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(folder.path()).await.unwrap();
    assert!(cluster.url().starts_with("https://127.0.0.1:"));
    cluster.stop().await.unwrap();
    assert!(cluster.kubectl(&["get", "namespaces"]).await.is_err());
    for log in ["etcd.log", "kube-apiserver.log"] {
        assert!(folder.path().join(log).exists(), "{log}");
    }
}
