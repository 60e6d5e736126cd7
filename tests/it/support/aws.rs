//! Access to the stand-in with the AWS SDK.

use std::sync::Arc;

use ecr_sync::ecr::{Options, Session};
use ecr_sync::meter::Silent;
use ecr_sync::registry::Transport;
use testbed::ecr::StandIn;

use super::{ACCOUNT, REGION};

/// A session of the stand-in's default user.
pub fn session(ecr: &StandIn, transport: Transport) -> Session {
    let keys = aws_sdk_ecr::config::Credentials::new(
        StandIn::access_key(ACCOUNT),
        "any",
        None,
        None,
        "test",
    );
    let sdk = aws_config::SdkConfig::builder()
        .behavior_version(aws_config::BehaviorVersion::latest())
        .credentials_provider(aws_sdk_ecr::config::SharedCredentialsProvider::new(keys))
        .region(aws_config::Region::new(REGION))
        .endpoint_url(ecr.endpoint())
        .build();
    Session::new(sdk, Options::default(), transport, Arc::new(Silent), None)
}
