//! Who we are to a registry: credentials, and the header that each request carries.
//!
//! Logging in is driven by the challenge to the first real request; there is no ping. What was
//! learned, and each token, is kept in the client: one client is one host and one credential, so
//! nothing leaks between credentials.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use reqwest::header::HeaderValue;
use tokio::time::Instant;

use super::answer::Answer;
use super::challenge::{Bearer, Challenge};
use super::error::{Error, Failure};
use super::token::{Token, TokenServer};
use super::transport::Transport;

/// Far above the repositories that one credential reads in the life of a token.
const MOST_REMEMBERED: usize = 4096;

/// A proof of who we are.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub enum Credential {
    /// Nobody in particular.
    #[default]
    Anonymous,
    /// A name and a password, or a name and a token that stands for one.
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

/// Where a client's credential comes from.
#[async_trait]
pub trait Authenticator: Send + Sync + fmt::Debug {
    /// The credential to use now. Asked for often: what is expensive to get is to be cached.
    ///
    /// # Errors
    /// [`Error::Credential`] with the class of what failed.
    async fn credential(&self) -> Result<Credential, Error>;

    /// The registry refused this credential as expired or wrong: fetch a new one next time.
    async fn refused(&self, credential: &Credential);
}

/// A credential that never changes.
#[derive(Clone, Debug, Default)]
pub struct StaticAuthenticator(pub Credential);

#[async_trait]
impl Authenticator for StaticAuthenticator {
    async fn credential(&self) -> Result<Credential, Error> {
        Ok(self.0.clone())
    }

    async fn refused(&self, _: &Credential) {}
}

/// What a request needs to be allowed to do.
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

/// What one request was sent with.
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
        /// Fetched for this very request, as its challenge asked: a second refusal is final.
        as_challenged: bool,
    },
}

/// What the registry wants, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Way {
    Open,
    Basic,
    Bearer { realm: String, service: Option<String>, scope: ScopeRule },
}

/// How the registry words scopes: as the token spec says, or always alike (`public.ecr.aws`:
/// `aws`).
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
    way: RwLock<Option<Way>>,
    /// Held by the first request until the way is known, so that not every request of a burst meets
    /// a 401.
    first: tokio::sync::Mutex<()>,
    tokens: Mutex<HashMap<String, Slot>>,
    /// Scopes that the registry words otherwise than the token spec.
    worded: Mutex<HashMap<Scope, String>>,
    last_guess: Mutex<Option<Instant>>,
}

