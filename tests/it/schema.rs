//! The schema and its rules on the real API server: each rule accepts and refuses, and the message
//! of a refusal says what to write.

use serde_json::{Value, json};

use crate::support::Rig;

#[allow(
    clippy::needless_pass_by_value,
    reason = "json! borrows, the table below reads better without &"
)]
fn with_image(image: Value) -> Value {
    json!({"image": image})
}

/// (case, resource name, spec, `None` if accepted or a part of the refusal)
fn table() -> Vec<(&'static str, &'static str, Value, Option<&'static str>)> {
    let image = |pull_url: &str| with_image(json!({"pullUrl": pull_url, "tags": ["1"]}));
    let tagged = |tags: Value| with_image(json!({"pullUrl": "nginx", "tags": tags}));
    let interval = |interval: &str| json!({"interval": interval});
    let lifecycle = |policy: Value| json!({"lifecyclePolicy": policy});
    let permission = |policy: Value| json!({"permissionPolicy": policy});
    vec![
        ("an empty spec", "empty", json!({}), None),
        ("a resource name as repository name", "dots.and-dashes--ok", json!({}), None),
        ("a resource name that is too short", "a", json!({}), Some("set spec.repositoryName")),
        ("a long path", "path", json!({"repositoryName": "a/b__c/d-e.f"}), None),
        (
            "upper case",
            "upper",
            json!({"repositoryName": "Nginx"}),
            Some("write lower-case letters and digits"),
        ),
        (
            "three underscores",
            "underscores",
            json!({"repositoryName": "a___b"}),
            Some("for example platform/nginx"),
        ),
        (
            "a slash at the end",
            "slash",
            json!({"repositoryName": "a/"}),
            Some("for example platform/nginx"),
        ),
        (
            "too long a name",
            "long",
            json!({"repositoryName": "a".repeat(257)}),
            Some("repositoryName"),
        ),
        ("an account", "account", json!({"registry": {"accountId": "123456789012"}}), None),
        (
            "a short account",
            "short",
            json!({"registry": {"accountId": "12345"}}),
            Some("12 digits"),
        ),
        (
            "an unquoted account",
            "number",
            json!({"registry": {"accountId": 123_456_789_012_u64}}),
            Some("accountId"),
        ),
        ("a region", "region", json!({"registry": {"region": "us-gov-west-1"}}), None),
        (
            "a role",
            "role",
            json!({"registry": {"roleArn": "arn:aws-cn:iam::123456789012:role/a/b"}}),
            None,
        ),
        (
            "no role",
            "norole",
            json!({"registry": {"roleArn": "ecr-sync"}}),
            Some("arn:aws:iam::123456789012:role/"),
        ),
        ("an account's name", "sa", json!({"registry": {"serviceAccountName": "team-a"}}), None),
        (
            "no account's name",
            "nosa",
            json!({"registry": {"serviceAccountName": "Team A"}}),
            Some("ServiceAccount"),
        ),
        (
            "no region",
            "noregion",
            json!({"registry": {"region": "Frankfurt"}}),
            Some("for example eu-west-1"),
        ),
        ("a tag in pullUrl", "tagged", with_image(json!({"pullUrl": "nginx:1.27"})), None),
        ("a port and a tag", "port", with_image(json!({"pullUrl": "localhost:5000/app:1"})), None),
        (
            "no tag at all",
            "notag",
            with_image(json!({"pullUrl": "nginx"})),
            Some("write tags: [\"1.27\"]"),
        ),
        (
            "a port is no tag",
            "portonly",
            with_image(json!({"pullUrl": "localhost:5000/app"})),
            Some("or a tag in pullUrl"),
        ),
        ("empty tags", "notags", tagged(json!([])), Some("write tags: [\"1.27\"]")),
        (
            "a scheme",
            "scheme",
            image("https://docker.io/library/nginx"),
            Some("not https://docker.io/library/nginx"),
        ),
        (
            "a digest",
            "digest",
            image("nginx@sha256:0000"),
            Some("write repository or repository:tag"),
        ),
        (
            "a space",
            "space",
            image("docker.io/my image"),
            Some("write for example docker.io/library/nginx"),
        ),
        (
            "a trailing slash",
            "trail",
            image("docker.io/nginx/"),
            Some("write for example docker.io/library/nginx"),
        ),
        (
            "an unknown strategy",
            "strategy",
            with_image(json!({"pullUrl": "nginx:1", "tagStrategy": "Copy"})),
            Some("\"Mirror\", \"Retag\""),
        ),
        (
            "retag",
            "retag",
            with_image(json!({"pullUrl": "nginx:1", "tags": ["2"], "tagStrategy": "Retag"})),
            None,
        ),
        (
            "retag without tags",
            "retagtags",
            with_image(json!({"pullUrl": "nginx:1", "tagStrategy": "Retag"})),
            Some("every tag in tags: write both, and no tagSelector"),
        ),
        (
            "retag without a tag",
            "retagtag",
            with_image(json!({"pullUrl": "nginx", "tags": ["2"], "tagStrategy": "Retag"})),
            Some("every tag in tags: write both, and no tagSelector"),
        ),
        (
            "a selector",
            "selector",
            with_image(json!({"pullUrl": "nginx", "tagSelector": {"latest": 3}})),
            None,
        ),
        (
            "a selector without latest",
            "selectorless",
            with_image(json!({"pullUrl": "nginx", "tagSelector": {"semver": "1.x"}})),
            Some("latest: Required value"),
        ),
        (
            "retag with a selector",
            "retagselector",
            with_image(json!({"pullUrl": "nginx:1", "tags": ["2"], "tagStrategy": "Retag",
                    "tagSelector": {"latest": 1}})),
            Some("and no tagSelector"),
        ),
        ("a pin", "pin", tagged(json!([format!("1.26@sha256:{}", "a".repeat(64))])), None),
        (
            "half a pin",
            "halfpin",
            tagged(json!(["1.26@sha256:abc"])),
            Some("1.27@sha256:<64 digits>"),
        ),
        (
            "a tag with a plus",
            "plus",
            tagged(json!(["1.0+a"])),
            Some("not a tag: a tag has at most 128 letters"),
        ),
        (
            "a tag with its repository",
            "both",
            tagged(json!(["nginx:1.27"])),
            Some("not repository:1.27"),
        ),
        ("null tags", "nulltags", tagged(Value::Null), Some("must be of type array")),
        ("a null policy", "nullpolicy", lifecycle(Value::Null), Some("must be of type object")),
        ("a number as tag", "numbertag", tagged(json!([1.20])), Some("tags")),
        ("500 tags", "many", tagged((0..500).map(|n| format!("t{n}")).collect()), None),
        (
            "501 tags",
            "toomany",
            tagged((0..501).map(|n| format!("t{n}")).collect()),
            Some("at most 500 items"),
        ),
        ("a minute", "minute", interval("1m"), None),
        ("an hour and a half", "hourhalf", interval("1h30m"), None),
        ("ten seconds", "seconds", interval("10s"), Some("from 1m to 8760h")),
        ("two years", "years", interval("17520h"), Some("from 1m to 8760h")),
        ("a day", "day", interval("1d"), Some("written like 90s, 30m or 1h30m")),
        (
            "a drift interval",
            "drift",
            json!({"driftInterval": "30m", "driftPolicy": "Report"}),
            None,
        ),
        (
            "a short drift interval",
            "shortdrift",
            json!({"driftInterval": "30s"}),
            Some("driftInterval is a duration"),
        ),
        (
            "an unknown drift policy",
            "driftpolicy",
            json!({"driftPolicy": "Ignore"}),
            Some("\"Correct\", \"Report\""),
        ),
        ("no rules left", "norules", lifecycle(json!({"rules": []})), None),
        (
            "unknown keys in a rule",
            "newkeys",
            lifecycle(json!({"rules": [{"rulePriority": 1, "new": {"a": 1}}]})),
            None,
        ),
        (
            "an empty lifecycle policy",
            "emptylife",
            lifecycle(json!({})),
            Some("should have at least 1 properties"),
        ),
        (
            "a lifecycle policy without rules",
            "ruleless",
            lifecycle(json!({"Rules": []})),
            Some("rules: [] removes the policy"),
        ),
        (
            "a priority as text",
            "textprio",
            lifecycle(json!({"rules": [{"rulePriority": "1"}]})),
            Some("rulePriority"),
        ),
        ("no statement left", "nostatement", permission(json!({"Statement": []})), None),
        (
            "one statement as object",
            "onestatement",
            permission(json!({"Version": "2012-10-17", "Statement": {"Effect": "Allow"}})),
            None,
        ),
        (
            "an empty permission policy",
            "emptyperm",
            permission(json!({})),
            Some("should have at least 1 properties"),
        ),
        (
            "resource tags",
            "restags",
            json!({"resourceTags": {"team": "platform", "cost/center": "a b"}}),
            None,
        ),
        (
            "a tag of AWS",
            "awstags",
            json!({"resourceTags": {"aws:x": "y"}}),
            Some("use another prefix"),
        ),
        (
            "a tag of ours",
            "ourtags",
            json!({"resourceTags": {"ecr-sync.io/owner": "y"}}),
            Some("use another prefix"),
        ),
        (
            "an empty key",
            "emptykey",
            json!({"resourceTags": {"": "y"}}),
            Some("1 to 128 characters"),
        ),
        (
            "filters with exclusion",
            "filters",
            json!({"imageTagMutability": "MutableWithExclusion",
                "imageTagMutabilityExclusionFilters": ["v*", "1.*"]}),
            None,
        ),
        (
            "exclusion without filters",
            "nofilters",
            json!({"imageTagMutability": "ImmutableWithExclusion"}),
            Some("and not allowed without: write one to five filters"),
        ),
        (
            "filters without exclusion",
            "lonefilters",
            json!({"imageTagMutability": "Immutable",
                "imageTagMutabilityExclusionFilters": ["v*"]}),
            Some("or change imageTagMutability"),
        ),
        (
            "six filters",
            "sixfilters",
            json!({"imageTagMutability": "MutableWithExclusion",
                   "imageTagMutabilityExclusionFilters": ["a", "b", "c", "d", "e", "f"]}),
            Some("at most 5 items"),
        ),
        (
            "a filter that is none",
            "badfilter",
            json!({"imageTagMutability": "MutableWithExclusion",
                "imageTagMutabilityExclusionFilters": ["v 1"]}),
            Some("for example 1.*"),
        ),
        (
            "a mutability as AWS has it",
            "awsmutable",
            json!({"imageTagMutability": "MUTABLE"}),
            Some("\"Mutable\""),
        ),
        (
            "a KMS key",
            "kms",
            json!({"encryption": {"type": "KMS_DSSE", "kmsKey": "alias/x"}}),
            None,
        ),
        (
            "a key with AES256",
            "aeskey",
            json!({"encryption": {"type": "AES256", "kmsKey": "alias/x"}}),
            Some("change the type, or remove the key"),
        ),
        (
            "encryption without a type",
            "notype",
            json!({"encryption": {}}),
            Some("type: Required value"),
        ),
        (
            "51 resource tags",
            "manytags",
            json!({"resourceTags": (0..51).map(|n| (format!("k{n}"),
                "v".into())).collect::<serde_json::Map<_, _>>()}),
            Some("resourceTags"),
        ),
        (
            "pruning",
            "prune",
            json!({"prune": {"enabled": true, "maxPercent": 100, "minUnpulled": "0s"}}),
            None,
        ),
        ("an empty prune", "emptyprune", json!({"prune": {}}), None),
        ("no per cent", "nopercent", json!({"prune": {"maxPercent": 0}}), Some("from 1 to 100")),
        (
            "too many per cent",
            "percent",
            json!({"prune": {"maxPercent": 101}}),
            Some("from 1 to 100"),
        ),
        (
            "per cent as text",
            "textpercent",
            json!({"prune": {"maxPercent": "25%"}}),
            Some("expected numeric"),
        ),
        (
            "30 days",
            "days",
            json!({"prune": {"minUnpulled": "30d"}}),
            Some("written like 90s, 30m or 1h30m"),
        ),
        (
            "two years unpulled",
            "unpulled",
            json!({"prune": {"minUnpulled": "17520h"}}),
            Some("from 0s to 8760h"),
        ),
        (
            "a long value",
            "longvalue",
            json!({"resourceTags": {"a": "v".repeat(257)}}),
            Some("resourceTags"),
        ),
    ]
}

