//! `meshproof images`: what has to be at hand for a run on kind without a network.

use std::collections::BTreeSet;

use meshproof_clusters::kind::{self, KindOptions};
use meshproof_engine::environment::EnvironmentRequest;
use meshproof_engine::problem::Problem;
use meshproof_spec::scenario::Step;

use crate::args::{Format, ImagesArgs, On};
use crate::command::plan::requests;
use crate::exit_code::Exit;
use crate::planning::Planned;
use crate::{output, place, planning};

/// Lists the images. When the mesh's can't be found out, that is told after the others.
///
/// # Errors
/// The exit code of what is wrong with the arguments, the suite or the selection.
pub async fn run(args: &ImagesArgs) -> Result<Exit, Exit> {
    if args.environment.on != On::Kind {
        output::note("error: only clusters made with kind need images of this machine; say `--on kind`");
        return Err(Exit::Usage);
    }
    let planned = planning::plan(&args.suite, &args.selection, 1, &args.environment, &args.state).await?;
    let requests = requests(&planned);
    let topologies: Vec<_> = requests.iter().map(|request| request.topology.clone()).collect();
    let mesh = mesh(&planned, &requests).await;
    let options = KindOptions {
        agent_image: Some(planned.place.agent_image.clone()),
        ..place::kind_options(&args.environment.kind, &args.state, &args.suite.topologies)?
    };
    let known: Vec<String> = mesh
        .as_ref()
        .map(|images| images.iter().cloned().collect())
        .unwrap_or_default();
    let needed = kind::images(&options, &topologies, &known);
    let needed = needed.map_err(|problem| {
        output::problem(&problem);
        Exit::Input
    })?;
    match args.format.format {
        Format::Json => output::json(&needed),
        Format::Text => {
            let rows: Vec<Vec<String>> = needed
                .iter()
                .map(|image| vec![image.image.clone(), image.source.to_string()])
                .collect();
            output::print(&output::columns(&rows));
        }
    }
    match mesh {
        Ok(_) => Ok(Exit::Success),
        Err(problem) => {
            output::note("error: the mesh's images are not among these, because they could not be rendered");
            output::problem(&problem);
            Ok(Exit::Error)
        }
    }
}

/// Images of the mesh, which its own tools tell without a cluster: those of the version that is installed, and of the one that
/// scenarios of the plan upgrade to.
async fn mesh(planned: &Planned, requests: &[EnvironmentRequest]) -> Result<BTreeSet<String>, Problem> {
    let mut images = BTreeSet::new();
    let Some(installers) = planned.place.installers.as_ref().filter(|_| planned.place.installs) else {
        return Ok(images);
    };
    let next = installers.next.as_ref().filter(|_| upgrades(planned));
    for installer in std::iter::once(&installers.first).chain(next) {
        for request in requests {
            images.extend(installer.images(&request.topology, &request.setup).await?);
        }
    }
    Ok(images)
}

/// Whether a scenario of the plan upgrades the mesh.
fn upgrades(planned: &Planned) -> bool {
    let run = planned.plan.scenarios.iter().filter(|scenario| scenario.skip.is_none());
    run.flat_map(|scenario| &scenario.scenario.scenario.steps)
        .any(|step| matches!(step, Step::Upgrade(_)))
}
