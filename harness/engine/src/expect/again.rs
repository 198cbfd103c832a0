//! The controls of a negative, asked again right after it: what they show has to hold on both sides of its window.

use std::time::Duration;

use meshproof_spec::scalar::Name;
use meshproof_spec::scenario::{Answered, Call, Expect, Step};
use meshproof_verdict::judge::controls_to_ask_again;
use meshproof_verdict::question::{Question, Timing};

use super::{ask, asked, judged, open, recall};
use crate::lower::{Lowered, lower};
use crate::problem::{self, Problem};
use crate::references;
use crate::scene::Scene;
use crate::steps;

/// Time in which background traffic must show again what it showed before (scenario time), where its check does not say.
const TRAFFIC_TIME: Duration = Duration::from_secs(10);

/// Asks those controls of a closed check again that it needs.
///
/// # Errors
/// When the journal can't be written. A control that can't be asked again is left out, and the negative stays unproven.
pub(super) async fn ask_controls_again(scene: &mut Scene, check: u32) -> Result<(), Problem> {
    let names = {
        let history = scene.history();
        let ledgers = scene.ledgers.set();
        controls_to_ask_again(&history, asked(&history, check)?, &*ledgers)
    };
    for (name, number) in names.iter().zip(1_u32..) {
        let (lowered, line) = match prepared(scene, name, number).await {
            Ok(Some(prepared)) => prepared,
            Err(problem) if problem.code == "journal-write" => return Err(problem),
            Ok(None) | Err(_) => continue,
        };
        // Above every position of a step, so that it is the key of nothing else.
        let key = number << 16 | check;
        open(scene, &lowered, key, line, Some(check));
        ask(scene, key, &lowered.look).await?;
        judged(scene, key).await?;
    }
    Ok(())
}

/// What has to be asked to hear a control again, and its line. Calls are sent again before that.
async fn prepared(scene: &mut Scene, name: &str, number: u32) -> Result<Option<(Lowered, u32)>, Problem> {
    let scenario = scene.plan.scenario.clone();
    let position = scenario.scenario.steps.iter().position(|step| match step {
        Step::Expect(expect) => expect.name.as_ref().is_some_and(|other| other.0 == name),
        Step::Call(call) => call.name.0 == name,
        Step::Traffic(traffic) => traffic.name.0 == name,
        _ => false,
    });
    let Some(position) = position else {
        return Ok(None);
    };
    let mut expect = match resolved(scene, &scenario.scenario.steps[position])? {
        Step::Expect(expect) => recall::recalled(&expect, &scene.history().checks)?,
        Step::Call(call) => answered(call.name, true),
        Step::Traffic(traffic) => answered(traffic.name, false),
        _ => return Ok(None),
    };
    expect.name = Some(Name(name.to_owned()));
    // Its own controls were asked when it was.
    expect.control.clear();
    expect.then_for = None;
    if let Some(call) = expect.call.take() {
        expect.call = Some(sent_again(scene, &call, number).await?);
    } else if expect.traffic.is_none() {
        // What is there is seen at the first look, or it is not there any more.
        expect.within = None;
    }
    let mut lowered = lower(&expect, scene)?;
    if let Question::Serving(question) = &mut lowered.question {
        question.since_us = scene.clock().now_us();
        question.lost_at_most = None;
        question.timing = Timing {
            within_us: question.timing.within_us.or(Some(crate::clock::micros(TRAFFIC_TIME))),
            ..Timing::default()
        };
    }
    Ok(Some((lowered, scenario.line(position))))
}

/// What a call or traffic without a check of its own shows: every request is answered.
fn answered(name: Name, is_call: bool) -> Expect {
    let (call, traffic) = if is_call {
        (Some(name), None)
    } else {
        (None, Some(name))
    };
    Expect {
        id: Some(meshproof_spec::scalar::RequirementId(String::new())),
        call,
        traffic,
        answered: Some(Answered::default()),
        ..Expect::default()
    }
}

fn resolved(scene: &Scene, step: &Step) -> Result<Step, Problem> {
    references::resolve(
        step,
        scene.plan.namespace.as_str(),
        scene.testbed.clusters(),
        scene.testbed.driver.as_ref(),
    )
}

/// Sends the requests of a call again; the name of the new ledger.
async fn sent_again(scene: &mut Scene, name: &Name, number: u32) -> Result<Name, Problem> {
    let scenario = scene.plan.scenario.clone();
    let call = scenario
        .scenario
        .steps
        .iter()
        .find(|step| matches!(step, Step::Call(call) if call.name == *name));
    let Some(Step::Call(call)) = call.map(|step| resolved(scene, step)).transpose()? else {
        return Err(problem::harness(
            "unknown-call",
            format!("there is no call `{name}` to be made again"),
            Some("run `meshproof lint` on the file"),
        ));
    };
    let again = Call {
        name: Name(format!("{name}-after-{}-{number}", scene.step)),
        ..call
    };
    let ledger = again.name.clone();
    let interrupts = scene.run.interrupts.clone();
    tokio::select! {
        biased;
        () = interrupts.stopped() => {}
        done = steps::traffic::call(scene, &again) => done?,
    }
    Ok(ledger)
}
