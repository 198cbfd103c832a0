//! The `format`s of strings in structural schemas.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether a text has the format. Formats of numbers and unknown formats fit every text.
pub(crate) fn fits(format: &str, text: &str) -> bool {
    match format {
        "date-time" => text.contains(['T', 't', ' ']) && text.parse::<jiff::Timestamp>().is_ok(),
        "date" => text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
        "duration" => go_duration(text),
        "byte" => {
            use base64::Engine;
            base64::engine::general_purpose::STANDARD.decode(text).is_ok()
        }
        "uuid" => {
            let groups: Vec<&str> = text.split('-').collect();
            let lengths: Vec<usize> = groups.iter().map(|g| g.len()).collect();
            lengths == [8, 4, 4, 4, 12] && text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit())
        }
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => text.split_once('/').is_some_and(|(address, length)| {
            let limit = match address.parse::<IpAddr>() {
                Ok(IpAddr::V4(_)) => 32,
                Ok(IpAddr::V6(_)) => 128,
                Err(_) => return false,
            };
            length.parse::<u8>().is_ok_and(|n| n <= limit)
        }),
        "email" => text
            .split_once('@')
            .is_some_and(|(user, host)| !user.is_empty() && host.contains('.')),
        "hostname" => crate::admission::names::dns_1123_subdomain(&text.to_lowercase()).is_ok(),
        "uri" => text
            .split_once(':')
            .is_some_and(|(scheme, rest)| !rest.is_empty() && scheme.starts_with(|c: char| c.is_ascii_alphabetic())),
        _ => true,
    }
}

/// Go's `time.ParseDuration`: `1h2m3.5s`, `-1ms`, `0`.
fn go_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let number = &rest[..digits];
        if number.parse::<f64>().is_err() {
            return false;
        }
        rest = &rest[digits..];
        let units = ["ns", "us", "µs", "ms", "s", "m", "h"];
        let Some(unit) = units.iter().filter(|u| rest.starts_with(**u)).max_by_key(|u| u.len()) else {
            return false;
        };
        rest = &rest[unit.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case("duration", "1h30m", true)]
    #[case("duration", "1.5s", true)]
    #[case("duration", "0", true)]
    #[case("duration", "10", false)]
    #[case("duration", "", false)]
    #[case("date-time", "2026-01-02T03:04:05.123456Z", true)]
    #[case("date-time", "2026-01-02", false)]
    #[case("date", "2026-01-02", true)]
    #[case("ipv4", "10.0.0.1", true)]
    #[case("ipv4", "10.0.0", false)]
    #[case("cidr", "10.0.0.0/33", false)]
    #[case("cidr", "fd00::/64", true)]
    #[case("byte", "aGk=", true)]
    #[case("byte", "!", false)]
    #[case("uuid", "123e4567-e89b-12d3-a456-426614174000", true)]
    #[case("int64", "anything", true)]
    fn formats(#[case] format: &str, #[case] text: &str, #[case] expected: bool) {
        assert_eq!(fits(format, text), expected);
    }

    proptest! {
        #[test]
        fn never_panics(text in ".{0,20}") {
            for format in ["date-time", "date", "duration", "byte", "uuid", "ipv4", "ipv6", "cidr", "email", "hostname", "uri"] {
                let _ = fits(format, &text);
            }
        }
    }
}
