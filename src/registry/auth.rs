//! Login to a registry: credentials, and the `Authorization` header of each request.
//!
//! The challenge to the first real request starts the login; there is no ping. The login method and
//! the tokens are kept per client. One client is one host and one credential, so nothing leaks
//! between credentials.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::{Mutex, RwLock};
use reqwest::Url;
use reqwest::header::HeaderValue;
use tokio::time::Instant;

use super::answer::Answer;
use super::cause::Cause;
use super::challenge::{Bearer, Challenge};
use super::error::Error;
use super::token::{Token, TokenServer};
use super::transport::Transport;
use crate::bounded::BoundedMap;

/// Far above the number of repositories that one credential reads in the lifetime of a token.
const MAX_CACHED: usize = 4096;

/// A credential for a registry.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub enum Credential {
    /// No credential.
    #[default]
    Anonymous,
    /// A name and a password, or a name and a token in place of the password.
    Basic {
        /// Name.
        username: String,
        /// Password.
        password: String,
    },
    /// An OAuth2 refresh token, as `docker login` stores it for Azure and others.
    IdentityToken(String),
}

impl Credential {
    pub(crate) fn basic_header(&self) -> Option<HeaderValue> {
        let Self::Basic { username, password } = self else { return None };
        let encoded = STANDARD.encode(format!("{username}:{password}"));
        let mut value = HeaderValue::from_str(&format!("Basic {encoded}")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// Whether this is [`Credential::Anonymous`].
    #[must_use]
    pub const fn is_anonymous(&self) -> bool {
        matches!(self, Self::Anonymous)
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Basic { .. } => "Basic(…)",
            Self::IdentityToken(_) => "IdentityToken(…)",
        })
    }
}

/// The source of a client's credential.
#[async_trait]
pub(crate) trait Authenticator: Send + Sync + fmt::Debug {
    /// Returns the credential to use now. Called often: implementations should cache.
    ///
    /// # Errors
    /// [`Error::Credential`] with the class of the cause.
    async fn credential(&self) -> Result<Credential, Error>;

    /// Notes that the registry refused this credential as expired or wrong: the next call of
    /// [`Self::credential`] should fetch a new one.
    async fn refused(&self, credential: &Credential);
}

/// A credential that never changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct StaticAuthenticator(pub Credential);

#[async_trait]
impl Authenticator for StaticAuthenticator {
    async fn credential(&self) -> Result<Credential, Error> {
        Ok(self.0.clone())
    }

    async fn refused(&self, _: &Credential) {}
}

/// The permission that a request needs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Scope {
    pub(crate) repository: String,
    pub(crate) push: bool,
}

impl Scope {
    pub(crate) fn pull(repository: &str) -> Self {
        Self { repository: repository.to_owned(), push: false }
    }

    pub(crate) fn push(repository: &str) -> Self {
        Self { repository: repository.to_owned(), push: true }
    }

    fn actions(&self) -> &'static str {
        if self.push { "pull,push" } else { "pull" }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "repository:{}:{}", self.repository, self.actions())
    }
}

/// The authorization of one request.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub(crate) header: HeaderValue,
    pub(crate) anonymous: bool,
    proof: Proof,
}

#[derive(Clone, Debug)]
enum Proof {
    Basic(Credential),
    Bearer {
        value: String,
        /// Fetched for this request in answer to its challenge: a second refusal is final.
        as_challenged: bool,
    },
}

/// The login method of a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Method {
    Open,
    Basic,
    Bearer { realm: String, service: Option<String>, scope: ScopeRule },
}

/// The form of a registry's scopes: by the token spec, or one fixed text (`public.ecr.aws`: `aws`).
#[derive(Clone, Debug, PartialEq, Eq)]
enum ScopeRule {
    Standard,
    Fixed(String),
}

type Slot = Arc<tokio::sync::Mutex<Option<Token>>>;

/// The login state of one client.
#[derive(Debug)]
pub(crate) struct Auth {
    authenticator: Arc<dyn Authenticator>,
    server: TokenServer,
    preemptive_basic: bool,
    /// `None` until the registry has answered a request.
    method: RwLock<Option<Method>>,
    /// Held by the first request until the method is known, so that only one request of a burst
    /// gets a 401.
    first: tokio::sync::Mutex<()>,
    tokens: Mutex<BoundedMap<String, Slot, MAX_CACHED>>,
    /// Scopes that the registry writes differently from the token spec.
    custom_scopes: Mutex<BoundedMap<Scope, String, MAX_CACHED>>,
    /// The time of the last renewal after a bare 403.
    last_guess: Mutex<Option<Instant>>,
}

