//! Durations as Kubernetes objects spell them: `3s`, `1m30s`, `500ms`.

use std::time::Duration;

/// Reads a duration: decimal numbers with the units `h`, `m`, `s`, `ms`, `us`, `ns`, largest first or not, without spaces.
/// `None` for anything else; `0` alone is zero.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest.get(..digits)?.parse().ok()?;
        rest = rest.get(digits..)?;
        let unit_end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let seconds = match rest.get(..unit_end)? {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total += number * seconds;
        rest = rest.get(unit_end..)?;
    }
    if text.is_empty() {
        return None;
    }
    Duration::try_from_secs_f64(total).ok()
}

/// Writes whole seconds as `1h2m3s`, leaving out leading zeros: 3 s is `3s`, a minute is `1m0s`.
pub(crate) fn format(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}h{minutes}m{seconds}s")
    } else if minutes > 0 {
        format!("{minutes}m{seconds}s")
    } else {
        format!("{seconds}s")
    }
}

#[cfg(test)]
mod tests {
    use super::{format, parse};
    use rstest::rstest;
    use std::time::Duration;

    #[rstest]
    #[case("3s", Some(3_000))]
    #[case("1m30s", Some(90_000))]
    #[case("500ms", Some(500))]
    #[case("1.5s", Some(1_500))]
    #[case("0", Some(0))]
    #[case("3", None)]
    #[case("", None)]
    #[case("s", None)]
    #[case("-3s", None)]
    #[case("3 s", None)]
    #[case("3x", None)]
    #[case("1e9999s", None)]
    fn durations_are_read_as_kubernetes_does(#[case] text: &str, #[case] millis: Option<u64>) {
        assert_eq!(parse(text), millis.map(Duration::from_millis));
    }

    #[rstest]
    #[case(3, "3s")]
    #[case(60, "1m0s")]
    #[case(3723, "1h2m3s")]
    fn whole_seconds_are_written_as_go_does(#[case] seconds: u64, #[case] text: &str) {
        assert_eq!(format(Duration::from_secs(seconds)), text);
    }
}
