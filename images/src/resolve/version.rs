//! Debian versions and their order (Debian policy 5.6.12; deb-version(7)).

use std::cmp::Ordering;

/// Compares two versions: epoch, upstream version, Debian revision.
pub fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (split(a), split(b));
    a.0.cmp(&b.0).then_with(|| compare_part(a.1, b.1)).then_with(|| compare_part(a.2, b.2))
}

/// The version without epoch and Debian revision.
pub fn upstream(version: &str) -> &str {
    split(version).1
}

/// A missing epoch is 0, a missing revision is the empty one, which compares as "0".
fn split(version: &str) -> (u64, &str, &str) {
    let (epoch, rest) = match version.split_once(':') {
        Some((epoch, rest)) => (epoch.parse().unwrap_or(u64::MAX), rest),
        None => (0, version),
    };
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
    (epoch, upstream, revision)
}

/// By turns a part without digits and a number: letters sort before all else, `~` even before the end.
fn compare_part(mut a: &str, mut b: &str) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        let (text_a, rest_a) = a.split_at(a.find(|c: char| c.is_ascii_digit()).unwrap_or(a.len()));
        let (text_b, rest_b) = b.split_at(b.find(|c: char| c.is_ascii_digit()).unwrap_or(b.len()));
        let weights = |text: &str| text.bytes().map(weight).chain([0]).collect::<Vec<_>>();
        let (digits_a, rest_a) = rest_a.split_at(rest_a.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest_a.len()));
        let (digits_b, rest_b) = rest_b.split_at(rest_b.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest_b.len()));
        // Numbers may be longer than any integer type: without leading zeros the longer one is the larger.
        let (digits_a, digits_b) = (digits_a.trim_start_matches('0'), digits_b.trim_start_matches('0'));
        let order = weights(text_a).cmp(&weights(text_b)).then(digits_a.len().cmp(&digits_b.len())).then(digits_a.cmp(digits_b));
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
    Ordering::Equal
}

/// The end of a part weighs 0.
fn weight(byte: u8) -> i32 {
    match byte {
        b'~' => -1,
        letter if letter.is_ascii_alphabetic() => i32::from(letter),
        other => i32::from(other) + 256,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In this order; versions on one line are equal.
    const ORDERED: [&[&str]; 20] = [
        &["0~~"],
        &["0~", "0:0~-0"],
        &["0", "0-0", "00", "0-00"],
        &["0a"],
        &["0+"],
        &["0.1"],
        &["1.0~beta1~svc1"],
        &["1.0~beta1"],
        &["1.0", "1.0-0", "1.00"],
        &["1.0-1~bpo12+1"],
        &["1.0-1"],
        &["1.0-1deb13u1~a"],
        &["1.0-1+b1"],
        &["1.0-1.1"],
        &["1.0a-1"],
        &["1.0+dfsg-1"],
        &["1.0.1-1"],
        &["9-1"],
        &["10-1-2"],
        &["1:0", "01:0"],
    ];

    #[test]
    fn versions_are_ordered_as_policy_says() {
        for (at, group) in ORDERED.iter().enumerate() {
            for (other, others) in ORDERED.iter().enumerate() {
                for (a, b) in group.iter().flat_map(|a| others.iter().map(move |b| (a, b))) {
                    assert_eq!(compare(a, b), at.cmp(&other), "{a} against {b}");
                }
            }
        }
        assert_eq!(compare("1.99999999999999999999999999", "1.100000000000000000000000000"), Ordering::Less);
    }

    /// Where dpkg is on this machine it is the judge; the table above holds everywhere.
    #[test]
    fn dpkg_agrees() {
        let versions: Vec<&str> = ORDERED.iter().flat_map(|group| group.iter().copied()).collect();
        for (a, b) in versions.iter().zip(versions.iter().skip(1)).chain(versions.iter().zip(versions.iter().skip(3))) {
            for (operator, expected) in [("lt", compare(a, b).is_lt()), ("eq", compare(a, b).is_eq()), ("gt", compare(a, b).is_gt())] {
                #[expect(clippy::disallowed_methods, reason = "a test that asks dpkg, where there is one")]
                let Ok(status) = std::process::Command::new("dpkg").args(["--compare-versions", a, operator, b]).status() else { return };
                assert_eq!(status.success(), expected, "dpkg --compare-versions {a} {operator} {b}");
            }
        }
    }

    #[test]
    fn upstream_is_without_epoch_and_revision() {
        for (version, expected) in [("1:2.3-4", "2.3"), ("2.3", "2.3"), ("0:1-2-3", "1-2"), ("17.11-0+deb13u1", "17.11")] {
            assert_eq!(upstream(version), expected, "{version}");
        }
    }
}
