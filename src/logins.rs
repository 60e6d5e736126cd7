//! Ways to the sources of a spec: the login of each, or the AWS identity that reads an ECR
//! registry.
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
//!
//! The module makes the `Access` of `sync` from a `spec` and the table of `mirrors`. So it is above
//! these three, and below `controller` and `cli`, which both use it.

use std::sync::Arc;

use async_trait::async_trait;

use crate::ecr::Identity;
use crate::failure::Failure;
use crate::mirrors::{Mirror, Mirrors};
use crate::registry::{AllowedHosts, Credential, Reference, TransportOptions};
use crate::spec::{Chart, Image, Spec};
use crate::sync::{Access, Accesses, EcrLogin, Mirrored};

/// A source, with the fields that name its login.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source<'a> {
    Image(&'a Image),
    Chart(&'a Chart),
    Mirror(&'a Mirror),
}

/// The logins of the controller or of the command line.
#[async_trait]
pub(crate) trait Logins: Sync {
    /// Returns the login that the source names; `None` if it names none.
    async fn named(
        &self,
        source: Source<'_>,
        reference: &Reference,
    ) -> Result<Option<Credential>, Failure>;

    /// Returns the login that is configured for the host; anonymous if none is.
    async fn configured(&self, reference: &Reference) -> Result<Credential, Failure>;

    /// Returns the AWS identity that reads an ECR registry.
    ///
    /// # Errors
    /// `AccessDenied` if no identity may read it.
    fn identity(&self, source: Source<'_>, reference: &Reference) -> Result<Identity, Failure>;

    /// Whether the AWS identity logs in to public.ecr.aws.
    fn public_ecr_login(&self) -> bool;

    /// Returns certificates and proxy.
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
    Some(Mirrored {
        access: access(logins, Source::Mirror(mirror), &reference).await,
        reference,
        insecure: mirror.insecure,
        fallback: mirror.fallback,
    })
}

async fn access(
    logins: &impl Logins,
    source: Source<'_>,
    reference: &Reference,
) -> Result<Access, Failure> {
    let credential = match logins.named(source, reference).await? {
        Some(credential) => credential,
        None => logins.configured(reference).await?,
    };
    let ecr = match credential {
        Credential::Anonymous => ecr_login(logins, source, reference)?,
        _ => None,
    };

    let transport = logins.transport(source).await?;
    let hosts = match source {
        Source::Chart(_) => logins.hosts(),
        Source::Image(_) | Source::Mirror(_) => None,
    };
    Ok(Access { credential, ecr, transport, hosts })
}

fn ecr_login(
    logins: &impl Logins,
    source: Source<'_>,
    reference: &Reference,
) -> Result<Option<EcrLogin>, Failure> {
    let login = EcrLogin::of(reference, Identity::default());
    if let Some(EcrLogin { registry, .. }) = login {
        let identity = logins.identity(source, reference)?;
        return Ok(Some(EcrLogin { registry, identity }));
    }

    let public = EcrLogin::public(reference, Identity::default());
    let Some(EcrLogin { registry, .. }) = public.filter(|_| logins.public_ecr_login()) else {
        return Ok(None);
    };
    // public.ecr.aws can be read without an identity too.
    let identity = logins.identity(source, reference).ok();
    Ok(identity.map(|identity| EcrLogin { registry, identity }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::Class;
    use crate::sync::EcrSource;

    const PRIVATE: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/app:1";
    const PUBLIC: &str = "public.ecr.aws/nginx/nginx:1";

    #[derive(Default)]
    struct Fake {
        named: bool,
        configured: bool,
        denied: bool,
        public: bool,
    }

    fn login(username: &str) -> Credential {
        Credential::Basic { username: username.to_owned(), password: "secret".to_owned() }
    }

    #[async_trait]
    impl Logins for Fake {
        async fn named(&self, _: Source<'_>, _: &Reference) -> Result<Option<Credential>, Failure> {
            Ok(self.named.then(|| login("named")))
        }

        async fn configured(&self, _: &Reference) -> Result<Credential, Failure> {
            Ok(if self.configured { login("configured") } else { Credential::Anonymous })
        }

        fn identity(&self, _: Source<'_>, _: &Reference) -> Result<Identity, Failure> {
            if self.denied {
                return Err(Failure::new(Class::AccessDenied, "denied"));
            }
            Ok(Identity::default())
        }

        fn public_ecr_login(&self) -> bool {
            self.public
        }
    }

    async fn image(logins: Fake, pull_url: &str) -> Result<Access, Failure> {
        let spec = serde_json::json!({"image": {"pullUrl": pull_url}});
        let spec = serde_json::from_value(spec).expect("a spec");
        let spec = crate::spec::parse("app", &spec).expect("no violations");
        accesses(&logins, &Mirrors::default(), &spec).await.0.image
    }

    #[tokio::test]
    async fn a_named_login_comes_before_a_configured_one_and_both_before_an_identity() {
        let both = Fake { named: true, configured: true, ..Fake::default() };
        let configured = Fake { configured: true, ..Fake::default() };
        for (logins, wanted) in [(both, "named"), (configured, "configured")] {
            let access = image(logins, PRIVATE).await.expect("a login");
            assert_eq!((access.credential, access.ecr), (login(wanted), None));
        }
    }

    #[tokio::test]
    async fn without_a_login_an_identity_reads_private_ecr_and_public_ecr_where_switched_on() {
        let public = || Fake { public: true, ..Fake::default() };
        let registry = |access: Result<Access, Failure>| {
            access.expect("a way").ecr.map(|login| login.registry)
        };
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
        assert_eq!(image(denied(), PUBLIC).await.expect("anonymous").ecr, None);
    }
}
