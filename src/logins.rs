//! Ways to the sources of a spec: the login of each, or the AWS identity that reads an ECR
//! registry, with the connection that may carry it.
//!
//! The controller and the command line have different logins, which is the trait [`Logins`]. The
//! rules are the same, and here:
//!
//! 1. An image with a mirror is read from the mirror, and from its own place only if the mirror
//!    allows that.
//! 2. The login that the spec or the table of mirrors names is used.
//! 3. Else the login that is configured for the host is used.
//! 4. Without a login, an AWS identity reads private ECR registries, and public.ecr.aws where that
//!    is switched on.
//! 5. Everything else is read anonymously.
//! 6. A login of the spec goes over the connection that the spec describes. A login of the operator
//!    goes over the operator's connection, with TLS: a spec that describes another one is refused
//!    (`foreign_connection`).
//!
//! The module makes the `Access` of `sync` from a `spec` and the table of `mirrors`. So it is above
//! these three, and below `controller` and `cli`, which both use it.

use std::sync::Arc;

use async_trait::async_trait;

use crate::class::Class;
use crate::ecr::Identity;
use crate::failure::Failure;
use crate::mirrors::{Mirror, Mirrors};
use crate::registry::{AllowedHosts, Credential, Reference, TransportOptions};
use crate::spec::{Chart, Image, Secrets, Spec};
use crate::sync::{Access, Accesses, Connection, EcrLogin, EcrSource, Mirrored, Way};

/// A source that a spec names, with the fields that describe its login and connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source<'a> {
    Image(&'a Image),
    Chart(&'a Chart),
}

impl Source<'_> {
    /// The field of the spec: `image` or `chart`.
    pub(crate) const fn field(&self) -> &'static str {
        match self {
            Self::Image(_) => "image",
            Self::Chart(_) => "chart",
        }
    }

    /// The Secrets that the spec names for the source.
    pub(crate) const fn secrets(&self) -> &Secrets {
        match self {
            Self::Image(image) => &image.secrets,
            Self::Chart(chart) => &chart.secrets,
        }
    }

    fn insecure(&self) -> bool {
        match self {
            Self::Image(image) => image.insecure,
            Self::Chart(chart) => chart.is_plain_http(),
        }
    }

    /// The fields with which the spec describes a connection of its own.
    fn own_settings(&self) -> Vec<String> {
        let Secrets { login: _, certificates, proxy } = self.secrets();
        let field = self.field();
        let plain = match self {
            Self::Chart(chart) if !chart.insecure => "chart.pullUrl with http://".to_owned(),
            _ => format!("{field}.insecure"),
        };

        let certificates = certificates.as_ref().map(|_| format!("{field}.certSecretRef"));
        let proxy = proxy.as_ref().map(|_| format!("{field}.proxySecretRef"));
        let plain = self.insecure().then_some(plain);
        [certificates, proxy, plain].into_iter().flatten().collect()
    }
}

/// The logins of the controller or of the command line.
#[async_trait]
pub(crate) trait Logins: Sync {
    /// Returns the login that the spec names for the source; `None` if it names none.
    async fn named(
        &self,
        source: Source<'_>,
        reference: &Reference,
    ) -> Result<Option<Credential>, Failure>;

    /// Returns the login that the table of mirrors names; `None` if it names none.
    async fn of_mirror(
        &self,
        mirror: &Mirror,
        reference: &Reference,
    ) -> Result<Option<Credential>, Failure>;

    /// Returns the login that the operator has for the host; anonymous if it has none.
    async fn configured(&self, reference: &Reference) -> Result<Credential, Failure>;

    /// Returns the AWS identity that reads an ECR registry for a spec.
    ///
    /// # Errors
    /// `AccessDenied` if no identity may read it.
    fn identity(&self, reference: &Reference) -> Result<Identity, Failure>;

    /// Whether the AWS identity logs in to public.ecr.aws.
    fn public_ecr_login(&self) -> bool;

    /// Whether the specs are the operator's own. Then `insecure` is a decision of the operator.
    fn owns_specs(&self) -> bool {
        false
    }

    /// Returns the certificates and the proxy that the spec names for the source.
    async fn transport(&self, _source: Source<'_>) -> Result<TransportOptions, Failure> {
        Ok(TransportOptions::default())
    }

    /// Hosts that the index of a chart repository may point to; `None` allows all.
    fn hosts(&self) -> Option<Arc<AllowedHosts>> {
        None
    }
}

