use serde_json::json;

use super::*;
use crate::api::v1alpha1::{EcrRepositorySyncSpec, Image, TagStrategy};

/// The example of the older tool's README.
const EXAMPLE: &str = r#"
  - name: nginx-app                    # Required: repository name
    image:                             # Optional: exactly one image
      pull_url: "docker.io/library/nginx:latest"
      tags: ["latest", "1.21", "1.20"]
    chart:                             # Optional: exactly one chart
      pull_url: "https://charts.bitnami.com/bitnami/nginx"
      tags: ["15.0.2", "15.0.1"]
    lifecyclePolicy:                   # Optional: ECR lifecycle policy
      rules:
        - rulePriority: 1
          description: "Keep last 10 images"
          selection:
            tagStatus: "any"
            countType: "imageCountMoreThan"
            countNumber: 10
          action:
            type: "expire"
    permissionPolicy:                  # Optional: ECR repository permissions
      Version: "2012-10-17"
      Statement:
        - Sid: "AllowPull"
          Effect: "Allow"
          Principal:
            AWS: "arn:aws:iam::123456789012:root"
          Action:
            - "ecr:GetDownloadUrlForLayer"
            - "ecr:BatchGetImage"
"#;

#[test]
fn the_older_tools_example_is_read_as_it_is() {
    let entries = entries(EXAMPLE);
    assert_eq!(names(&entries), ["nginx-app"]);
    let entry = &entries[0];
    assert_eq!(entry.position.to_string(), "a.yml:2:5");
    assert_eq!(entry.notes, [""; 0]);
    let chart = entry.spec.chart.clone().expect("a chart");
    assert_eq!(
        (chart.pull_url.as_str(), chart.tags),
        (
            "https://charts.bitnami.com/bitnami/nginx",
            vec!["15.0.2".to_owned(), "15.0.1".to_owned()]
        )
    );
    assert_eq!(
        entry.spec.image,
        Some(Image {
            pull_url: "docker.io/library/nginx:latest".to_owned(),
            tags: ["latest", "1.21", "1.20"].map(str::to_owned).to_vec(),
            tag_strategy: TagStrategy::Mirror,
            ..Image::default()
        })
    );
    let policy = |policy: &Option<_>| serde_json::to_value(policy).unwrap();
    assert_eq!(
        policy(&entry.spec.lifecycle_policy),
        json!({"rules": [{
            "rulePriority": 1,
            "description": "Keep last 10 images",
            "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 10},
            "action": {"type": "expire"}
        }]})
    );
    assert_eq!(
        policy(&entry.spec.permission_policy),
        json!({"Version": "2012-10-17", "Statement": [{
            "Sid": "AllowPull",
            "Effect": "Allow",
            "Principal": {"AWS": "arn:aws:iam::123456789012:root"},
            "Action": ["ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage"]
        }]})
    );
}

#[test]
fn a_name_alone_is_a_repository_with_the_defaults() {
    let entries = entries("- name: platform/empty\n  image:\n  chart: ~\n");
    assert_eq!(entries[0].repository(), "platform/empty");
    assert_eq!(
        entries[0].spec,
        EcrRepositorySyncSpec { interval: "1h".to_owned(), ..Default::default() }
    );
    assert_eq!(entries[0].notes, [""; 0]);
}

#[test]
fn snake_case_and_camel_case_are_one_field() {
    let snake = "- name: ab\n  image: {pull_url: 'q.io/x:v', tags: [v2], tag_strategy: Retag, \
                 insecure: yes}\n  lifecycle_policy: {rules: []}\n  permission_policy: {Statement: \
                 []}\n  resource_tags: {team: a}\n";
    let camel = snake
        .replace("pull_url", "pullUrl")
        .replace("tag_strategy", "tagStrategy")
        .replace("lifecycle_policy", "lifecyclePolicy")
        .replace("permission_policy", "permissionPolicy")
        .replace("resource_tags", "resourceTags");
    let read = entries(snake);
    assert_eq!(read, entries(&camel));
    let image = read[0].spec.image.as_ref().unwrap();
    assert!(image.insecure && image.tag_strategy == TagStrategy::Retag);
    assert_eq!(read[0].spec.resource_tags.as_ref().unwrap()["team"], "a");
}

#[test]
fn both_spellings_of_a_field_at_once_are_a_problem() {
    assert_eq!(
        problems("- name: ab\n  image:\n    pull_url: q.io/x:v\n    pullUrl: q.io/y:v\n"),
        ["a.yml:4:5: `pullUrl` and `pull_url` are the same field: write only one of them"]
    );
}

