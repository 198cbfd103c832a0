//! Numbers on the command line that have bounds: what is outside of them is refused, and never taken for the nearest one.

/// Slowest and fastest pace of embedded clusters: slower than real time is pointless, and faster than this the machine's
/// scheduling shows.
const PACES: (f64, f64) = (1.0, 100.0);

/// A pace: scenario seconds per wall second.
///
/// # Errors
/// Says the bounds.
pub(super) fn pace(text: &str) -> Result<f64, String> {
    let (least, most) = PACES;
    match text.parse::<f64>() {
        Ok(pace) if (least..=most).contains(&pace) => Ok(pace),
        _ => Err(format!("a pace is a number from {least} to {most}")),
    }
}

/// How often each scenario runs: every repetition is planned before the first one starts.
///
/// # Errors
/// Says the bounds.
pub(super) fn repetitions(text: &str) -> Result<u32, String> {
    within(text, 1000)
}

/// How many at the same time.
///
/// # Errors
/// Says the bounds.
pub(super) fn at_once(text: &str) -> Result<usize, String> {
    within(text, 1000)
}

/// A number of clusters.
///
/// # Errors
/// Says the bounds.
pub(super) fn clusters(text: &str) -> Result<u64, String> {
    within(text, 1000)
}

/// A number of seconds, up to a day.
///
/// # Errors
/// Says the bounds.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    within(text, 24 * 60 * 60)
}

fn within<T: TryFrom<u64>>(text: &str, most: u64) -> Result<T, String> {
    let number = text.parse::<u64>().ok().filter(|number| (1..=most).contains(number));
    number
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| format!("a whole number from 1 to {most} is needed"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::{at_once, pace, repetitions};

    #[rstest]
    #[case("1", Some(1.0))]
    #[case("2.5", Some(2.5))]
    #[case("100", Some(100.0))]
    #[case("0", None)]
    #[case("-1", None)]
    #[case("0.99", None)]
    #[case("100.1", None)]
    #[case("1e9", None)]
    #[case("1e-308", None)]
    #[case("inf", None)]
    #[case("NaN", None)]
    #[case("fast", None)]
    fn paces_have_bounds(#[case] text: &str, #[case] expected: Option<f64>) {
        let read = pace(text);
        assert_eq!(read.as_ref().ok().copied(), expected);
        assert!(expected.is_some() || read.unwrap_err().contains("from 1 to 100"));
    }

    #[rstest]
    #[case("1", Some(1))]
    #[case("1000", Some(1000))]
    #[case("0", None)]
    #[case("-1", None)]
    #[case("1001", None)]
    #[case("4294967295", None)]
    #[case("18446744073709551616", None)]
    fn counts_have_bounds(#[case] text: &str, #[case] expected: Option<u32>) {
        assert_eq!(repetitions(text).ok(), expected);
        assert_eq!(at_once(text).ok().map(|number| number as u32), expected);
    }
}
