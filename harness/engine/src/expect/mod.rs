//! `expect`: opens a check, looks until the judges say that nothing can change the answer, closes it and has it judged.

mod again;
mod mtls;
mod probes;
mod recall;
mod sources;
mod split;

use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use meshproof_spec::scenario::Expect;
use meshproof_verdict::history::{At, CheckHistory, ScenarioHistory};
use meshproof_verdict::judge::{Progress, control_outcomes, judge, progress};
use meshproof_verdict::question::{Observation, Question};
use meshproof_verdict::record::{CheckClosed, CheckOpened, CloseReason, Event, Judged, Observed, Outcome};
use meshproof_verdict::standing::Standing;
use meshproof_verdict::wakefulness::Wakefulness;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::agents::unreachable_agent;
use crate::lower::{Look, Lowered, longest, lower};
use crate::problem::Problem;
use crate::scene::{REQUEST_TIME, Scene};

pub(crate) use probes::access;

/// What a source of observations says.
pub(crate) enum Seen {
    /// It saw something.
    Saw(Observation),
    /// It can't look any more.
    Lost(Problem),
}

/// Observations of one check, in order.
pub(crate) type Source = BoxStream<'static, Seen>;

/// Shortest pause between two looks at growing ledgers (wall time), so that rows are judged in batches.
const LEDGER_PAUSE: Duration = Duration::from_millis(3);
/// Judging grows with the ledger: the pause is this many times as long as the last look took.
const LEDGER_SHARE: u32 = 4;
/// Longest such pause (wall time).
const LONGEST_LEDGER_PAUSE: Duration = Duration::from_millis(250);

/// Asks a check to its end. Returns its outcome; a check that does not pass stops nothing.
///
/// # Errors
/// When the check can't even be asked, or the journal can't be written.
pub(crate) async fn expect(scene: &mut Scene, expect: &Expect, line: u32) -> Result<Outcome, Problem> {
    let expect = recall::recalled(expect, &scene.history().checks)?;
    let lowered = lower(&expect, scene)?;
    let check = scene.step;
    open(scene, &lowered, check, line, None);
    ask(scene, check, &lowered.look).await?;
    again::ask_controls_again(scene, check).await?;
    judged(scene, check).await
}

/// Looks until an open check can be closed, and closes it.
async fn ask(scene: &mut Scene, check: u32, what: &Look) -> Result<(), Problem> {
    // As it was written: `recheck` has no other.
    let question = asked(&scene.history(), check)?.opened.question.clone();
    let reason = match look(scene, what, &question).await {
        Ok(Begun::Source(source)) => watch(scene, check, &question, source).await?,
        Ok(Begun::Observed(observations)) => {
            for observation in observations {
                observe(scene, check, observation);
            }
            watch(scene, check, &question, stream::pending().boxed()).await?
        }
        Ok(Begun::Interrupted) => CloseReason::Interrupted,
        Err(problem) => CloseReason::Problem(problem),
    };
    if !question.ledgers().is_empty() {
        scene.ledgers.sync().await?;
    }
    let awake = scene.awake(accuses(scene, check, &reason)?).await;
    scene.ledgers.close_check(check, reason, awake);
    Ok(())
}

/// The check that was opened under this key.
fn asked(history: &ScenarioHistory, check: u32) -> Result<&CheckHistory, Problem> {
    history.asked(check).ok_or_else(|| {
        crate::problem::harness(
            "unknown-check",
            format!("check {check} was not opened"),
            Some("report this as a defect of meshproof"),
        )
    })
}

