//! The Helm chart: its output is valid, minimal and restricted, and its values match schema and
//! README.

mod readme;
mod schemas;

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::{Value, json};
use testbed::cluster::Cluster;
use testbed::tools::{Call, workspace};

/// Without this, helm built from source assumes Kubernetes 1.20.
const KUBE_VERSION: &str = "1.34.0";
/// Objects of the Prometheus operator, which the API server does not know. promtool checks the
/// rules in them.
const FOREIGN: &str = "ServiceMonitor,PodMonitor,PrometheusRule";

pub(crate) fn chart() -> PathBuf {
    workspace().join("charts/ecr-sync")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(workspace().join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Runs `helm template` in the namespace that the documents use; the error is the output of helm.
async fn try_template(arguments: &[&str]) -> Result<String, String> {
    let chart = chart().display().to_string();
    let call = Call::new("helm").expect("make tools");
    let call = call.args([
        "template",
        "ecr-sync",
        &chart,
        "--namespace",
        "ecr-sync-system",
        "--kube-version",
        KUBE_VERSION,
    ]);
    call.args(arguments).output().await.map_err(|error| error.to_string())
}

async fn template(arguments: &[&str]) -> String {
    try_template(arguments)
        .await
        .unwrap_or_else(|error| panic!("helm template {arguments:?}: {error}"))
}

/// The objects of a stream of YAML documents.
pub(crate) fn objects(yaml: &str) -> Vec<Value> {
    let documents = yaml.split("\n---").map(|document| document.trim_start_matches("---"));
    let values = documents.map(|document| serde_saphyr::from_str::<Value>(document).expect("YAML"));
    values.filter(Value::is_object).collect()
}

pub(crate) fn object<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found =
        objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}"))
}

/// The values files with the relevant combinations.
fn combinations() -> Vec<String> {
    let entries = std::fs::read_dir(chart().join("ci")).expect("a folder");
    let mut files: Vec<_> =
        entries.map(|entry| entry.expect("an entry").path().display().to_string()).collect();
    files.sort();
    assert!(files.len() >= 5, "{files:?}");
    files
}

#[test]
fn the_chart_carries_crd_alerts_and_dashboard_as_they_are() {
    let of_the_code = ecr_sync::api::v1alpha1::crd_yaml().expect("the CRD serialises");
    assert_eq!(read("charts/ecr-sync/files/crd.yaml"), of_the_code, "run make crds");
    for file in ["alerts.yaml", "dashboard.json"] {
        let (copy, original) =
            (format!("charts/ecr-sync/files/{file}"), format!("deploy/monitoring/{file}"));
        assert_eq!(read(&copy), read(&original), "run make crds");
    }
    assert!(of_the_code.len() < 200_000, "{} bytes", of_the_code.len());
}

#[test]
fn versions_of_crate_chart_image_and_crd_agree() {
    let chart: Value = serde_saphyr::from_str(&read("charts/ecr-sync/Chart.yaml")).expect("YAML");
    let crate_version = env!("CARGO_PKG_VERSION");
    assert_eq!(chart["version"], crate_version);
    assert_eq!(chart["appVersion"], crate_version);
    let installed = objects(&read("deploy/base/install.yaml"));
    let image =
        object(&installed, "Deployment", "ecr-sync")["spec"]["template"]["spec"]["containers"][0]["image"].clone();
    assert!(
        image.as_str().is_some_and(|image| image.ends_with(&format!(":{crate_version}"))),
        "{image}"
    );
    let crd = object(&installed, "CustomResourceDefinition", "ecrrepositorysyncs.ecr-sync.io");
    assert_eq!(crd["metadata"]["labels"]["app.kubernetes.io/version"], crate_version);
}

#[tokio::test]
async fn helm_lint_finds_nothing() {
    let chart = chart().display().to_string();
    let mut sets: Vec<Option<String>> = combinations().into_iter().map(Some).collect();
    sets.push(None);
    for values in &sets {
        let call = Call::new("helm").expect("make tools").args([
            "lint",
            "--strict",
            "--kube-version",
            KUBE_VERSION,
            &chart,
        ]);
        let call = if let Some(values) = values { call.args(["--values", values]) } else { call };
        call.output().await.unwrap_or_else(|error| panic!("{values:?}: {error}"));
    }
}

