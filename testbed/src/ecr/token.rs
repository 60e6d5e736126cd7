//! Authorization tokens of the data plane: Basic credentials of a principal in a region, with an
//! expiry.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;

use super::quantities::random_hex;
use super::sigv4::Caller;

/// Lifetime of ECR's tokens.
const LIFE: Duration = Duration::from_secs(12 * 3600);

/// The owner of a token, and its end.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) caller: Caller,
    expires: SystemTime,
}

/// The result of checking a credential.
#[derive(Debug)]
pub(crate) enum Checked {
    Valid(Token),
    Expired,
    Unknown,
}

#[derive(Debug)]
pub(crate) struct Tokens(Mutex<Issued>);

#[derive(Debug)]
struct Issued {
    life: Duration,
    by_password: HashMap<String, Token>,
}

impl Tokens {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Issued { life: LIFE, by_password: HashMap::new() }))
    }

    /// Returns a new token, `base64("AWS:" + password)`, and its end. Passwords are long, as on ECR
    /// ("the size is not fixed").
    pub(crate) fn issue(&self, caller: Caller) -> (String, SystemTime) {
        let (password, expires) = self.password(caller);
        (STANDARD.encode(format!("AWS:{password}")), expires)
    }

    /// The password of a new token, and its end.
    pub(crate) fn password(&self, caller: Caller) -> (String, SystemTime) {
        let mut issued = self.0.lock();
        let expires = SystemTime::now() + issued.life;
        let password = STANDARD.encode(random_hex(700));
        let token = Token { caller, expires };
        issued.by_password.insert(password.clone(), token);
        (password, expires)
    }

    /// Reads the `Authorization` header of a registry request; anything but Basic with user `AWS`
    /// is unknown.
    pub(crate) fn check(&self, header: Option<&str>) -> Checked {
        let password = header
            .and_then(|header| header.strip_prefix("Basic "))
            .and_then(|encoded| STANDARD.decode(encoded.trim()).ok())
            .and_then(|decoded| String::from_utf8(decoded).ok())
            .and_then(|pair| pair.strip_prefix("AWS:").map(str::to_owned));
        let Some(password) = password else { return Checked::Unknown };
        match self.0.lock().by_password.get(&password) {
            None => Checked::Unknown,
            Some(token) if token.expires <= SystemTime::now() => Checked::Expired,
            Some(token) => Checked::Valid(token.clone()),
        }
    }

    pub(crate) fn expire(&self) {
        let now = SystemTime::now();
        for token in self.0.lock().by_password.values_mut() {
            token.expires = now;
        }
    }

    pub(crate) fn set_life(&self, life: Duration) {
        self.0.lock().life = life;
    }
}