#[tokio::test]
async fn each_rule_accepts_and_refuses_with_advice() {
    let rig = Rig::new("schema-rules").await;
    for (what, name, spec, refusal) in table() {
        match (rig.try_apply(name, spec).await, refusal) {
            (Ok(_), None) => {}
            (Ok(_), Some(text)) => panic!("{what} is accepted, not refused with {text:?}"),
            (Err(error), None) => panic!("{what} is refused: {error}"),
            (Err(error), Some(text)) => {
                assert!(
                    error.to_string().contains(text),
                    "{what}: {text:?} is not in the refusal: {error}"
                );
            }
        }
    }
}

#[tokio::test]
async fn names_accounts_and_regions_do_not_change() {
    let rig = Rig::new("schema-immutable").await;
    let registry =
        |account: &str, region: &str| json!({"registry": {"accountId": account, "region": region}});
    let cases = [
        (
            "name-set",
            json!({"repositoryName": "one"}),
            json!({"repositoryName": "two"}),
            Some("cannot be changed"),
        ),
        ("name-added", json!({}), json!({"repositoryName": "two"}), Some("cannot be changed")),
        ("name-removed", json!({"repositoryName": "one"}), json!({}), Some("cannot be changed")),
        ("name-same", json!({}), json!({"repositoryName": "name-same"}), None),
        (
            "account",
            registry("123456789012", "eu-west-1"),
            registry("210987654321", "eu-west-1"),
            Some("accountId cannot be changed"),
        ),
        (
            "region",
            registry("123456789012", "eu-west-1"),
            registry("123456789012", "us-east-1"),
            Some("region cannot be changed"),
        ),
        ("tags", json!({"resourceTags": {"a": "b"}}), json!({"resourceTags": {"a": "c"}}), None),
    ];
    for (name, before, after, refusal) in cases {
        rig.apply(name, before).await;
        match (rig.try_apply(name, after).await, refusal) {
            (Ok(_), None) => {}
            (Err(error), Some(text)) => {
                assert!(error.to_string().contains(text), "{name}: {error}")
            }
            (result, _) => panic!("{name}: {result:?}"),
        }
    }
}

