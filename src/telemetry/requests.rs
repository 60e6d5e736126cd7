//! Metrics of requests to AWS and registries, waits, bytes, token expiry and remaining pulls. Hosts
//! are labelled by class: label values are from closed sets.

use std::time::Duration;

use prometheus::{
    CounterVec, GaugeVec, IntCounter, IntCounterVec, IntGaugeVec, Registry,
    register_counter_vec_with_registry, register_gauge_vec_with_registry,
    register_int_counter_vec_with_registry, register_int_counter_with_registry,
    register_int_gauge_vec_with_registry,
};

use super::liveness::Liveness;

use crate::meter::Meter;

/// The counters behind a [`Meter`].
#[derive(Clone, Debug)]
pub struct Requests {
    aws: IntCounterVec,
    registry: IntCounterVec,
    pulls_left: IntGaugeVec,
    throttled: CounterVec,
    token_expiry: GaugeVec,
    bytes: IntCounter,
    liveness: Liveness,
}

impl Requests {
    pub(super) fn new(registry: &Registry, liveness: Liveness) -> Result<Self, prometheus::Error> {
        Ok(Self {
            aws: register_int_counter_vec_with_registry!(
                "ecrsync_aws_requests_total",
                "Attempts of AWS calls, by operation and OK or the error code of AWS.",
                &["operation", "code"],
                registry
            )?,
            registry: register_int_counter_vec_with_registry!(
                "ecrsync_registry_requests_total",
                "Requests to registries, by host class, method and HTTP status.",
                &["host_class", "method", "code"],
                registry
            )?,
            pulls_left: register_int_gauge_vec_with_registry!(
                "ecrsync_registry_pulls_remaining",
                "Remaining pulls last reported by the registry, by host class, for the most \
                     recently used login.",
                &["host_class"],
                registry
            )?,
            throttled: register_counter_vec_with_registry!(
                "ecrsync_throttle_wait_seconds_total",
                "Time that requests waited for the operator's own rate limits.",
                &["action"],
                registry
            )?,
            token_expiry: register_gauge_vec_with_registry!(
                "ecrsync_token_expiry_timestamp_seconds",
                "Expiry of the ECR authorization token (Unix time).",
                &["account", "region"],
                registry
            )?,
            bytes: register_int_counter_with_registry!(
                "ecrsync_copied_bytes_total",
                "Bytes of blobs sent to ECR.",
                registry
            )?,
            liveness,
        })
    }
}

impl Meter for Requests {
    fn registry_request(&self, host: &str, method: &str, status: Option<u16>) {
        let code = status.map_or_else(|| "none".to_owned(), |status| status.to_string());
        self.registry.with_label_values(&[host_class(host), method_class(method), &code]).inc();
    }

    fn pulls_left(&self, host: &str, left: u64) {
        self.pulls_left
            .with_label_values(&[host_class(host)])
            .set(i64::try_from(left).unwrap_or(i64::MAX));
    }

    fn aws_request(&self, operation: &str, code: &str) {
        self.aws.with_label_values(&[operation, code]).inc();
    }

    fn throttled(&self, action: &'static str, wait: Duration) {
        self.throttled.with_label_values(&[action]).inc_by(wait.as_secs_f64());
    }

    fn token_renewed(&self, account: &str, region: &str, life: Duration) {
        let expiry = jiff::Timestamp::now().as_duration().as_secs_f64() + life.as_secs_f64();
        self.token_expiry.with_label_values(&[account, region]).set(expiry);
    }

    fn copied(&self, bytes: u64) {
        self.liveness.finished();
        self.bytes.inc_by(bytes);
    }
}

/// Returns the class of a host. Users choose hosts, so a host itself is not a label value.
fn host_class(host: &str) -> &'static str {
    let name = host.split(':').next().unwrap_or_default();
    let is_in = |domain: &str| {
        name == domain || name.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
    };

    if name.contains(".dkr.ecr") || name.contains(".dkr-ecr") {
        "ecr"
    } else if is_in("public.ecr.aws") || is_in("ecr-public.aws.com") {
        "ecr-public"
    } else if is_in("docker.io") || is_in("docker.com") {
        "docker-hub"
    } else if is_in("ghcr.io") || is_in("githubusercontent.com") {
        "ghcr"
    } else if is_in("quay.io") {
        "quay"
    } else if is_in("gcr.io") || is_in("pkg.dev") || is_in("registry.k8s.io") {
        "google"
    } else if is_in("azurecr.io") || is_in("mcr.microsoft.com") {
        "azure"
    } else if is_in("amazonaws.com") {
        "s3"
    } else {
        "other"
    }
}

fn method_class(method: &str) -> &'static str {
    match method {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_fall_into_few_classes() {
        let table = [
            ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", "ecr"),
            ("123456789012.dkr-ecr.eu-west-1.on.aws", "ecr"),
            ("public.ecr.aws", "ecr-public"),
            ("registry-1.docker.io", "docker-hub"),
            ("production.cloudflare.docker.com", "docker-hub"),
            ("ghcr.io", "ghcr"),
            ("cdn01.quay.io", "quay"),
            ("europe-docker.pkg.dev", "google"),
            ("acme.azurecr.io", "azure"),
            ("prod-eu-west-1-starport-layer-bucket.s3.eu-west-1.amazonaws.com", "s3"),
            ("registry.example.com:5000", "other"),
            ("notdocker.io", "other"),
        ];
        for (host, class) in table {
            assert_eq!(host_class(host), class, "{host}");
        }
    }
}
