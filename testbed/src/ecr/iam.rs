//! Roles, their trust, and policies attached to them. A caller without a policy may do everything,
//! unless a test says otherwise.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use serde_json::Value;

use super::deny;
use super::errors::{Error, Result};
use super::quantities::{random_hex, wildcard};
use super::sigv4::Caller;

/// A principal that may assume a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Callers of an account (its ID) or one role (its ARN) that send the external ID.
    Principal {
        /// `123456789012` or `arn:aws:iam::123456789012:role/name`.
        principal: String,
        /// The required `sts:ExternalId`.
        external_id: Option<String>,
    },
    /// Tokens of a ServiceAccount (IRSA). Their signature is not verified: the keys of the issuer
    /// are not requested.
    ServiceAccount {
        /// Namespace of the ServiceAccount.
        namespace: String,
        /// Name of the ServiceAccount.
        name: String,
    },
}

/// Keys that `AssumeRole` returned.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) key: String,
    pub(crate) secret: String,
    pub(crate) token: String,
    pub(crate) expires: SystemTime,
    /// `arn:aws:sts::…:assumed-role/name/session`.
    pub(crate) arn: String,
    role: String,
}

#[derive(Debug)]
struct Role {
    trust: Vec<Trust>,
    policy: Value,
}

#[derive(Debug, Default)]
pub(crate) struct Iam(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    roles: BTreeMap<String, Role>,
    /// Policies of the users of accounts.
    users: BTreeMap<String, Value>,
    sessions: HashMap<String, Session>,
    life: Option<Duration>,
}

/// The audience of tokens, by EKS's convention.
const AUDIENCE: &str = "sts.amazonaws.com";

impl Iam {
    pub(crate) fn put_role(&self, arn: &str, trust: Vec<Trust>, policy: Value) {
        check_policy(&policy);
        self.0.lock().roles.insert(arn.to_owned(), Role { trust, policy });
    }

    pub(crate) fn put_user_policy(&self, account: &str, policy: Value) {
        check_policy(&policy);
        self.0.lock().users.insert(account.to_owned(), policy);
    }

    pub(crate) fn set_life(&self, life: Duration) {
        self.0.lock().life = Some(life);
    }

    /// Returns the session of keys, if they belong to one.
    pub(crate) fn identify(&self, mut caller: Caller, token: Option<&str>) -> Result<Caller> {
        if !caller.key.starts_with("ASIA") {
            return Ok(caller);
        }
        let state = self.0.lock();
        let session =
            state.sessions.get(&caller.key).filter(|session| token == Some(session.token.as_str()));
        let session = session.ok_or_else(|| {
            Error::api(
                "UnrecognizedClientException",
                "The security token included in the request is invalid.",
            )
        })?;
        if session.expires <= SystemTime::now() {
            return Err(Error::api(
                "ExpiredTokenException",
                "The security token included in the request is expired",
            ));
        }
        caller.session = Some(session.arn.clone());
        Ok(caller)
    }

    /// Whether the policy of the caller allows `action` (`ecr:PutImage`) on a repository; on `*`
    /// where it is empty.
    pub(crate) fn check(
        &self,
        caller: &Caller,
        account: &str,
        action: &str,
        repository: &str,
    ) -> Result<()> {
        let resource = match repository {
            "" => "*".to_owned(),
            name => deny::arn(account, &caller.region, name),
        };
        self.check_on(caller, action, &resource)
    }

    /// Whether the policy of the caller allows `action` on `resource`.
    pub(crate) fn check_on(&self, caller: &Caller, action: &str, resource: &str) -> Result<()> {
        let state = self.0.lock();
        if state.policy_of(caller).is_none_or(|policy| allows(policy, action, resource)) {
            return Ok(());
        }
        Err(Error::api("AccessDeniedException", not_authorized(&caller.arn(), action, resource)))
    }

    /// Returns keys of a role for a caller with keys.
    pub(crate) fn assume(&self, caller: &Caller, ask: &Ask<'_>) -> Result<Session> {
        let mut state = self.0.lock();
        let refused = || {
            let message = format!(
                "User: {} is not authorized to perform: sts:AssumeRole on resource: {}",
                caller.arn(),
                ask.role
            );
            Error::new(403, "AccessDenied", message)
        };
        if !state.policy_of(caller).is_none_or(|policy| allows(policy, "sts:AssumeRole", ask.role))
        {
            return Err(refused());
        }
        let role_of_caller = caller
            .session
            .as_ref()
            .and_then(|_| state.sessions.get(&caller.key))
            .map(|s| s.role.clone());
        let is_trusted = |trust: &Trust| match trust {
            Trust::Principal { principal, external_id } => {
                let is_he =
                    *principal == caller.account || Some(principal) == role_of_caller.as_ref();
                is_he && external_id.as_deref().is_none_or(|id| ask.external_id == Some(id))
            }
            Trust::ServiceAccount { .. } => false,
        };
        state.admit(ask.role, is_trusted).then_some(()).ok_or_else(refused)?;
        Ok(state.open(ask))
    }

