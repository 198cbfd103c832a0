//! From the command line to a plan and the environment that it meets.

use std::time::{SystemTime, UNIX_EPOCH};

use meshproof_engine::environment::EnvironmentRequest;
use meshproof_engine::plan::{Plan, PlanError, RunIdentity, Surroundings};
use meshproof_spec::scenario::Setup;
use meshproof_spec::topology::Topology;

use crate::args::{EnvironmentArgs, SelectionArgs, StateFolderArgs, SuiteArgs};
use crate::exit_code::Exit;
use crate::place::Place;
use crate::{output, suite};

/// A plan and where it will run.
pub struct Planned {
    /// The plan.
    pub plan: Plan,
    /// The place.
    pub place: Place,
}

/// Plans what the arguments ask for.
///
/// # Errors
/// The exit code of what is wrong; it has been told.
pub async fn plan(
    suite_args: &SuiteArgs,
    selection: &SelectionArgs,
    repeat: u32,
    environment: &EnvironmentArgs,
    state: &StateFolderArgs,
) -> Result<Planned, Exit> {
    let place = Place::of(environment, state, &suite_args.topologies).await?;
    plan_at(place, suite_args, selection, repeat, environment.seed)
}

/// Plans a run at a place; a seed is drawn when none is given.
///
/// # Errors
/// The exit code of what is wrong with the suite or the selection; it has been told.
pub fn plan_at(
    place: Place,
    suite_args: &SuiteArgs,
    selection: &SelectionArgs,
    repeat: u32,
    seed: Option<u64>,
) -> Result<Planned, Exit> {
    let loaded = suite::load(suite_args, &selection.ids)?;
    let seed = seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let plan = Plan::new(
        &suite::for_plan(&loaded),
        &suite::selection(selection, suite_args, &loaded, repeat)?,
        surroundings(&place),
        identity(seed, &place),
    )
    .map_err(|problem| refuse(&problem))?;
    Ok(Planned { plan, place })
}

/// What a plan meets at a place.
#[must_use]
pub fn surroundings(place: &Place) -> Surroundings {
    let nothing = EnvironmentRequest {
        key: String::new(),
        topology: no_clusters(),
        setup: Setup::default(),
        seed: 0,
    };
    let driver = (place.driver)(&nothing);
    let environment = &place.environment;
    Surroundings {
        environment: environment.kind().to_owned(),
        certifies: environment.certifies(),
        pace: environment.pace(),
        clusters: environment.cluster_names(),
        environment_capabilities: environment.capabilities(),
        mesh: driver.name().to_owned(),
        mesh_capabilities: driver.capabilities(),
    }
}

/// A fresh identity: the run's id begins with the time, so that folders sort by it.
#[must_use]
pub fn identity(seed: u64, place: &Place) -> RunIdentity {
    let short = format!("{:06x}", rand::random::<u32>() & 0x00ff_ffff);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = jiff::Timestamp::from_second(i64::try_from(now.as_secs()).unwrap_or(0)).unwrap_or_default();
    RunIdentity {
        run: format!("{}-{short}", now.strftime("%Y%m%dT%H%M%SZ")),
        short,
        seed,
        defects: place.defects.clone(),
    }
}

fn refuse(problem: &PlanError) -> Exit {
    output::note(&format!("error: {problem}"));
    match problem {
        PlanError::Selection(_) => Exit::NothingRun,
        PlanError::Impossible(_) => Exit::Input,
    }
}

fn no_clusters() -> Topology {
    Topology {
        topology: meshproof_spec::scalar::Name(String::new()),
        summary: String::new(),
        clusters: std::collections::BTreeMap::new(),
        links: Vec::new(),
        network: meshproof_spec::topology::Network::default(),
        trust: meshproof_spec::topology::TopologyTrust::default(),
    }
}
