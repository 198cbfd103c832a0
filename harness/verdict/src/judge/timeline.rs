//! *within*, *then for* and *never for* over a timeline of what was seen.
//!
//! # Meaning
//! A sighting says what holds from its time until the next one. With `D` = opened + within:
//! * **within** (and **then for** `F`): there is a moment `R` ≤ `D` from which the promise holds without a break up to and
//!   including `R + F`. Until `D` nothing is promised: what breaks before `D` may begin anew, what breaks after it has
//!   failed. Without *within* it must hold at the first look.
//! * **never for** `N`: from the first look on, the state does not hold at any time up to and including the end.
//! * neither: the first look decides.
//!
//! # Blind periods
//! What happens while nothing can be seen is unknown. A pass needs everything that it rests on to have been seen. A blind
//! period that ends with the promise broken is no excuse: it counts as broken. One that ends with the promise kept, or
//! does not end within [`OUTCOME_GRACE_US`], leaves the answer open if it matters: inconclusive. A *never* is inconclusive
//! when any part of its time was blind and no violation was seen.

use super::OUTCOME_GRACE_US;
use super::wording::seconds;
use crate::question::Timing;

/// What was seen from one time until the next sighting.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sighting {
    pub(crate) at_us: u64,
    pub(crate) state: Seen,
    /// The state in words.
    pub(crate) text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Holds,
    Lacks,
    Blind,
}

/// What a timeline says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resolution {
    /// The promise was kept; since this time, or (never) until this time.
    Kept { at_us: u64 },
    /// The promise was broken at this time.
    Broken { at_us: u64, how: String },
    /// It can't be told.
    Unclear { at_us: u64, why: String },
    /// Something may still change it; ask again at this time.
    Open { until_us: Option<u64> },
    /// The question contradicts itself.
    Contradiction,
}

/// Resolves a timeline at `now_us`. `sightings` are in order of time, none is later than `now_us`.
pub(crate) fn resolve(opened_us: u64, timing: &Timing, sightings: &[Sighting], now_us: u64) -> Resolution {
    match (timing.never_for_us, timing.within_us, timing.then_for_us) {
        (Some(never_us), None, None) => never(opened_us, never_us, sightings, now_us),
        (Some(_), _, _) => Resolution::Contradiction,
        (None, None, None) => first_look(opened_us, sightings, now_us),
        (None, within_us, then_for_us) => eventually(opened_us, within_us, then_for_us.unwrap_or(0), sightings, now_us),
    }
}

fn first_look(opened_us: u64, sightings: &[Sighting], now_us: u64) -> Resolution {
    let give_up_us = opened_us.saturating_add(OUTCOME_GRACE_US);
    match sightings.iter().find(|sighting| sighting.state != Seen::Blind) {
        Some(seen) if seen.at_us > give_up_us => nothing_seen(give_up_us),
        Some(Sighting {
            at_us,
            state: Seen::Holds,
            ..
        }) => Resolution::Kept { at_us: *at_us },
        Some(Sighting { at_us, .. }) => Resolution::Broken {
            at_us: *at_us,
            how: "it was not so".to_owned(),
        },
        None if now_us > give_up_us => nothing_seen(give_up_us),
        None => Resolution::Open {
            until_us: Some(give_up_us.saturating_add(1)),
        },
    }
}

fn nothing_seen(at_us: u64) -> Resolution {
    Resolution::Unclear {
        at_us,
        why: "nothing could be seen".to_owned(),
    }
}

