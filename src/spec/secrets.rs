//! Secrets that image and chart refer to.

use crate::api::v1alpha1::{Chart, EcrRepositorySyncSpec, Image, LocalReference};

/// Names of Secrets in the namespace of the resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Secrets {
    /// `secretRef`.
    pub(crate) login: Option<String>,
    /// `certSecretRef`.
    pub(crate) certificates: Option<String>,
    /// `proxySecretRef`.
    pub(crate) proxy: Option<String>,
}

impl Secrets {
    /// The Secrets of a spec that may be wrong elsewhere.
    pub(crate) fn of(spec: &EcrRepositorySyncSpec) -> impl Iterator<Item = String> {
        let image = spec.image.as_ref().map(Self::of_image);
        let all = image.into_iter().chain(spec.chart.as_ref().map(Self::of_chart));
        all.flat_map(|secrets| [secrets.login, secrets.certificates, secrets.proxy]).flatten()
    }

    pub(crate) fn of_image(image: &Image) -> Self {
        Self::new(&image.secret_ref, &image.cert_secret_ref, &image.proxy_secret_ref)
    }

    pub(crate) fn of_chart(chart: &Chart) -> Self {
        Self::new(&chart.secret_ref, &chart.cert_secret_ref, &chart.proxy_secret_ref)
    }

    fn new(
        login: &Option<LocalReference>,
        certificates: &Option<LocalReference>,
        proxy: &Option<LocalReference>,
    ) -> Self {
        let name = |reference: &Option<LocalReference>| {
            reference.as_ref().map(|reference| reference.name.clone())
        };
        Self { login: name(login), certificates: name(certificates), proxy: name(proxy) }
    }
}