#[tokio::test]
async fn a_new_resource_has_defaults_and_is_not_yet_current() {
    let rig = Rig::new("schema-defaults").await;
    let object = rig.apply("app", json!({"image": {"pullUrl": "nginx:1"}})).await;
    assert_eq!(object.spec.interval, "1h");
    assert_eq!(object.status.and_then(|status| status.observed_generation), Some(-1));
    for alias in ["ers", "ecrsync", "ecr-sync"] {
        let listed = rig.kubectl(&["get", alias, "-n", "schema-defaults", "-o", "name"]).await;
        assert_eq!(listed.trim(), "ecrrepositorysync.ecr-sync.io/app", "{alias}");
    }
}

#[tokio::test]
async fn unknown_keys_of_policies_survive() {
    let rig = Rig::new("schema-policies").await;
    let policy = json!({"Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "New": {"deep": [1, {"x": "y"}]}}]});
    let lifecycle =
        json!({"rules": [{"rulePriority": 1, "selection": {"newKey": "v"}, "more": true}]});
    rig.apply("app", json!({"permissionPolicy": policy, "lifecyclePolicy": lifecycle})).await;
    let object = rig.resources().get("app").await.expect("it is there");
    assert_eq!(object.spec.permission_policy.map(Value::Object), Some(policy));
    assert_eq!(object.spec.lifecycle_policy.map(Value::Object), Some(lifecycle));
}
