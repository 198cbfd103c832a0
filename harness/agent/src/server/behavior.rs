//! What the server has been told to do with requests.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::protocol::{Behavior, Protocol};

/// Resolution of [`Behavior::status_share`]: shares are rounded to parts per million, so that counting is exact.
const PARTS: u64 = 1_000_000;
/// Longest [`Behavior::delay_ms`]: one hour.
const MAX_DELAY_MS: u64 = 3_600_000;

/// The behaviour in force, and how many requests it has been applied to.
#[derive(Default)]
pub(crate) struct BehaviorSwitch {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    behavior: Behavior,
    /// HTTP requests since the behaviour was set; the n-th of them gets `status`, as `status_share` says.
    counted: u64,
}

/// What to do with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Treatment {
    /// How long to wait first.
    pub(crate) delay: Duration,
    /// The status to answer with; `None` means close the connection.
    pub(crate) status: Option<u16>,
}

impl BehaviorSwitch {
    /// Puts a behaviour in force for the next request.
    ///
    /// # Errors
    /// A sentence for the caller when a value is out of range; the old behaviour stays.
    pub(crate) fn set(&self, behavior: Behavior) -> Result<(), String> {
        validate(&behavior)?;
        *self.lock() = State { behavior, counted: 0 };
        Ok(())
    }

    /// Whether `GET /ready` is answered with 200.
    pub(crate) fn is_ready(&self) -> bool {
        !self.lock().behavior.unready
    }

    /// Decides what happens to the request that has just been received.
    pub(crate) fn treat(&self, protocol: Protocol) -> Treatment {
        let mut state = self.lock();
        let delay = Duration::from_millis(state.behavior.delay_ms);
        let status = match protocol {
            Protocol::Tcp => 200,
            Protocol::Http1 | Protocol::Http2 => {
                let number = state.counted;
                state.counted += 1;
                match state.behavior.status {
                    Some(status) if is_hit(number, state.behavior.status_share) => status,
                    _ => 200,
                }
            }
        };
        Treatment {
            delay,
            status: (!state.behavior.close).then_some(status),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn validate(behavior: &Behavior) -> Result<(), String> {
    if let Some(status) = behavior.status
        && !(200..=599).contains(&status)
    {
        return Err(format!(
            "`status` is {status}; expected a final HTTP status, 200 to 599"
        ));
    }
    if let Some(share) = behavior.status_share {
        if !(0.0..=1.0).contains(&share) {
            return Err(format!("`status_share` is {share}; expected a share from 0 to 1"));
        }
        if behavior.status.is_none() {
            return Err(
                "`status_share` is given without `status`; add the status that this share of requests shall get"
                    .to_owned(),
            );
        }
    }
    if behavior.delay_ms > MAX_DELAY_MS {
        return Err(format!(
            "`delay_ms` is {}; expected at most {MAX_DELAY_MS} (one hour)",
            behavior.delay_ms
        ));
    }
    Ok(())
}

/// Whether request `number` (from 0) belongs to the share. Evenly spread and exact: of the first `n` requests precisely
/// ⌊n · share⌋ are hit.
fn is_hit(number: u64, share: Option<f64>) -> bool {
    let Some(share) = share else { return true };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "validated to be within 0..=1, so the product is within 0..=1e6"
    )]
    let parts = (share * PARTS as f64).round() as u64;
    // The pattern repeats after PARTS requests, which keeps the products far from overflow.
    let position = number % PARTS;
    (position + 1) * parts / PARTS > position * parts / PARTS
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop_assert_eq, proptest};
    use rstest::rstest;

    fn hits(share: f64, requests: u64) -> Vec<u64> {
        (0..requests).filter(|number| is_hit(*number, Some(share))).collect()
    }

    #[rstest]
    #[case(0.0, &[])]
    #[case(0.1, &[9, 19])]
    #[case(0.25, &[3, 7, 11, 15, 19])]
    #[case(0.3, &[3, 6, 9, 13, 16, 19])]
    #[case(0.5, &[1, 3, 5, 7, 9, 11, 13, 15, 17, 19])]
    fn shares_are_every_nth(#[case] share: f64, #[case] expected: &[u64]) {
        assert_eq!(hits(share, 20), expected);
    }

    #[test]
    fn a_share_of_one_and_no_share_hit_everything() {
        assert_eq!(hits(1.0, 1000).len(), 1000);
        assert!((0..1000).all(|number| is_hit(number, None)));
    }

    proptest! {
        #[test]
        fn shares_are_exact_at_every_length(parts in 0u64..=1_000_000, requests in 0u64..5_000) {
            let share = parts as f64 / 1e6;
            prop_assert_eq!(hits(share, requests).len() as u64, requests * parts / 1_000_000);
        }
    }

    #[rstest]
    #[case(Behavior { status: Some(100), ..Behavior::default() }, "`status` is 100")]
    #[case(Behavior { status: Some(600), ..Behavior::default() }, "`status` is 600")]
    #[case(Behavior { status: Some(503), status_share: Some(1.5), ..Behavior::default() }, "`status_share` is 1.5")]
    #[case(Behavior { status: Some(503), status_share: Some(f64::NAN), ..Behavior::default() }, "`status_share` is NaN")]
    #[case(Behavior { status_share: Some(0.5), ..Behavior::default() }, "without `status`")]
    #[case(Behavior { delay_ms: 3_600_001, ..Behavior::default() }, "`delay_ms`")]
    fn values_out_of_range_are_refused_and_change_nothing(#[case] behavior: Behavior, #[case] message: &str) {
        let switch = BehaviorSwitch::default();
        switch
            .set(Behavior {
                unready: true,
                ..Behavior::default()
            })
            .unwrap();
        let problem = switch.set(behavior).unwrap_err();
        assert!(problem.contains(message), "{problem}");
        assert!(!switch.is_ready());
    }

    #[test]
    fn status_is_for_http_and_closing_for_all() {
        let switch = BehaviorSwitch::default();
        switch
            .set(Behavior {
                status: Some(503),
                delay_ms: 7,
                ..Behavior::default()
            })
            .unwrap();
        let delay = Duration::from_millis(7);
        assert_eq!(
            switch.treat(Protocol::Http1),
            Treatment {
                delay,
                status: Some(503)
            }
        );
        assert_eq!(
            switch.treat(Protocol::Tcp),
            Treatment {
                delay,
                status: Some(200)
            }
        );
        switch
            .set(Behavior {
                close: true,
                ..Behavior::default()
            })
            .unwrap();
        for protocol in [Protocol::Http1, Protocol::Http2, Protocol::Tcp] {
            assert_eq!(
                switch.treat(protocol),
                Treatment {
                    delay: Duration::ZERO,
                    status: None
                }
            );
        }
    }

    #[test]
    fn counting_restarts_with_each_behavior_and_leaves_tcp_out() {
        let switch = BehaviorSwitch::default();
        let half = Behavior {
            status: Some(500),
            status_share: Some(0.5),
            ..Behavior::default()
        };
        switch.set(half.clone()).unwrap();
        assert_eq!(switch.treat(Protocol::Http1).status, Some(200));
        switch.set(half).unwrap();
        assert_eq!(switch.treat(Protocol::Http1).status, Some(200));
        assert_eq!(switch.treat(Protocol::Tcp).status, Some(200));
        assert_eq!(switch.treat(Protocol::Http2).status, Some(500));
    }
}
