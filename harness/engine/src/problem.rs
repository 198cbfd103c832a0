//! What can go wrong outside of a promise, and whose fault it is.

pub use meshproof_verdict::record::{Problem, ProblemClass};

/// Makes a problem of the environment: clusters, network, tools.
#[must_use]
pub fn environment(code: &str, message: impl Into<String>, remedy: Option<&str>) -> Problem {
    problem(ProblemClass::Environment, code, message, remedy)
}

/// Makes a problem of the mesh: it did not do what a step needs.
#[must_use]
pub fn mesh(code: &str, message: impl Into<String>, remedy: Option<&str>) -> Problem {
    problem(ProblemClass::Mesh, code, message, remedy)
}

/// Makes a problem of the harness itself.
#[must_use]
pub fn harness(code: &str, message: impl Into<String>, remedy: Option<&str>) -> Problem {
    problem(ProblemClass::Harness, code, message, remedy)
}

/// The problem that the user's interrupt is.
#[must_use]
pub fn interrupted() -> Problem {
    problem(
        ProblemClass::Interrupted,
        "interrupted",
        "the user stopped the run",
        None,
    )
}

/// The problem that a fault or a step is which changed nothing of what it is about: nothing may be judged that rests on it.
#[must_use]
pub fn without_effect(what: &str, found: &str) -> Problem {
    environment(
        "fault-without-effect",
        format!("{what} has no effect: {found}"),
        Some("see whether something else keeps it up; what rests on it can't be judged here"),
    )
}

fn problem(class: ProblemClass, code: &str, message: impl Into<String>, remedy: Option<&str>) -> Problem {
    Problem {
        class,
        code: code.to_owned(),
        message: message.into(),
        remedy: remedy.map(ToOwned::to_owned),
    }
}
