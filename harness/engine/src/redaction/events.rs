//! Records and rows without secrets. Names of things that the harness made up itself, and numbers, are left alone; every new
//! kind of event has to say here what in it is text from outside.

use meshproof_verdict::ledger::{RequestResult, Row};
use meshproof_verdict::question::{
    AnsweredPattern, Comparison, HeaderPattern, Observation, Question, RequestPattern, ServingPattern,
};
use meshproof_verdict::record::{
    CheckClosed, CheckOpened, CleanedUp, CloseReason, EnvironmentFailed, Event, EvidenceFrozen, Judged, Judgement,
    LedgerOpened, Observed, Problem, ScenarioSkipped, StepEnded, StepStarted,
};
use serde_json::Value;

use super::texts::Values;
use super::{Redacted, Redactor, commands, names, objects};

impl Redactor {
    /// A problem without secrets.
    #[must_use]
    pub fn problem(&self, problem: &Problem) -> Redacted<Problem> {
        Redacted(Problem {
            class: problem.class,
            code: problem.code.clone(),
            message: self.clean(&problem.message),
            remedy: problem.remedy.as_deref().map(|remedy| self.clean(remedy)),
        })
    }

    /// A row of a ledger without secrets.
    #[must_use]
    pub fn row(&self, mut row: Row) -> Redacted<Row> {
        match &mut row.result {
            RequestResult::Answered(answered) => {
                for (name, values) in &mut answered.seen {
                    for value in values {
                        *value = self.header(name, value);
                    }
                }
                for (name, value) in &mut answered.error_headers {
                    *value = self.header(name, value);
                }
            }
            RequestResult::Failed { detail, .. } => *detail = self.clean(detail),
        }
        Redacted(row)
    }

    /// An event without secrets.
    #[must_use]
    pub fn event(&self, mut event: Event) -> Redacted<Event> {
        match &mut event {
            Event::RunStarted(started) => started.command = commands::cleaned(self, &started.command, Values::All),
            Event::EnvironmentFailed(EnvironmentFailed { problem, evidence, .. }) => {
                self.clean_problem(problem);
                if let Some(evidence) = evidence {
                    self.clean_in_place(&mut evidence.note);
                }
            }
            Event::ScenarioSkipped(ScenarioSkipped { reason, .. }) => self.clean_in_place(reason),
            Event::StepStarted(StepStarted { text, .. }) | Event::LedgerOpened(LedgerOpened { text, .. }) => self.clean_in_place(text),
            Event::StepEnded(StepEnded { problem, .. }) => {
                problem.iter_mut().for_each(|problem| self.clean_problem(problem));
            }
            Event::CheckOpened(CheckOpened { question, .. }) => self.clean_question(question),
            Event::Observed(Observed { observation, .. }) => self.clean_observation(observation),
            Event::CheckClosed(CheckClosed { reason, .. }) => {
                if let CloseReason::Problem(problem) = reason {
                    self.clean_problem(problem);
                }
            }
            Event::Judged(Judged { judgement, .. }) => self.clean_judgement(judgement),
            Event::EvidenceFrozen(EvidenceFrozen { note, .. }) => self.clean_in_place(note),
            Event::CleanedUp(CleanedUp { left, problem, .. }) => {
                left.iter_mut().for_each(|left| self.clean_in_place(left));
                problem.iter_mut().for_each(|problem| self.clean_problem(problem));
            }
            Event::EnvironmentReady(_)
            | Event::ScenarioStarted(_)
            | Event::MarkerSeen(_)
            | Event::MeshUpgraded(_)
            | Event::LedgerClosed(_)
            // What undoes a change is written down only where the redactor would leave it as it is.
            | Event::Disturbed(_)
            | Event::Restored(_)
            | Event::ScenarioEnded(_)
            | Event::Interrupted(_)
            | Event::RunEnded(_) => {}
        }
        Redacted(event)
    }

    fn header(&self, name: &str, value: &str) -> String {
        if names::is_secret_header(name) {
            self.header_value(value)
        } else {
            self.clean(value)
        }
    }

