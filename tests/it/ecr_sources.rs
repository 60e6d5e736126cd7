//! ECR as a source, public and private, read with an AWS identity. The host names are those of AWS;
//! they lead to the stand-in, with TLS.

use serde_json::{Value, json};
use testbed::ecr::{self, StandIn};

use crate::support::aws_hosts::{AwsHosts, borrowed};
use crate::support::desk::{Desk, output};
use crate::support::{ACCOUNT, Operator, REGION, Rig, Sources, condition};

const PUBLIC: &str = "public.ecr.aws/docker/library/demo";
const LOGIN: &str = "PublicGetAuthorizationToken";

/// A stand-in that serves its blobs itself: a redirect would lead to this machine, which a source
/// with another name may not do.
async fn stand_in() -> StandIn {
    StandIn::start(ecr::Config { redirect_blobs: false, ..ecr::Config::default() })
        .await
        .expect("the stand-in starts")
}

fn image(place: &str) -> Value {
    json!({"image": {"pullUrl": place, "tags": ["1.27"]}})
}

/// Starts the operator of a rig, which reaches these hosts.
async fn operator(rig: &Rig, hosts: &AwsHosts, flags: &[&str]) -> Operator {
    rig.operator_with(flags, &borrowed(&hosts.environment())).await
}

/// Puts the image into public.ecr.aws, and returns its reference.
async fn publish(desk: &Desk) -> String {
    let run = desk.sync(&desk.entry("seed", "library/demo", &["1.27"]), &[]).await;
    assert!(run.is_success(), "{}", run.text);
    assert!(desk.ecr.publish(ACCOUNT, REGION, "seed", "docker/library/demo"));
    desk.ecr.public_registry().await
}

/// Logins that the token server of public.ecr.aws received, and whether there were anonymous
/// requests.
fn tokens(ecr: &StandIn) -> (usize, usize) {
    let tokens: Vec<_> =
        ecr.log().into_iter().filter(|record| record.operation == "Token").collect();
    let with = tokens.iter().filter(|record| record.headers.contains_key("authorization")).count();
    (with, tokens.len() - with)
}

/// Syncs one image of public.ecr.aws from the command line.
async fn sync(desk: &Desk, hosts: &AwsHosts, name: &str, flags: &[&str]) -> String {
    desk.write(
        "all.yaml",
        &format!("- {{name: {name}, image: {{pull_url: \"{PUBLIC}\", tags: ['1.27']}}}}\n"),
    );
    let mut command = desk.command(&[&["sync", "all.yaml"], flags].concat());
    command.envs(hosts.environment());
    let output = output(command).await;
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "{text}");
    assert_eq!(
        desk.repository(name).tags["1.27"],
        Sources::shared().await.seeded.digest("library/demo", "1.27")
    );
    text
}

#[tokio::test]
async fn public_ecr_is_read_by_anybody_and_with_a_login_where_that_is_wanted() {
    let mut desk = Desk::before(Sources::shared().await.open.host()).await;
    desk.ecr = stand_in().await;
    let hosts = AwsHosts::start(desk.folder.path(), "public.ecr.aws", &publish(&desk).await);

    sync(&desk, &hosts, "anybody", &[]).await;
    assert_eq!(desk.ecr.count(|record| record.operation == LOGIN), 0);
    assert_eq!(tokens(&desk.ecr), (0, 1));

    let text = sync(&desk, &hosts, "somebody", &["--public-ecr-login"]).await;
    assert!(!text.contains("without a login"), "{text}");
    let regions: Vec<_> =
        desk.ecr.log().into_iter().filter(|r| r.operation == LOGIN).map(|r| r.region).collect();
    assert_eq!(regions, ["us-east-1"], "once, and not in the region of the target");
    assert_eq!(tokens(&desk.ecr), (1, 1));
}

