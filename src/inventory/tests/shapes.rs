use super::*;

const MANIFEST: &str = "apiVersion: ecr-sync.io/v1alpha1\nkind: EcrRepositorySync\nmetadata: \
                        {name: third}\nspec: {}\n";

#[test]
fn a_file_may_mix_all_shapes() {
    let text = format!(
        "- name: first\n---\nrepositories:\n- name: second\n---\n---\n{MANIFEST}---\n# nothing\n"
    );
    assert_eq!(names(&entries(&text)), ["first", "second", "third"]);
}

#[test]
fn json_is_read_like_yaml() {
    let list = "{\n\t\"repositories\": [\n\t\t{\"name\": \"ab\", \"image\": \
                {\"pull_url\": \"q.io\\/x\", \"tags\": [\"1.20\"]}}\n\t]\n}\n";
    let manifest = r#"{"apiVersion": "ecr-sync.io/v1alpha1", "kind": "EcrRepositorySync",
        "metadata": {"name": "cd"}, "spec": {}}"#;
    let read = read_files(&[("a.json", list), ("b.json", manifest)]).unwrap();
    assert_eq!(names(&read), ["ab", "cd"]);
    assert_eq!(read[0].position.to_string(), "a.json:3:3");
    assert_eq!(read[0].spec.image.as_ref().unwrap().pull_url, "q.io/x");
    assert_eq!(
        read_files(&[(
            "a.json",
            "[{\"name\": \"ab\",\n\"imagee\": 1,\n\"resourceTags\": {\"a\": 1.20}}]"
        )])
        .unwrap_err(),
        [
            "a.json:2:1: unknown field `imagee`, did you mean `image`?",
            "a.json:3:23: resourceTags.a must be a string: quote 1.20, YAML reads it as the number \
             1.2"
        ]
    );
}

#[test]
fn files_without_repositories_are_empty_and_no_problem() {
    for nothing in
        ["", "# later\n", "[]", "repositories: []\n", "repositories:\n", "---\n", "\u{feff}[]\r\n"]
    {
        assert_eq!(entries(nothing), [], "{nothing:?}");
    }
}

#[test]
fn what_describes_no_repository_is_a_problem() {
    let nothing = "does not describe a repository: write a list (- name: my-repository), the same \
                   under repositories:, or EcrRepositorySync manifests";
    assert_eq!(problems("a: 1\n"), [format!("a.yml:1:1: {nothing}")]);
    assert_eq!(problems("hello\n"), [format!("a.yml:1:1: {nothing}")]);
    assert_eq!(
        problems("name: ab\n"),
        ["a.yml:1:1: repositories must be in a list: write - name: my-repository"]
    );
    assert_eq!(
        problems("repositories: {name: ab}\n"),
        ["a.yml:1:15: repositories must be a list: write - name: my-repository below it"]
    );
    assert_eq!(
        problems("repositorys: 1\nrepositories: []\n"),
        ["a.yml:1:1: unknown field `repositorys`, did you mean `repositories`?"]
    );
}

#[test]
fn a_file_with_a_default_policy_is_skipped_with_a_note() {
    let entries = read_files(&[
        ("ecr-lifecycle.json", r#"{"rules": []}"#),
        ("ecr-permissions.json", r#"{"Version": "2012-10-17", "Statement": []}"#),
        ("repositories.yml", "- name: ab\n"),
    ])
    .unwrap();
    let note = "a policy document is skipped: write it under lifecyclePolicy or permissionPolicy \
                of a repository";
    let notes =
        [format!("ecr-lifecycle.json:1:1: {note}"), format!("ecr-permissions.json:1:1: {note}")];
    assert_eq!(entries[0].notes, notes);
}

#[test]
fn anchors_aliases_and_merge_keys_work() {
    let text = "x-policy: &policy {rules: []}\nrepositories:\n- &base\n  name: one\n  \
                lifecyclePolicy: *policy\n\
                - <<: *base\n  name: two\n";
    let entries = entries(text);
    assert_eq!(names(&entries), ["one", "two"]);
    assert_eq!(entries[1].position.to_string(), "a.yml:6:3");
    assert!(
        entries.iter().all(|entry| entry
            .spec
            .lifecycle_policy
            .as_ref()
            .unwrap()
            .contains_key("rules"))
    );
}

#[test]
fn what_is_wrong_below_an_anchor_is_told_once_and_there() {
    let text = "x-tags: &tags [1.20]\nrepositories:\n- name: one\n  image: {pullUrl: q.io/x, tags: \
                *tags}\n\
                - name: two\n  image: {pullUrl: q.io/x, tags: *tags}\n";
    assert_eq!(
        problems(text),
        ["a.yml:1:16: tags must be a list of strings: quote 1.20, YAML reads it as the number 1.2"]
    );
}

#[test]
fn one_policy_may_serve_thousands_of_repositories() {
    let mut text = "x-policy: &policy {rules: []}\nrepositories:\n".to_owned();
    for number in 0..5000 {
        text.push_str(&format!("- {{name: repository-{number}, lifecyclePolicy: *policy}}\n"));
    }
    assert_eq!(entries(&text).len(), 5000);
}

#[test]
fn an_alias_bomb_ends_in_a_problem() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    let problems = problems(&text);
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0].starts_with("a.yml:") && problems[0].contains(": cannot be read: "),
        "{problems:?}"
    );
}

