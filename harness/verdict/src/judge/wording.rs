//! How times, values and lists are written in judgements.

use serde_json::Value;

use crate::question::{Comparison, Count, Timing};

/// Longest value that is quoted, characters.
const QUOTED: usize = 160;

/// Scenario time: `12.345 s`.
pub(crate) fn seconds(us: u64) -> String {
    let ms = us / 1000 + u64::from(us % 1000 >= 500);
    format!("{}.{:03} s", ms / 1000, ms % 1000)
}

/// A number with no more digits than it needs.
pub(crate) fn number(value: f64) -> String {
    format!("{value}")
}

/// Text without line breaks and other control characters.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Text cut to a length that a report can show.
pub(crate) fn cut(text: &str) -> String {
    match text.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A JSON value, cut.
pub(crate) fn value(value: &Value) -> String {
    cut(&value.to_string())
}

/// `a, b and 3 more`.
pub(crate) fn list<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 5;
    let items: Vec<&str> = items.into_iter().collect();
    let shown = items[..items.len().min(SHOWN)].join(", ");
    if items.len() > SHOWN {
        format!("{shown} and {} more", items.len() - SHOWN)
    } else {
        shown
    }
}

/// `1 request`, `2 requests`.
pub(crate) fn counted(count: u64, noun: &str) -> String {
    if count == 1 {
        format!("1 {noun}")
    } else {
        format!("{count} {noun}s")
    }
}

/// A comparison as what must be.
pub(crate) fn comparison(holds: &Comparison) -> String {
    match holds {
        Comparison::Equals(wanted) => format!("equals {}", value(wanted)),
        Comparison::OneOf(wanted) => {
            format!("is one of {}", wanted.iter().map(value).collect::<Vec<_>>().join(", "))
        }
        Comparison::Contains(wanted) => format!("contains {}", value(wanted)),
        Comparison::Excludes(wanted) => format!("does not contain {}", value(wanted)),
        Comparison::Exists(true) => "exists".to_owned(),
        Comparison::Exists(false) => "does not exist".to_owned(),
        Comparison::AtLeast(bound) => format!("is at least {}", number(*bound)),
        Comparison::AtMost(bound) => format!("is at most {}", number(*bound)),
        Comparison::Length(length) => format!("has {length} entries"),
    }
}

/// A count as what must be; nothing when any number will do.
pub(crate) fn count(count: &Count) -> String {
    let mut parts = Vec::new();
    match count.exactly {
        Some(0) => parts.push("absent".to_owned()),
        Some(1) => parts.push("present".to_owned()),
        Some(exactly) => parts.push(format!("exactly {exactly}")),
        None => {}
    }
    parts.extend(count.at_least.map(|bound| format!("at least {bound}")));
    parts.extend(count.at_most.map(|bound| format!("at most {bound}")));
    parts.join(" and ")
}

/// A timing as the end of a sentence: ` within 10.000 s and then for 20.000 s`.
pub(crate) fn timing(timing: &Timing) -> String {
    let and = if timing.within_us.is_some() {
        "and then for"
    } else {
        "for"
    };
    let parts = [
        timing.never_for_us.map(|us| format!(" never during {}", seconds(us))),
        timing.within_us.map(|us| format!(" within {}", seconds(us))),
        timing.then_for_us.map(|us| format!(" {and} {}", seconds(us))),
    ];
    parts.into_iter().flatten().collect()
}