/// Returns the ways to the sources of a spec, and the mirror of its image.
pub(crate) async fn accesses(
    logins: &impl Logins,
    mirrors: &Mirrors,
    spec: &Spec,
) -> (Accesses, Option<Mirrored>) {
    let image = async {
        let Some(image) = &spec.image else { return (Ok(Access::default()), None) };
        let mirrored = mirrored(logins, mirrors, &image.reference).await;
        // A place that is not read needs no login: no Secret is read and no helper is run for it.
        let access = if mirrored.as_ref().is_none_or(|mirrored| mirrored.fallback) {
            access(logins, Source::Image(image), &image.reference).await
        } else {
            Ok(Access::default())
        };
        (access, mirrored)
    };

    let chart = async {
        let Some(chart) = &spec.chart else { return Ok(Access::default()) };
        access(logins, Source::Chart(chart), chart.address.login()).await
    };

    let ((image, mirrored), chart) = futures::join!(image, chart);
    (Accesses { image, chart }, mirrored)
}

async fn mirrored(
    logins: &impl Logins,
    mirrors: &Mirrors,
    reference: &Reference,
) -> Option<Mirrored> {
    let (mirror, reference) = mirrors.find(reference)?;
    let way = way_to_mirror(logins, mirror, &reference).await;
    Some(Mirrored {
        access: way.map(|way| Access { way, hosts: None }),
        reference,
        fallback: mirror.fallback,
    })
}

/// Returns the way to a mirror. It belongs to the operator: its login, its connection, and whether
/// that is plain HTTP.
async fn way_to_mirror(
    logins: &impl Logins,
    mirror: &Mirror,
    reference: &Reference,
) -> Result<Way, Failure> {
    let login = match logins.of_mirror(mirror, reference).await? {
        Some(login) => login,
        None => logins.configured(reference).await?,
    };
    if login.is_anonymous()
        && let Some(registry) = ecr_source(logins, reference)
    {
        if mirror.insecure {
            let message = format!(
                "the mirror of {} is in ECR, which is read with TLS only: remove insecure from the \
                 mirror table",
                mirror.matched
            );
            return Err(Failure::new(Class::InvalidSpec, message));
        }
        return Ok(Way::Ecr(EcrLogin { registry, identity: Identity::default() }));
    }

    Ok(Way::Mirror { login, insecure: mirror.insecure })
}

async fn access(
    logins: &impl Logins,
    source: Source<'_>,
    reference: &Reference,
) -> Result<Access, Failure> {
    let hosts = match source {
        Source::Chart(_) => logins.hosts(),
        Source::Image(_) => None,
    };
    Ok(Access { way: way(logins, source, reference).await?, hosts })
}

async fn way(
    logins: &impl Logins,
    source: Source<'_>,
    reference: &Reference,
) -> Result<Way, Failure> {
    if let Some(login) = logins.named(source, reference).await? {
        return own_way(logins, source, login).await;
    }

    let login = logins.configured(reference).await?;
    if !login.is_anonymous() {
        let is_own = logins.owns_specs();
        return match source.own_settings() {
            settings if settings.is_empty() || is_own => {
                Ok(Way::Operator { login, insecure: source.insecure() })
            }
            settings => Err(foreign_connection(source, reference, &settings, "login")),
        };
    }

    match ecr_source(logins, reference) {
        Some(registry @ EcrSource::Private(_)) => {
            let identity = logins.identity(reference)?;
            match source.own_settings() {
                settings if settings.is_empty() => Ok(Way::Ecr(EcrLogin { registry, identity })),
                settings => Err(foreign_connection(source, reference, &settings, "AWS identity")),
            }
        }
        // public.ecr.aws can be read without an identity, and over any connection.
        Some(EcrSource::Public) if source.own_settings().is_empty() => {
            match logins.identity(reference) {
                Ok(identity) => Ok(Way::Ecr(EcrLogin { registry: EcrSource::Public, identity })),
                Err(_) => own_way(logins, source, Credential::Anonymous).await,
            }
        }
        _ => own_way(logins, source, Credential::Anonymous).await,
    }
}

/// Returns the way of a login of the spec: over the connection that the spec describes.
async fn own_way(
    logins: &impl Logins,
    source: Source<'_>,
    login: Credential,
) -> Result<Way, Failure> {
    let options = logins.transport(source).await?;
    let connection = Connection { insecure: source.insecure(), options };
    Ok(Way::Resource { login, connection })
}

