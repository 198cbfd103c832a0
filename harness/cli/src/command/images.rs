//! `meshproof images`: what has to be at hand for a run on kind without a network.

use std::collections::BTreeSet;

use meshproof_clusters::kind::{self, KindOptions};
use meshproof_engine::action::Action;
use meshproof_linkerd::manifests;

use crate::args::{Format, ImagesArgs, On};
use crate::command::plan::{actions, requests};
use crate::exit_code::Exit;
use crate::{output, place, planning};

/// Lists the images.
///
/// # Errors
/// The exit code of what is wrong with the arguments, the suite or the selection.
pub async fn run(args: &ImagesArgs) -> Result<Exit, Exit> {
    if args.environment.on != On::Kind {
        output::note("error: only clusters made with kind need images of this machine; say `--on kind`");
        return Err(Exit::Usage);
    }
    let planned = planning::plan(&args.suite, &args.selection, &args.environment).await?;
    let requests = requests(&planned);
    let topologies: Vec<_> = requests.iter().map(|request| request.topology.clone()).collect();
    let applied: Vec<_> = requests
        .iter()
        .flat_map(|request| actions(&planned.place, request))
        .filter_map(|action| match action {
            Action::Apply { manifest, .. } => Some(manifest),
            _ => None,
        })
        .collect();
    let mesh: BTreeSet<String> = manifests::images(&applied);
    let options = KindOptions {
        agent_image: Some(planned.place.agent_image.clone()),
        ..place::kind_options(&args.environment.kind, &args.suite.topologies)?
    };
    let needed = kind::images(&options, &topologies, &mesh.into_iter().collect::<Vec<_>>());
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
    Ok(Exit::Success)
}
