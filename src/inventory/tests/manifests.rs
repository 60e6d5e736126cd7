use super::*;

const HEAD: &str = "apiVersion: ecr-sync.io/v1alpha1\nkind: EcrRepositorySync\n";

#[test]
fn a_manifest_is_read_with_the_defaults_of_the_resource() {
    let entries = entries(&format!(
        "{HEAD}metadata: {{name: nginx, namespace: platform, labels: {{a: b}}}}\nspec:\n  \
         repositoryName: platform/nginx\n  registry: {{accountId: '123456789012', region: \
         eu-west-1}}\n  image: {{pullUrl: q.io/nginx, tags: ['1.27']}}\nstatus: {{x: 1}}\n"
    ));
    let entry = &entries[0];
    assert_eq!((entry.name.as_str(), entry.repository()), ("nginx", "platform/nginx"));
    assert_eq!(entry.spec.interval, "1h");
    assert_eq!(entry.spec.registry.as_ref().unwrap().region.as_deref(), Some("eu-west-1"));
    assert_eq!(entry.position.to_string(), "a.yml:1:1");
    assert_eq!(entry.notes, Vec::<String>::new());
}

#[test]
fn a_secret_reference_is_noted_as_unused() {
    let entries = entries(&format!(
        "{HEAD}metadata: {{name: ab}}\nspec:\n  image:\n    pullUrl: q.io/x:v\n    secretRef: \
         {{name: hub}}\n    proxySecretRef: {{name: proxy}}\n"
    ));
    assert_eq!(
        entries[0].notes,
        [
            "image.secretRef is ignored here: logins are read from the docker config",
            "image.proxySecretRef is ignored here: the proxy of the environment is used"
        ]
    );
}

#[test]
fn unknown_fields_of_a_manifest_are_problems_with_their_place() {
    let text = format!(
        "{HEAD}metadata: {{name: ab}}\nspecs: 1\nspec:\n  intervall: 1h\n  replicas: {{}}\n  \
         registry: {{acountId: x}}\n  image:\n    pull_url: q.io/x:v\n    secretRef: {{nam: hub}}\n"
    );
    assert_eq!(
        problems(&text),
        [
            "a.yml:4:1: unknown field `specs`, did you mean `spec`?",
            "a.yml:6:3: unknown field `intervall`, did you mean `interval`?",
            "a.yml:7:3: unknown field `replicas`: known fields are adoptionPolicy, archivedImages, \
             chart, deletionPolicy, driftInterval, driftPolicy, dryRun, encryption, image, \
             imageTagMutability, imageTagMutabilityExclusionFilters, interval, lifecyclePolicy, \
             permissionPolicy, prune, registry, repositoryName, resourceTags, scanOnPush, suspend, \
             timeout",
            "a.yml:8:14: unknown field `acountId`, did you mean `accountId`?",
            "a.yml:10:5: unknown field `pull_url`, did you mean `pullUrl`?",
            "a.yml:11:17: unknown field `nam`, did you mean `name`?",
        ]
    );
}

#[test]
fn wrong_values_of_a_manifest_are_told_at_the_field() {
    let text = format!(
        "{HEAD}metadata: {{name: ab}}\nspec:\n  suspend: 'no'\n  interval: 60\n---\n\
         {HEAD}metadata: {{name: AB}}\nspec:\n  interval: 5s\n---\n\
         {HEAD}metadata: {{}}\nspec:\n---\n{HEAD}metadata: {{name: 7}}\nspec: {{}}\n---\n\
         {HEAD}spec: []\n"
    );
    let problems = problems(&text);
    let starts = [
        "a.yml:5:12: suspend must be true or false, not the string \"no\"",
        "a.yml:6:13: interval must be a string: quote 60, YAML reads it as a number",
        "a.yml:10:18: metadata.name: \"AB\" is not an ECR repository name",
        "a.yml:12:13: interval: \"5s\" is not a duration",
        "a.yml:14:1: spec is missing: write spec: {} for a repository without an image",
        "a.yml:16:11: metadata.name is missing or not a string",
        "a.yml:21:18: metadata.name is missing or not a string",
        "a.yml:24:1: metadata.name is missing or not a string",
        "a.yml:26:7: spec must be a map, not a list",
    ];
    assert_eq!(problems.len(), starts.len(), "{problems:#?}");
    for (problem, start) in problems.iter().zip(starts) {
        assert!(problem.starts_with(start), "{problem} does not start with {start}");
    }
}