    fn clean_in_place(&self, text: &mut String) {
        *text = self.clean(text);
    }

    fn clean_problem(&self, problem: &mut Problem) {
        *problem = self.problem(problem).into_inner();
    }

    fn clean_judgement(&self, judgement: &mut Judgement) {
        self.clean_in_place(&mut judgement.summary);
        self.clean_in_place(&mut judgement.expected);
        self.clean_in_place(&mut judgement.observed);
    }

    fn clean_observation(&self, observation: &mut Observation) {
        match observation {
            Observation::Objects(objects) => {
                for object in objects {
                    *object = self.cleaned(object);
                }
            }
            Observation::Access { reason, .. } | Observation::Blind { reason } => self.clean_in_place(reason),
            Observation::Admission { message, .. } => self.clean_in_place(message),
            Observation::Inventory { unexpected, missing } => {
                unexpected
                    .iter_mut()
                    .chain(missing)
                    .for_each(|entry| self.clean_in_place(entry));
            }
            Observation::Number(_) | Observation::Security(_) => {}
        }
    }

    /// A question, so that what is compared is hidden as what it is compared with.
    fn clean_question(&self, question: &mut Question) {
        match question {
            Question::Objects(question) => {
                let of_secret = question.subject.split_whitespace().nth(1) == Some("Secret");
                for matcher in &mut question.each {
                    let hidden =
                        objects::path_tells(&matcher.path) || (of_secret && objects::hidden_of_secret(&matcher.path));
                    self.clean_comparison(
                        &mut matcher.holds,
                        hidden,
                        of_secret && matcher.path.starts_with("data"),
                    );
                }
            }
            Question::Requests(question) => match &mut question.every {
                RequestPattern::Answered(pattern) => self.clean_answered(pattern),
                RequestPattern::Fails(_) | RequestPattern::Refused => {}
            },
            Question::Serving(question) => match &mut question.pattern {
                ServingPattern::Answered(pattern) => self.clean_answered(pattern),
                ServingPattern::Only(_)
                | ServingPattern::Each(_)
                | ServingPattern::Lossless
                | ServingPattern::Fails(_)
                | ServingPattern::Refused => {}
            },
            Question::Rejected(question) => self.clean_in_place(&mut question.message),
            Question::Number(_)
            | Question::Split(_)
            | Question::Mtls(_)
            | Question::Access(_)
            | Question::Inventory(_) => {}
        }
    }

    fn clean_answered(&self, pattern: &mut AnsweredPattern) {
        for (name, holds) in &mut pattern.seen {
            match holds {
                HeaderPattern::Equals(value) | HeaderPattern::Contains(value) | HeaderPattern::Excludes(value) => {
                    *value = self.header(name, value);
                }
                HeaderPattern::Exists(_) => {}
            }
        }
    }

    fn clean_comparison(&self, holds: &mut Comparison, hidden: bool, encoded: bool) {
        let clean = |value: &mut Value| match value {
            Value::String(text) if hidden => *value = Value::String(self.compared(text, encoded)),
            other => *other = self.cleaned(other),
        };
        match holds {
            Comparison::Equals(value) | Comparison::Contains(value) | Comparison::Excludes(value) => clean(value),
            Comparison::OneOf(values) => values.iter_mut().for_each(clean),
            Comparison::Exists(_) | Comparison::AtLeast(_) | Comparison::AtMost(_) | Comparison::Length(_) => {}
        }
    }

    /// What a member that is hidden is compared with: hidden the same way.
    fn compared(&self, text: &str, encoded: bool) -> String {
        use base64::Engine as _;
        if names::is_harmless(text) && !encoded {
            return text.to_owned();
        }
        let clear = encoded
            .then(|| base64::engine::general_purpose::STANDARD.decode(text).ok())
            .flatten()
            .and_then(|bytes| String::from_utf8(bytes).ok());
        self.mark(clear.as_deref().unwrap_or(text))
    }
}
