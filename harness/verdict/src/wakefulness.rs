//! Whether those who accuse were awake: a promise that was broken while the harness, the clusters' APIs or the clients did
//! not get to do their work proves nothing about the mesh.
//!
//! What was known about that in a window is a [`Wakefulness`]: facts, as the engine measured them, which the journal
//! holds. What follows from them is decided here and nowhere else: a [`Problem`] becomes an [`Attributed`] one only
//! through [`Wakefulness::attribute`], and only an attributed problem has an outcome. Checks ask [`Wakefulness::doubts`]
//! and the rows of their ledgers.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ledger::Row;
use crate::record::{Outcome, Problem, ProblemClass};

/// From this time on that the harness or an API stood still, a broken promise proves nothing (scenario µs): the shortest
/// timeouts that promises rest on, a sidecar's failfast and the period of gateway probes, are as long.
pub const STALLED_US: u64 = 3_000_000;

/// From this time on that harness and clusters waited twice as long for a processor as they had one, a broken promise proves
/// nothing (scenario µs): a third of the 30 s that promises usually give.
pub const STARVED_US: u64 = 10_000_000;

/// From this lateness on a client accuses nobody (scenario µs): Kubernetes itself takes a process that does not answer for so
/// long for not ready (`timeoutSeconds` of probes, 1 by default).
pub const CLIENT_LATE_US: u64 = 1_000_000;

/// What was known about wakefulness during a window. Everything is left out that is as it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wakefulness {
    /// Longest time for which the harness itself was not scheduled: it was starved or stopped, or its machine slept, scenario
    /// µs.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub stalled_us: u64,
    /// Time in which the harness, and clusters that share its processors, waited twice as long for one as they had one, or
    /// longer, all in all, scenario µs.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub starved_us: u64,
    /// Longest time for which the API of a cluster left a request of the harness without an answer, by cluster, scenario µs;
    /// a fault that a scenario put into an API does not count.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unanswered_us: BTreeMap<String, u64>,
    /// Pods that could not start for reasons that are not the mesh's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hindered: Vec<Hindrance>,
    /// Clients whose requests were waited for outside of a ledger, by pod (`cluster/namespace/pod`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub clients: BTreeMap<String, Diligence>,
    /// What the scenario put into the clusters that they do not model: they neither keep nor break a promise that rests on it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unmodelled: Vec<Unmodelled>,
}

/// Code of what is not judged because the clusters do not model what it rests on.
pub const NOT_MODELLED: &str = "not-modelled";

/// Something of an object that has no effect in clusters that are a model, and has in real ones.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unmodelled {
    /// Name of the cluster.
    pub cluster: String,
    /// Kind, namespace and name of the object.
    pub object: String,
    /// Which part of it.
    pub what: String,
}

impl std::fmt::Display for Unmodelled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: {}", self.cluster, self.object, self.what)
    }
}

/// A pod that could not start, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hindrance {
    /// `cluster namespace/pod`.
    pub pod: String,
    /// Kind of reason.
    pub cause: Cause,
    /// In the cluster's own words.
    pub detail: String,
}

/// Why a pod could not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// An image could not be pulled.
    ImagePull,
    /// No node has room for it, or may take it.
    Unschedulable,
    /// Its node put it out for want of memory or disk.
    Evicted,
}

impl Cause {
    /// Stable code of a problem that has this cause.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::ImagePull => "image-pull",
            Self::Unschedulable => "unschedulable",
            Self::Evicted => "evicted",
        }
    }

    /// What to do.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::ImagePull => {
                "see that the nodes reach the registry and that the image exists (`meshproof images` lists what is needed)"
            }
            Self::Unschedulable => "give the cluster more CPU or memory, or remove what keeps the pod from its nodes",
            Self::Evicted => "give the node more memory or disk",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::ImagePull => "its image can't be pulled",
            Self::Unschedulable => "no node can take it",
            Self::Evicted => "its node put it out",
        }
    }
}

/// What a client did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Diligence {
    /// Requests of which the outcome is known.
    pub sent: u64,
    /// Largest lateness of a start against its intended time, scenario µs.
    pub late_us: u64,
}