#[tokio::test]
async fn every_combination_of_values_renders_valid_kubernetes() {
    let schemas = schemas::of(Cluster::shared().await).await;
    let location =
        format!("{}/{{{{ .ResourceKind }}}}{{{{ .KindSuffix }}}}.json", schemas.path().display());
    let kubeconform = async |yaml: &str| {
        let call = Call::new("kubeconform").expect("make tools");
        let call = call.args(["-strict", "-schema-location", &location, "-skip", FOREIGN]);
        call.input(yaml).output().await.map_err(|error| error.to_string())
    };
    let mut rendered = vec![template(&[]).await];
    for values in combinations() {
        rendered.push(template(&["--values", &values]).await);
    }
    for yaml in &rendered {
        kubeconform(yaml).await.unwrap_or_else(|error| panic!("{error}\n{yaml}"));
    }
    // The check finds an error.
    let wrong = rendered[0].replace("terminationGracePeriodSeconds", "terminationGracePeriods");
    assert!(kubeconform(&wrong).await.is_err());
    let wrong = rendered[0].replace("replicas: 1", "replicas: one");
    assert!(kubeconform(&wrong).await.is_err());
}

#[tokio::test]
async fn the_program_knows_every_flag_that_the_chart_renders() {
    for values in combinations() {
        let objects = objects(&template(&["--values", &values]).await);
        let deployment =
            objects.iter().find(|object| object["kind"] == "Deployment").expect("a Deployment");
        let arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
            .as_array()
            .expect("arguments");
        // clap reads the arguments in order: an unknown one is an error before --help is printed.
        let arguments =
            arguments.iter().map(|argument| argument.as_str().expect("a string")).chain(["--help"]);
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_ecr-sync"))
            .args(arguments)
            .output()
            .expect("it runs");
        assert!(output.status.success(), "{values}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[tokio::test]
async fn the_charts_own_unit_tests_pass() {
    let call = Call::new("helm-unittest")
        .expect("make tools")
        .args(["--strict", &chart().display().to_string()]);
    let said = call.output().await.unwrap_or_else(|error| panic!("{error}"));
    assert!(said.contains("Tests:") && !said.contains("Tests:       0 passed"), "{said}");
}

#[test]
fn every_template_has_unit_tests() {
    let names = |folder: &str| -> BTreeSet<String> {
        let entries = std::fs::read_dir(chart().join(folder)).expect("a folder");
        entries
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect()
    };
    let suites: String = names("tests")
        .iter()
        .filter(|name| name.ends_with("_test.yaml"))
        .map(|suite| read(&format!("charts/ecr-sync/tests/{suite}")))
        .collect::<Vec<_>>()
        .concat();
    // Partials render nothing on their own.
    for template in names("templates").iter().filter(|template| !template.starts_with('_')) {
        assert!(
            suites.contains(&format!("\ntemplates: [{template}]\n")),
            "no suite is for {template}"
        );
    }
}

#[test]
fn every_value_is_read_by_a_template() {
    fn leaves(values: &Value, path: &str, found: &mut Vec<String>) {
        for (key, value) in values.as_object().into_iter().flatten() {
            let path = format!("{path}.{key}");
            match value.as_object() {
                Some(map) if !map.is_empty() => leaves(value, &path, found),
                _ => found.push(path),
            }
        }
    }
    let entries = std::fs::read_dir(chart().join("templates")).expect("a folder");
    let templates: String = entries
        .map(|entry| std::fs::read_to_string(entry.expect("an entry").path()).expect("a template"))
        .collect::<Vec<_>>()
        .concat();
    let mut values = Vec::new();
    leaves(
        &serde_saphyr::from_str(&read("charts/ecr-sync/values.yaml")).expect("YAML"),
        "",
        &mut values,
    );
    assert!(values.len() > 60, "{values:?}");
    for path in values {
        // Read directly, or as a part of its parent.
        let mut parts = path.rsplit('.').filter(|part| !part.is_empty());
        let key = parts.next().unwrap_or_default();
        let is_read = templates.contains(&format!(".{key}"))
            || parts.any(|parent| templates.contains(&format!(".{parent} }}}}")));
        assert!(is_read, "{path} is read by no template");
    }
}

#[test]
fn every_flag_of_the_controller_has_a_value() {
    let page = read("docs/cli.md");
    let section =
        page.split("## ecr-sync controller\n").nth(1).and_then(|rest| rest.split("\n## ").next());
    let flags = section.expect("a section").lines().filter_map(|line| {
        let flag = line.split_once("`--")?.1.split(['`', ' ', '[']).next()?;
        line.starts_with("| `").then_some(flag)
    });
    let helpers = read("charts/ecr-sync/templates/_helpers.tpl");
    // The first includes the log level; the second is the namespace of the pod.
    let not_needed = ["verbose", "leader-election-namespace"];
    let mut seen = 0;
    for flag in flags.filter(|flag| !not_needed.contains(flag)) {
        seen += 1;
        let is_rendered =
            helpers.contains(&format!("--{flag}=")) || helpers.contains(&format!("\"{flag}\""));
        assert!(is_rendered, "--{flag} of the controller has no value in the chart");
    }
    assert!(seen > 20, "{seen} flags in docs/cli.md");
}

/// A value that a schema does not allow, and the paths that helm must report.
fn wrong(schema: &Value, path: &str, paths: &mut Vec<String>) -> Value {
    if let Some(properties) = schema["properties"].as_object() {
        let value = properties
            .iter()
            .map(|(key, schema)| (key.clone(), wrong(schema, &format!("{path}/{key}"), paths)));
        return Value::Object(value.collect());
    }
    paths.push(path.to_owned());
    let is_text = schema["type"] == "string"
        && schema.get("pattern").is_none()
        && schema.get("enum").is_none();
    if is_text { json!(1) } else { json!("no such thing!") }
}

#[tokio::test]
async fn every_value_has_a_type_or_a_form_that_is_checked() {
    let mut schema: Value =
        serde_json::from_str(&read("charts/ecr-sync/values.schema.json")).expect("JSON");
    // A value that Helm sets itself.
    schema["properties"].as_object_mut().expect("properties").remove("global");
    let mut paths = Vec::new();
    let values = wrong(&schema, "", &mut paths);
    assert!(paths.len() > 60, "{paths:?}");
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), values.to_string()).expect("written");
    let error = try_template(&["--values", &file.path().display().to_string()])
        .await
        .expect_err("all of it is wrong");
    let silent: Vec<_> =
        paths.iter().filter(|path| !error.contains(&format!("'{path}'"))).collect();
    assert!(silent.is_empty(), "helm takes these values, whatever they are: {silent:?}\n{error}");
}

#[tokio::test]
async fn wrong_values_are_refused_by_name() {
    for (set, named) in [
        ("replica=3", "replica"),
        ("replicas=many", "replicas"),
        ("aws.accountId=1234", "accountId"),
        ("aws.region=Ireland", "region"),
        ("image.digest=latest", "digest"),
        ("controller.logFormat=xml", "logFormat"),
        ("controller.startupSpread=soon", "startupSpread"),
        ("controller.rateReserve=10", "rateReserve"),
        ("aws.layerUploadRate=0", "layerUploadRate"),
        ("tenants.default=maybe", "default"),
        ("watch.namespace=Not_a_name", "namespace"),
        ("crds.enabled=perhaps", "enabled"),
        ("networkPolicy.egressPorts={70000}", "egressPorts"),
    ] {
        let error = try_template(&["--set", set]).await.expect_err(set);
        assert!(error.contains(named), "{set}: {error}");
    }
    let error = try_template(&["--set", "replicas=2,controller.leaderElection=false"])
        .await
        .expect_err("refused");
    assert!(error.contains("controller.leaderElection: true"), "{error}");
}

#[test]
fn the_schema_has_no_key_that_values_lack() {
    fn compare(schema: &Value, values: &Value, path: &str, missing: &mut BTreeSet<String>) {
        for (key, schema) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{key}");
            match values.get(key) {
                // Items of lists have properties, too, but no values.
                Some(value) if value.is_object() => compare(schema, value, &path, missing),
                Some(_) => {}
                None => {
                    missing.insert(path);
                }
            }
        }
    }
    let schema: Value =
        serde_json::from_str(&read("charts/ecr-sync/values.schema.json")).expect("JSON");
    let values: Value = serde_saphyr::from_str(&read("charts/ecr-sync/values.yaml")).expect("YAML");
    let mut missing = BTreeSet::new();
    compare(&schema, &values, "", &mut missing);
    missing.remove(".global");
    assert!(missing.is_empty(), "{missing:?}");
}