/// The failure of a spec that describes a connection for a login of the operator. The owner of the
/// proxy or of the certificate authority would see the login.
fn foreign_connection(
    source: Source<'_>,
    reference: &Reference,
    settings: &[String],
    login: &str,
) -> Failure {
    let (field, host) = (source.field(), &reference.host);
    let settings = settings.join(", ");
    Failure::new(
        Class::InvalidSpec,
        format!(
            "{host} is read with the operator's {login}, which is sent only over the operator's own \
             connection, with TLS: name a login of your own in {field}.secretRef, or remove \
             {settings}"
        ),
    )
}

/// Returns the ECR registry of a reference that an AWS identity may read.
fn ecr_source(logins: &impl Logins, reference: &Reference) -> Option<EcrSource> {
    EcrSource::private(reference)
        .or_else(|| EcrSource::public(reference).filter(|_| logins.public_ecr_login()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::registry::Proxy;

    const PRIVATE: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/app:1";
    const PUBLIC: &str = "public.ecr.aws/nginx/nginx:1";

    #[derive(Default)]
    struct Fake {
        named: bool,
        configured: bool,
        denied: bool,
        public: bool,
        owns_specs: bool,
    }

    fn login(username: &str) -> Credential {
        Credential::Basic { username: username.to_owned(), password: "secret".to_owned() }
    }

    #[async_trait]
    impl Logins for Fake {
        async fn named(&self, _: Source<'_>, _: &Reference) -> Result<Option<Credential>, Failure> {
            Ok(self.named.then(|| login("named")))
        }

        async fn of_mirror(
            &self,
            _: &Mirror,
            _: &Reference,
        ) -> Result<Option<Credential>, Failure> {
            Ok(None)
        }

        async fn configured(&self, _: &Reference) -> Result<Credential, Failure> {
            Ok(if self.configured { login("configured") } else { Credential::Anonymous })
        }

        fn identity(&self, _: &Reference) -> Result<Identity, Failure> {
            if self.denied {
                return Err(Failure::new(Class::AccessDenied, "denied"));
            }
            Ok(Identity::default())
        }

        fn public_ecr_login(&self) -> bool {
            self.public
        }

        fn owns_specs(&self) -> bool {
            self.owns_specs
        }

        async fn transport(&self, source: Source<'_>) -> Result<TransportOptions, Failure> {
            let address = source.secrets().proxy.clone();
            let proxy = address.map(|address| Proxy { address, login: None });
            Ok(TransportOptions { proxy, ..TransportOptions::default() })
        }
    }

    async fn way(logins: Fake, spec: serde_json::Value) -> Result<Way, Failure> {
        let is_chart = spec.get("chart").is_some();
        let spec = serde_json::from_value(spec).expect("a spec");
        let spec = crate::spec::parse("app", &spec).expect("no violations");
        let (accesses, _) = accesses(&logins, &Mirrors::default(), &spec).await;
        let access = if is_chart { accesses.chart } else { accesses.image };
        access.map(|access| access.way)
    }

    async fn image(logins: Fake, pull_url: &str) -> Result<Way, Failure> {
        way(logins, json!({"image": {"pullUrl": pull_url}})).await
    }

    fn registry(way: Result<Way, Failure>) -> Option<EcrSource> {
        match way.expect("a way") {
            Way::Ecr(EcrLogin { registry, .. }) => Some(registry),
            _ => None,
        }
    }

    #[tokio::test]
    async fn a_named_login_comes_before_a_configured_one_and_both_before_an_identity() {
        let both = Fake { named: true, configured: true, ..Fake::default() };
        let way = image(both, PRIVATE).await.expect("a login");
        let connection = Connection::default();
        assert_eq!(way, Way::Resource { login: login("named"), connection });

        let configured = Fake { configured: true, ..Fake::default() };
        let way = image(configured, PRIVATE).await.expect("a login");
        assert_eq!(way, Way::Operator { login: login("configured"), insecure: false });
    }

    #[tokio::test]
    async fn without_a_login_an_identity_reads_private_ecr_and_public_ecr_where_switched_on() {
        let public = || Fake { public: true, ..Fake::default() };
        let private = registry(image(Fake::default(), PRIVATE).await);
        assert!(matches!(private, Some(EcrSource::Private(_))), "{private:?}");
        assert_eq!(registry(image(public(), PUBLIC).await), Some(EcrSource::Public));
        assert_eq!(registry(image(Fake::default(), PUBLIC).await), None);
        assert_eq!(registry(image(public(), "docker.io/library/nginx:1").await), None);
    }

    #[tokio::test]
    async fn a_denied_identity_fails_private_ecr_and_leaves_public_ecr_anonymous() {
        let denied = || Fake { denied: true, public: true, ..Fake::default() };
        let failure = image(denied(), PRIVATE).await.expect_err("denied");
        assert_eq!(failure.class, Class::AccessDenied);
        assert_eq!(image(denied(), PUBLIC).await.expect("anonymous"), Way::default());
    }

    #[tokio::test]
    async fn a_login_of_the_operator_is_never_sent_over_a_connection_of_the_spec() {
        let settings = [
            ("certSecretRef", json!({"name": "ca"})),
            ("proxySecretRef", json!({"name": "proxy"})),
            ("insecure", json!(true)),
        ];
        let configured = || Fake { configured: true, ..Fake::default() };
        for (setting, value) in settings {
            for (logins, host, words) in [
                (Fake::default(), PRIVATE, "AWS identity"),
                (configured(), "registry.example/app:1", "login"),
            ] {
                let spec = json!({"image": {"pullUrl": host, setting: value}});
                let failure = way(logins, spec).await.expect_err(setting);
                assert_eq!(failure.class, Class::InvalidSpec);
                let expected = format!("read with the operator's {words}, which is sent only over");
                assert!(failure.message.contains(&expected), "{failure}");
                assert!(failure.message.contains("image.secretRef"), "{failure}");
                assert!(failure.message.ends_with(&format!("image.{setting}")), "{failure}");
            }

            // A login of its own, or none, goes where the spec says.
            for logins in [Fake { named: true, ..configured() }, Fake::default()] {
                let spec = json!({"image": {"pullUrl": "registry.example/app:1", setting: value}});
                let way = way(logins, spec).await.expect("its own way");
                assert!(matches!(way, Way::Resource { .. }), "{way:?}");
            }

            // public.ecr.aws needs no login.
            let spec = json!({"image": {"pullUrl": PUBLIC, setting: value}});
            let way = way(Fake { public: true, ..Fake::default() }, spec).await.expect("anonymous");
            assert!(
                matches!(way, Way::Resource { login: Credential::Anonymous, .. }),
                "{setting}: {way:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_chart_repository_without_tls_gets_no_login_of_the_operator() {
        let configured = || Fake { configured: true, ..Fake::default() };
        let chart = |url: &str| json!({"chart": {"pullUrl": url, "tags": ["1.0.0"]}});
        let failure = way(configured(), chart("http://charts.example/app")).await;
        let failure = failure.expect_err("plain HTTP");
        assert_eq!(failure.class, Class::InvalidSpec);
        assert!(failure.message.ends_with("chart.pullUrl with http://"), "{failure}");

        let way = way(configured(), chart("https://charts.example/app")).await.expect("with TLS");
        assert_eq!(way, Way::Operator { login: login("configured"), insecure: false });
    }

    #[tokio::test]
    async fn the_command_lines_user_may_send_a_login_without_tls_but_no_aws_identity() {
        let own = |configured| Fake { configured, owns_specs: true, ..Fake::default() };
        let image = |host: &str| json!({"image": {"pullUrl": host, "insecure": true}});
        let way_of_login = way(own(true), image("registry.example/app:1")).await;
        assert_eq!(
            way_of_login.expect("allowed"),
            Way::Operator { login: login("configured"), insecure: true }
        );
        let failure = way(own(false), image(PRIVATE)).await.expect_err("refused");
        assert_eq!(failure.class, Class::InvalidSpec);
    }

    #[tokio::test]
    async fn a_mirror_is_for_images_only() {
        let table = "mirrors: [{match: registry.example, rewrite: mirror.example}]";
        let mirrors = Mirrors::parse(table).expect("a table");
        let of = async |spec: serde_json::Value| {
            let spec = serde_json::from_value(spec).expect("a spec");
            let spec = crate::spec::parse("app", &spec).expect("no violations");
            accesses(&Fake::default(), &mirrors, &spec).await
        };

        let (_, mirrored) = of(json!({"image": {"pullUrl": "registry.example/app:1"}})).await;
        assert_eq!(mirrored.expect("a mirror").reference.host, "mirror.example");
        let chart = json!({"pullUrl": "oci://registry.example/charts/app", "tags": ["1.0.0"]});
        let (accesses, mirrored) = of(json!({"chart": chart})).await;
        assert!(mirrored.is_none());
        assert_eq!(accesses.chart.expect("anonymous").way, Way::default());
    }
}