fn never(opened_us: u64, never_us: u64, sightings: &[Sighting], now_us: u64) -> Resolution {
    let first = match first_sighting(opened_us, sightings, now_us) {
        Ok(first) => first,
        Err(resolution) => return resolution,
    };
    let end_us = first.at_us.saturating_add(never_us);
    let inside = || sightings.iter().take_while(|sighting| sighting.at_us <= end_us);
    if let Some(violation) = inside().find(|sighting| sighting.state == Seen::Holds) {
        let how = format!(
            "it came true after {}",
            seconds(violation.at_us.saturating_sub(opened_us))
        );
        return Resolution::Broken {
            at_us: violation.at_us,
            how,
        };
    }
    if now_us <= end_us {
        return Resolution::Open {
            until_us: Some(end_us.saturating_add(1)),
        };
    }
    let blind = spans(sightings, end_us).filter(|(sighting, _)| sighting.state == Seen::Blind);
    let blind_us: u64 = blind
        .map(|(sighting, until_us)| until_us.saturating_sub(sighting.at_us))
        .fold(0, u64::saturating_add);
    if blind_us > 0 {
        let why = format!("nothing could be seen for {} of the time", seconds(blind_us));
        return Resolution::Unclear { at_us: end_us, why };
    }
    Resolution::Kept { at_us: end_us }
}

/// The first sighting, or what its absence means. What begins too late is not looked at any more, so that giving up is
/// final.
fn first_sighting(opened_us: u64, sightings: &[Sighting], now_us: u64) -> Result<&Sighting, Resolution> {
    let give_up_us = opened_us.saturating_add(OUTCOME_GRACE_US);
    match sightings.first() {
        Some(first) if first.at_us <= give_up_us => Ok(first),
        None if now_us <= give_up_us => Err(Resolution::Open {
            until_us: Some(give_up_us.saturating_add(1)),
        }),
        _ => Err(nothing_seen(give_up_us)),
    }
}

/// Each sighting up to `end_us` with the time until which it is what is known.
fn spans(sightings: &[Sighting], end_us: u64) -> impl Iterator<Item = (&Sighting, u64)> {
    let ends = sightings
        .iter()
        .skip(1)
        .map(|next| next.at_us)
        .chain(std::iter::once(u64::MAX));
    sightings
        .iter()
        .zip(ends)
        .take_while(move |(sighting, _)| sighting.at_us <= end_us)
        .map(move |(sighting, until_us)| (sighting, until_us.min(end_us.max(sighting.at_us))))
}

fn eventually(opened_us: u64, within_us: Option<u64>, hold_us: u64, sightings: &[Sighting], now_us: u64) -> Resolution {
    let deadline_us = match (within_us, first_sighting(opened_us, sightings, now_us)) {
        (Some(within_us), _) => opened_us.saturating_add(within_us),
        (None, Ok(first)) => first.at_us,
        (None, Err(resolution)) => return resolution,
    };
    let give_up_us = deadline_us.saturating_add(hold_us).saturating_add(OUTCOME_GRACE_US);
    let known = sightings.partition_point(|sighting| sighting.at_us <= give_up_us);
    let sightings = &sightings[..known];
    let promise = Promise {
        deadline_us,
        hold_us,
        now_us,
    };
    let seen = promise.resolve(&two_valued(opened_us, deadline_us, sightings, Blind::Broken));
    let hoped = promise.resolve(&two_valued(opened_us, deadline_us, sightings, Blind::Kept));
    // What can't be seen now will be known better later, unless that makes no difference.
    let kept_even_if_it_ends_badly = || {
        let feared = two_valued(opened_us, deadline_us, sightings, Blind::KeptUnlessItLasts);
        matches!(promise.resolve(&feared), Resolution::Kept { .. })
    };
    match (seen, hoped) {
        (kept @ Resolution::Kept { .. }, _) => kept,
        (_, broken @ Resolution::Broken { .. }) => broken,
        (Resolution::Open { until_us }, _) | (_, Resolution::Open { until_us }) => Resolution::Open { until_us },
        _ if now_us <= give_up_us && !kept_even_if_it_ends_badly() => Resolution::Open {
            until_us: Some(give_up_us.saturating_add(1)),
        },
        _ => {
            let why = "nothing could be seen at a time that matters".to_owned();
            Resolution::Unclear {
                at_us: deadline_us.saturating_add(hold_us),
                why,
            }
        }
    }
}

/// What to take blind periods for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Blind {
    /// The worst.
    Broken,
    /// As good as what was seen after them allows.
    Kept,
    /// The same, but one that still lasts ends with the promise broken.
    KeptUnlessItLasts,
}

