//! Properties of every policy: an equivalent form is equal, a real change is not, unknown keys are
//! kept.

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Map, Value, json};

use super::policy;
use crate::ecr::policy::{Kind, means_the_same, text};

fn lifecycle_rule() -> impl Strategy<Value = Value> {
    let tags = btree_set("[a-z0-9.*-]{1,6}", 1..4).prop_map(|set| json!(set));
    let selection = (
        prop_oneof![
            Just(json!({"tagStatus": "untagged"})),
            Just(json!({"tagStatus": "any"})),
            tags.clone().prop_map(|tags| json!({"tagStatus": "tagged", "tagPatternList": tags})),
            tags.prop_map(|tags| json!({"tagStatus": "tagged", "tagPrefixList": tags})),
        ],
        select(vec!["imageCountMoreThan", "sinceImagePushed", "sinceImagePulled"]),
        1..1000_u32,
        proptest::bool::ANY,
    );

    (selection, proptest::option::of("[a-z ]{0,12}"), proptest::bool::ANY, unknown()).prop_map(
        |((mut selection, count_type, number, in_archive), description, archives, unknown)| {
            selection["countType"] = json!(count_type);
            selection["countNumber"] = json!(number);
            if count_type != "imageCountMoreThan" {
                selection["countUnit"] = json!("days");
            }
            if in_archive {
                selection["storageClass"] = json!("archive");
            }
            let action = if archives {
                json!({"type": "transition", "targetStorageClass": "archive"})
            } else {
                json!({"type": "expire"})
            };
            let mut rule = json!({"selection": selection, "action": action});
            if let Some(description) = description {
                rule["description"] = json!(description);
            }
            with(rule, unknown)
        },
    )
}

/// Keys that AWS may add one day.
fn unknown() -> impl Strategy<Value = Map<String, Value>> {
    let value = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z]{0,4}".prop_map(Value::from)
    ];
    btree_map("new[A-Z]{1,3}", value, 0..2).prop_map(|map| map.into_iter().collect())
}

fn with(mut object: Value, more: Map<String, Value>) -> Value {
    if let Value::Object(object) = &mut object {
        object.extend(more);
    }
    object
}

fn lifecycle() -> impl Strategy<Value = Value> {
    (vec(lifecycle_rule(), 1..6), unknown()).prop_map(|(mut rules, unknown)| {
        for (index, rule) in rules.iter_mut().enumerate() {
            rule["rulePriority"] = json!(index + 1);
        }
        with(json!({"rules": rules}), unknown)
    })
}

fn statement() -> impl Strategy<Value = Value> {
    let principals = prop_oneof![
        "[0-9]{12}",
        "[0-9]{12}".prop_map(|account| format!("arn:aws:iam::{account}:role/ci")),
        Just("*".to_owned()),
    ];
    let principal = prop_oneof![
        Just(json!("*")),
        btree_set(principals, 1..4).prop_map(|set| json!({"AWS": set})),
        Just(json!({"Service": ["codebuild.amazonaws.com"]})),
    ];

    let actions = select(vec![
        "ecr:BatchGetImage",
        "ecr:GetDownloadUrlForLayer",
        "ecr:DeleteRepository",
        "ecr:*",
    ]);
    let condition = prop_oneof![
        Just(None),
        any::<bool>().prop_map(|secure| Some(
            json!({"Bool": {"aws:SecureTransport": [secure.to_string()]}})
        )),
        btree_set("o-[a-z0-9]{2}", 1..3)
            .prop_map(|ids| Some(json!({"StringEquals": {"aws:PrincipalOrgID": ids}}))),
    ];

    let effect = select(vec!["Allow", "Deny"]);
    (effect, principal, btree_set(actions, 1..4), condition, unknown()).prop_map(
        |(effect, principal, actions, condition, unknown)| {
            let mut statement =
                json!({"Effect": effect, "Principal": principal, "Action": actions});
            if let Some(condition) = condition {
                statement["Condition"] = condition;
            }
            with(statement, unknown)
        },
    )
}

fn permission() -> impl Strategy<Value = Value> {
    (vec(statement(), 1..5), unknown()).prop_map(|(mut statements, unknown)| {
        for (index, statement) in statements.iter_mut().enumerate() {
            statement["Sid"] = json!(format!("S{index}"));
        }
        with(json!({"Version": "2012-10-17", "Statement": statements}), unknown)
    })
}

/// A repeatable source of random choices.
struct Dice<'a>(std::iter::Cycle<std::slice::Iter<'a, Index>>);

impl Dice<'_> {
    fn flip(&mut self) -> bool {
        self.0.next().is_some_and(|index| index.index(2) == 1)
    }

    fn shuffle(&mut self, values: &mut [Value]) {
        for at in (1..values.len()).rev() {
            let other = self.0.next().map_or(0, |index| index.index(at + 1));
            values.swap(at, other);
        }
    }

    /// Writes a set of one without brackets, or an element twice.
    fn respell_set(&mut self, value: &mut Value) {
        let Value::Array(values) = value else { return };
        self.shuffle(values);
        if values.len() == 1 && self.flip() {
            *value = values[0].clone();
        } else if self.flip() {
            values.push(values[0].clone());
        }
    }
}

