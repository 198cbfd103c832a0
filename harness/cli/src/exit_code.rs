//! Exit codes: the class of what happened, documented in the README.

use std::process::ExitCode;

use meshproof_verdict::record::Outcome;

/// Class of a command's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything that was asked for holds.
    Success = 0,
    /// The mesh broke a promise.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// A file that was given is wrong: scenario, topology, catalogue, journal.
    Input = 3,
    /// Nothing was run: nothing was selected, or everything was skipped.
    NothingRun = 4,
    /// Evidence was too thin, or a control was missing.
    Inconclusive = 5,
    /// The environment or meshproof itself failed.
    Error = 6,
    /// `prove`, `recheck` or `report` found that something is not what it claims to be.
    Refuted = 7,
    /// Interrupted by the user.
    Interrupted = 130,
}

impl Exit {
    /// Exit code of a run.
    #[must_use]
    pub fn of(outcome: Outcome, interrupted: bool) -> Self {
        match outcome {
            Outcome::Fail => Self::Failed,
            _ if interrupted => Self::Interrupted,
            Outcome::Error => Self::Error,
            Outcome::Inconclusive => Self::Inconclusive,
            Outcome::Skip => Self::NothingRun,
            Outcome::Pass | Outcome::Deviates => Self::Success,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::Exit;
    use meshproof_verdict::record::Outcome;

    #[test]
    fn a_broken_promise_outweighs_an_interrupt() {
        assert_eq!(Exit::of(Outcome::Fail, true), Exit::Failed);
        assert_eq!(Exit::of(Outcome::Pass, true), Exit::Interrupted);
        assert_eq!(Exit::of(Outcome::Inconclusive, false), Exit::Inconclusive);
    }
}