impl Wakefulness {
    /// What of it did not hold, each in words that continue a sentence; nothing when everybody was awake.
    #[must_use]
    pub fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        if self.stalled_us >= STALLED_US {
            doubts.push(format!(
                "the harness itself was stalled for {} of scenario time: its machine had too much to do, or it was stopped",
                seconds(self.stalled_us)
            ));
        }
        if self.starved_us >= STARVED_US {
            doubts.push(format!(
                "harness and clusters waited for a processor twice as long as they had one for {} of scenario time: their machine had too much to do",
                seconds(self.starved_us)
            ));
        }
        for (cluster, us) in &self.unanswered_us {
            if *us >= STALLED_US {
                doubts.push(format!(
                    "the API server of {cluster} did not answer for {} of scenario time",
                    seconds(*us)
                ));
            }
        }
        for hindered in &self.hindered {
            doubts.push(format!(
                "Pod {} could not start, {} ({})",
                hindered.pod,
                hindered.cause.words(),
                hindered.detail
            ));
        }
        for (client, did) in &self.clients {
            if did.sent == 0 {
                doubts.push(format!("the client {client} sent no request"));
            } else if did.late_us >= CLIENT_LATE_US {
                doubts.push(late(client, did.late_us));
            }
        }
        doubts
    }

    /// Why nothing can be judged, if something is not modelled.
    #[must_use]
    pub fn not_modelled(&self) -> Option<String> {
        let named: Vec<String> = self.unmodelled.iter().map(ToString::to_string).collect();
        (!named.is_empty()).then(|| format!("{NOT_MODELLED}: without effect in these clusters: {}", named.join("; ")))
    }

    /// Settles whose fault a problem is: the mesh's only when those who say so were awake. What they were not is added to the
    /// message.
    #[must_use]
    pub fn attribute(&self, mut problem: Problem) -> Attributed {
        if problem.class == ProblemClass::Mesh
            && let Some(why) = self.not_modelled()
        {
            NOT_MODELLED.clone_into(&mut problem.code);
            problem.class = ProblemClass::Environment;
            problem.message = format!("{why}; {}", problem.message);
            problem.remedy = Some("run the scenario on real clusters".to_owned());
        }
        let doubts = match problem.class {
            ProblemClass::Mesh | ProblemClass::Environment => self.doubts(),
            ProblemClass::Harness | ProblemClass::Interrupted => Vec::new(),
        };
        if !doubts.is_empty() {
            if let Some(hindered) = self.hindered.first() {
                hindered.cause.code().clone_into(&mut problem.code);
                problem.remedy = Some(hindered.cause.remedy().to_owned());
            } else if problem.class == ProblemClass::Mesh {
                problem.remedy =
                    Some("run it again on a machine that has the time for it: `meshproof doctor`".to_owned());
            }
            problem.class = ProblemClass::Environment;
            problem.message = format!("{}; but {}", problem.message, doubts.join("; and "));
        }
        Attributed(problem)
    }
}

/// A problem of which it is settled whose fault it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributed(Problem);

impl Attributed {
    /// Outcome of a step that had it. A problem of the environment or of the harness is an error; of the mesh, a failure (it
    /// did not do what every step is entitled to); an interrupt leaves the question open.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self.0.class {
            ProblemClass::Environment | ProblemClass::Harness => Outcome::Error,
            ProblemClass::Mesh => Outcome::Fail,
            ProblemClass::Interrupted => Outcome::Inconclusive,
        }
    }

    /// Outcome of an environment that did not come up or of a cleanup that was not completed because of it: nobody's promise
    /// was asked for, so that it is never a failure.
    #[must_use]
    pub fn outcome_without_promise(&self) -> Outcome {
        match self.outcome() {
            Outcome::Fail => Outcome::Error,
            other => other,
        }
    }
}

impl Deref for Attributed {
    type Target = Problem;

    fn deref(&self) -> &Problem {
        &self.0
    }
}

/// A client that has so many requests without an answer waits for those before it starts another one (an agent keeps 1024
/// connections at most): then its lateness is not its own.
const OUTSTANDING: usize = 1000;

/// What the client of a ledger was not, by the rows that a check saw of it up to the time at which it was decided.
pub(crate) fn late_client(ledger: &str, rows: &[&Row], decided_us: u64) -> Option<String> {
    let is_late =
        |row: &&&Row| row.intended_us <= decided_us && row.started_us.saturating_sub(row.intended_us) >= CLIENT_LATE_US;
    // Most ledgers have no such row, and need no further look.
    rows.iter().find(is_late)?;
    let sorted = |time: fn(&Row) -> u64| {
        let mut times: Vec<u64> = rows.iter().map(|row| time(row)).collect();
        times.sort_unstable();
        times
    };
    let (starts, ends) = (sorted(|row| row.started_us), sorted(|row| row.ended_us));
    let until = |times: &[u64], at_us: u64| times.partition_point(|time| *time <= at_us);
    let own = rows.iter().filter(is_late).filter(|row| {
        let outstanding = until(&starts, row.started_us).saturating_sub(until(&ends, row.started_us));
        outstanding < OUTSTANDING
    });
    let late_us = own.map(|row| row.started_us - row.intended_us).max()?;
    Some(late(&format!("of `{ledger}`"), late_us))
}