#[test]
fn nesting_without_end_is_a_problem() {
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    for text in [deep(17), deep(50), "[".repeat(100_000)] {
        let problems = problems(&text);
        let is_deep =
            problems[0].contains("levels deep") || problems[0].contains("recursion limit");
        assert!(is_deep, "{problems:?}");
    }
}

#[test]
fn syntax_errors_have_their_place() {
    assert_eq!(
        problems("- name: ab\n  image: a: b\n"),
        ["a.yml:2:11: cannot be read: mapping values are not allowed in this context"]
    );
    assert_eq!(
        problems("- name: ab\n  name: cd\n"),
        ["a.yml:2:3: cannot be read: duplicate mapping key `name` is not allowed here"]
    );
    assert_eq!(
        problems("- name: ab\n\timage:\n"),
        ["a.yml:1:9: cannot be read: while scanning a plain scalar, found a tab"]
    );
}

#[test]
fn all_problems_of_all_files_come_at_once() {
    let files = [
        ("a.yml", "- name: ab\n  imagee: 1\n- name: Q\n"),
        ("b.yml", "- [\n"),
        ("c.yml", "- {}\n"),
    ];
    let positions: Vec<_> = read_files(&files)
        .unwrap_err()
        .iter()
        .map(|problem| problem.split(": ").next().unwrap().to_owned())
        .collect();
    assert_eq!(positions, ["a.yml:2:3", "a.yml:3:9", "b.yml:1:3", "c.yml:1:3"]);
}

#[test]
fn a_repository_that_is_described_twice_names_both_places() {
    let manifest = "apiVersion: ecr-sync.io/v1alpha1\nkind: EcrRepositorySync\nmetadata: {name: \
                    other}\nspec:\n  repositoryName: nginx\n";
    let files = [("a.yml", "- name: busybox\n- name: nginx\n"), ("b.yml", manifest)];
    assert_eq!(
        read_files(&files).unwrap_err(),
        ["b.yml:1:1: repository nginx is already described at a.yml:2:3"]
    );
    let elsewhere = format!("{manifest}  registry: {{region: eu-west-1}}\n");
    assert_eq!(read_files(&[files[0], ("b.yml", &elsewhere)]).unwrap().len(), 3);
}

#[test]
fn the_same_alias_as_two_entries_names_two_places() {
    assert_eq!(
        problems("- &a {name: ab}\n- *a\n"),
        ["a.yml:2:3: repository ab is already described at a.yml:1:6"]
    );
}

#[test]
fn messages_do_not_carry_control_characters_to_the_terminal() {
    assert_eq!(
        problems("\"a\\e[31m\": 1\nrepositories: []\n"),
        ["a.yml:1:1: unknown field `a\\u{1b}[31m`: known fields are repositories"]
    );
}

#[test]
fn a_missing_file_is_a_problem_beside_the_others() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("a.yml");
    fs::write(&file, "- {}\n").unwrap();
    let missing = root.path().join("b.yml");
    let problems = read(&[missing.clone(), file], TagStrategy::default()).unwrap_err();
    assert_eq!(problems.len(), 2);
    assert_eq!(
        problems[0].to_string(),
        format!("{}: no such file or directory", missing.display())
    );
}
