//! Tests of policies.

mod properties;

use serde_json::Value;

use super::{Kind, Policy, canonical_live, canonical_text, means_the_same, text};
use crate::api::v1alpha1::EcrRepositorySync;

pub(super) fn policy(value: Value) -> Policy {
    match value {
        Value::Object(policy) => policy,
        other => panic!("{other} is not an object"),
    }
}

#[test]
fn a_decimal_of_many_digits_is_the_same_number_each_time_that_it_is_read() {
    let exact = ["9.221885624698874e-29", "5.699993338763803e-16", "31.245270191439438"];
    for number in exact.into_iter().chain(["0.1", "1e-7", "1.0", "-0.0"]) {
        let statement = format!(
            r#"{{"Effect": "Allow", "Principal": "*", "Action": "ecr:BatchGetImage",
                 "Condition": {{"NumericLessThan": {{"aws:MultiFactorAuthAge": {number}}}}}}}"#
        );
        let permission = format!(r#"{{"Version": "2012-10-17", "Statement": [{statement}]}}"#);
        let object = format!(
            r#"{{"apiVersion": "ecr-sync.io/v1alpha1", "kind": "EcrRepositorySync",
                 "metadata": {{"name": "app"}}, "spec": {{"permissionPolicy": {permission}}}}}"#
        );

        // As the watch has it, as the store keeps it, and as ECR returns it.
        let object: EcrRepositorySync = serde_json::from_str(&object).expect("a resource");
        let again = serde_json::to_string(&object).expect("JSON");
        let again: EcrRepositorySync = serde_json::from_str(&again).expect("a resource");
        assert_eq!(again.spec, object.spec, "{number}");
        let policy = object.spec.permission_policy.expect("a policy");
        let live = text(&policy);
        assert!(means_the_same(Kind::Permission, &policy, &live), "{number}: {live}");
        assert_eq!(
            canonical_live(Kind::Permission, &live),
            canonical_text(Kind::Permission, &policy)
        );
        let Ok(Value::Object(written)) = serde_json::from_str(&permission) else { panic!() };
        assert!(means_the_same(Kind::Permission, &written, &live), "{number}");
    }
    let read: Value = serde_json::from_str(exact[0]).expect("a number");
    assert_eq!(read.to_string(), exact[0]);
}
