//! `meshproof doctor`: what would keep a run from working, each finding with a code and a fix.

use meshproof_clusters::preflight::{self, Finding, Level};

use meshproof_kubeconfig::Proxies;

use crate::args::{DoctorArgs, Format, On, SelectionArgs};
use crate::exit_code::Exit;
use crate::output;
use crate::place::Place;
use crate::planning;
use crate::preflight as of_plan;

/// Clusters of the usual topology.
const USUAL_CLUSTERS: u64 = 2;

/// Looks and prints.
///
/// # Errors
/// The exit code of what is wrong with the arguments, the suite or the selection.
pub async fn run(args: &DoctorArgs) -> Result<Exit, Exit> {
    let place = Place::of(&args.environment, &args.state, &args.suite.topologies).await?;
    let mut findings = preflight::base(&place.tools).await;
    findings.extend(preflight::proxies(&Proxies::of_environment()).map(|finding| {
        // Embedded clusters are never reached through one.
        let matters = args.environment.on != On::Embedded;
        if matters || finding.level == Level::Ok {
            finding
        } else {
            Finding::warning(finding.code, finding.found, finding.fix.unwrap_or_default())
        }
    }));
    let asked = &args.selection;
    if args.environment.on != On::Embedded {
        findings.extend(of_real_clusters(args, place).await?);
    } else if *asked != SelectionArgs::default() {
        // They need nothing of the machine; what is asked for has to be there all the same.
        planning::plan_at(place, &args.suite, asked, 1, args.environment.seed)?;
    }
    match args.format.format {
        Format::Json => output::json(&findings),
        Format::Text => output::print(&output::columns(&findings.iter().map(row).collect::<Vec<_>>())),
    }
    let bad = findings.iter().any(|finding| finding.level == Level::Error);
    Ok(if bad { Exit::Error } else { Exit::Success })
}

/// What a plan needs there; without scenarios, what every run needs.
async fn of_real_clusters(args: &DoctorArgs, place: Place) -> Result<Vec<Finding>, Exit> {
    let mesh = &args.environment.mesh;
    let mut clusters = USUAL_CLUSTERS;
    let mut findings = Vec::new();
    let (tools, on_kind) = (place.tools.clone(), place.kind.is_some());
    if args.suite.scenarios.is_dir() {
        let planned = planning::plan_at(place, &args.suite, &args.selection, 1, args.environment.seed)?;
        clusters = of_plan::clusters_at_once(&planned);
        findings.extend(of_plan::findings(&planned, mesh).await);
    } else {
        if on_kind {
            findings.extend(preflight::kind_tools(&tools, of_plan::mesh_tools(mesh)).await);
        } else if let Some(options) = &place.contexts {
            findings.extend(preflight::contexts(options, None).await);
        }
        findings.push(Finding::warning(
            "DOC028",
            format!(
                "what scenarios need is not checked: there is no folder {}",
                args.suite.scenarios.display()
            ),
            "say where the scenarios are with --scenarios",
        ));
    }
    if on_kind {
        findings.extend(preflight::kind_resources(&tools, args.clusters.unwrap_or(clusters)).await);
    }
    Ok(findings)
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
