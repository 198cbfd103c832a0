//! What a run shows while it goes on: on a terminal a bar with what is running, in a log a line per scenario.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use meshproof_report::{encode, text};
use meshproof_verdict::record::{
    EnvironmentFailed, EnvironmentReady, Event, Interrupted, Record, ScenarioEnded, ScenarioSkipped, ScenarioStarted,
};
use tokio::sync::broadcast::{Receiver, error::RecvError};

use crate::args::Format;
use crate::output;

/// Redraws per second.
const REDRAWS: u8 = 4;

/// Shows records until the run is over.
pub async fn show(mut records: Receiver<Arc<Record>>, scenarios: usize, format: Format) {
    let mut display = Display::new(scenarios, format);
    loop {
        match records.recv().await {
            Ok(record) => display.take(&record),
            // The display fell behind; the journal has everything.
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => break,
        }
    }
    display.bar.finish_and_clear();
}

struct Display {
    bar: ProgressBar,
    format: Format,
    running: BTreeSet<String>,
}

impl Display {
    fn new(scenarios: usize, format: Format) -> Self {
        let shown = format == Format::Text && std::io::stderr().is_terminal();
        let target = if shown {
            ProgressDrawTarget::stderr_with_hz(REDRAWS)
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(scenarios as u64), target);
        if let Ok(style) = ProgressStyle::with_template("{elapsed:>4} {bar:24} {pos}/{len} {wide_msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_secs(1));
        Self {
            bar,
            format,
            running: BTreeSet::new(),
        }
    }

    fn take(&mut self, record: &Record) {
        if self.format == Format::Json {
            output::json_line(record);
            return;
        }
        match &record.event {
            Event::EnvironmentReady(EnvironmentReady {
                environment,
                took_wall_us,
                ..
            }) => {
                self.say(
                    &format!("clusters of {environment} are up ({})", text::seconds(*took_wall_us)),
                    false,
                );
            }
            Event::EnvironmentFailed(EnvironmentFailed {
                environment,
                problem,
                awake,
                ..
            }) => {
                let problem = awake.attribute(problem.clone());
                self.say(
                    &format!("clusters of {environment} did not come up: {}", problem.message),
                    true,
                );
            }
            Event::ScenarioStarted(ScenarioStarted { scenario, .. }) => {
                self.running.insert(scenario.clone());
                self.redraw();
            }
            Event::ScenarioSkipped(ScenarioSkipped { scenario, code, reason }) => {
                self.bar.inc(1);
                self.say(&format!("skip          {scenario}: {code}: {reason}"), true);
            }
            Event::ScenarioEnded(ScenarioEnded { scenario, outcome }) => {
                self.running.remove(scenario);
                self.bar.inc(1);
                self.redraw();
                self.say(&format!("{:<12}  {scenario}", text::outcome(*outcome)), true);
            }
            Event::Interrupted(Interrupted { count: 1 }) => {
                self.say(
                    "interrupted: healing, cleaning up and reporting; interrupt again to only heal and report",
                    true,
                );
            }
            Event::Interrupted(_) => self.say("interrupted again: healing and reporting", true),
            _ => {}
        }
    }

    /// Says something above the bar; in a log only what matters there.
    fn say(&self, message: &str, in_logs: bool) {
        let message = &encode::terminal(&encode::field(message));
        if !self.bar.is_hidden() {
            self.bar.println(message);
        } else if in_logs {
            output::note(message);
        }
    }

    fn redraw(&self) {
        let running: Vec<&str> = self.running.iter().map(String::as_str).collect();
        self.bar.set_message(encode::line(&running.join(" ")).into_owned());
    }
}
