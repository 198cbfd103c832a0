//! `meshproof explain`

use meshproof_clusters::preflight;
use meshproof_mesh::defect::Defect;
use meshproof_spec::code::Code;
use meshproof_spec::diagnostic::closest;
use meshproof_spec::load::ExpandedScenario;

use crate::args::ExplainArgs;
use crate::exit_code::Exit;
use crate::{codes, output, suite};

/// Explains a diagnostic code, a finding, a requirement, a defect or a scenario.
///
/// # Errors
/// The exit code of what is wrong with the suite, or with the id.
pub fn run(args: &ExplainArgs) -> Result<Exit, Exit> {
    if let Some(code) = Code::find(&args.id) {
        output::line(&format!("{code}: {}\n\n{}", code.title(), code.explanation()));
        return Ok(Exit::Success);
    }
    if let Some(looked_at) = preflight::explain(&args.id) {
        output::line(&format!(
            "{}, a finding of `meshproof doctor`\n\n{looked_at}",
            args.id.to_uppercase()
        ));
        return Ok(Exit::Success);
    }
    if let Some((code, text)) = codes::explain(&args.id) {
        output::line(&format!("{code}, the reason of a skip or an error\n\n{text}"));
        return Ok(Exit::Success);
    }
    let loaded = suite::load(&args.suite, &[])?;
    let coverage = loaded.coverage();
    let requirements = || loaded.catalogue.iter().flat_map(|catalogue| &catalogue.requirements);
    if let Some(requirement) = requirements().find(|requirement| requirement.id.0.eq_ignore_ascii_case(&args.id)) {
        let deciding = coverage
            .decided_by
            .get(&requirement.id)
            .map(|ids| ids.join(", "))
            .unwrap_or_default();
        output::line(&format!(
            "{} ({:?}, {})\n{}\n",
            requirement.id, requirement.level, requirement.versions, requirement.text
        ));
        output::line(&format!("source:   {}", requirement.source));
        output::line(&format!("decided:  {deciding}"));
        for name in &requirement.defects {
            let summary = name.0.parse::<Defect>().map(Defect::summary).unwrap_or_default();
            output::line(&format!("defect:   {name}: {summary}"));
        }
        for deviation in loaded
            .deviations
            .iter()
            .filter(|deviation| deviation.requirement == requirement.id)
        {
            output::line(&format!(
                "\nKnown to be broken upstream ({}, {}):\n{}",
                deviation.versions,
                deviation.upstream,
                deviation.observed.trim()
            ));
        }
        return Ok(Exit::Success);
    }
    if let Ok(defect) = args.id.parse::<Defect>() {
        let breaks: Vec<String> = requirements()
            .filter(|requirement| requirement.defects.iter().any(|name| name.0 == defect.name()))
            .map(|requirement| requirement.id.0.clone())
            .collect();
        output::line(&format!(
            "{defect}\n{}\n\nbreaks: {}",
            defect.summary(),
            breaks.join(", ")
        ));
        return Ok(Exit::Success);
    }
    if let Some(scenario) = loaded.scenarios.iter().find(|scenario| is_named(scenario, &args.id)) {
        output::line(&format!(
            "{}/{}\n{}\n",
            scenario.area, scenario.id, scenario.scenario.summary
        ));
        output::line(&format!("file:      {}", scenario.file.display()));
        output::line(&format!("topology:  {}", scenario.scenario.topology));
        for id in &scenario.scenario.checks {
            let text = requirements()
                .find(|requirement| requirement.id == *id)
                .map(|requirement| requirement.text.as_str());
            output::line(&format!("decides:   {id}: {}", text.unwrap_or_default()));
        }
        return Ok(Exit::Success);
    }
    let mut known: Vec<String> = requirements().map(|requirement| requirement.id.0.clone()).collect();
    known.extend(Defect::all().map(|defect| defect.name().to_owned()));
    known.extend(loaded.scenarios.iter().map(|scenario| scenario.id.clone()));
    known.extend(codes::all().map(ToOwned::to_owned));
    known.extend(Code::all().iter().map(ToString::to_string));
    let hint = closest(&args.id, known.iter().map(String::as_str))
        .map(|near| format!("; did you mean `{near}`?"))
        .unwrap_or_default();
    output::note(&format!(
        "error: `{}` is no requirement, defect, scenario, diagnostic code, finding or reason of an error{hint}",
        args.id
    ));
    Err(Exit::Usage)
}

/// Whether a scenario is called so, in one of the forms in which it is printed.
fn is_named(scenario: &ExpandedScenario, name: &str) -> bool {
    scenario.id == name
        || name
            .split_once('/')
            .is_some_and(|(area, id)| scenario.area == area && scenario.id == id)
}
