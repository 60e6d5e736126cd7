//! Series per resource (`ecrsync_resource_…`) and namespace (`ecrsync_tags`). Removed with the
//! resource.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use parking_lot::Mutex;
use prometheus::{
    GaugeVec, IntGaugeVec, Registry, register_gauge_vec_with_registry,
    register_int_gauge_vec_with_registry,
};

/// Statuses of a condition. Each has a series; that of the current status has the value 1.
const STATUSES: [&str; 3] = ["True", "False", "Unknown"];

/// Label values and counts of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    /// The resource's namespace.
    pub namespace: String,
    /// The resource's name.
    pub name: String,
    /// The ECR repository.
    pub repository: String,
    /// Whether the resource is suspended.
    pub suspended: bool,
    /// Number of wanted tags that are in sync.
    pub synced: i64,
    /// Number of wanted tags that are not in sync.
    pub failed: i64,
}

#[derive(Debug)]
struct Series {
    /// Label values of the info series.
    info: [String; 6],
    labels: Labels,
    /// Types of the resource's conditions.
    types: Vec<String>,
}

/// The series of all resources.
#[derive(Clone, Debug)]
pub struct Resources {
    info: IntGaugeVec,
    condition: IntGaugeVec,
    last_pass: GaugeVec,
    tags: IntGaugeVec,
    series: Arc<Mutex<HashMap<String, Series>>>,
}

impl Resources {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            info: register_int_gauge_vec_with_registry!(
                "ecrsync_resource_info",
                "Every EcrRepositorySync; always 1.",
                &["namespace", "name", "repository", "ready", "reason", "suspended"],
                registry
            )?,
            condition: register_int_gauge_vec_with_registry!(
                "ecrsync_resource_condition",
                "Conditions of every EcrRepositorySync: 1 for the current status.",
                &["namespace", "name", "type", "status"],
                registry
            )?,
            last_pass: register_gauge_vec_with_registry!(
                "ecrsync_resource_last_pass_timestamp_seconds",
                "End of the last pass of every EcrRepositorySync, since this process started.",
                &["namespace", "name"],
                registry
            )?,
            tags: register_int_gauge_vec_with_registry!(
                "ecrsync_tags",
                "Wanted tags of all resources, by namespace: synced or failed.",
                &["namespace", "state"],
                registry
            )?,
            series: Arc::default(),
        })
    }

    /// Sets the series of a resource.
    pub fn set(&self, uid: &str, labels: &Labels, conditions: &[Condition]) {
        let ready = conditions.iter().find(|condition| condition.type_ == "Ready");
        let info = [
            labels.namespace.clone(),
            labels.name.clone(),
            labels.repository.clone(),
            ready.map_or("Unknown", |ready| ready.status.as_str()).to_owned(),
            ready.map_or("", |ready| ready.reason.as_str()).to_owned(),
            labels.suspended.to_string(),
        ];

        let types = conditions.iter().map(|condition| condition.type_.clone()).collect();
        let series = Series { info: info.clone(), labels: labels.clone(), types };

        let mut all = self.series.lock();
        if let Some(old) = all.insert(uid.to_owned(), series) {
            self.remove(&old);
        }

        self.info.with_label_values(&info).set(1);
        self.tags.with_label_values(&[&labels.namespace, "synced"]).add(labels.synced);
        self.tags.with_label_values(&[&labels.namespace, "failed"]).add(labels.failed);

        for condition in conditions {
            for status in STATUSES {
                self.condition
                    .with_label_values(&[&labels.namespace, &labels.name, &condition.type_, status])
                    .set(i64::from(condition.status == status));
            }
        }
    }

    /// Records the end of a pass at `time`; ignored for a resource without series.
    pub(super) fn passed(&self, uid: &str, time: SystemTime) {
        let Ok(since_epoch) = time.duration_since(UNIX_EPOCH) else { return };
        if let Some(Series { labels, .. }) = self.series.lock().get(uid) {
            self.last_pass
                .with_label_values(&[&labels.namespace, &labels.name])
                .set(since_epoch.as_secs_f64());
        }
    }

    /// Drops the series of a resource.
    pub(super) fn forget(&self, uid: &str) {
        if let Some(series) = self.series.lock().remove(uid) {
            self.remove_resource(&series);
        }
    }

    /// Drops the series of all resources but those that `exists`.
    pub(super) fn retain(&self, exists: impl Fn(&str) -> bool) {
        self.series.lock().retain(|uid, series| {
            let keep = exists(uid);
            if !keep {
                self.remove_resource(series);
            }
            keep
        });
    }

    /// Removes all series of a resource, and those of its namespace if nothing is left in it.
    fn remove_resource(&self, series: &Series) {
        self.remove(series);

        let Labels { namespace, name, .. } = &series.labels;
        let _absent = self.last_pass.remove_label_values(&[namespace, name]);
        let states = ["synced", "failed"];
        if states.iter().all(|&state| self.tags.with_label_values(&[namespace, state]).get() == 0) {
            for state in states {
                let _absent = self.tags.remove_label_values(&[namespace, state]);
            }
        }
    }

    /// Removes the series that `set` writes; ignores those that do not exist.
    fn remove(&self, series: &Series) {
        let Labels { namespace, synced, failed, .. } = &series.labels;
        let _absent = self.info.remove_label_values(&series.info);
        self.tags.with_label_values(&[namespace, "synced"]).sub(*synced);
        self.tags.with_label_values(&[namespace, "failed"]).sub(*failed);
        for type_ in &series.types {
            for status in STATUSES {
                let labels =
                    [&series.labels.namespace, &series.labels.name, type_.as_str(), status];
                let _absent = self.condition.remove_label_values(&labels);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus::TextEncoder;

    use super::*;

    fn labels(name: &str) -> Labels {
        Labels {
            namespace: "a".to_owned(),
            name: name.to_owned(),
            repository: name.to_owned(),
            suspended: false,
            synced: 2,
            failed: 1,
        }
    }

    fn page(registry: &Registry) -> String {
        TextEncoder::new().encode_to_string(&registry.gather()).expect("encodes")
    }

    #[test]
    fn tags_are_counted_by_namespace_and_passes_by_resource_until_the_resource_is_gone() {
        let registry = Registry::new();
        let resources = Resources::new(&registry).expect("distinct names");
        let end = UNIX_EPOCH + Duration::from_secs(1000);

        resources.passed("unknown", end);
        resources.set("1", &labels("app"), &[]);
        resources.set("2", &labels("web"), &[]);
        resources.passed("1", end);
        resources.set("1", &Labels { suspended: true, ..labels("app") }, &[]);

        let text = page(&registry);
        let pass =
            "ecrsync_resource_last_pass_timestamp_seconds{name=\"app\",namespace=\"a\"} 1000\n";
        assert!(text.contains(pass), "{text}");
        assert!(text.contains("ecrsync_tags{namespace=\"a\",state=\"synced\"} 4\n"), "{text}");
        assert!(text.contains("ecrsync_tags{namespace=\"a\",state=\"failed\"} 2\n"), "{text}");

        resources.forget("1");
        let text = page(&registry);
        assert!(!text.contains("name=\"app\""), "{text}");
        assert!(text.contains("ecrsync_tags{namespace=\"a\",state=\"synced\"} 2\n"), "{text}");
        resources.retain(|_| false);
        assert_eq!(page(&registry), "");
    }
}