fn late(client: &str, late_us: u64) -> String {
    format!(
        "the client {client} was itself late: it started a request {} after it should have",
        seconds(late_us)
    )
}

fn seconds(us: u64) -> String {
    format!("{:.1} s", Duration::from_micros(us).as_secs_f64())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn problem(class: ProblemClass) -> Problem {
        Problem {
            class,
            code: "not-ready".to_owned(),
            message: "it is not ready".to_owned(),
            remedy: None,
        }
    }

    fn stalled(stalled_us: u64) -> Wakefulness {
        Wakefulness {
            stalled_us,
            ..Wakefulness::default()
        }
    }

    fn starved(starved_us: u64) -> Wakefulness {
        Wakefulness {
            starved_us,
            ..Wakefulness::default()
        }
    }

    fn unanswered(us: u64) -> Wakefulness {
        Wakefulness {
            unanswered_us: [("east".to_owned(), us)].into(),
            ..Wakefulness::default()
        }
    }

    /// Without effect: neither kept nor broken, whoever was awake.
    #[test]
    fn what_is_not_modelled_is_nobodys_fault_and_is_named() {
        let of = |what: &str| Unmodelled {
            cluster: "west".to_owned(),
            object: "Service shop/store".to_owned(),
            what: what.to_owned(),
        };
        let awake = Wakefulness {
            unmodelled: vec![of("annotation `retry/http`"), of("spec.x")],
            ..Wakefulness::default()
        };
        let named = "not-modelled: without effect in these clusters: west Service shop/store: annotation `retry/http`; \
                     west Service shop/store: spec.x";
        assert_eq!(awake.not_modelled().as_deref(), Some(named));
        let attributed = awake.attribute(problem(ProblemClass::Mesh));
        assert_eq!(
            (attributed.code.as_str(), attributed.outcome()),
            (NOT_MODELLED, Outcome::Error)
        );
        assert!(attributed.message.starts_with(named), "{}", attributed.message);
        let interrupted = awake.attribute(problem(ProblemClass::Interrupted));
        assert_eq!(interrupted.outcome(), Outcome::Inconclusive);
        assert_eq!(Wakefulness::default().not_modelled(), None);
    }

    fn hindered(cause: Cause) -> Wakefulness {
        let hindrance = Hindrance {
            pod: "west linkerd/x".to_owned(),
            cause,
            detail: "ImagePullBackOff".to_owned(),
        };
        Wakefulness {
            hindered: vec![hindrance],
            ..Wakefulness::default()
        }
    }

    fn client(sent: u64, late_us: u64) -> Wakefulness {
        Wakefulness {
            clients: [("west/shop/shopper".to_owned(), Diligence { sent, late_us })].into(),
            ..Wakefulness::default()
        }
    }

    #[rstest]
    #[case::everybody_was_awake(Wakefulness::default(), Outcome::Fail, "it is not ready")]
    #[case::almost_a_stall(stalled(STALLED_US - 1), Outcome::Fail, "it is not ready")]
    #[case::a_stall(stalled(40_000_000), Outcome::Error, "but the harness itself was stalled for 40.0 s")]
    #[case::almost_starved(starved(STARVED_US - 1), Outcome::Fail, "it is not ready")]
    #[case::starved(starved(STARVED_US), Outcome::Error, "twice as long as they had one for 10.0 s")]
    #[case::a_quick_api(unanswered(STALLED_US - 1), Outcome::Fail, "it is not ready")]
    #[case::a_silent_api(
        unanswered(STALLED_US),
        Outcome::Error,
        "but the API server of east did not answer for 3.0 s"
    )]
    #[case::an_image(
        hindered(Cause::ImagePull),
        Outcome::Error,
        "Pod west linkerd/x could not start, its image can't be pulled (ImagePullBackOff)"
    )]
    #[case::no_room(hindered(Cause::Unschedulable), Outcome::Error, "no node can take it")]
    #[case::a_client_that_sent(client(6, CLIENT_LATE_US - 1), Outcome::Fail, "it is not ready")]
    #[case::a_client_that_sent_nothing(client(0, 0), Outcome::Error, "the client west/shop/shopper sent no request")]
    #[case::a_client_that_was_late(
        client(6, 2_300_000),
        Outcome::Error,
        "started a request 2.3 s after it should have"
    )]
    fn the_mesh_is_accused_by_those_who_were_awake(
        #[case] awake: Wakefulness,
        #[case] outcome: Outcome,
        #[case] says: &str,
    ) {
        let attributed = awake.attribute(problem(ProblemClass::Mesh));
        assert_eq!(attributed.outcome(), outcome);
        assert!(attributed.message.contains(says), "{}", attributed.message);
        assert_eq!(awake.doubts().is_empty(), outcome == Outcome::Fail);
        assert_eq!(attributed.outcome_without_promise(), Outcome::Error);
    }

    #[test]
    fn what_keeps_a_pod_from_starting_is_named_by_code_and_remedy() {
        let of = |awake: Wakefulness| awake.attribute(problem(ProblemClass::Mesh));
        assert_eq!(of(hindered(Cause::ImagePull)).code, "image-pull");
        assert_eq!(of(hindered(Cause::Unschedulable)).code, "unschedulable");
        assert!(
            of(hindered(Cause::Evicted))
                .remedy
                .as_deref()
                .unwrap()
                .contains("memory")
        );
        assert_eq!(of(stalled(40_000_000)).code, "not-ready");
    }

    #[rstest]
    #[case(ProblemClass::Environment, Outcome::Error, "; but the harness")]
    #[case(ProblemClass::Harness, Outcome::Error, "")]
    #[case(ProblemClass::Interrupted, Outcome::Inconclusive, "")]
    fn other_problems_keep_their_class(#[case] class: ProblemClass, #[case] outcome: Outcome, #[case] says: &str) {
        let attributed = stalled(40_000_000).attribute(problem(class));
        assert_eq!((attributed.class, attributed.outcome()), (class, outcome));
        assert!(attributed.message.contains(says), "{}", attributed.message);
        assert_eq!(attributed.message.contains("stalled"), !says.is_empty());
    }

    fn row(intended_us: u64, started_us: u64, ended_us: u64) -> Row {
        Row {
            id: intended_us.to_string(),
            intended_us,
            started_us,
            ended_us,
            client: "west/shop/shopper".to_owned(),
            connection: 0,
            result: crate::ledger::RequestResult::Failed {
                kind: "timeout".to_owned(),
                detail: String::new(),
            },
        }
    }

    fn lateness(rows: &[Row], decided_us: u64) -> Option<String> {
        late_client("steady", &rows.iter().collect::<Vec<_>>(), decided_us)
    }

    #[test]
    fn a_client_that_was_late_before_the_decision_accuses_nobody() {
        let rows = [
            row(0, 5, 10),
            row(100, 2_300_100, 2_400_000),
            row(3_000_000, 3_000_000, 3_000_001),
        ];
        assert!(
            lateness(&rows, 3_000_000)
                .unwrap()
                .contains("of `steady` was itself late: it started a request 2.3 s")
        );
        assert_eq!(lateness(&rows, 99), None, "it was late only after the decision");
        assert_eq!(lateness(&[row(0, CLIENT_LATE_US - 1, CLIENT_LATE_US)], 9), None);
    }

    /// With a mesh that answers nothing a client runs out of connections; that it is late then is the mesh's fault.
    #[test]
    fn a_client_that_waits_for_a_silent_mesh_is_not_late_itself() {
        let silent = |number: u64| row(number * 1000, number * 1000, number * 1000 + 10_000_000);
        let mut rows: Vec<Row> = (0..1024).map(silent).collect();
        rows.push(row(1_024_000, 10_000_000, 20_000_000));
        assert_eq!(lateness(&rows, 20_000_000), None);
        rows.truncate(10);
        rows.push(row(1_024_000, 5_000_000, 20_000_000));
        assert!(lateness(&rows, 20_000_000).is_some());
    }

    #[test]
    fn what_is_as_it_should_be_is_left_out() {
        assert_eq!(serde_json::to_string(&Wakefulness::default()).unwrap(), "{}");
        let read: Wakefulness = serde_json::from_str(r#"{"stalled_us": 5}"#).unwrap();
        assert_eq!(read, stalled(5));
    }
}
