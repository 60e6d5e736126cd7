//! The most detailed log has no credential: neither that of a source nor the password of ECR.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use testbed::traffic::Record;
use testbed::upstream::User;

use crate::support::Sources;
use crate::support::desk::{Desk, output};

/// The credentials in requests: as they were sent, and the password of a Basic login.
fn secrets(requests: &[Record]) -> Vec<String> {
    let headers = requests.iter().filter_map(|request| request.headers.get("authorization"));
    let sent = headers.filter_map(|header| header.to_str().ok()?.split_once(' '));
    let mut secrets = Vec::new();
    for (scheme, secret) in sent {
        match scheme {
            "Basic" => {
                let pair = STANDARD.decode(secret).expect("base64");
                let pair = String::from_utf8(pair).expect("text");
                secrets.push(pair.split_once(':').expect("a pair").1.to_owned());
                secrets.push(secret.to_owned());
            }
            "Bearer" => secrets.push(secret.to_owned()),
            _ => {}
        }
    }
    secrets.sort();
    secrets.dedup();
    secrets
}

#[tokio::test]
async fn a_log_at_trace_level_has_no_credential() {
    let desk = Desk::before(Sources::shared().await.token.host()).await;
    desk.write("all.yaml", &desk.entry("app", "library/demo", &["1.27"]));
    let mut command = desk.command(&["sync", "all.yaml", "--log-level", "trace"]);
    let host = desk.source.host().replace(['.', ':'], "_");
    command
        .env(format!("ECR_SYNC_USERNAME_{host}"), User::Reader.name())
        .env(format!("ECR_SYNC_PASSWORD_{host}"), User::Reader.password());
    let output = output(command).await;
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("DEBUG"), "it is detailed: {text}");

    let of_ecr = secrets(&desk.ecr.log());
    let of_source = secrets(&desk.source.log());
    assert!(of_ecr.len() >= 2 && !of_source.is_empty(), "{of_ecr:?} {of_source:?}");
    for secret in
        of_ecr.iter().chain(&of_source).map(String::as_str).chain([User::Reader.password()])
    {
        let at = text.find(secret);
        assert_eq!(at, None, "{secret} is in the log: {}", &text[at.unwrap_or(0)..][..200]);
    }
}
