//! `meshproof plan`

use meshproof_engine::action::Action;
use meshproof_engine::environment::EnvironmentRequest;
use meshproof_engine::plan::rbac;
use meshproof_spec::scalar::Name;
use meshproof_spec::scenario::{Setup, Step};
use serde_json::json;

use crate::args::{Format, PlanArgs};
use crate::exit_code::Exit;
use crate::place::Place;
use crate::planning::Planned;
use crate::{output, planning, suite};

/// Prints what a run would do.
///
/// # Errors
/// The exit code of what is wrong with the suite or the selection.
pub async fn run(args: &PlanArgs) -> Result<Exit, Exit> {
    if let Some(topology) = &args.topology {
        let place = Place::of(&args.environment, &args.state, &args.suite.topologies).await?;
        let request = topology_alone(args, topology)?;
        return Ok(print_commands(
            args,
            &[(request.key.as_str(), actions(&place, &request))],
        ));
    }
    let planned = planning::plan(
        &args.suite,
        &args.selection,
        args.repeat.repeat,
        &args.environment,
        &args.state,
    )
    .await?;
    if args.commands {
        let requests: Vec<EnvironmentRequest> = requests(&planned);
        let all: Vec<(&str, Vec<Action>)> = requests
            .iter()
            .map(|request| {
                let mut actions = actions(&planned.place, request);
                actions.extend(upgrades(&planned, request));
                (request.key.as_str(), actions)
            })
            .collect();
        return Ok(print_commands(args, &all));
    } else if args.rbac {
        print_rbac(args, &planned);
    } else {
        match args.format.format {
            Format::Json => output::json(&planned.plan.to_json()),
            Format::Text => output::print(&planned.plan.to_string()),
        }
    }
    Ok(Exit::Success)
}

/// The clusters of all environments that scenarios of a plan will really use.
pub(crate) fn requests(planned: &Planned) -> Vec<EnvironmentRequest> {
    let used = |key: &str| {
        let mut scenarios = planned.plan.scenarios.iter();
        scenarios.any(|scenario| scenario.environment == key && scenario.skip.is_none())
    };
    let environments = planned
        .plan
        .environments
        .values()
        .filter(|environment| used(&environment.key));
    environments
        .map(|environment| EnvironmentRequest {
            key: environment.key.clone(),
            topology: environment.topology.clone(),
            setup: environment.setup.clone(),
            seed: planned.plan.identity.seed,
        })
        .collect()
}

fn topology_alone(args: &PlanArgs, topology: &str) -> Result<EnvironmentRequest, Exit> {
    let loaded = suite::load(&args.suite, &[])?;
    let Some(found) = loaded.topologies.get(&Name(topology.to_owned())) else {
        let known: Vec<&str> = loaded.topologies.keys().map(|name| name.0.as_str()).collect();
        output::note(&format!(
            "error: there is no topology `{topology}`; there are {}",
            known.join(", ")
        ));
        return Err(Exit::Usage);
    };
    Ok(EnvironmentRequest {
        key: topology.to_owned(),
        topology: found.clone(),
        setup: Setup::default(),
        seed: args.environment.seed.unwrap_or(1),
    })
}

/// Everything that bringing clusters up, installing the mesh and linking would do.
pub(crate) fn actions(place: &Place, request: &EnvironmentRequest) -> Vec<Action> {
    let mut actions = place.environment.commands(request);
    if !request.setup.bare {
        actions.extend((place.driver)(request).commands(&request.topology, &request.setup));
    }
    actions
}

/// What the upgrades of the scenarios in an environment would do, in the order of their steps.
fn upgrades(planned: &Planned, request: &EnvironmentRequest) -> Vec<Action> {
    let scenarios = planned.plan.scenarios.iter();
    let steps = scenarios
        .filter(|scenario| scenario.environment == request.key && scenario.skip.is_none())
        .flat_map(|scenario| &scenario.scenario.scenario.steps);
    let clusters = steps.flat_map(|step| match step {
        Step::Upgrade(upgrade) => upgrade.r#in.0.as_slice(),
        _ => &[],
    });
    let driver = (planned.place.driver)(request);
    clusters
        .flat_map(|cluster| driver.upgrade_commands(&cluster.0, &request.topology, &request.setup))
        .collect()
}

/// Prints actions; [`Exit::Input`] when some of them can't be done at all.
fn print_commands(args: &PlanArgs, all: &[(&str, Vec<Action>)]) -> Exit {
    match args.format.format {
        Format::Json => {
            let environments = all.iter().map(|(key, actions)| {
                let lines: Vec<String> = actions
                    .iter()
                    .map(|action| action.to_string().trim().to_owned())
                    .collect();
                json!({"environment": key, "actions": lines})
            });
            output::json(&environments.collect::<Vec<_>>());
        }
        Format::Text => {
            for (key, actions) in all {
                output::line(&format!("# environment {key}"));
                if actions.is_empty() {
                    output::line("# nothing outside of this process");
                }
                for action in actions {
                    output::print(&action.to_string());
                }
                output::line("");
            }
        }
    }
    let mut reasons = all
        .iter()
        .flat_map(|(key, actions)| actions.iter().map(move |action| (key, action)));
    match reasons.find_map(|(key, action)| match action {
        Action::Impossible(why) => Some((key, why)),
        _ => None,
    }) {
        Some((key, why)) => {
            output::note(&format!("error: {key} can't be brought up: {why}"));
            Exit::Input
        }
        None => Exit::Success,
    }
}

fn print_rbac(args: &PlanArgs, planned: &Planned) {
    let requests = requests(planned);
    let Some(request) = requests.first() else {
        output::note("no scenario of the plan runs, so it needs no rights");
        return;
    };
    let driver = (planned.place.driver)(request);
    let manifests = rbac::rbac(&planned.plan, driver.as_ref(), planned.place.installs);
    // What a file holds is known only when it is read.
    for step in rbac::needed(&planned.plan, driver.as_ref(), planned.place.installs).unknown {
        output::note(&format!("note: not counted, because a file tells what it is: {step}"));
    }
    match args.format.format {
        Format::Json => output::json(&manifests),
        Format::Text => {
            for manifest in &manifests {
                output::print(&format!("---\n{}", serde_yaml::to_string(manifest).unwrap_or_default()));
            }
        }
    }
}
