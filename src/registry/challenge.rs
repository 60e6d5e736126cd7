//! The parser of `WWW-Authenticate`: the Basic and Bearer challenges of a registry.

use reqwest::header::HeaderValue;

/// One challenge. Schemes that are neither Basic nor Bearer are left out when parsing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer(Bearer),
}

/// The parameters of a token request.
/// <https://distribution.github.io/distribution/spec/auth/token/>
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Bearer {
    /// URL of the token server.
    pub(crate) realm: String,
    /// The token server's name for this registry.
    pub(crate) service: Option<String>,
    /// The scope that the request needs.
    pub(crate) scope: Option<String>,
}

/// Reads all challenges of all headers. Malformed ones are skipped: one odd header must not hide a
/// good one.
pub(crate) fn parse<'a>(headers: impl IntoIterator<Item = &'a HeaderValue>) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    for header in headers {
        // Latin-1 in a header is legal and not UTF-8.
        let text = String::from_utf8_lossy(header.as_bytes());
        for (scheme, params) in Parser::new(&text) {
            let param = |name: &str| {
                params
                    .iter()
                    .find(|(key, _)| key.eq_ignore_ascii_case(name))
                    .map(|(_, value)| value.clone())
            };
            if scheme.eq_ignore_ascii_case("basic") {
                challenges.push(Challenge::Basic);
            } else if scheme.eq_ignore_ascii_case("bearer")
                && let Some(realm) = param("realm")
            {
                let full = |value: &String| !value.is_empty();
                challenges.push(Challenge::Bearer(Bearer {
                    realm,
                    service: param("service").filter(full),
                    scope: param("scope").filter(full),
                }));
            }
        }
    }

    challenges
}

/// Iterates over `scheme key=value, key="value", scheme …` (RFC 9110 section 11.6.1).
///
/// The comma separates challenges as well as parameters: a word without `=` begins a challenge.
struct Parser<'a> {
    rest: &'a str,
    scheme: Option<String>,
}

impl<'a> Parser<'a> {
    const fn new(text: &'a str) -> Self {
        Self { rest: text, scheme: None }
    }

    fn skip(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', ',']);
    }

    fn word(&mut self) -> &'a str {
        let end = self.rest.find([' ', '\t', ',', '=', '"']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn value(&mut self) -> String {
        let Some(quoted) = self.rest.strip_prefix('"') else {
            // An unquoted value ends at a comma or blank; `=` belongs to it, as in
            // `realm=https://a/?b=c`.
            let end = self.rest.find([' ', '\t', ',']).unwrap_or(self.rest.len());
            let (value, rest) = self.rest.split_at(end);
            self.rest = rest;
            return value.to_owned();
        };

        let mut value = String::new();
        let mut chars = quoted.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = &quoted[at + 1..];
                    return value;
                }
                '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
                _ => value.push(c),
            }
        }
        self.rest = "";

        value
    }
}

impl Iterator for Parser<'_> {
    type Item = (String, Vec<(String, String)>);

    fn next(&mut self) -> Option<Self::Item> {
        let mut params = Vec::new();
        loop {
            self.skip();
            if self.rest.is_empty() {
                return self.scheme.take().map(|scheme| (scheme, params));
            }
            let word = self.word();
            let after = self.rest.trim_start_matches([' ', '\t']);
            if let Some(value) = after.strip_prefix('=')
                && !word.is_empty()
            {
                self.rest = value.trim_start_matches([' ', '\t']);
                let value = self.value();
                params.push((word.to_owned(), value));
            } else if word.is_empty() {
                // A stray quote or equals sign: step over it.
                self.rest = self.rest.get(1..).unwrap_or_default();
            } else if let Some(scheme) = self.scheme.replace(word.to_owned()) {
                return Some((scheme, params));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer(Bearer {
            realm: realm.into(),
            service: service.map(Into::into),
            scope: scope.map(Into::into),
        })
    }

    #[test]
    fn challenges_of_all_shapes_are_read() {
        let hub = bearer(
            "https://auth.docker.io/token",
            Some("registry.docker.io"),
            Some("repository:a/b:pull,push"),
        );

        for (headers, expected) in [
            (
                vec![concat!(
                    r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io","#,
                    r#"scope="repository:a/b:pull,push""#
                )],
                vec![hub.clone()],
            ),
            (
                vec![concat!(
                    r#"bearer  Realm = "https://auth.docker.io/token" , "#,
                    r#"SERVICE=registry.docker.io ,scope="repository:a/b:pull,push","#,
                    r#"error="insufficient_scope""#
                )],
                vec![hub.clone()],
            ),
            (
                vec![concat!(
                    r#"Basic realm="a, \"b\"", Bearer realm="https://auth.docker.io/token","#,
                    r#"service="registry.docker.io",scope="repository:a/b:pull,push""#
                )],
                vec![Challenge::Basic, hub],
            ),
            (vec!["Negotiate", "BASIC realm=x", ""], vec![Challenge::Basic]),
            (vec!["Basic"], vec![Challenge::Basic]),
            (vec!["Negotiate dG9rZW4=, Basic realm=\"x\""], vec![Challenge::Basic]),
            (
                vec!["Bearer realm=https://t/?a=b,service=s"],
                vec![bearer("https://t/?a=b", Some("s"), None)],
            ),
            (vec!["Bearer realm=\"https://t\""], vec![bearer("https://t", None, None)]),
            (vec!["Bearer realm=\"https://t\",scope=\"\""], vec![bearer("https://t", None, None)]),
            (vec!["Bearer service=\"s\""], vec![]),
            (vec!["Bearer realm=\"https://unclosed"], vec![bearer("https://unclosed", None, None)]),
            (vec!["=,\"\"=, ,,"], vec![]),
            (
                vec!["Bearer realm=\"https://a\"", "Basic realm=\"b\""],
                vec![bearer("https://a", None, None), Challenge::Basic],
            ),
        ] {
            let values: Vec<_> =
                headers.iter().map(|text| HeaderValue::from_str(text).unwrap()).collect();
            assert_eq!(parse(&values), expected, "{headers:?}");
        }

        parse(&[HeaderValue::from_bytes(b"Bearer realm=\"\xff\xfe\"").unwrap()]);
    }
}