#[tokio::test]
async fn public_ecr_is_read_without_a_login_where_the_right_is_missing() {
    let mut desk = Desk::before(Sources::shared().await.open.host()).await;
    desk.ecr = stand_in().await;
    let hosts = AwsHosts::start(desk.folder.path(), "public.ecr.aws", &publish(&desk).await);
    let manifest = format!(
        "apiVersion: ecr-sync.io/v1alpha1\nkind: EcrRepositorySync\nmetadata: {{name: app}}\n\
         spec: {{image: {{pullUrl: '{PUBLIC}:1.27'}}}}\n"
    );
    desk.write("app.yaml", &manifest);
    let arguments =
        ["iam-policy", "app.yaml", "--one-shot", "--account-id", ACCOUNT, "--region", REGION];
    let printed = output(desk.command(&[&arguments[..], &["--public-ecr-login"]].concat())).await;
    let policy: Value = serde_json::from_slice(&printed.stdout).expect("JSON");
    let text = policy.to_string().replace("repository/app", "repository/*");
    desk.ecr.put_user_policy(ACCOUNT, serde_json::from_str(&text).expect("JSON"));
    let told = sync(&desk, &hosts, "enough", &["--public-ecr-login"]).await;
    assert!(!told.contains("without a login"), "{told}");
    assert_eq!(tokens(&desk.ecr), (1, 0));

    for action in ["ecr-public:GetAuthorizationToken", "sts:GetServiceBearerToken"] {
        let less = text.replace(action, "ecr:Nothing");
        assert_ne!(less, text, "{action} is in the printed policy");
        desk.ecr.put_user_policy(ACCOUNT, serde_json::from_str(&less).expect("JSON"));
        let mark = desk.ecr.mark();
        let told = sync(
            &desk,
            &hosts,
            action.split(':').next().expect("a service"),
            &["--public-ecr-login"],
        )
        .await;
        for part in
            ["no login to public.ecr.aws, pulling anonymously", "not authorized to perform", action]
        {
            assert!(told.contains(part), "{part}: {told}");
        }
        let log = desk.ecr.log_since(mark);
        let asked: Vec<_> = log.iter().filter(|record| record.operation == LOGIN).collect();
        assert_eq!(asked.len(), 1, "a refusal is asked for once");
        let mut tokens = log.iter().filter(|record| record.operation == "Token");
        assert!(tokens.all(|record| !record.headers.contains_key("authorization")));
    }
    // Without the flag, the permission is not used.
    let printed = output(desk.command(&arguments)).await;
    assert!(!String::from_utf8_lossy(&printed.stdout).contains("ecr-public"));
}

#[tokio::test]
async fn a_tenant_logs_in_to_public_ecr_only_where_it_is_listed() {
    let mut rig = Rig::new("public-ecr").await;
    let mut desk = Desk::before(rig.sources.open.host()).await;
    desk.ecr = stand_in().await;
    let hosts = AwsHosts::start(desk.folder.path(), "public.ecr.aws", &publish(&desk).await);
    rig.ecr = std::mem::replace(&mut desk.ecr, stand_in().await);
    let table = rig.folder().join("tenants.yaml");
    let write = |listed: &str| {
        let text = format!(
            "tenants:\n- {{namespaces: [{}], repositories: ['*'], sources: ['*'], ecrSources: \
             [{listed}]}}\n",
            rig.namespace
        );
        std::fs::write(&table, text).expect("written");
    };
    write("'public.ecr.aws/other/*'");
    let table = table.to_string_lossy();
    let flags = ["--tenants", &table, "--public-ecr-login"];
    let running = operator(&rig, &hosts, &flags).await;
    rig.apply("anybody", image(PUBLIC)).await;
    rig.wait_synced("anybody").await;
    assert_eq!(tokens(&rig.ecr), (0, 1));
    drop(running);

    write("'public.ecr.aws/docker/*'");
    let _running = operator(&rig, &hosts, &flags).await;
    rig.apply("somebody", image(PUBLIC)).await;
    rig.wait_synced("somebody").await;
    assert!(tokens(&rig.ecr).0 > 0);
}

const THEIRS: &str = "210987654321";
const FAR: &str = "us-west-2";

/// A rig with a registry of another account and region that has these tags, and the reference of
/// `base/app` in it, with the AWS host name.
async fn far(name: &str, tags: &[&str]) -> (Rig, AwsHosts, String) {
    source(name, (THEIRS, FAR), tags).await
}