/// Rewrites a lifecycle policy as ECR might store it.
fn respell_lifecycle(policy: &mut Value, dice: &mut Dice<'_>) {
    let rules = policy["rules"].as_array_mut().expect("rules");
    dice.shuffle(rules);
    for rule in rules {
        let selection = rule["selection"].as_object_mut().expect("a selection");
        for key in ["tagPatternList", "tagPrefixList"] {
            match selection.get_mut(key) {
                Some(Value::Array(tags)) => dice.shuffle(tags),
                _ if dice.flip() => {
                    selection.insert(key.to_owned(), json!([]));
                }
                _ => {}
            }
        }
        if !selection.contains_key("storageClass") && dice.flip() {
            selection.insert("storageClass".to_owned(), json!("standard"));
        }
    }
}

/// Rewrites a permission policy as ECR might store it.
fn respell_permission(policy: &mut Value, dice: &mut Dice<'_>) {
    let statements = policy["Statement"].as_array_mut().expect("statements");
    dice.shuffle(statements);
    for statement in statements.iter_mut() {
        dice.respell_set(&mut statement["Action"]);
        if let Some(aws) = statement.pointer_mut("/Principal/AWS") {
            for principal in aws.as_array_mut().expect("principals") {
                let account = principal
                    .as_str()
                    .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
                if let Some(account) = account
                    && dice.flip()
                {
                    *principal = json!(format!("arn:aws:iam::{account}:root"));
                }
            }
            dice.respell_set(aws);
        }
        if let Some(secure) = statement.pointer_mut("/Condition/Bool/aws:SecureTransport")
            && dice.flip()
        {
            *secure = json!(secure[0] == "true");
        }
        if dice.flip() {
            statement["Effect"] =
                json!(statement["Effect"].as_str().expect("an effect").to_ascii_uppercase());
        }
    }

    if statements.len() == 1 && dice.flip() {
        policy["Statement"] = statements[0].clone();
    }
}

/// Appends the path of each value in a document that is neither an object nor a list.
fn leaves(value: &Value, path: &str, paths: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(key, value)| leaves(value, &format!("{path}/{key}"), paths));
        }
        Value::Array(values) => {
            values
                .iter()
                .enumerate()
                .for_each(|(index, value)| leaves(value, &format!("{path}/{index}"), paths));
        }
        _ => paths.push(path.to_owned()),
    }
}

/// Changes or removes one leaf; returns its path.
fn change(policy: &mut Value, which: Index, removes: bool) -> String {
    let mut paths = Vec::new();
    leaves(policy, "", &mut paths);
    let path = which.get(&paths).clone();
    let (parent, key) = path.rsplit_once('/').expect("a leaf has a parent");

    match policy.pointer_mut(parent).expect("the parent") {
        Value::Object(members) if removes => drop(members.remove(key)),
        Value::Array(values) if removes => drop(values.remove(key.parse().expect("an index"))),
        _ => {
            let leaf = policy.pointer_mut(&path).expect("the leaf");
            *leaf = match &*leaf {
                Value::String(text) => json!(format!("{text}~")),
                Value::Number(number) => json!(number.as_i64().expect("a whole number") + 1),
                Value::Bool(value) => json!(!value),
                other => panic!("{other} is not a leaf"),
            };
        }
    }

    path
}

fn dice() -> impl Strategy<Value = Vec<Index>> {
    vec(any::<Index>(), 64)
}

proptest! {
    #[test]
    fn an_equivalent_lifecycle_policy_is_equal(wanted in lifecycle(), choices in dice()) {
        let mut live = wanted.clone();
        respell_lifecycle(&mut live, &mut Dice(choices.iter().cycle()));
        let live = serde_json::to_string_pretty(&live).expect("JSON");
        prop_assert!(means_the_same(Kind::Lifecycle, &policy(wanted), &live), "{live}");
    }

    #[test]
    fn an_equivalent_permission_policy_is_equal(wanted in permission(), choices in dice()) {
        let mut live = wanted.clone();
        respell_permission(&mut live, &mut Dice(choices.iter().cycle()));
        let live = serde_json::to_string_pretty(&live).expect("JSON");
        prop_assert!(means_the_same(Kind::Permission, &policy(wanted), &live), "{live}");
    }

    #[test]
    fn a_changed_lifecycle_policy_is_not_equal(wanted in lifecycle(), which: Index, removes: bool, choices in dice()) {
        let mut live = wanted.clone();
        let path = change(&mut live, which, removes);
        respell_lifecycle(&mut live, &mut Dice(choices.iter().cycle()));
        prop_assert!(!means_the_same(Kind::Lifecycle, &policy(wanted), &live.to_string()), "{path}");
    }

    #[test]
    fn a_changed_permission_policy_is_not_equal(wanted in permission(), which: Index, removes: bool) {
        let mut live = wanted.clone();
        let path = change(&mut live, which, removes);
        prop_assert!(!means_the_same(Kind::Permission, &policy(wanted), &live.to_string()), "{path}");
    }

    #[test]
    fn the_text_is_sent_as_it_was_written(wanted in prop_oneof![lifecycle(), permission()]) {
        prop_assert_eq!(serde_json::from_str::<Value>(&text(&policy(wanted.clone()))).expect("JSON"), wanted);
    }
}