#[test]
fn an_unknown_field_is_named_with_its_place_and_what_was_meant() {
    assert_eq!(
        problems(
            "- name: ab\n  imagee: {}\n  image:\n    pullURL: q.io/x:v\n    platform: x\n  chart: \
             {pull_ulr: x}\n  ttl: 1\n"
        ),
        [
            "a.yml:2:3: unknown field `imagee`, did you mean `image`?",
            "a.yml:4:5: unknown field `pullURL`, did you mean `pullUrl`?",
            "a.yml:5:5: unknown field `platform`, did you mean `platforms`?",
            "a.yml:6:11: unknown field `pull_ulr`, did you mean `pull_url`?",
            "a.yml:7:3: unknown field `ttl`: known fields are name, image, chart, lifecyclePolicy, \
             lifecycle_policy, permissionPolicy, permission_policy, resourceTags, resource_tags, \
             imageTagMutability, image_tag_mutability, imageTagMutabilityExclusionFilters, \
             image_tag_mutability_exclusion_filters, scanOnPush, scan_on_push, encryption, prune",
        ]
    );
}

#[test]
fn a_tag_that_yaml_reads_as_something_else_must_be_quoted() {
    let tags = |tags: &str| {
        problems(&format!("- name: ab\n  image:\n    pull_url: q.io/x\n    tags: [{tags}]\n"))
    };
    for (tag, message) in [
        ("1.20", "quote 1.20, YAML reads it as the number 1.2"),
        ("15", "quote 15, YAML reads it as a number"),
        ("0x10", "quote 0x10, YAML reads it as the number 16"),
        ("12e4567", "quote 12e4567, YAML reads it as the number inf"),
        ("yes", "quote yes, YAML reads it as the boolean true"),
        ("true", "quote true, YAML reads it as a boolean"),
    ] {
        assert_eq!(tags(tag), [format!("a.yml:4:12: tags must be a list of strings: {message}")]);
    }
    assert_eq!(tags("~"), ["a.yml:4:12: tags must be a list of strings, not null"]);
    assert_eq!(tags("{a: b}"), ["a.yml:4:12: tags must be a list of strings, not a map"]);
    assert_eq!(tags("1.20, ok, 1.3").len(), 2);
    for (written, told) in [
        ("1.20", "write [\"1.20\"], quoted, since YAML reads 1.20 as the number 1.2"),
        ("15", "write [\"15\"]"),
        ("v1", "write [\"v1\"]"),
    ] {
        let problems =
            problems(&format!("- name: ab\n  image: {{pull_url: q.io/x, tags: {written}}}\n"));
        assert_eq!(problems, [format!("a.yml:2:35: tags must be a list of strings: {told}")]);
    }
}

#[test]
fn a_field_of_the_wrong_type_says_which_is_right() {
    let text = "- name: 12\n  image: nginx\n  resource_tags: {cost: 42, owner: [a]}\n- name: ab\n  \
                image:\n    pull_url: q.io/x:v\n    tags: latest\n    insecure: 'true'\n    \
                tag_strategy: mirror\n- name: ab\n  lifecyclePolicy:\n    rules:\n    - \
                rulePriority: '1'\n  permission_policy: []\n- nginx\n- image: {}\n- name: ab\n  \
                chart: {tags: [1.10]}\n";
    assert_eq!(
        problems(text),
        [
            "a.yml:1:9: name must be a string: quote 12, YAML reads it as a number",
            "a.yml:2:10: image must be a map, not the string \"nginx\"",
            "a.yml:3:25: resource_tags.cost must be a string: quote 42, YAML reads it as a number",
            "a.yml:3:36: resource_tags.owner must be a string, not a list",
            "a.yml:7:11: tags must be a list of strings: write [\"latest\"]",
            "a.yml:8:15: insecure must be true or false: write true without quotes",
            "a.yml:9:19: tag_strategy must be Mirror or Retag, not \"mirror\"",
            "a.yml:13:21: rulePriority must be a whole number: write 1 without quotes",
            "a.yml:14:22: permission_policy must be a map, not a list",
            "a.yml:15:3: is not a repository: write - name: my-repository",
            "a.yml:16:3: this entry has no name: write name: my-repository",
            "a.yml:16:10: image has no pullUrl",
            "a.yml:18:10: chart has no pullUrl",
            "a.yml:18:18: tags must be a list of strings: quote 1.10, YAML reads it as the number \
             1.1",
        ]
    );
}