/// The same with the registry of this account and region.
async fn source(
    name: &str,
    (account, region): (&str, &str),
    tags: &[&str],
) -> (Rig, AwsHosts, String) {
    let mut rig = Rig::new(name).await;
    rig.ecr = stand_in().await;
    let host = format!("{account}.dkr.ecr.{region}.amazonaws.com");
    let registry = rig.ecr.registry(account, region).await;
    let hosts = AwsHosts::start(rig.folder(), &host, &registry);
    rig.ecr.create_repository(account, region, "base/app", Default::default());
    let token = rig.ecr.authorization_token(account, region);
    let config = json!({"auths": {registry.as_str(): {"auth": token}}});
    let home = rig.folder().join("docker");
    std::fs::create_dir(&home).expect("a folder");
    std::fs::write(home.join("config.json"), config.to_string()).expect("a file");
    let home = home.to_string_lossy();
    for tag in tags {
        let from = format!("{}/library/demo:{tag}", rig.sources.open.host());
        let to = format!("{registry}/base/app:{tag}");
        let environment = [("DOCKER_CONFIG", &*home)];
        testbed::tools::run("crane", &["copy", "--insecure", &from, &to], &environment)
            .await
            .expect("crane copies");
    }
    (rig, hosts, format!("{host}/base/app"))
}

/// Lets the owner allow these actions on it.
fn allow(rig: &Rig, actions: &[&str]) {
    let statement = json!({"Sid": "Pull", "Effect": "Allow",
        "Principal": {"AWS": format!("arn:aws:iam::{ACCOUNT}:root")},
                           "Action": actions});
    let policy = json!({"Version": "2012-10-17", "Statement": [statement]});
    assert!(rig.ecr.set_policy(THEIRS, FAR, "base/app", Some(&policy)));
}

const PULL: [&str; 2] = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"];

#[tokio::test]
async fn a_private_registry_of_another_account_and_region_is_read_where_its_policy_allows_it() {
    let (rig, hosts, place) = far("private-ecr", &["1.27"]).await;
    let _operator = operator(&rig, &hosts, &[]).await;
    rig.apply("app", image(&place)).await;
    let object = rig.wait_ready("app", "False", "AccessDenied").await;
    let text = condition(&object, "Ready").expect("set").2;
    assert!(text.contains(&format!("arn:aws:ecr:{FAR}:{THEIRS}:repository/base/app")), "{text}");

    allow(&rig, &PULL);
    rig.request("app", "1").await;
    rig.wait_synced("app").await;
    assert_eq!(
        rig.repository("app").tags["1.27"],
        rig.sources.seeded.digest("library/demo", "1.27")
    );
    let regions = |operation: &str| -> std::collections::BTreeSet<String> {
        rig.ecr
            .log()
            .into_iter()
            .filter(|record| record.operation == operation)
            .map(|record| record.region)
            .collect()
    };
    assert_eq!(regions("GetAuthorizationToken"), [FAR, REGION].map(str::to_owned).into());
}

#[tokio::test]
async fn tags_of_a_source_in_ecr_are_checked_in_one_request_where_its_policy_allows_that() {
    let (rig, hosts, place) = far("ecr-batches", &["1.26", "1.27"]).await;
    allow(&rig, &PULL);
    let _operator = operator(&rig, &hosts, &[]).await;
    let mut spec = image(&place);
    spec["image"]["tags"] = json!(["1.26", "1.27"]);
    rig.apply("app", spec).await;
    rig.wait_synced("app").await;
    // Requests to the source in a pass without changes.
    let asked = async |request: &str| {
        let mark = rig.ecr.mark();
        rig.request("app", request).await;
        rig.wait_synced("app").await;
        let log = rig.ecr.log_since(mark).into_iter().filter(|record| record.region == FAR);
        // Asked once and refused: rules of another account are not visible.
        let log = log.filter(|record| record.operation != "DescribePullThroughCacheRules");
        let mut asked: Vec<_> =
            log.map(|record| (record.operation, record.status.unwrap_or_default())).collect();
        asked.sort();
        asked
    };
    let of = |operation: &str, status: u16| (operation.to_owned(), status);
    // Refused, so the tags are checked one by one. One is an index; its children are not read,
    // because that would be a pull.
    let heads = [of("HeadManifest", 200), of("HeadManifest", 200)];
    assert_eq!(asked("1").await, [&[of("DescribeImages", 400)], &heads[..]].concat());

    allow(&rig, &[&PULL[..], &["ecr:DescribeImages"]].concat());
    assert_eq!(asked("2").await, [of("DescribeImages", 200)]);

    // A tag that the source has lost does not affect the others, and is checked by name.
    assert!(rig.ecr.delete_tag(THEIRS, FAR, "base/app", "1.26"));
    allow(&rig, &[&PULL[..], &["ecr:DescribeImages", "ecr:ListImages"]].concat());
    rig.request("app", "3").await;
    let object = rig.wait_ready("app", "True", "Succeeded").await;
    let (status, reason, message) = condition(&object, "ImageSynced").expect("set");
    assert_eq!((status, reason), ("Unknown", "SourceNotFound"), "{message}");
    assert!(message.contains("1.26") && !message.contains("1.27"), "{message}");
}