    /// Returns keys of a role for a caller with a token of the cluster.
    pub(crate) fn assume_with_token(&self, token: &str, ask: &Ask<'_>) -> Result<Session> {
        let claims = claims(token).ok_or_else(|| {
            Error::new(400, "InvalidIdentityToken", "The ID Token provided is not a valid JWT.")
        })?;
        let now =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        if claims["exp"].as_u64().is_none_or(|end| end <= now) {
            return Err(Error::new(
                400,
                "ExpiredTokenException",
                "Token expired: current date/time must be before the expiration date/time",
            ));
        }
        let audience = &claims["aud"];
        let is_ours = |value: &Value| value == AUDIENCE;
        if !is_ours(audience) && !audience.as_array().is_some_and(|list| list.iter().any(is_ours)) {
            return Err(Error::new(400, "InvalidIdentityToken", "Incorrect token audience"));
        }
        let is_trusted = |trust: &Trust| match trust {
            Trust::ServiceAccount { namespace, name } => {
                claims["sub"] == format!("system:serviceaccount:{namespace}:{name}")
            }
            Trust::Principal { .. } => false,
        };
        let mut state = self.0.lock();
        if !state.admit(ask.role, is_trusted) {
            return Err(Error::new(
                403,
                "AccessDenied",
                "Not authorized to perform sts:AssumeRoleWithWebIdentity",
            ));
        }
        Ok(state.open(ask))
    }
}

/// A request to STS.
#[derive(Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) role: &'a str,
    pub(crate) session_name: &'a str,
    pub(crate) external_id: Option<&'a str>,
    pub(crate) life: Duration,
}

impl State {
    fn policy_of(&self, caller: &Caller) -> Option<&Value> {
        match &caller.session {
            Some(_) => self
                .sessions
                .get(&caller.key)
                .and_then(|session| self.roles.get(&session.role))
                .map(|role| &role.policy),
            None => self.users.get(&caller.account),
        }
    }

    /// If no test has created a role, every role exists and trusts everybody.
    fn admit(&self, role: &str, is_trusted: impl Fn(&Trust) -> bool) -> bool {
        self.roles.is_empty()
            || self.roles.get(role).is_some_and(|role| role.trust.iter().any(is_trusted))
    }

    fn open(&mut self, ask: &Ask<'_>) -> Session {
        let parts: Vec<_> = ask.role.split(':').collect();
        let (partition, account) = (parts.get(1).unwrap_or(&"aws"), parts.get(4).unwrap_or(&""));
        let name = ask.role.rsplit('/').next().unwrap_or_default();
        let session = Session {
            key: format!("ASIA{account}{}", random_hex(4).to_uppercase()),
            secret: random_hex(20),
            token: random_hex(60),
            expires: SystemTime::now() + self.life.unwrap_or(ask.life),
            arn: format!("arn:{partition}:sts::{account}:assumed-role/{name}/{}", ask.session_name),
            role: ask.role.to_owned(),
        };
        self.sessions.insert(session.key.clone(), session.clone());
        session
    }
}

/// Returns the message of AWS.
pub(crate) fn not_authorized(user: &str, action: &str, resource: &str) -> String {
    format!(
        "User: {user} is not authorized to perform: {action} on resource: {resource} because no \
         identity-based policy allows the {action} action"
    )
}

fn claims(token: &str) -> Option<Value> {
    let payload = token.split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

/// An explicit Deny wins.
fn allows(policy: &Value, action: &str, resource: &str) -> bool {
    let action = action.to_ascii_lowercase();
    let applies = |statement: &&Value| {
        strings(&statement["Action"])
            .any(|pattern| wildcard(&pattern.to_ascii_lowercase(), &action))
            && strings(&statement["Resource"]).any(|pattern| wildcard(pattern, resource))
    };
    let is = |effect: &'static str| move |statement: &&Value| statement["Effect"] == effect;
    let any =
        |effect| statements(policy).iter().filter(applies).any(|statement| is(effect)(&statement));
    any("Allow") && !any("Deny")
}

pub(super) fn statements(policy: &Value) -> &[Value] {
    match &policy["Statement"] {
        Value::Array(list) => list,
        one => std::slice::from_ref(one),
    }
}

pub(super) fn strings(value: &Value) -> impl Iterator<Item = &str> {
    let list = match value {
        Value::Array(list) => list.as_slice(),
        one => std::slice::from_ref(one),
    };
    list.iter().filter_map(Value::as_str)
}

/// # Panics
/// On a feature that is not evaluated here: a test that used it would prove nothing.
fn check_policy(policy: &Value) {
    for statement in statements(policy) {
        let object = statement.as_object().expect("a statement is an object");
        let known = ["Sid", "Effect", "Action", "Resource"];
        let unknown: Vec<_> = object.keys().filter(|key| !known.contains(&key.as_str())).collect();
        assert!(unknown.is_empty(), "the stand-in's IAM does not evaluate {unknown:?}");
        assert!(matches!(object["Effect"].as_str(), Some("Allow" | "Deny")), "{statement}");
    }
}
