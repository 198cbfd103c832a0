//! Whether clusters can be made at all, told before minutes are spent on making some of them. Makes nothing.

use std::collections::BTreeSet;

use meshproof_engine::environment::EnvironmentRequest;
use meshproof_engine::problem::Problem;
use meshproof_engine::tool::Tools;

use super::blueprint::Blueprint;
use super::commands::Commands;
use super::making;
use super::options::KindOptions;
use crate::agent_image;
use crate::preflight::Finding;

/// Looks whether all of these can be made: configurations, ranges of addresses, what is loaded into nodes. Not the agent's
/// image, which may have to be made first.
pub(super) async fn look(tools: &Tools, options: &KindOptions, requests: &[EnvironmentRequest]) -> Vec<Finding> {
    let mut findings = addresses(tools, options, requests).await;
    findings.extend(reaching_out(options, requests));
    findings.extend(loaded(tools, options).await);
    findings
}

async fn addresses(tools: &Tools, options: &KindOptions, requests: &[EnvironmentRequest]) -> Vec<Finding> {
    let subnets = match making::network_subnets(tools, &Commands::new(options)).await {
        // kind makes a network that is not there.
        Ok(subnets) => subnets.unwrap_or_default(),
        Err(problem) => return vec![finding("DOC026", problem)],
    };
    let possible = requests.iter().map(|request| {
        let blueprint = Blueprint::new(options, request)?;
        blueprint.check_disjoint(&subnets)
    });
    let mut findings: Vec<Finding> = Vec::new();
    for problem in possible.filter_map(Result::err) {
        let told = finding("DOC026", problem);
        // Sets of clusters of one topology share what is wrong with it.
        if !findings.contains(&told) {
            findings.push(told);
        }
    }
    if findings.is_empty() {
        let sets = requests.len();
        findings.push(Finding::ok(
            "DOC026",
            format!("sets of clusters that can be made: {sets}; no addresses overlap"),
        ));
    }
    findings
}

/// What configurations ask for that reaches beyond clusters: whoever wrote them may not be whoever runs them.
fn reaching_out(options: &KindOptions, requests: &[EnvironmentRequest]) -> Vec<Finding> {
    let blueprints = requests
        .iter()
        .filter_map(|request| Blueprint::new(options, request).ok());
    let hazards: BTreeSet<String> = blueprints.flat_map(|blueprint| blueprint.hazards()).collect();
    hazards
        .into_iter()
        .map(|hazard| Finding::warning("DOC029", hazard, "read the file, and take out what you don't want"))
        .collect()
}

async fn loaded(tools: &Tools, options: &KindOptions) -> Vec<Finding> {
    let mut findings = Vec::new();
    for image in &options.images {
        match agent_image::id(tools, image).await {
            Ok(Some(_)) => {}
            Ok(None) => findings.push(Finding::error(
                "DOC027",
                format!("the Docker engine has no image `{image}`, which is to be loaded into nodes"),
                format!("docker pull {image}, or build it"),
            )),
            Err(problem) => findings.push(finding("DOC027", problem)),
        }
    }
    for archive in options.archives.iter().filter(|archive| !archive.is_file()) {
        findings.push(Finding::error(
            "DOC027",
            format!("{} is no file, and is to be loaded into nodes", archive.display()),
            "write it with `docker save --output`",
        ));
    }
    if findings.is_empty() {
        let number = options.images.len() + options.archives.len();
        findings.push(Finding::ok(
            "DOC027",
            format!("images and archives to be loaded into nodes, all of them here: {number}"),
        ));
    }
    findings
}

fn finding(code: &'static str, problem: Problem) -> Finding {
    let fix = problem.remedy.unwrap_or_else(|| "see what it says".to_owned());
    Finding::error(code, problem.message, fix)
}
