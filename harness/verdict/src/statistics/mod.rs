//! The arithmetic behind statistical checks. Exact where that is feasible; every approximation says where it applies.

pub mod binomial;
pub mod multinomial;
pub mod power;
pub mod runs;

use statrs::function::gamma::ln_gamma;

/// Natural logarithm of `n!`.
pub(crate) fn ln_factorial(n: u64) -> f64 {
    ln_gamma(n as f64 + 1.0)
}

/// Natural logarithm of the binomial coefficient `n` over `k`; minus infinity when `k` exceeds `n`.
pub(crate) fn ln_choose(n: u64, k: u64) -> f64 {
    if k > n {
        f64::NEG_INFINITY
    } else {
        ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k)
    }
}
