//! One HTML page that needs nothing from the network.

use askama::Template;

use crate::encode;
use crate::model::{CheckRow, LedgerRow, Report, RequirementStatus, ScenarioRow, StepRow, UpgradeRow};
use crate::text::{self, seconds};
use crate::traffic::LOST;

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    report: &'a Report,
    tally: Vec<(&'static str, usize)>,
    met: usize,
}

/// The report as a page.
///
/// # Errors
/// When the template can't be rendered, which only a bug can cause.
pub fn html(report: &Report) -> Result<String, askama::Error> {
    let report = &encode::printable(report).ok_or(askama::Error::Fmt)?;
    let met = report.requirements.iter().filter(|row| row.status == "pass").count();
    Page {
        report,
        tally: report.tally(),
        met,
    }
    .render()
}

impl Page<'_> {
    fn seconds(&self, us: &u64) -> String {
        seconds(*us)
    }

    /// Requirements that were decided.
    fn decided(&self) -> Vec<&RequirementStatus> {
        self.report
            .requirements
            .iter()
            .filter(|row| row.status != "not run")
            .collect()
    }

    /// Links of the scenario anchors that decide a requirement.
    fn places(&self, requirement: &RequirementStatus) -> Vec<(String, String)> {
        let mut keys: Vec<&str> = requirement.checks.iter().map(|check| check.scenario.as_str()).collect();
        keys.dedup();
        keys.into_iter().map(|key| (anchor(key), key.to_owned())).collect()
    }

    fn anchor(&self, key: &str) -> String {
        anchor(key)
    }

    fn upgrade(&self, upgrade: &UpgradeRow) -> String {
        text::upgrade(upgrade)
    }

    fn mesh_of(&self, scenario: &ScenarioRow, check: &CheckRow) -> Option<String> {
        text::mesh_of(scenario, check)
    }

    fn step_length(&self, step: &StepRow) -> String {
        step.ended_us.map_or_else(
            || "did not end".to_owned(),
            |end_us| seconds(end_us.saturating_sub(step.started_us)),
        )
    }

    /// `measure value` pairs of a check, for people: times in seconds, words apart.
    fn measures(&self, check: &CheckRow) -> Vec<(String, String)> {
        check
            .measures
            .iter()
            .map(|(name, value)| {
                let words = name.strip_suffix("_us").unwrap_or(name).replace('_', " ");
                (words, number(name, *value))
            })
            .collect()
    }

    fn chart(&self, scenario: &ScenarioRow, ledger: &LedgerRow) -> String {
        chart(scenario, ledger)
    }
}

fn anchor(key: &str) -> String {
    key.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect()
}

fn number(name: &str, value: f64) -> String {
    if name.ends_with("_us") {
        return format!("{:.3} s", value / 1e6);
    }
    if value == value.trunc() && value.abs() < 1e15 {
        format!("{value:.0}")
    } else {
        format!("{value:.6}")
    }
}

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 90.0;
const COLOURS: [&str; 5] = ["#3b7dd8", "#2a9d6f", "#b07cd8", "#d8923b", "#5aa9b8"];
const LOST_COLOUR: &str = "#d23b3b";

/// Stacked bars of a ledger over time: a colour per serving cluster, red for what was lost, and a line for each step that
/// disturbed the traffic. Empty when the ledger has no requests.
fn chart(scenario: &ScenarioRow, ledger: &LedgerRow) -> String {
    let Some(timeline) = &ledger.timeline else {
        return String::new();
    };
    let slices = timeline.series.values().map(Vec::len).max().unwrap_or(0);
    let highest = (0..slices)
        .map(|slice| {
            timeline
                .series
                .values()
                .filter_map(|series| series.get(slice))
                .sum::<u64>()
        })
        .max()
        .unwrap_or(0);
    if highest == 0 {
        return String::new();
    }
    let bar = WIDTH / slices as f64;
    let mut shapes = Vec::new();
    let mut legend = Vec::new();
    let mut base = vec![0_u64; slices];
    let mut clusters = COLOURS.iter().cycle();
    for (name, series) in &timeline.series {
        let colour = if name == LOST {
            LOST_COLOUR
        } else {
            clusters.next().copied().unwrap_or(COLOURS[0])
        };
        legend.push(format!(
            "<span><i style=\"background:{colour}\"></i>{} {}</span>",
            escape(name),
            series.iter().sum::<u64>()
        ));
        for (slice, count) in series.iter().enumerate().filter(|(_, count)| **count > 0) {
            let height = *count as f64 / highest as f64 * HEIGHT;
            let below = base.get(slice).copied().unwrap_or_default().saturating_add(*count);
            let top = HEIGHT - below as f64 / highest as f64 * HEIGHT;
            shapes.push(format!(
                "<rect x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>",
                slice as f64 * bar,
                (bar - 0.3).max(0.3),
            ));
            if let Some(base) = base.get_mut(slice) {
                *base = below;
            }
        }
    }
    let length_us = timeline.slice_us.saturating_mul(slices as u64);
    let end_us = timeline.start_us.saturating_add(length_us);
    for step in scenario
        .steps
        .iter()
        .filter(|step| step.disturbs && (timeline.start_us..end_us).contains(&step.started_us))
    {
        let x = step.started_us.saturating_sub(timeline.start_us) as f64 / length_us as f64 * WIDTH;
        shapes.push(format!(
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"{HEIGHT}\"><title>{}</title></line><text x=\"{:.1}\" y=\"10\">{}</text>",
            escape(&step.text),
            x + 3.0,
            escape(&step.verb),
        ));
    }
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">{}</svg><p class=\"axis\"><span>{}</span>{}<span>{}</span></p>",
        shapes.concat(),
        seconds(timeline.start_us),
        legend.concat(),
        seconds(end_us),
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}
