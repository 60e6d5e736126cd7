//! Requests per second, per action, account and region. Off until set.

use std::collections::HashMap;
use std::time::Instant;

use parking_lot::Mutex;

use super::errors::{Error, Result};

/// ECR's published default quotas per second. A burst of one second's worth is assumed.
const QUOTAS: [(&str, u32); 8] = [
    ("GetAuthorizationToken", 500),
    ("BatchCheckLayerAvailability", 1_000),
    ("BatchGetImage", 2_000),
    ("GetDownloadUrlForLayer", 3_000),
    ("InitiateLayerUpload", 100),
    ("UploadLayerPart", 500),
    ("CompleteLayerUpload", 100),
    ("PutImage", 10),
];

/// Token buckets.
#[derive(Debug, Default)]
pub(crate) struct Limits(Mutex<Buckets>);

#[derive(Debug, Default)]
struct Buckets {
    rates: HashMap<String, (f64, f64)>,
    /// Remaining calls, and the time of the last update.
    left: HashMap<(String, String, String), (f64, Instant)>,
}

impl Limits {
    pub(crate) fn set(&self, action: &str, per_second: f64, burst: u32) {
        let mut buckets = self.0.lock();
        buckets.rates.insert(action.to_owned(), (per_second, f64::from(burst)));
        buckets.left.retain(|(_, _, limited), _| limited != action);
    }

    pub(crate) fn like_ecr(&self) {
        for (action, rate) in QUOTAS {
            self.set(action, f64::from(rate), rate);
        }
    }

    pub(crate) fn clear(&self) {
        *self.0.lock() = Buckets::default();
    }

    /// Consumes one call of `action`, or refuses it.
    pub(crate) fn take(&self, account: &str, region: &str, action: &str) -> Result<()> {
        let mut buckets = self.0.lock();
        let Some(&(rate, burst)) = buckets.rates.get(action) else { return Ok(()) };
        let key = (account.to_owned(), region.to_owned(), action.to_owned());
        let now = Instant::now();
        let (left, since) = buckets.left.entry(key).or_insert((burst, now));
        *left = (*left + now.duration_since(*since).as_secs_f64() * rate).min(burst);
        *since = now;
        if *left < 1.0 {
            return Err(Error::api("ThrottlingException", "Rate exceeded"));
        }
        *left -= 1.0;
        Ok(())
    }
}

/// Returns the API action behind a registry request, for its limit and permission. The mapping is
/// inferred from AWS's push and pull policies.
pub(crate) fn action(operation: &str) -> Option<&'static str> {
    Some(match operation {
        "StartUpload" => "InitiateLayerUpload",
        "PatchUpload" => "UploadLayerPart",
        "PutBlob" => "CompleteLayerUpload",
        "HeadBlob" => "BatchCheckLayerAvailability",
        "GetBlob" => "GetDownloadUrlForLayer",
        "HeadManifest" | "GetManifest" | "ListReferrers" => "BatchGetImage",
        "PutManifest" => "PutImage",
        "DeleteManifest" => "BatchDeleteImage",
        "ListTags" => "ListImages",
        _ => return None,
    })
}