/// Held while a request finds out the login method.
pub(crate) type First<'a> = Option<tokio::sync::MutexGuard<'a, ()>>;

impl Auth {
    pub(crate) fn new(
        transport: Transport,
        home: Url,
        authenticator: Arc<dyn Authenticator>,
        preemptive_basic: bool,
    ) -> Self {
        Self {
            authenticator,
            server: TokenServer::new(transport, home),
            preemptive_basic,
            method: RwLock::new(None),
            first: tokio::sync::Mutex::new(()),
            tokens: Mutex::default(),
            custom_scopes: Mutex::default(),
            last_guess: Mutex::default(),
        }
    }

    /// Lets one request go first while the login method is unknown; the others wait for it, once.
    pub(crate) async fn turn(&self) -> First<'_> {
        if self.preemptive_basic || self.method().is_some() {
            return None;
        }
        if let Ok(guard) = self.first.try_lock() {
            return Some(guard);
        }
        drop(self.first.lock().await);
        None
    }

    /// Returns the authorization for a request, as far as the login method is known.
    pub(crate) async fn grant(&self, scope: &Scope) -> Result<Option<Grant>, Cause> {
        match self.method() {
            None if self.preemptive_basic => self.basic().await,
            Some(Method::Basic) => self.basic().await,
            None | Some(Method::Open) => Ok(None),
            Some(Method::Bearer { realm, service, scope: rule }) => {
                let text = self.scope_text(scope, &rule);
                self.token(&realm, service.as_deref(), &text, None, false).await.map(Some)
            }
        }
    }

    /// Notes that the registry answered a request; without authorization, none is needed.
    pub(crate) fn answered(&self, sent: Option<&Grant>) {
        if sent.is_none() && self.method().is_none() {
            self.learn(Method::Open);
        }
    }

    /// Returns the authorization to retry with after a refusal, or `None` if the retry would be
    /// refused too.
    pub(crate) async fn renew(
        &self,
        scope: &Scope,
        sent: Option<&Grant>,
        challenges: &[Challenge],
    ) -> Result<Option<Grant>, Cause> {
        let bearer = challenges.iter().find_map(|challenge| match challenge {
            Challenge::Bearer(bearer) => Some(bearer),
            Challenge::Basic => None,
        });

        match (sent.map(|grant| &grant.proof), bearer) {
            (Some(Proof::Bearer { as_challenged: true, .. }), _) => Ok(None),
            (Some(Proof::Bearer { value, .. }), Some(bearer)) => {
                self.answer(bearer, scope, Some(value)).await.map(Some)
            }
            (Some(Proof::Bearer { value, .. }), None) => self.answer_as_known(scope, value).await,
            (Some(Proof::Basic(_)) | None, Some(bearer)) => {
                self.answer(bearer, scope, None).await.map(Some)
            }
            (Some(Proof::Basic(credential)), None) => self.renew_basic(credential).await,
            (None, None) if challenges.contains(&Challenge::Basic) => {
                self.learn(Method::Basic);
                self.basic().await
            }
            (None, None) => Ok(None),
        }
    }

    /// Whether a 403 without a body (to HEAD) may mean an expired credential. At most once a
    /// minute: if the refusal is real, each renewal costs a call of `GetAuthorizationToken`.
    pub(crate) fn may_have_expired(&self, sent: Option<&Grant>) -> bool {
        const INTERVAL: Duration = Duration::from_secs(60);

        if !self.preemptive_basic
            || !sent.is_some_and(|grant| matches!(grant.proof, Proof::Basic(_)))
        {
            return false;
        }

        let mut last = self.last_guess.lock();
        let is_due = last.is_none_or(|at| at.elapsed() >= INTERVAL);
        if is_due {
            *last = Some(Instant::now());
        }
        is_due
    }

    async fn basic(&self) -> Result<Option<Grant>, Cause> {
        let credential = self.credential().await?;
        Ok(basic_grant(credential))
    }

    async fn renew_basic(&self, refused: &Credential) -> Result<Option<Grant>, Cause> {
        self.authenticator.refused(refused).await;
        let credential = self.credential().await?;
        // Another try with the same wrong password could only lock the account.
        Ok(if credential == *refused { None } else { basic_grant(credential) })
    }

    /// Fetches the token that a Bearer challenge asks for, and keeps the method for other
    /// repositories.
    async fn answer(
        &self,
        bearer: &Bearer,
        scope: &Scope,
        refused: Option<&str>,
    ) -> Result<Grant, Cause> {
        let standard = scope.to_string();
        let (text, rule) = match &bearer.scope {
            None => (standard, ScopeRule::Standard),
            Some(asked) if asked.starts_with("repository:") => {
                if *asked != standard {
                    self.custom_scopes.lock().insert(scope.clone(), asked.clone());
                }
                (asked.clone(), ScopeRule::Standard)
            }
            Some(asked) => (asked.clone(), ScopeRule::Fixed(asked.clone())),
        };

        let grant =
            self.token(&bearer.realm, bearer.service.as_deref(), &text, refused, true).await?;
        self.learn(Method::Bearer {
            realm: bearer.realm.clone(),
            service: bearer.service.clone(),
            scope: rule,
        });

        Ok(grant)
    }

    /// Answers a refusal without a challenge: the token has expired, so another one is fetched by
    /// the known method.
    async fn answer_as_known(&self, scope: &Scope, refused: &str) -> Result<Option<Grant>, Cause> {
        let Some(Method::Bearer { realm, service, scope: rule }) = self.method() else {
            return Ok(None);
        };
        let text = self.scope_text(scope, &rule);
        self.token(&realm, service.as_deref(), &text, Some(refused), true).await.map(Some)
    }

    /// Returns a token from the cache, or fetches one. Other requests wait for the same fetch.
    async fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        scope: &str,
        refused: Option<&str>,
        as_challenged: bool,
    ) -> Result<Grant, Cause> {
        let slot = self.slot(format!("{realm} {} {scope}", service.unwrap_or_default()));

        let mut slot = slot.lock().await;
        if slot
            .as_ref()
            .is_some_and(|token| !token.is_fresh() || Some(token.value.as_str()) == refused)
        {
            *slot = None;
        }

        let token = match &*slot {
            Some(token) => token.clone(),
            None => slot.insert(self.fetch(realm, service, scope).await?).clone(),
        };

        let mut header =
            HeaderValue::from_str(&format!("Bearer {}", token.value)).map_err(|_| {
                Cause::Challenge(format!("the token from {realm} cannot be sent in a header"))
            })?;
        header.set_sensitive(true);
        Ok(Grant {
            header,
            anonymous: token.anonymous,
            proof: Proof::Bearer { value: token.value, as_challenged },
        })
    }

    async fn fetch(&self, realm: &str, service: Option<&str>, scope: &str) -> Result<Token, Cause> {
        let credential = self.credential().await?;
        let failure = match self.server.fetch(realm, service, scope, &credential).await {
            Ok(token) => return Ok(token),
            Err(failure) => failure,
        };

        let refused = failure
            .answer()
            .is_some_and(|answer: &Answer| matches!(answer.status.as_u16(), 400 | 401 | 403));
        if !refused || credential.is_anonymous() {
            return Err(failure);
        }

        self.authenticator.refused(&credential).await;
        let renewed = self.credential().await?;
        if renewed == credential {
            return Err(failure);
        }
        self.server.fetch(realm, service, scope, &renewed).await
    }

    async fn credential(&self) -> Result<Credential, Cause> {
        self.authenticator.credential().await.map_err(|error| Cause::Credential(Box::new(error)))
    }

    fn scope_text(&self, scope: &Scope, rule: &ScopeRule) -> String {
        match rule {
            ScopeRule::Fixed(text) => text.clone(),
            ScopeRule::Standard => {
                let custom = self.custom_scopes.lock().get(scope).cloned();
                custom.unwrap_or_else(|| scope.to_string())
            }
        }
    }

    fn slot(&self, key: String) -> Slot {
        self.tokens.lock().get_or_insert_with(key, Slot::default).clone()
    }

    fn method(&self) -> Option<Method> {
        self.method.read().clone()
    }

    fn learn(&self, method: Method) {
        *self.method.write() = Some(method);
    }
}

fn basic_grant(credential: Credential) -> Option<Grant> {
    let header = credential.basic_header()?;
    Some(Grant { header, anonymous: false, proof: Proof::Basic(credential) })
}