#[test]
fn a_kind_or_version_that_is_nearly_ours_is_a_problem() {
    let object =
        |version: &str, kind: &str| problems(&format!("apiVersion: {version}\nkind: {kind}\n"));
    assert_eq!(
        object("ecr-sync.io/v1", "EcrRepositorySync"),
        ["a.yml:1:13: unknown apiVersion \"ecr-sync.io/v1\" of EcrRepositorySync: write \
             ecr-sync.io/v1alpha1"]
    );
    assert_eq!(
        object("ecr-sync.io/v1alpha1", "ECRRepositorySnyc"),
        ["a.yml:2:7: unknown kind `ECRRepositorySnyc`, did you mean `EcrRepositorySync`?"]
    );
    assert_eq!(
        object("ecr-sync.io/v1alpha1", "Registry"),
        ["a.yml:2:7: unknown kind `Registry`: ecr-sync.io/v1alpha1 has EcrRepositorySync"]
    );
    assert_eq!(
        problems("kind: EcrRepositorySync\n"),
        ["a.yml:1:1: a manifest needs both apiVersion and kind, each a string"]
    );
}

#[test]
fn a_kubernetes_list_is_read_through() {
    let item = |name: &str| {
        format!("- {}  metadata: {{name: {name}}}\n  spec: {{}}\n", HEAD.replace("\nk", "\n  k"))
    };
    let list = format!(
        "apiVersion: v1\nkind: List\nmetadata: {{}}\nitems:\n{}{}",
        item("one"),
        item("two")
    );
    let read = entries(&list);
    assert_eq!(names(&read), ["one", "two"]);
    assert_eq!(read[1].position.to_string(), "a.yml:9:3");
    let ours = list.replace("v1\nkind: List", "ecr-sync.io/v1alpha1\nkind: EcrRepositorySyncList");
    assert_eq!(names(&entries(&ours)), ["one", "two"]);
    assert_eq!(
        problems("apiVersion: v1\nkind: List\nitems: {}\n"),
        ["a.yml:3:8: items must be a list of manifests"]
    );
}

#[test]
fn other_kinds_are_skipped_with_a_note() {
    let text = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: hub}}\n---\n{HEAD}metadata: {{name: ab}}\n\
         spec: {{}}\n---\n\
         apiVersion: apps/v1\nkind: Deployment\n"
    );
    let entries = entries(&text);
    assert_eq!(names(&entries), ["ab"]);
    assert_eq!(
        entries[0].notes,
        [
            "a.yml:1:1: Secret hub is skipped: only EcrRepositorySync manifests are read",
            "a.yml:10:1: Deployment is skipped: only EcrRepositorySync manifests are read"
        ]
    );
}

#[test]
fn notes_of_a_file_without_entries_go_to_the_next_entry_or_are_problems() {
    let secret = ("a.yml", "apiVersion: v1\nkind: Secret\n");
    let note = "a.yml:1:1: Secret is skipped: only EcrRepositorySync manifests are read";
    let entries = read_files(&[secret, ("b.yml", "- name: ab\n")]).unwrap();
    assert_eq!(entries[0].notes, [note]);
    let entries = read_files(&[("0.yml", "- name: ab\n"), secret]).unwrap();
    assert_eq!(entries[0].notes, [note]);
    assert_eq!(read_files(&[secret]).unwrap_err(), [note]);
}