/// Has a closed check judged, writes that down and returns the outcome.
async fn judged(scene: &Scene, check: u32) -> Result<Outcome, Problem> {
    let judgement = {
        let history = scene.history();
        let check = asked(&history, check)?;
        let ledgers = scene.ledgers.set();
        let controls = control_outcomes(&history, check, &*ledgers);
        let judgement = judge(check, &controls, &*ledgers);
        let closed_us = check.closed.as_ref().map_or(u64::MAX, |closed| closed.at_us);
        let (started, upgrades) = (&scene.run.started, &history.upgrades);
        Standing::of(
            Some(started),
            &scene.testbed.facts,
            upgrades,
            &check.opened.requirement,
            closed_us,
        )
        .applied(judgement)
    };
    let outcome = judgement.outcome;
    scene
        .run
        .journal
        .durable(Event::Judged(Judged {
            scenario: scene.key().to_owned(),
            check,
            judgement: Box::new(judgement),
        }))
        .await?;
    Ok(outcome)
}

/// Whether the check would fail if everybody was awake: then it is worth finding out.
fn accuses(scene: &Scene, check: u32, reason: &CloseReason) -> Result<bool, Problem> {
    let history = scene.history();
    let ledgers = scene.ledgers.set();
    let rows = ledgers
        .0
        .iter()
        .map(|(name, known)| (name.clone(), known.rows.len() as u64));
    let closed = At::new(
        scene.clock().now_us(),
        CheckClosed {
            scenario: scene.key().to_owned(),
            check,
            reason: reason.clone(),
            rows: rows.collect(),
            awake: Wakefulness::default(),
        },
    );
    let check = CheckHistory {
        closed: Some(closed),
        ..asked(&history, check)?.clone()
    };
    let controls = control_outcomes(&history, &check, &*ledgers);
    Ok(judge(&check, &controls, &*ledgers).outcome == Outcome::Fail)
}

/// Opens a check under a key; `proves` is the check whose control it is, when it is asked again.
fn open(scene: &Scene, lowered: &Lowered, key: u32, line: u32, proves: Option<u32>) {
    scene.run.journal.note(Event::CheckOpened(CheckOpened {
        scenario: scene.key().to_owned(),
        check: key,
        line,
        requirement: lowered.requirement.clone(),
        name: lowered.name.clone(),
        place: lowered.place.clone(),
        control: lowered.control.clone(),
        question: Box::new(lowered.question.clone()),
        proves,
    }));
}

/// How looking begins.
enum Begun {
    /// Observations will come.
    Source(Source),
    /// Everything was observed already.
    Observed(Vec<Observation>),
    /// The user stopped it.
    Interrupted,
}

async fn look(scene: &mut Scene, look: &Look, question: &Question) -> Result<Begun, Problem> {
    match look {
        Look::Objects(look) => sources::objects(scene, look).await.map(Begun::Source),
        Look::LinkAlive { from, to } => {
            let cluster = scene.cluster(from)?;
            let asked = scene.testbed.driver.link_alive(cluster, to);
            let values = scene
                .clock()
                .within(REQUEST_TIME, asked)
                .await
                .unwrap_or_else(|_| Err(no_answer(from)))?;
            Ok(Begun::Source(
                values.map(|value| Seen::Saw(Observation::Number(value))).boxed(),
            ))
        }
        Look::Ledger => Ok(Begun::Source(stream::pending().boxed())),
        Look::Unchanged { since, clusters } => sources::unchanged(scene, since, clusters).map(Begun::Source),
        Look::LinkResidue { from, to } => Ok(Begun::Source(sources::link_residue(scene, from, to))),
        Look::MeshResidue { clusters } => Ok(Begun::Source(sources::mesh_residue(scene, clusters))),
        Look::Split(_) | Look::Mtls(_) | Look::Access(_) | Look::Rejected(_) => {
            let interrupts = scene.run.interrupts.clone();
            tokio::select! {
                biased;
                () = interrupts.stopped() => Ok(Begun::Interrupted),
                observed = measure(scene, look, question) => observed.map(Begun::Observed),
            }
        }
    }
}

