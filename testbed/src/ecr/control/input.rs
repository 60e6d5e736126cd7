//! Input of the control plane: reads a request's JSON with the constraints of the API model.

use serde_json::Value;

use super::super::errors::{Error, Result};

/// A request's body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Input<'a>(&'a Value);

impl<'a> Input<'a> {
    pub(crate) fn new(json: &'a Value) -> Self {
        Self(json)
    }

    pub(crate) fn json(self, name: &str) -> &'a Value {
        &self.0[name]
    }

    /// Returns a member that may be absent or null.
    pub(crate) fn opt_str(self, name: &str) -> Result<Option<&'a str>> {
        match &self.0[name] {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text)),
            _ => Err(wrong_type(name, "a String")),
        }
    }

    pub(crate) fn str(self, name: &str) -> Result<&'a str> {
        self.opt_str(name)?.ok_or_else(|| Error::invalid(name, "Member must not be null"))
    }

    pub(crate) fn bool(self, name: &str) -> Result<bool> {
        match &self.0[name] {
            Value::Null => Ok(false),
            Value::Bool(set) => Ok(*set),
            _ => Err(wrong_type(name, "a Boolean")),
        }
    }

    pub(crate) fn list(self, name: &str) -> Result<&'a [Value]> {
        match &self.0[name] {
            Value::Null => Ok(&[]),
            Value::Array(list) => Ok(list),
            _ => Err(wrong_type(name, "a list")),
        }
    }

    /// Returns a list whose length is in the range; absent counts as empty.
    pub(crate) fn list_within(self, name: &str, least: usize, most: usize) -> Result<&'a [Value]> {
        let list = self.list(name)?;
        at_least(name, list.len(), least)?;
        at_most(name, list.len(), most)?;
        Ok(list)
    }

    /// Returns a list of strings.
    pub(crate) fn strings(self, name: &str, least: usize, most: usize) -> Result<Vec<&'a str>> {
        let list = self.list_within(name, least, most)?;
        list.iter().map(|text| text.as_str().ok_or_else(|| wrong_type(name, "a String"))).collect()
    }

    pub(crate) fn max_results(self, most: usize, default: usize) -> Result<usize> {
        let Some(wanted) = self.0.get("maxResults").filter(|wanted| !wanted.is_null()) else {
            return Ok(default);
        };
        let wanted = wanted.as_i64().ok_or_else(|| wrong_type("maxResults", "an Integer"))?;
        let wanted = usize::try_from(wanted).unwrap_or(0);
        if wanted < 1 {
            return Err(Error::invalid(
                "maxResults",
                "Member must have value greater than or equal to 1",
            ));
        }
        if wanted > most {
            let rule = format!("Member must have value less than or equal to {most}");
            return Err(Error::invalid("maxResults", rule));
        }
        Ok(wanted)
    }

    pub(crate) fn next_token(self) -> Result<Option<&'a str>> {
        self.opt_str("nextToken")
    }

    /// Returns a text whose length is in the range.
    pub(crate) fn text_within(self, name: &str, least: usize, most: usize) -> Result<&'a str> {
        let text = self.str(name)?;
        let length = text.chars().count();
        at_least(name, length, least)?;
        at_most(name, length, most)?;
        Ok(text)
    }

    pub(crate) fn repository_name(self, member: &str) -> Result<&'a str> {
        let name = self.text_within(member, 2, 256)?;
        if is_repository_name(name) {
            return Ok(name);
        }
        let pattern = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*";
        Err(Error::invalid(member, format_args!("must satisfy regular expression '{pattern}'")))
    }
}

fn wrong_type(name: &str, wanted: &str) -> Error {
    Error::api(
        "SerializationException",
        format!("Value of '{name}' can not be converted to {wanted}"),
    )
}

fn at_least(name: &str, length: usize, least: usize) -> Result<()> {
    if length < least {
        return Err(Error::invalid(
            name,
            format_args!("Member must have length greater than or equal to {least}"),
        ));
    }
    Ok(())
}

fn at_most(name: &str, length: usize, most: usize) -> Result<()> {
    if length > most {
        return Err(Error::invalid(
            name,
            format_args!("Member must have length less than or equal to {most}"),
        ));
    }
    Ok(())
}

/// The pattern of the API; the console's stricter wording is not checked by the API.
pub(crate) fn is_repository_name(name: &str) -> bool {
    let part = |part: &str| {
        let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let ends = part.starts_with(is_word) && part.ends_with(is_word);
        // Between two words: one dot, one or two underscores, or any number of dashes.
        let separators = part.split(is_word).all(|separator| {
            matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-')
        });
        ends && separators
    };
    name.split('/').all(part)
}

#[cfg(test)]
mod tests {
    use super::is_repository_name;

    #[test]
    fn repository_names_follow_the_api_pattern_not_the_console_wording() {
        for name in ["a", "0", "a--b", "a__b", "a.b", "team/app", "9a/b-c.d_e"] {
            assert!(is_repository_name(name), "{name}");
        }
        for name in ["", "A", "a___b", "a//b", "/a", "a/", "-a", "a-", "a..b", "a.-b", "a b"] {
            assert!(!is_repository_name(name), "{name}");
        }
    }
}