/// The timeline without blind periods.
/// Begins at the time the check was opened; the moment until the first look counts as blind only when the first look came
/// after the deadline.
fn two_valued(opened_us: u64, deadline_us: u64, sightings: &[Sighting], blind: Blind) -> Vec<(u64, bool)> {
    let mut timeline: Vec<(u64, bool)> = Vec::with_capacity(sightings.len() + 1);
    let hope = blind != Blind::Broken;
    let mut next = blind == Blind::Kept;
    for sighting in sightings.iter().rev() {
        match sighting.state {
            Seen::Holds => next = true,
            Seen::Lacks => next = false,
            Seen::Blind => {}
        }
        let holds = match sighting.state {
            Seen::Holds => true,
            Seen::Lacks => false,
            Seen::Blind => hope && next,
        };
        timeline.push((sighting.at_us, holds));
    }
    let first_us = sightings.first().map_or(u64::MAX, |first| first.at_us);
    timeline.push((opened_us.min(first_us), hope && next && first_us > deadline_us));
    timeline.reverse();
    timeline
}

struct Promise {
    deadline_us: u64,
    hold_us: u64,
    now_us: u64,
}

impl Promise {
    /// Resolves a timeline without blind periods.
    fn resolve(&self, timeline: &[(u64, bool)]) -> Resolution {
        let mut began: Option<u64> = None;
        let mut last_break: Option<(u64, u64)> = None;
        for &(at_us, holds) in timeline {
            match (began, holds) {
                (None, true) => began = Some(at_us),
                (Some(since_us), false) => {
                    if since_us > self.deadline_us {
                        break;
                    }
                    if self.hold_us == 0 || at_us > since_us.saturating_add(self.hold_us) {
                        return Resolution::Kept { at_us: since_us };
                    }
                    // A state that lasted for no time at all was not there.
                    if at_us > since_us {
                        last_break = Some((since_us, at_us));
                    }
                    began = None;
                }
                _ => {}
            }
        }
        if let Some(since_us) = began.filter(|since_us| *since_us <= self.deadline_us) {
            let end_us = since_us.saturating_add(self.hold_us);
            // Without a hold, becoming true is all that was asked.
            if self.hold_us == 0 || self.now_us > end_us {
                return Resolution::Kept { at_us: since_us };
            }
            return Resolution::Open {
                until_us: Some(end_us.saturating_add(1)),
            };
        }
        if self.now_us <= self.deadline_us {
            return Resolution::Open {
                until_us: Some(self.deadline_us.saturating_add(1)),
            };
        }
        match last_break {
            Some((since_us, at_us)) if at_us > self.deadline_us => Resolution::Broken {
                at_us,
                how: format!("it held for {} and then broke", seconds(at_us.saturating_sub(since_us))),
            },
            Some((since_us, at_us)) => Resolution::Broken {
                at_us: self.deadline_us,
                how: format!(
                    "it held for {}, broke at {}, and did not come back in time",
                    seconds(at_us.saturating_sub(since_us)),
                    seconds(at_us)
                ),
            },
            None => Resolution::Broken {
                at_us: self.deadline_us,
                how: "it did not come true in time".to_owned(),
            },
        }
    }
}

/// The last three distinct states up to a time, and when the last of them began.
pub(crate) fn last_states(sightings: &[Sighting], until_us: u64) -> String {
    let mut states: Vec<&Sighting> = Vec::new();
    for sighting in sightings.iter().filter(|sighting| sighting.at_us <= until_us) {
        if states.last().is_none_or(|last| last.text != sighting.text) {
            states.push(sighting);
        }
    }
    let Some(last) = states.last() else {
        return "nothing was seen".to_owned();
    };
    let changed = if states.len() > 1 {
        format!(" (last change at {})", seconds(last.at_us))
    } else {
        String::new()
    };
    let shown = &states[states.len().saturating_sub(3)..];
    let texts: Vec<String> = shown
        .iter()
        .map(|sighting| format!("at {}: {}", seconds(sighting.at_us), sighting.text))
        .collect();
    format!("{}{changed}", texts.join("; "))
}