/// Each permission as `verb group/resource`, with its resource names.
pub(crate) fn rights(role: &Value) -> BTreeSet<String> {
    let strings = |value: &Value| -> Vec<String> {
        value
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|v| v.as_str().map(str::to_owned))
            .collect()
    };
    let mut rights = BTreeSet::new();
    for rule in role["rules"].as_array().into_iter().flatten() {
        for group in strings(&rule["apiGroups"]) {
            for resource in strings(&rule["resources"]) {
                for verb in strings(&rule["verbs"]) {
                    let names = strings(&rule["resourceNames"]).join(",");
                    rights
                        .insert(format!("{verb} {group}/{resource} {names}").trim_end().to_owned());
                }
            }
        }
    }
    rights
}

#[tokio::test]
async fn the_chart_grants_what_deploy_rbac_grants() {
    let (chart, plain) = (objects(&template(&[]).await), objects(&read("deploy/rbac.yaml")));
    let (ours, theirs) =
        (object(&chart, "ClusterRole", "ecr-sync"), object(&plain, "ClusterRole", "ecr-sync"));
    assert_eq!(rights(ours), rights(theirs));
    let (ours, theirs) =
        (object(&chart, "Role", "ecr-sync-leader"), object(&plain, "Role", "ecr-sync"));
    assert_eq!(rights(ours), rights(theirs));
}

