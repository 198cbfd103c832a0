//! `meshproof doctor`: what would keep a run from working, each finding with a code and a fix.

use meshproof_clusters::contexts::ContextsOptions;
use meshproof_clusters::preflight::{self, Finding, Level, Wanted};

use crate::args::{DoctorArgs, Format, MeshFrom, On};
use crate::exit_code::Exit;
use crate::{output, place};

/// Looks and prints.
///
/// # Errors
/// [`Exit::Usage`] when the arguments contradict each other.
pub async fn run(args: &DoctorArgs) -> Result<Exit, Exit> {
    let environment = &args.environment;
    let tools = place::tools(&environment.mesh, &environment.kind).await?;
    let mut findings = preflight::base(&tools).await;
    match environment.on {
        On::Embedded => {}
        On::Kind => {
            let from = environment.mesh.from.unwrap_or(MeshFrom::Cli);
            let wanted = Wanted {
                clusters: args.clusters,
                helm: from == MeshFrom::Helm,
                linkerd: from == MeshFrom::Cli || environment.mesh.linkerd.is_some(),
            };
            findings.extend(preflight::kind_host(&tools, &wanted).await);
        }
        On::Contexts => {
            let given = &environment.contexts;
            let options = ContextsOptions::parse(&given.contexts, &given.apis, &given.node_addresses);
            let options = options.map_err(|problem| {
                output::problem(&problem);
                Exit::Usage
            })?;
            findings.extend(preflight::contexts(&options).await);
        }
    }
    match args.format.format {
        Format::Json => output::json(&findings),
        Format::Text => output::print(&output::columns(&findings.iter().map(row).collect::<Vec<_>>())),
    }
    let bad = findings.iter().any(|finding| finding.level == Level::Error);
    Ok(if bad { Exit::Error } else { Exit::Success })
}

fn row(finding: &Finding) -> Vec<String> {
    let level = match finding.level {
        Level::Ok => "ok",
        Level::Warning => "warning",
        Level::Error => "error",
    };
    let fix = finding.fix.as_ref().map(|fix| format!(" - {fix}")).unwrap_or_default();
    vec![
        level.to_owned(),
        finding.code.to_owned(),
        format!("{}{fix}", finding.found),
    ]
}
