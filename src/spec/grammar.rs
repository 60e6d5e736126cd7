//! Names of AWS and Kubernetes.

/// Whether ECR accepts this repository name: `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`, joined by `/`, 2
/// to 256 characters.
pub(super) fn is_repository_name(name: &str) -> bool {
    (2..=256).contains(&name.len()) && name.split('/').all(is_path_component)
}

fn is_path_component(component: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !component.starts_with(is_word) || !component.ends_with(is_word) {
        return false;
    }
    // Between two words stands one separator: ".", "_", "__" or any number of "-".
    component.split(is_word).filter(|separator| !separator.is_empty()).all(|separator| {
        matches!(separator, "." | "_" | "__") || separator.chars().all(|c| c == '-')
    })
}

/// Whether this is a DNS subdomain, as most objects of Kubernetes are named.
pub(super) fn is_object_name(name: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= 253
        && name.starts_with(is_word)
        && name.ends_with(is_word)
        && name.chars().all(|c| is_word(c) || c == '.' || c == '-')
}

/// Whether this has the twelve digits of an AWS account.
pub(crate) fn is_account_id(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

/// Whether this looks like a region: `eu-west-1`, `us-gov-east-1`.
pub(crate) fn is_region(text: &str) -> bool {
    let parts: Vec<_> = text.split('-').collect();
    let Some((number, words)) = parts.split_last() else { return false };
    words.len() >= 2
        && words[0].len() >= 2
        && words.iter().all(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase()))
        && !number.is_empty()
        && number.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repository_names_follow_ecrs_grammar() {
        for good in ["ab", "platform/nginx", "a--b", "a__b", "0a", "a.b", &"a".repeat(256)] {
            assert!(is_repository_name(good), "{good}");
        }
        for bad in [
            "a",
            "",
            "a___b",
            "a//b",
            "/ab",
            "ab/",
            "Upper/x",
            "-ab",
            "ab-",
            "a..b",
            "a-.b",
            "a b",
            &"a".repeat(257),
        ] {
            assert!(!is_repository_name(bad), "{bad}");
        }
    }

    #[test]
    fn regions_of_every_partition_pass() {
        for good in
            ["eu-west-1", "us-gov-east-1", "cn-north-1", "ap-southeast-12", "eusc-de-east-1"]
        {
            assert!(is_region(good), "{good}");
        }
        for bad in ["", "eu", "eu-west", "EU-west-1", "eu-west-x", "-west-1"] {
            assert!(!is_region(bad), "{bad}");
        }
    }
}
