//! Chart versions: the texts that Helm accepts as a version.

/// Whether Masterminds/semver's `NewVersion` accepts it: `1.2.3`, and also `v1.2.3`, `1.2` and `1`.
/// <https://github.com/Masterminds/semver/blob/v3.4.0/version.go>
pub(super) fn is_version(text: &str) -> bool {
    // The bound of Masterminds/semver; longer texts would not fit into a tag either.
    if text.len() > 256 {
        return false;
    }

    let text = text.strip_prefix('v').unwrap_or(text);
    let (rest, build) = split(text, '+');
    let (core, pre) = split(rest, '-');

    let identifier = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let numbers: Vec<&str> = core.split('.').collect();
    let number = |part: &&str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) && part.parse::<u64>().is_ok()
    };
    let leading_zero = |part: &str| {
        part.len() > 1 && part.starts_with('0') && part.bytes().all(|b| b.is_ascii_digit())
    };

    numbers.len() <= 3
        && numbers.iter().all(number)
        && pre.is_none_or(|pre| pre.split('.').all(|part| identifier(part) && !leading_zero(part)))
        && build.is_none_or(|build| build.split('.').all(identifier))
}

fn split(text: &str, at: char) -> (&str, Option<&str>) {
    text.split_once(at).map_or((text, None), |(before, after)| (before, Some(after)))
}

#[cfg(test)]
mod tests {
    use super::is_version;

    #[test]
    fn versions_are_accepted_as_by_helm() {
        for valid in [
            "1.2.3",
            "v1.2.3",
            "1.2",
            "1",
            "1.2.3-rc.1",
            "1.2.3+meta-1.x",
            "1.2.3-rc-1+b",
            "0.0.0",
            "01.2.3",
        ] {
            assert!(is_version(valid), "{valid}");
        }

        for invalid in [
            "", "v", "latest", "1.2.3.4", "1.x", "1.2.3-", "1.2.3+", "1.2.3-01", "1.2.3_1",
            " 1.2.3", "V1.2.3", "1..2",
        ] {
            assert!(!is_version(invalid), "{invalid}");
        }
    }
}
