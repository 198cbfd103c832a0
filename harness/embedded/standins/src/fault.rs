//! What is made to go wrong: rules by the words of a call.
//!
//! One rule a line, `words = effect`; empty lines and lines that start with `#` are skipped, and the first rule that fits
//! wins. The rule's words up to its first option must be the command and its subcommands; the rest must occur in the call
//! in this order. Options before the subcommand are ignored, and `--name=x` is the same as `--name x`. A word `@2` limits
//! the rule to the second call that fits it.
//!
//! ```text
//! kind create cluster --name west = exit 1 no space left on device
//! linkerd multicluster install @2 = garbage
//! docker exec = hang
//! ```
//!
//! | effect | what the caller sees |
//! |---|---|
//! | `exit <code> [message]` | the message on standard error and the exit code; nothing was done |
//! | `hang` | no end; `kind create cluster` has made its node by then and never gets further |
//! | `garbage` | something that is neither JSON nor YAML nor a table, exit code 0 |
//! | `missing` | exit code 127, as a shell says for a command that is not there |

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::exchange::Call;

/// What a rule does to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Exit { code: u8, message: Option<String> },
    Hang,
    Garbage,
    Missing,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    /// Tool, subcommands, and from the first option on words that must occur.
    words: Vec<String>,
    /// Number of the call that it is about, from 1; all when `None`.
    nth: Option<u32>,
    effect: Effect,
}

/// Why a text is no list of rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("fault rule {line}: `{text}`: {problem}; write e.g. `kind create cluster = exit 1 no space left`")]
pub struct BadRule {
    line: usize,
    text: String,
    problem: &'static str,
}

fn parse(text: &str) -> Result<Vec<Rule>, BadRule> {
    let mut rules = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        rules.push(parse_rule(line).map_err(|problem| BadRule {
            line: index + 1,
            text: line.to_owned(),
            problem,
        })?);
    }
    Ok(rules)
}

fn parse_rule(line: &str) -> Result<Rule, &'static str> {
    let (words, effect) = line.split_once(" = ").ok_or("` = ` is missing")?;
    let mut nth = None;
    let mut kept = Vec::new();
    for word in shlex::split(words).ok_or("a quote is not closed")? {
        match word.strip_prefix('@') {
            Some(number) => {
                let number = number.parse().ok().filter(|n| *n > 0);
                nth = Some(number.ok_or("after `@` comes a number from 1")?);
            }
            None => kept.extend(split_option(&word)),
        }
    }
    if kept.is_empty() {
        return Err("it names no command");
    }
    let effect = effect.trim();
    let effect = match effect.split_once(' ').unwrap_or((effect, "")) {
        ("hang", "") => Effect::Hang,
        ("garbage", "") => Effect::Garbage,
        ("missing", "") => Effect::Missing,
        ("exit", rest) => {
            let (code, message) = rest.split_once(' ').unwrap_or((rest, ""));
            Effect::Exit {
                code: code.parse().map_err(|_| "after `exit` comes a code up to 255")?,
                message: (!message.is_empty()).then(|| message.replace("\\n", "\n")),
            }
        }
        _ => return Err("the effect is none of exit, hang, garbage, missing"),
    };
    Ok(Rule {
        words: kept,
        nth,
        effect,
    })
}

/// `--name=x` as two words.
fn split_option(word: &str) -> Vec<String> {
    match word.split_once('=') {
        Some((name, value)) if word.starts_with("--") => vec![name.to_owned(), value.to_owned()],
        _ => vec![word.to_owned()],
    }
}

/// Global options that take a value and may stand before a subcommand.
const GLOBAL: [&str; 7] = [
    "--context",
    "--kubeconfig",
    "--linkerd-namespace",
    "-L",
    "--as",
    "--api-addr",
    "--verbosity",
];

/// The words of a call, options before the subcommand left out.
fn words_of(call: &Call) -> Vec<String> {
    let mut words: Vec<String> = call
        .arguments
        .iter()
        .flat_map(|argument| split_option(argument))
        .collect();
    while let Some(first) = words.first().filter(|word| word.starts_with('-')) {
        let taken = if GLOBAL.contains(&first.as_str()) { 2 } else { 1 };
        words.drain(..taken.min(words.len()));
    }
    words.insert(0, call.tool.clone());
    words
}

