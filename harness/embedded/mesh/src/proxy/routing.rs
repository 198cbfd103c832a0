//! Which backend of a route gets a request: a weighted draw among those that are available.

use rand::Rng;

use crate::defect::{Defect, Defects};

/// Part of the requests that a backend of weight zero gets under a defect.
const ZERO_WEIGHT_LEAK: f64 = 0.02;

/// A backend as the draw sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    /// Weight in the route.
    pub(super) weight: u32,
    /// Whether it can take a request, or at least let it wait.
    pub(super) available: bool,
    /// Whether it was unavailable before.
    pub(super) came_back: bool,
}

/// Draws a backend; `None` when no backend of a weight above zero is available.
pub(super) fn draw(candidates: &[Candidate], defects: &Defects, random: &mut impl Rng) -> Option<usize> {
    let shares = shares(candidates, defects);
    if defects.has(Defect::FailbackMissing) {
        let stayed =
            |index: usize, candidate: &Candidate| candidate.available && !candidate.came_back && has(&shares, index);
        if let Some(index) = pick(candidates, &shares, stayed, random) {
            return Some(index);
        }
    }
    let usable = |index: usize, candidate: &Candidate| candidate.available && has(&shares, index);
    if let Some(index) = pick(candidates, &shares, usable, random) {
        return Some(index);
    }
    if defects.has(Defect::ZeroWeightTakesOver) {
        let even = vec![1.0; candidates.len()];
        return pick(candidates, &even, |_, candidate| candidate.available, random);
    }
    None
}

fn has(shares: &[f64], index: usize) -> bool {
    shares.get(index).is_some_and(|share| *share > 0.0)
}

fn pick(
    candidates: &[Candidate],
    shares: &[f64],
    usable: impl Fn(usize, &Candidate) -> bool,
    random: &mut impl Rng,
) -> Option<usize> {
    let usable: Vec<(usize, f64)> = candidates
        .iter()
        .zip(shares)
        .enumerate()
        .filter(|(index, (candidate, _))| usable(*index, candidate))
        .map(|(index, (_, share))| (index, *share))
        .collect();
    let total: f64 = usable.iter().map(|(_, share)| share).sum();
    let mut rest = match usable.as_slice() {
        [] => return None,
        [(only, _)] => return Some(*only),
        _ => random.random_range(0.0..total),
    };
    for (index, share) in &usable {
        if rest < *share {
            return Some(*index);
        }
        rest -= share;
    }
    usable.last().map(|(index, _)| *index)
}

/// Each backend's part of the requests, not normalised.
fn shares(candidates: &[Candidate], defects: &Defects) -> Vec<f64> {
    let mut shares: Vec<f64> = candidates
        .iter()
        .map(|candidate| match candidate.weight {
            0 => 0.0,
            _ if defects.has(Defect::WeightsIgnored) => 1.0,
            weight => f64::from(weight),
        })
        .collect();
    if defects.has(Defect::WeightsOffByFive) {
        shift_five_points(&mut shares);
    }
    if defects.has(Defect::ZeroWeightReceives) {
        let total: f64 = shares.iter().sum();
        for (share, candidate) in shares.iter_mut().zip(candidates) {
            if candidate.weight == 0 {
                *share = total * ZERO_WEIGHT_LEAK;
            }
        }
    }
    shares
}

/// Takes five points from the largest share and gives them to the other non-zero ones in their proportion.
fn shift_five_points(shares: &mut [f64]) {
    let total: f64 = shares.iter().sum();
    let Some(largest) = (0..shares.len()).reduce(|a, b| if shares.get(b) > shares.get(a) { b } else { a }) else {
        return;
    };
    let others = total - shares.get(largest).copied().unwrap_or_default();
    if others <= 0.0 {
        return;
    }
    for (index, share) in shares.iter_mut().enumerate() {
        *share += if index == largest {
            -0.05 * total
        } else {
            0.05 * total * *share / others
        };
    }
}

#[cfg(test)]
mod tests {
    use super::{Candidate, draw, shares};
    use crate::defect::{Defect, Defects};
    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use rstest::rstest;

    fn candidates(weights: &[u32]) -> Vec<Candidate> {
        let candidate = |weight: &u32| Candidate {
            weight: *weight,
            available: true,
            came_back: false,
        };
        weights.iter().map(candidate).collect()
    }

    fn counts(candidates: &[Candidate], defects: &[Defect]) -> Vec<usize> {
        let defects: Defects = defects.iter().copied().collect();
        let mut random = StdRng::seed_from_u64(7);
        let mut counts = vec![0; candidates.len()];
        for _ in 0..5000 {
            if let Some(index) = draw(candidates, &defects, &mut random) {
                counts[index] += 1;
            }
        }
        counts
    }

    /// Chi square with one degree of freedom of `hits` against a share.
    fn chi_square(hits: usize, share: f64) -> f64 {
        let (n, expected) = (5000.0, 5000.0 * share);
        (hits as f64 - expected).powi(2) / expected + (hits as f64 - expected).powi(2) / (n - expected)
    }

    #[rstest]
    #[case(&[70, 30], &[], 0.7)]
    #[case(&[80, 20], &[], 0.8)]
    #[case(&[1, 1], &[], 0.5)]
    #[case(&[70, 30], &[Defect::WeightsOffByFive], 0.65)]
    #[case(&[20, 80], &[Defect::WeightsOffByFive], 0.25)]
    #[case(&[70, 30], &[Defect::WeightsIgnored], 0.5)]
    fn shares_follow_the_weights(#[case] weights: &[u32], #[case] defects: &[Defect], #[case] first: f64) {
        let counts = counts(&candidates(weights), defects);
        assert!(chi_square(counts[0], first) < 10.83, "{counts:?}");
        assert_eq!(counts.iter().sum::<usize>(), 5000);
    }

    #[test]
    fn five_points_are_exact_and_no_zero_weight_gets_any() {
        let all = [Defect::WeightsOffByFive].into_iter().collect();
        assert_eq!(shares(&candidates(&[80, 20, 0]), &all), [75.0, 25.0, 0.0]);
        assert_eq!(shares(&candidates(&[100, 0]), &all), [100.0, 0.0]);
    }

    #[test]
    fn weight_zero_receives_exactly_nothing() {
        assert_eq!(counts(&candidates(&[100, 0]), &[]), [5000, 0]);
        assert!(counts(&candidates(&[100, 0]), &[Defect::ZeroWeightReceives])[1] > 20);
    }

    #[test]
    fn an_unavailable_backend_leaves_its_share_to_the_others_of_non_zero_weight() {
        let mut all = candidates(&[50, 50, 0]);
        all[0].available = false;
        assert_eq!(counts(&all, &[]), [0, 5000, 0]);
        all[1].available = false;
        assert_eq!(counts(&all, &[]), [0, 0, 0]);
        assert_eq!(counts(&all, &[Defect::ZeroWeightTakesOver]), [0, 0, 5000]);
    }

    #[test]
    fn failback_missing_keeps_a_returned_backend_out_while_another_lives() {
        let mut all = candidates(&[50, 50]);
        all[0].came_back = true;
        assert!(counts(&all, &[])[0] > 2000);
        assert_eq!(counts(&all, &[Defect::FailbackMissing]), [0, 5000]);
        all[1].available = false;
        assert_eq!(counts(&all, &[Defect::FailbackMissing]), [5000, 0]);
    }
}
