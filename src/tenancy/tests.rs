use super::*;

const FILE: &str = "
tenants:
  - namespaces: [team-a, 'team-a-*']
    repositories: ['team-a/*']
    sources: [docker.io, '*.example.com', 'registry.example.org:5000']
    roles: ['arn:aws:iam::999999999999:role/team-a-*']
    ecrSources: ['123456789012.dkr.ecr.eu-west-1.amazonaws.com/shared/*']
  - namespaces: ['team-*']
    repositories: ['*']
    sources: ['*']
    accounts: ['123456789012', '2*']
    regions: ['eu-*']
    registryConfig: true
";

fn tenancy(unlisted: Unlisted) -> (tempfile::TempDir, Tenancy) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tenants.yaml");
    std::fs::write(&path, FILE).expect("written");
    let tenancy = Tenancy::load(Some(&path), unlisted).expect("a table");
    (folder, tenancy)
}

fn request(repository: &str) -> Request<'_> {
    Request {
        repository,
        account: Some("123456789012".to_owned()),
        own_account: Some("123456789012".to_owned()),
        region: Some("eu-west-1".to_owned()),
        own_region: Some("eu-west-1".to_owned()),
        roles: Vec::new(),
        sources: vec!["docker.io".to_owned()],
    }
}

#[tokio::test]
async fn each_thing_that_is_not_allowed_is_named_with_the_field_that_can_allow_it() {
    let (_folder, tenancy) = tenancy(Unlisted::Deny);
    let role: RoleArn = "arn:aws:iam::999999999999:role/team-a-x".parse().expect("a role");
    let foreign: RoleArn = "arn:aws:iam::999999999999:role/admin".parse().expect("a role");
    let text = |value: &str| Some(value.to_owned());
    let fine = request("team-a/app");
    let a = |change: Request<'static>| ("team-a", change);
    let table = [
        (a(fine.clone()), ""),
        (("team-a-dev", request("team-a/x")), ""),
        (("team-b", request("anything")), ""),
        (("team-b", Request { account: text("234567890123"), ..request("x") }), ""),
        (a(Request { sources: vec!["Charts.Example.com".to_owned()], ..fine.clone() }), ""),
        (a(Request { sources: vec!["registry.example.org:5000".to_owned()], ..fine.clone() }), ""),
        (a(request("other/app")), "repository other/app: allow it in"),
        (a(request("team-a")), "tenants[0].repositories"),
        (a(Request { account: text("210987654321"), ..fine.clone() }), "account 210987654321"),
        (a(Request { account: None, own_account: None, ..fine.clone() }), "account unknown"),
        (a(Request { region: text("us-east-1"), ..fine.clone() }), "region us-east-1"),
        (
            a(Request { sources: vec!["quay.io".to_owned()], ..fine.clone() }),
            "source quay.io: allow it in",
        ),
        (
            a(Request { sources: vec!["example.com".to_owned()], ..fine.clone() }),
            "tenants[0].sources",
        ),
        (
            a(Request { sources: vec!["evil.example.com.evil.org".to_owned()], ..fine.clone() }),
            "tenants[0].sources",
        ),
        (("team-b", Request { region: text("us-east-1"), ..request("x") }), "tenants[1].regions"),
        (
            ("team-b", Request { account: text("345678901234"), ..request("x") }),
            "tenants[1].accounts",
        ),
        (("nobody", request("x")), "namespace nobody may use nothing"),
    ];

    for ((namespace, request), wanted) in table {
        match tenancy.permit(namespace, &request) {
            Ok(_) => assert_eq!(wanted, "", "{namespace} {request:?}"),
            Err(failure) => {
                assert_eq!(failure.class, Class::AccessDenied);
                assert!(
                    !wanted.is_empty() && failure.message.contains(wanted),
                    "{wanted}: {failure}"
                );
                assert!(failure.message.contains("tenants.yaml"), "{failure}");
            }
        }
    }

    // An allowed role allows its account too; another one is named.
    let by = |role| Request {
        roles: vec![role],
        account: text("999999999999"),
        ..request("team-a/app")
    };

    assert!(tenancy.permit("team-a", &by(&role)).is_ok());
    let refused = tenancy.permit("team-a", &by(&foreign)).expect_err("not listed").message;
    assert!(
        refused.contains("role arn:aws:iam::999999999999:role/admin") && refused.contains(".roles"),
        "{refused}"
    );
    assert!(
        tenancy.permit("team-b", &by(&role)).is_err(),
        "roles that are not listed are not allowed"
    );
}

#[tokio::test]
async fn a_namespace_that_is_not_listed_may_use_everything_or_nothing() {
    let (_folder, open) = tenancy(Unlisted::Allow);
    assert!(
        open.admits("team-a", "team-a/app")
            && open.admits("team-b", "x")
            && open.admits("nobody", "x")
    );
    assert!(!open.admits("team-a", "x"), "it cannot claim a repository that it may not use");
    assert_eq!(open.permit("nobody", &request("x")).expect("everything"), Permit::everything());
    assert!(open.permit("team-a", &request("x")).is_err());

    let none = Tenancy::load(None, Unlisted::Allow).expect("no file");
    assert!(none.permit("nobody", &request("x")).is_ok() && !none.restricts("nobody"));
    let closed = Tenancy::load(None, Unlisted::Deny).expect("no file");
    let refused = closed.permit("nobody", &request("x")).expect_err("closed").message;
    assert!(refused.contains("--tenants-default deny"), "{refused}");
}

#[tokio::test]
async fn private_ecr_is_read_with_the_operators_identity_only_where_listed() {
    let (_folder, tenancy) = tenancy(Unlisted::Allow);
    let reads = |namespace: &str, name: &str| {
        let permit = tenancy.permit(namespace, &request("team-a/app")).expect("allowed");
        permit.reads_ecr(&name.parse().expect("a reference"))
    };
    let shared = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/shared/app";

    assert!(reads("team-a", shared));
    assert!(!reads("team-a", "123456789012.dkr.ecr.eu-west-1.amazonaws.com/secret/app"));
    assert!(!reads("team-a", "123456789012.dkr.ecr.us-east-1.amazonaws.com/shared/app"));
    assert!(!reads("team-b", shared), "nothing is listed");
    assert!(reads("elsewhere", shared));
    assert!(!reads("elsewhere", "docker.io/library/nginx"));

    let permit = tenancy.permit("team-b", &request("x")).expect("allowed");
    assert!(
        permit.registry_config
            && !tenancy.permit("team-a", &request("team-a/b")).expect("allowed").registry_config
    );
}

#[test]
fn a_file_that_is_wrong_is_refused() {
    for (text, part) in [
        ("", ""),
        ("tenants: [{namespaces: [a], repositories: [a]}]", "sources"),
        (
            "tenants: [{namespaces: [], repositories: [a], sources: [b]}]",
            "tenants[0].namespaces is empty",
        ),
        ("tenants: [{namespaces: [a], repositories: [''], sources: [b]}]", "empty pattern"),
        (
            "tenants: [{namespaces: [a], repositories: [a], sources: [b], repository: c}]",
            "repository",
        ),
        ("tenant: []", "tenant"),
    ] {
        let error = Tenants::parse(text).expect_err(text);
        assert!(error.contains(part), "{text}: {error}");
    }
}
