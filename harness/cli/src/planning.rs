//! From the command line to a plan and the environment that it meets.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use meshproof_embedded::environment::Embedded;
use meshproof_engine::driver::MeshDriver;
use meshproof_engine::environment::{Environment, EnvironmentRequest};
use meshproof_engine::plan::{Plan, PlanError, RunIdentity, Surroundings};
use meshproof_mesh::defect::{Defect, Defects};
use meshproof_spec::scenario::Setup;
use meshproof_spec::topology::Topology;

use crate::args::{EnvironmentArgs, On, SelectionArgs, SuiteArgs};
use crate::exit_code::Exit;
use crate::{output, suite};

/// The word for all defects that the real mesh was seen to have.
const UPSTREAM: &str = "upstream";

/// A plan and where it will run.
pub struct Planned {
    /// The plan.
    pub plan: Plan,
    /// The environment.
    pub environment: Arc<Embedded>,
}

/// Plans what the arguments ask for.
///
/// # Errors
/// The exit code of what is wrong; it has been told.
pub fn plan(suite_args: &SuiteArgs, selection: &SelectionArgs, environment: &EnvironmentArgs) -> Result<Planned, Exit> {
    let embedded = self::environment(environment)?;
    let loaded = suite::load(suite_args, &selection.ids)?;
    let seed = environment.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let plan = Plan::new(
        &suite::for_plan(&loaded),
        &suite::selection(selection)?,
        surroundings(&embedded),
        identity(seed, &embedded),
    )
    .map_err(|problem| refuse(&problem))?;
    Ok(Planned {
        plan,
        environment: embedded,
    })
}

/// The environment that the arguments ask for.
///
/// # Errors
/// [`Exit::Usage`] when there is no such environment or defect.
pub fn environment(args: &EnvironmentArgs) -> Result<Arc<Embedded>, Exit> {
    let name = match args.on {
        On::Embedded => return Ok(Arc::new(Embedded::new(args.pace, defects(&args.defects)?))),
        On::Kind => "kind",
        On::Contexts => "contexts",
    };
    output::note(&format!(
        "error: `--on {name}` is not supported yet; scenarios run on `--on embedded` (see the README's table)"
    ));
    Err(Exit::Usage)
}

/// Defects by name.
///
/// # Errors
/// [`Exit::Usage`] when a name is not known.
pub fn defects(names: &[String]) -> Result<Defects, Exit> {
    let mut found = Vec::new();
    for name in names {
        if name == UPSTREAM {
            found.extend(Defect::all().filter(|defect| defect.is_upstream()));
            continue;
        }
        found.push(name.parse::<Defect>().map_err(|problem| {
            output::note(&format!("error: {problem}"));
            Exit::Usage
        })?);
    }
    Ok(found.into_iter().collect())
}

/// What a plan meets on embedded clusters.
#[must_use]
pub fn surroundings(environment: &Embedded) -> Surroundings {
    let nothing = EnvironmentRequest {
        key: String::new(),
        topology: no_clusters(),
        setup: Setup::default(),
        seed: 0,
    };
    let driver: Arc<dyn MeshDriver> = environment.driver(&nothing);
    Surroundings {
        environment: environment.kind().to_owned(),
        certifies: environment.certifies(),
        pace: environment.pace(),
        environment_capabilities: environment.capabilities(),
        mesh: driver.name().to_owned(),
        mesh_capabilities: driver.capabilities(),
    }
}

/// A fresh identity: the run's id begins with the time, so that folders sort by it.
#[must_use]
pub fn identity(seed: u64, environment: &Embedded) -> RunIdentity {
    let short = format!("{:06x}", rand::random::<u32>() & 0x00ff_ffff);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = jiff::Timestamp::from_second(i64::try_from(now.as_secs()).unwrap_or(0)).unwrap_or_default();
    RunIdentity {
        run: format!("{}-{short}", now.strftime("%Y%m%dT%H%M%SZ")),
        short,
        seed,
        defects: environment
            .defects()
            .iter()
            .map(|defect| defect.name().to_owned())
            .collect(),
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
    }
}
