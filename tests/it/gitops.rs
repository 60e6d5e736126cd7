//! Argo CD and Flux read the right health: the scripts and examples in deploy/, run and read in the
//! same way.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ecr_sync::api::v1alpha1::EcrRepositorySync;
use mlua::{Function, Lua, LuaOptions, LuaSerdeExt, SerializeOptions, StdLib, Table};
use serde_json::{Value, json};
use testbed::cluster::Cluster;
use testbed::tools::{Call, workspace};

use crate::chart::{chart, objects};
use crate::support::{Kstatus, kstatus};

fn customization() -> PathBuf {
    workspace().join("deploy/argocd/resource_customizations/ecr-sync.io/EcrRepositorySync")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn yaml(path: &Path) -> Value {
    serde_saphyr::from_str(&read(path))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).expect("a list")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

/// Runs a script as Argo CD does: Lua 5.1, the object as `obj`, and only the libraries that Argo CD
/// provides (argo-cd, util/lua/lua.go): base, table and a clock. No string, math or io.
fn run(script: &Path, object: &Value) -> Value {
    let lua = Lua::new_with(StdLib::TABLE, LuaOptions::default()).expect("a Lua engine");
    let options = SerializeOptions::new().set_array_metatable(false).serialize_none_to_null(false);
    let globals = lua.globals();
    globals.set("obj", lua.to_value_with(object, options).expect("a value")).expect("set");
    let os: Table = lua.create_table().expect("a table");
    // Argo CD's own tests use this time.
    let date: Function =
        lua.create_function(|_, _: String| Ok("0001-01-01T00:00:00")).expect("a function");
    os.set("date", date).expect("set");
    globals.set("os", os).expect("set");
    for library in ["string", "math", "io"] {
        assert!(!globals.contains_key(library).expect("globals"), "{library}");
    }
    let result = lua
        .load(read(script))
        .eval()
        .unwrap_or_else(|error| panic!("{}: {error}", script.display()));
    lua.from_value(result).expect("JSON")
}

/// All permutations of a short list.
fn orders(items: &[Value]) -> Vec<Vec<Value>> {
    let Some((first, rest)) = items.split_first() else { return vec![Vec::new()] };
    let mut all = Vec::new();
    for order in orders(rest) {
        for place in 0..=order.len() {
            let mut order = order.clone();
            order.insert(place, first.clone());
            all.push(order);
        }
    }
    all
}

#[test]
fn argo_cd_sees_the_same_health_in_any_order_of_conditions_and_kstatus_agrees() {
    let tests = yaml(&customization().join("health_test.yaml"));
    let mut seen = BTreeMap::<&str, usize>::new();
    for test in list(&tests["tests"]) {
        let path = customization().join(text(&test["inputPath"]));
        let mut object = yaml(&path);
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        for order in orders(&conditions) {
            if !order.is_empty() {
                object["status"]["conditions"] = order.into();
            }
            let health = run(&customization().join("health.lua"), &object);
            assert_eq!(health, test["healthStatus"], "{}", path.display());
        }
        let resource: EcrRepositorySync =
            serde_json::from_value(object).expect("an EcrRepositorySync");
        let wanted = match (text(&test["healthStatus"]["status"]), kstatus(&resource)) {
            // kstatus has no suspended state: it reports the state from before.
            ("Suspended", any) => any,
            ("Healthy", _) => Kstatus::Current,
            ("Degraded", _) => Kstatus::Failed,
            _ => Kstatus::InProgress,
        };
        assert_eq!(kstatus(&resource), wanted, "{}", path.display());
        *seen.entry(text(&test["healthStatus"]["status"])).or_default() += 1;
    }
    assert_eq!(
        seen.keys().copied().collect::<Vec<_>>(),
        ["Degraded", "Healthy", "Progressing", "Suspended"]
    );
}

#[test]
fn argo_cd_offers_and_runs_the_actions_that_make_sense() {
    let folder = customization().join("actions");
    let tests = yaml(&folder.join("action_test.yaml"));
    for test in list(&tests["discoveryTests"]) {
        let offered =
            run(&folder.join("discovery.lua"), &yaml(&folder.join(text(&test["inputPath"]))));
        let wanted: serde_json::Map<_, _> = list(&test["result"])
            .iter()
            .map(|action| {
                (text(&action["name"]).to_owned(), json!({"disabled": action["disabled"]}))
            })
            .collect();
        assert_eq!(offered, Value::from(wanted), "{}", test["inputPath"]);
    }
    for test in list(&tests["actionTests"]) {
        let action = folder.join(text(&test["action"])).join("action.lua");
        let after = run(&action, &yaml(&folder.join(text(&test["inputPath"]))));
        assert_eq!(
            after,
            yaml(&folder.join(text(&test["expectedOutputPath"]))),
            "{}",
            test["action"]
        );
    }
}

#[test]
fn the_config_map_for_argo_cd_has_the_same_scripts() {
    let map = yaml(&workspace().join("deploy/argocd/argocd-cm.yaml"));
    let health = text(&map["data"]["resource.customizations.health.ecr-sync.io_EcrRepositorySync"]);
    assert_eq!(health, read(&customization().join("health.lua")));
    let actions =
        text(&map["data"]["resource.customizations.actions.ecr-sync.io_EcrRepositorySync"]);
    let actions: Value = serde_saphyr::from_str(actions).expect("YAML");
    let folder = customization().join("actions");
    assert_eq!(text(&actions["discovery.lua"]), read(&folder.join("discovery.lua")));
    let definitions = list(&actions["definitions"]);
    assert_eq!(definitions.len(), 3);
    for definition in definitions {
        let script = folder.join(text(&definition["name"])).join("action.lua");
        assert_eq!(text(&definition["action.lua"]), read(&script));
    }
}

#[tokio::test]
async fn the_chart_accepts_the_values_of_the_gitops_examples() {
    let examples = workspace().join("deploy/gitops");
    let flux = objects(&read(&examples.join("flux/operator.yaml")));
    let release =
        flux.iter().find(|object| object["kind"] == "HelmRelease").expect("a HelmRelease");
    let argo = yaml(&examples.join("argocd/operator.yaml"));
    for values in [&release["spec"]["values"], &argo["spec"]["source"]["helm"]["valuesObject"]] {
        assert!(values.is_object());
        let call =
            Call::new("helm").expect("make tools").args(["template", "ecr-sync"]).arg(chart());
        let call =
            call.args(["--kube-version", "1.34.0", "--values", "-"]).input(values.to_string());
        let rendered = call.output().await.unwrap_or_else(|error| panic!("{error}"));
        assert!(
            rendered.contains("role/ecr-sync") && rendered.contains("--region=eu-west-1"),
            "{rendered}"
        );
    }
}

#[tokio::test]
async fn the_repositories_of_the_gitops_examples_apply_and_flux_waits_for_each() {
    let cluster = Cluster::shared().await;
    let crd = ecr_sync::api::v1alpha1::crd_yaml().expect("the CRD serialises");
    cluster.apply(&crd).await.expect("the CRD");
    let established = [
        "wait",
        "--for=condition=Established",
        "crd/ecrrepositorysyncs.ecr-sync.io",
        "--timeout=60s",
    ];
    cluster.kubectl(&established).await.expect("established");
    cluster.create_namespace("platform").await.expect("a namespace");
    let examples = workspace().join("deploy/gitops");
    let folder = examples.join("repositories").display().to_string();
    cluster
        .kubectl(&["apply", "--dry-run=server", "-k", &folder])
        .await
        .expect("the API server takes them");

    let built = objects(&cluster.kubectl(&["kustomize", &folder]).await.expect("built"));
    let flux = objects(&read(&examples.join("flux/repositories.yaml")));
    let waiting = flux
        .iter()
        .find(|object| object["metadata"]["name"] == "repositories")
        .expect("a Kustomization");
    let checks = list(&waiting["spec"]["healthChecks"]);
    assert_eq!(checks.len(), built.len());
    for object in &built {
        let check = checks
            .iter()
            .find(|check| check["name"] == object["metadata"]["name"])
            .expect("a health check");
        for key in ["apiVersion", "kind"] {
            assert_eq!(check[key], object[key]);
        }
        assert_eq!(check["namespace"], object["metadata"]["namespace"]);
    }
}