#[tokio::test]
async fn the_plain_manifests_equal_the_rendered_chart() {
    // `make crds` removes only the labels of Helm.
    let helms = |line: &&str| {
        !(line.starts_with("# Source")
            || line.contains("helm.sh/chart:")
            || line.contains("managed-by: Helm"))
    };
    let rendered = template(&["--set", "crds.keep=false"]).await;
    let rendered = rendered.lines().filter(helms).collect::<Vec<_>>();
    let written = read("deploy/base/install.yaml");
    let namespace = read("deploy/base/namespace.yaml");
    let written =
        written.lines().filter(|line| !line.starts_with("# Generated by")).collect::<Vec<_>>();
    assert_eq!(written, [namespace.lines().collect(), rendered].concat(), "run make crds");
}

#[tokio::test]
async fn the_default_pod_is_admitted_where_security_is_restricted() {
    let cluster = Cluster::shared().await;
    cluster.create_namespace("restricted").await.expect("a namespace");
    let label =
        ["label", "namespace", "restricted", "pod-security.kubernetes.io/enforce=restricted"];
    cluster.kubectl(&label).await.expect("labelled");
    let create = async |arguments: &[&str]| {
        let objects = objects(&template(arguments).await);
        let template = &object(&objects, "Deployment", "ecr-sync")["spec"]["template"];
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "ecr-sync", "namespace": "restricted",
                "labels": template["metadata"]["labels"]},
            "spec": template["spec"],
        });
        pod["spec"]["containers"][0]["name"] = json!("ecr-sync");
        let call =
            Call::new("kubectl").expect("make tools").env("KUBECONFIG", cluster.kubeconfig());
        let call =
            call.args(["create", "--dry-run=server", "--filename", "-"]).input(pod.to_string());
        call.output().await.map_err(|error| error.to_string())
    };
    create(&[]).await.expect("admitted");
    let error =
        create(&["--set", "securityContext=null"]).await.expect_err("PodSecurity is at work");
    assert!(error.contains("violates PodSecurity"), "{error}");
}