#[tokio::test]
async fn a_repository_that_is_its_own_source_is_not_pruned() {
    let (rig, hosts, place) = source("ecr-itself", (ACCOUNT, REGION), &["1.26", "1.27"]).await;
    let _operator = operator(&rig, &hosts, &[]).await;
    let mut spec = image(&place);
    spec["repositoryName"] = json!("base/app");
    spec["image"]["tags"] = json!(["1.27"]);
    spec["prune"] = json!({"enabled": true, "maxPercent": 100, "minUnpulled": "0s"});
    rig.apply("app", spec).await;
    rig.wait_synced("app").await;
    let object = rig.force("app", "1").await;
    let (status, reason, message) = condition(&object, "ConfigurationSynced").expect("set");
    assert_eq!((status, reason), ("False", "PruneBlocked"), "{message}");
    assert!(message.ends_with("/base/app is the repository itself"), "{message}");
    assert_eq!(rig.repository("base/app").tags.len(), 2);
}

#[tokio::test]
async fn candidates_are_checked_at_a_source_in_ecr_with_one_request() {
    let (rig, hosts, place) = far("ecr-prune", &["1.26", "1.27", "latest"]).await;
    allow(&rig, &[&PULL[..], &["ecr:DescribeImages", "ecr:ListImages"]].concat());
    let _operator = operator(&rig, &hosts, &[]).await;
    let mut spec = image(&place);
    spec["image"]["tags"] = json!(["1.26", "1.27", "latest"]);
    rig.apply("app", spec.clone()).await;
    rig.wait_synced("app").await;
    spec["image"]["tags"] = json!(["latest"]);
    spec["prune"] = json!({"enabled": true, "maxPercent": 100, "minUnpulled": "0s"});
    rig.apply("app", spec).await;
    rig.wait_synced("app").await;
    let mark = rig.ecr.mark();
    rig.force("app", "1").await;
    assert_eq!(rig.repository("app").tags.into_keys().collect::<Vec<_>>(), ["latest"]);
    let log = rig.ecr.log_since(mark).into_iter().filter(|record| record.region == FAR);
    let log = log.filter(|record| record.operation != "DescribePullThroughCacheRules");
    let mut asked: Vec<_> = log.map(|record| record.operation).collect();
    asked.sort();
    // Only one tag is wanted, and it is checked with HEAD.
    assert_eq!(asked, ["DescribeImages", "HeadManifest", "ListTags"]);
}

/// ECR updates such an image only on a pull, not on a call of its API.
#[tokio::test]
async fn tags_below_a_pull_through_cache_rule_are_checked_one_by_one() {
    let (rig, hosts, place) = source("ecr-cached", (ACCOUNT, REGION), &["1.26", "1.27"]).await;
    rig.ecr.add_pull_through_rule(ACCOUNT, REGION, "base");
    let _operator = operator(&rig, &hosts, &[]).await;
    let mut spec = image(&place);
    spec["image"]["tags"] = json!(["1.26", "1.27"]);
    rig.apply("app", spec).await;
    rig.wait_synced("app").await;
    let mark = rig.ecr.mark();
    rig.request("app", "1").await;
    let log = rig.ecr.log_since(mark).into_iter().filter(|record| record.repository == "base/app");
    let asked: Vec<_> = log.map(|record| record.operation).collect();
    assert_eq!(asked, ["HeadManifest", "HeadManifest"]);
}