impl Rule {
    fn fits(&self, call: &[String]) -> bool {
        let options = self
            .words
            .iter()
            .position(|word| word.starts_with('-'))
            .unwrap_or(self.words.len());
        let (command, options) = self.words.split_at(options);
        let Some(rest) = call.strip_prefix(command) else {
            return false;
        };
        let mut rest = rest.iter();
        options.iter().all(|wanted| rest.any(|word| word == wanted))
    }
}

/// Rules in force, and how often each was met. The text may change between two calls; the counts of rules that stay go on.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    met: Mutex<HashMap<String, u32>>,
}

impl Faults {
    /// What happens to this call, by these texts of rules. Counts the call.
    pub(crate) fn effect(&self, texts: &[&str], call: &Call) -> Result<Option<Effect>, BadRule> {
        let words = words_of(call);
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        for text in texts {
            for rule in parse(text)?.into_iter().filter(|rule| rule.fits(&words)) {
                let Some(nth) = rule.nth else {
                    return Ok(Some(rule.effect));
                };
                let count = met.entry(format!("{rule:?}")).or_default();
                *count += 1;
                if *count == nth {
                    return Ok(Some(rule.effect));
                }
            }
        }
        Ok(None)
    }
}

/// Whether a text is a list of rules.
pub(crate) fn check(text: &str) -> Result<(), BadRule> {
    parse(text).map(drop)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::{Effect, Faults, check};
    use crate::exchange::Call;

    fn call(line: &str) -> Call {
        let mut words = shlex::split(line).unwrap();
        Call {
            tool: words.remove(0),
            arguments: words,
            ..Call::default()
        }
    }

    #[rstest]
    #[case("kind = hang", "kind get clusters", true)]
    #[case("kind create cluster = hang", "kind create cluster --name west", true)]
    #[case(
        "kind create cluster --name west = hang",
        "kind create cluster --config x --name west",
        true
    )]
    #[case("kind create cluster --name=west = hang", "kind create cluster --name west", true)]
    #[case(
        "kind create cluster --name west = hang",
        "kind create cluster --name=west --wait 1m",
        true
    )]
    #[case("kind create cluster --name west = hang", "kind create cluster --name east", false)]
    #[case("kind create cluster = hang", "kind delete cluster", false)]
    #[case("linkerd install = hang", "linkerd multicluster install", false)]
    #[case("linkerd install = hang", "linkerd --context west -L linkerd install --crds", true)]
    #[case("linkerd install --crds = hang", "linkerd install", false)]
    #[case(
        "docker exec west-control-plane iptables = hang",
        "docker exec west-control-plane iptables -S",
        true
    )]
    fn rules_are_about_commands(#[case] rule: &str, #[case] line: &str, #[case] hit: bool) {
        let effect = Faults::default().effect(&[rule], &call(line)).unwrap();
        assert_eq!(effect, hit.then_some(Effect::Hang));
    }

    #[test]
    fn a_rule_can_be_about_the_second_call_alone() {
        let faults = Faults::default();
        let rule = "# later\nkind get clusters @2 = exit 7 two\\nlines\n";
        let next = || faults.effect(&[rule], &call("kind get clusters")).unwrap();
        let exit = Effect::Exit {
            code: 7,
            message: Some("two\nlines".to_owned()),
        };
        assert_eq!([next(), next(), next()], [None, Some(exit), None]);
    }

    #[rstest]
    #[case("kind create cluster", "` = ` is missing")]
    #[case("kind = explode", "none of exit")]
    #[case("kind = exit", "after `exit` comes a code")]
    #[case("kind = exit 256", "after `exit` comes a code")]
    #[case("kind @0 = hang", "a number from 1")]
    #[case("@1 = hang", "names no command")]
    #[case("kind 'x = hang", "quote")]
    fn bad_rules_say_what_is_wrong(#[case] rule: &str, #[case] problem: &str) {
        let error = check(&format!("\n{rule}")).unwrap_err().to_string();
        assert!(error.contains(problem) && error.contains("fault rule 2"), "{error}");
    }
}