#[test]
fn a_broken_rule_is_told_at_the_field_as_the_file_names_it() {
    let text = "- name: Upper\n- name: ab\n  image:\n    pull_url: q.io/x\n    tags:\n    - \
                ok\n    - a:b\n- name: abc\n  image:\n    pull_url: q.io/x\n- name: abcd\n  \
                lifecycle_policy:\n    rules:\n    - rulePriority: 1\n      selection: {}\n- name: \
                abcde\n  permission_policy:\n    Statement:\n    - Effect: Allow\n      Action: \
                '*'\n      Principal: {AWS: 012345678901}\n  resource_tags: {'aws:x': team}\n";
    let problems = problems(text);
    let starts = [
        "a.yml:1:9: name: \"Upper\" is not an ECR repository name",
        "a.yml:7:7: image.tags[1]: ",
        "a.yml:10:5: image: names no tag",
        "a.yml:14:7: lifecycle_policy.rules[0].action.type: is missing",
        "a.yml:15:18: lifecycle_policy.rules[0].selection.tagStatus: is missing",
        "a.yml:15:18: lifecycle_policy.rules[0].selection.countType: is missing",
        "a.yml:15:18: lifecycle_policy.rules[0].selection.countNumber: is missing",
        "a.yml:21:24: permission_policy.Statement[0].Principal.AWS: is the number 12345678901, not \
         a string: quote it",
        "a.yml:22:28: resource_tags[\"aws:x\"]: keys that start with aws:",
    ];
    assert_eq!(problems.len(), starts.len(), "{problems:#?}");
    for (problem, start) in problems.iter().zip(starts) {
        assert!(problem.starts_with(start), "{problem} does not start with {start}");
    }
}

#[test]
fn a_tag_in_the_url_that_is_not_listed_is_noted() {
    let notes = |image: &str| entries(&format!("- name: ab\n  image: {image}\n")).remove(0).notes;
    assert_eq!(
        notes("{pull_url: 'q.io/x:latest', tags: ['1.27']}"),
        ["the tag latest in pull_url is not among tags: only 1.27 will be copied, each from the \
             source's tag of the same name (tagStrategy Retag would push latest as each of them)"]
    );
    assert_eq!(
        notes("{pullUrl: 'q.io:5000/x:latest', tags: ['1.27']}"),
        ["the tag latest in pullUrl is not among tags: only 1.27 will be copied, each from the \
             source's tag of the same name (tagStrategy Retag would push latest as each of them)"]
    );
    for quiet in [
        "{pull_url: 'q.io/x:latest', tags: ['1.27', latest]}",
        "{pull_url: 'q.io/x:latest'}",
        "{pull_url: 'q.io:5000/x', tags: ['1.27']}",
        "{pull_url: 'q.io/x:latest', tags: ['1.27'], tag_strategy: Retag}",
    ] {
        assert_eq!(notes(quiet), Vec::<String>::new(), "{quiet}");
    }
}

#[test]
fn policies_keep_numbers_strings_and_unknown_keys() {
    let text = "- name: ab\n  permission_policy:\n    Statement:\n    - Effect: Allow\n      \
                Principal: '*'\n      Action: '*'\n      Condition: {Bool: {'aws:SecureTransport': \
                true}, NumericLessThan: {n: [7, 1.5, -2, 1e3]}, \"Null\": {x: ~}}\n";
    let entries = entries(text);
    let policy = entries[0].spec.permission_policy.as_ref().unwrap();
    assert_eq!(
        policy["Statement"][0]["Condition"],
        json!({"Bool": {"aws:SecureTransport": true}, "NumericLessThan": {"n": [7, 1.5, -2, 1000]},
            "Null": {"x": null}})
    );
}

#[test]
fn a_number_that_json_cannot_hold_must_be_quoted() {
    assert_eq!(
        problems("- name: ab\n  permission_policy: {Id: x, Statement: [{Sid: 12e4567}]}\n"),
        ["a.yml:2:48: quote 12e4567, YAML reads it as a number that JSON cannot hold"]
    );
}

#[test]
fn a_key_that_yaml_reads_as_null_must_be_quoted() {
    assert_eq!(
        problems(
            "- name: ab\n  permission_policy: {Statement: [{Condition: {Null: {x: 'true'}}}]}\n"
        ),
        ["a.yml:2:48: cannot be read: quote this key, YAML reads it as null"]
    );
}

#[test]
fn the_letters_y_and_n_are_text_as_they_were_for_the_older_tool() {
    let entries = entries(
        "- name: ab\n  resource_tags: {critical: y}\n  permission_policy: {Id: n, Statement: []}\n",
    );
    assert_eq!(entries[0].spec.resource_tags.as_ref().unwrap()["critical"], "y");
    assert_eq!(entries[0].spec.permission_policy.as_ref().unwrap()["Id"], "n");
}