/// Held while a request finds out what the registry wants.
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
            way: RwLock::new(None),
            first: tokio::sync::Mutex::new(()),
            tokens: Mutex::default(),
            worded: Mutex::default(),
            last_guess: Mutex::default(),
        }
    }

    /// Lets one request go ahead while it is unknown what the registry wants; the others wait for
    /// it, once.
    pub(crate) async fn turn(&self) -> First<'_> {
        if self.preemptive_basic || self.way().is_some() {
            return None;
        }
        if let Ok(guard) = self.first.try_lock() {
            return Some(guard);
        }
        drop(self.first.lock().await);
        None
    }

    /// What to send with a request, from what is known.
    pub(crate) async fn grant(&self, scope: &Scope) -> Result<Option<Grant>, Failure> {
        match self.way() {
            None if self.preemptive_basic => self.basic().await,
            Some(Way::Basic) => self.basic().await,
            None | Some(Way::Open) => Ok(None),
            Some(Way::Bearer { realm, service, scope: rule }) => {
                let text = self.wording(scope, &rule);
                self.token(&realm, service.as_deref(), &text, None, false).await.map(Some)
            }
        }
    }

    /// The registry answered without asking who we are.
    pub(crate) fn answered_openly(&self, sent: Option<&Grant>) {
        if sent.is_none() && self.way().is_none() {
            self.learn(Way::Open);
        }
    }

    /// What to send after a refusal, or `None` if asking again would only be refused again.
    pub(crate) async fn renew(
        &self,
        scope: &Scope,
        sent: Option<&Grant>,
        challenges: &[Challenge],
    ) -> Result<Option<Grant>, Failure> {
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
                self.learn(Way::Basic);
                self.basic().await
            }
            (None, None) => Ok(None),
        }
    }

    /// Whether a bare 403 (HEAD has no body that says so) may mean an expired credential. At most
    /// once a minute: it costs a token of AWS's each time that it is a real refusal.
    pub(crate) fn may_have_expired(&self, sent: Option<&Grant>) -> bool {
        const APART: Duration = Duration::from_secs(60);
        if !self.preemptive_basic
            || !sent.is_some_and(|grant| matches!(grant.proof, Proof::Basic(_)))
        {
            return false;
        }
        let mut last = lock(&self.last_guess);
        let may = last.is_none_or(|at| at.elapsed() >= APART);
        if may {
            *last = Some(Instant::now());
        }
        may
    }

    async fn basic(&self) -> Result<Option<Grant>, Failure> {
        let credential = self.credential().await?;
        Ok(basic_grant(credential))
    }

    async fn renew_basic(&self, refused: &Credential) -> Result<Option<Grant>, Failure> {
        self.authenticator.refused(refused).await;
        let credential = self.credential().await?;
        // The same wrong password once more only brings a lock-out nearer.
        Ok(if credential == *refused { None } else { basic_grant(credential) })
    }

    /// Does what a Bearer challenge asks, and remembers it for other repositories.
    async fn answer(
        &self,
        bearer: &Bearer,
        scope: &Scope,
        refused: Option<&str>,
    ) -> Result<Grant, Failure> {
        let standard = scope.to_string();
        let (text, rule) = match &bearer.scope {
            None => (standard, ScopeRule::Standard),
            Some(asked) if asked.starts_with("repository:") => {
                if *asked != standard {
                    let mut worded = lock(&self.worded);
                    if worded.len() >= MOST_REMEMBERED {
                        worded.clear();
                    }
                    worded.insert(scope.clone(), asked.clone());
                }
                (asked.clone(), ScopeRule::Standard)
            }
            Some(asked) => (asked.clone(), ScopeRule::Fixed(asked.clone())),
        };
        let grant =
            self.token(&bearer.realm, bearer.service.as_deref(), &text, refused, true).await?;
        self.learn(Way::Bearer {
            realm: bearer.realm.clone(),
            service: bearer.service.clone(),
            scope: rule,
        });
        Ok(grant)
    }

    /// A refusal without a challenge: the token ended, ask for another one in the known way.
    async fn answer_as_known(
        &self,
        scope: &Scope,
        refused: &str,
    ) -> Result<Option<Grant>, Failure> {
        let Some(Way::Bearer { realm, service, scope: rule }) = self.way() else { return Ok(None) };
        let text = self.wording(scope, &rule);
        self.token(&realm, service.as_deref(), &text, Some(refused), true).await.map(Some)
    }

    /// A token from the cache, or a new one. Whoever comes while it is fetched waits for it.
    async fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        scope: &str,
        refused: Option<&str>,
        as_challenged: bool,
    ) -> Result<Grant, Failure> {
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
                Failure::Challenge(format!("the token from {realm} cannot be sent in a header"))
            })?;
        header.set_sensitive(true);
        Ok(Grant {
            header,
            anonymous: token.anonymous,
            proof: Proof::Bearer { value: token.value, as_challenged },
        })
    }

    async fn fetch(
        &self,
        realm: &str,
        service: Option<&str>,
        scope: &str,
    ) -> Result<Token, Failure> {
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

    async fn credential(&self) -> Result<Credential, Failure> {
        self.authenticator.credential().await.map_err(|error| Failure::Credential(Box::new(error)))
    }

    fn wording(&self, scope: &Scope, rule: &ScopeRule) -> String {
        match rule {
            ScopeRule::Fixed(text) => text.clone(),
            ScopeRule::Standard => {
                lock(&self.worded).get(scope).cloned().unwrap_or_else(|| scope.to_string())
            }
        }
    }

    fn slot(&self, key: String) -> Slot {
        let mut tokens = lock(&self.tokens);
        if tokens.len() >= MOST_REMEMBERED {
            tokens.clear();
        }
        tokens.entry(key).or_default().clone()
    }

    fn way(&self) -> Option<Way> {
        self.way.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn learn(&self, way: Way) {
        *self.way.write().unwrap_or_else(PoisonError::into_inner) = Some(way);
    }
}

fn basic_grant(credential: Credential) -> Option<Grant> {
    let header = credential.basic_header()?;
    Some(Grant { header, anonymous: false, proof: Proof::Basic(credential) })
}

/// A panic elsewhere leaves these plain values whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
