//! Whether a sequence of yes and no looks drawn: the runs test of Wald and Wolfowitz, exactly.
//!
//! Given how many of each kind there are, every order is equally probable when requests are drawn independently.
//! Too few runs: neighbours resemble each other (connections or periods stick to a server). Too many: they avoid each
//! other (rotation).

use super::ln_choose;

/// Result of a runs test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RunsTest {
    /// Runs of equal neighbours.
    pub runs: u64,
    /// Runs to expect.
    pub expected: f64,
    /// Probability of no more runs than these.
    pub too_few_p: f64,
    /// Probability of no fewer runs than these.
    pub too_many_p: f64,
}

/// Tests a sequence; nothing can be said when it has only one kind.
#[must_use]
pub fn runs_test(sequence: impl IntoIterator<Item = bool>) -> Option<RunsTest> {
    let (mut yes, mut no, mut runs) = (0_u64, 0_u64, 0_u64);
    let mut last = None;
    for item in sequence {
        if item {
            yes += 1;
        } else {
            no += 1;
        }
        if last != Some(item) {
            runs += 1;
        }
        last = Some(item);
    }
    if yes == 0 || no == 0 {
        return None;
    }
    let most = 2 * yes.min(no) + 1;
    let too_few_p: f64 = (2..=runs).map(|r| probability(yes, no, r)).sum();
    let too_many_p: f64 = (runs..=most).map(|r| probability(yes, no, r)).sum();
    Some(RunsTest {
        runs,
        expected: 1.0 + 2.0 * yes as f64 * no as f64 / (yes + no) as f64,
        too_few_p: too_few_p.min(1.0),
        too_many_p: too_many_p.min(1.0),
    })
}

/// Probability of exactly `runs` runs.
fn probability(yes: u64, no: u64, runs: u64) -> f64 {
    let ln_orders = ln_choose(yes + no, yes);
    let ways = |a: u64, b: u64| (ln_choose(yes - 1, a) + ln_choose(no - 1, b) - ln_orders).exp();
    let half = runs / 2;
    if half == 0 {
        0.0
    } else if runs.is_multiple_of(2) {
        2.0 * ways(half - 1, half - 1)
    } else {
        ways(half - 1, half) + ways(half, half - 1)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    // Counted over all orders; 0.0397 is also in the tables of Swed and Eisenhart.
    #[rstest]
    #[case("yyynnnnnyy", 3, 10.0 / 252.0, 250.0 / 252.0)]
    #[case("ynynynynny", 9, 0.9920634920634921, 0.03968253968253968)]
    #[case("yynnnnynnnn", 4, 0.23636363636363636, 0.9333333333333333)]
    #[case("nnnnnny", 2, 0.2857142857142857, 1.0)]
    #[case("yynyynyy", 5, 1.0, 0.35714285714285715)]
    fn small_sequences(#[case] text: &str, #[case] runs: u64, #[case] few: f64, #[case] many: f64) {
        let test = runs_test(text.chars().map(|c| c == 'y')).unwrap();
        assert_eq!(test.runs, runs);
        assert!((test.too_few_p - few).abs() < 1e-9, "{test:?}");
        assert!((test.too_many_p - many).abs() < 1e-9, "{test:?}");
    }

    #[test]
    fn one_kind_says_nothing() {
        assert_eq!(runs_test([true; 10]), None);
        assert_eq!(runs_test([]), None);
    }

    #[test]
    fn blocks_and_rotation_are_told_apart() {
        let blocks = runs_test((0..2000).map(|i| (i / 50) % 2 == 0)).unwrap();
        assert!(blocks.too_few_p < 1e-12 && blocks.too_many_p > 0.999, "{blocks:?}");
        let rotation = runs_test((0..2000).map(|i| i % 2 == 0)).unwrap();
        assert!(
            rotation.too_many_p < 1e-12 && rotation.too_few_p > 0.999,
            "{rotation:?}"
        );
    }
}
