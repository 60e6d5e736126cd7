//! Series per resource (`ecrsync_resource_…`, `ecrsync_tags`). Removed with the resource.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use parking_lot::Mutex;
use prometheus::core::Collector;
use prometheus::{IntGaugeVec, Opts};

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
    tags: IntGaugeVec,
    series: Arc<Mutex<HashMap<String, Series>>>,
}

impl Resources {
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        Ok(Self {
            info: IntGaugeVec::new(
                Opts::new("ecrsync_resource_info", "Every EcrRepositorySync; always 1."),
                &["namespace", "name", "repository", "ready", "reason", "suspended"],
            )?,
            condition: IntGaugeVec::new(
                Opts::new(
                    "ecrsync_resource_condition",
                    "Conditions of every EcrRepositorySync: 1 for the current status.",
                ),
                &["namespace", "name", "type", "status"],
            )?,
            tags: IntGaugeVec::new(
                Opts::new("ecrsync_tags", "Wanted tags of all resources: synced or failed."),
                &["state"],
            )?,
            series: Arc::default(),
        })
    }

    pub(super) fn collectors(&self) -> [Box<dyn Collector>; 3] {
        [Box::new(self.info.clone()), Box::new(self.condition.clone()), Box::new(self.tags.clone())]
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
        self.tags.with_label_values(&["synced"]).add(labels.synced);
        self.tags.with_label_values(&["failed"]).add(labels.failed);

        for condition in conditions {
            for status in STATUSES {
                self.condition
                    .with_label_values(&[&labels.namespace, &labels.name, &condition.type_, status])
                    .set(i64::from(condition.status == status));
            }
        }
    }

    /// Drops the series of a resource.
    pub(super) fn forget(&self, uid: &str) {
        if let Some(series) = self.series.lock().remove(uid) {
            self.remove(&series);
        }
    }

    /// Drops the series of all resources but those that `exists`.
    pub(super) fn retain(&self, exists: impl Fn(&str) -> bool) {
        self.series.lock().retain(|uid, series| {
            let keep = exists(uid);
            if !keep {
                self.remove(series);
            }
            keep
        });
    }

    /// Removes series; ignores those that do not exist.
    fn remove(&self, series: &Series) {
        let _absent = self.info.remove_label_values(&series.info);
        self.tags.with_label_values(&["synced"]).sub(series.labels.synced);
        self.tags.with_label_values(&["failed"]).sub(series.labels.failed);
        for type_ in &series.types {
            for status in STATUSES {
                let labels =
                    [&series.labels.namespace, &series.labels.name, type_.as_str(), status];
                let _absent = self.condition.remove_label_values(&labels);
            }
        }
    }
}