/// Looks that are done once, before anything can be judged.
async fn measure(scene: &mut Scene, look: &Look, question: &Question) -> Result<Vec<Observation>, Problem> {
    match look {
        Look::Split(look) => split::measure(scene, look).await.map(|()| Vec::new()),
        Look::Mtls(look) => mtls::measure(scene, look).await.map(|evidence| vec![evidence]),
        Look::Access(access) => probes::access(scene, access).await.map(|answer| vec![answer]),
        Look::Rejected(rejected) => probes::rejected(scene, rejected).await.map(|answer| vec![answer]),
        Look::Objects(_)
        | Look::LinkAlive { .. }
        | Look::Ledger
        | Look::Unchanged { .. }
        | Look::LinkResidue { .. }
        | Look::MeshResidue { .. } => Err(crate::problem::harness(
            "unsupported-check",
            format!("{question:?} is not measured once"),
            Some("report this as a defect of meshproof"),
        )),
    }
}

/// Looks until the judges say that nothing can change the answer, or the check has certainly run out of time.
async fn watch(scene: &Scene, check: u32, question: &Question, mut source: Source) -> Result<CloseReason, Problem> {
    let clock = scene.clock();
    let mut rows = scene.ledgers.changes();
    let of_ledgers = !question.ledgers().is_empty();
    let opened_us = asked(&scene.history(), check)?.opened.at_us;
    let end_us = opened_us.saturating_add(crate::clock::micros(longest(question)));
    loop {
        let began = Instant::now();
        let now_us = clock.now_us();
        let so_far = progress(asked(&scene.history(), check)?, &*scene.ledgers.set(), now_us);
        let look_again_at_us = match so_far {
            Progress::Decided => return Ok(CloseReason::Decided),
            Progress::Undecided { look_again_at_us } => look_again_at_us,
        };
        if now_us >= end_us {
            return Ok(CloseReason::Deadline);
        }
        if let Some(problem) = broken_traffic(scene, question) {
            return Ok(CloseReason::Problem(problem));
        }
        let pause = (began.elapsed() * LEDGER_SHARE).clamp(LEDGER_PAUSE, LONGEST_LEDGER_PAUSE);
        let again_us = look_again_at_us.unwrap_or(u64::MAX).min(end_us);
        tokio::select! {
            biased;
            () = scene.run.interrupts.stopped() => return Ok(CloseReason::Interrupted),
            seen = source.next() => match seen {
                Some(Seen::Saw(observation)) => observe(scene, check, observation),
                Some(Seen::Lost(problem)) => return Ok(CloseReason::Problem(problem)),
                None => source = stream::pending().boxed(),
            },
            changed = rows.changed(), if of_ledgers => {
                if changed.is_ok() {
                    tokio::time::sleep(pause).await;
                }
            }
            () = sleep_until(clock, again_us, now_us) => {}
        }
    }
}

/// Never shorter than a moment, so that a judge that asks for the present does not keep a core busy.
async fn sleep_until(clock: crate::clock::Clock, at_us: u64, now_us: u64) {
    const MOMENT: Duration = Duration::from_millis(1);
    let wall = clock.wall(Duration::from_micros(at_us.saturating_sub(now_us)));
    tokio::time::sleep(wall.max(MOMENT)).await;
}

fn observe(scene: &Scene, check: u32, observation: Observation) {
    scene.run.journal.note(Event::Observed(Observed {
        scenario: scene.key().to_owned(),
        check,
        observation,
    }));
}

fn no_answer(cluster: &str) -> Problem {
    crate::problem::environment(
        "step-deadline",
        format!(
            "{cluster}: what a check has to look at does not answer within {} s",
            REQUEST_TIME.as_secs()
        ),
        Some("see the events and logs of the mesh's pods"),
    )
}

/// Background traffic that should go on and does not.
fn broken_traffic(scene: &Scene, question: &Question) -> Option<Problem> {
    let Question::Serving(question) = question else {
        return None;
    };
    let traffic = scene.traffic.get(&question.ledger)?;
    let broken = traffic.pump.as_ref().is_some_and(AbortOnDropHandle::is_finished);
    broken.then(|| unreachable_agent(&traffic.pod, "its background traffic broke off"))
}
