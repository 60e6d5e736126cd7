//! Policies for tests that need any policy.

use serde_json::{Value, json};

/// A lifecycle policy that keeps the newest `images`.
pub fn keep(images: u32) -> Value {
    json!({"rules": [{"rulePriority": 1, "action": {"type": "expire"},
                      "selection": {"tagStatus": "any", "countType": "imageCountMoreThan",
                          "countNumber": images}}]})
}

/// A permission policy that lets `account` pull.
pub fn pull(account: &str) -> Value {
    json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": account},
           "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]}]})
}
