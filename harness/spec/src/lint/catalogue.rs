//! Rules for the catalogue, profiles and deviations.

use std::collections::BTreeMap;

use crate::catalogue::{Catalogue, Deviations, Profiles};
use crate::code;
use crate::diagnostic::Diagnostic;
use crate::load::Plain;
use crate::scalar::RequirementId;
use crate::source::Span;
use crate::suite::closest_requirement;

fn at<T>(file: &Plain<T>, pointer: &str) -> Span {
    file.places.value(pointer).unwrap_or(&file.root).first_line()
}

/// All that is wrong with a file of the catalogue. Its ids are added to `known`.
pub(crate) fn catalogue(file: &Plain<Catalogue>, known: &mut BTreeMap<String, Span>) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    let stem = file
        .root
        .source
        .path()
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned());
    if let Some(stem) = stem.filter(|stem| *stem != file.value.area.0) {
        problems.push(
            Diagnostic::error(
                code::NAME_OF_FILE,
                format!("the area `{}` is in the file `{stem}.yaml`", file.value.area),
                at(file, "/area"),
            )
            .did_you_mean(Some(stem)),
        );
    }
    if file.value.requirements.is_empty() {
        problems.push(
            Diagnostic::warning(
                code::EMPTY_LIST,
                "an area without requirements",
                at(file, "/requirements"),
            )
            .help("add requirements, or remove the file"),
        );
    }
    for (index, requirement) in file.value.requirements.iter().enumerate() {
        let base = format!("/requirements/{index}");
        let place = at(file, &format!("{base}/id"));
        match known.get(&requirement.id.0) {
            Some(first) => problems.push(
                Diagnostic::error(
                    code::DUPLICATE_ID,
                    format!("the requirement `{}` is there twice", requirement.id),
                    place,
                )
                .also(first.clone(), "first here")
                .help("ids are unique in the whole catalogue; take the next free number"),
            ),
            None => {
                known.insert(requirement.id.0.clone(), place);
            }
        }
        if requirement.defects.is_empty() {
            problems.push(
                Diagnostic::error(
                    code::NO_DEFECT,
                    format!("nothing turns `{}` red", requirement.id),
                    at(file, &format!("{base}/defects")),
                )
                .expected("at least one defect of the embedded mesh")
                .help("name the defect that breaks this requirement; a check that nothing can turn red proves nothing"),
            );
        }
        for (position, defect) in requirement.defects.iter().enumerate() {
            if requirement.defects.iter().take(position).any(|other| other == defect) {
                problems.push(
                    Diagnostic::warning(
                        code::SUSPICIOUS,
                        format!("the defect `{defect}` stands twice"),
                        at(file, &format!("{base}/defects/{position}")),
                    )
                    .help("remove one"),
                );
            }
        }
        for (position, defect) in requirement.refused_by.iter().enumerate() {
            if !requirement.defects.contains(defect) {
                problems.push(
                    Diagnostic::error(
                        code::NO_DEFECT,
                        format!("`{defect}` is no defect of `{}`", requirement.id),
                        at(file, &format!("{base}/refused_by/{position}")),
                    )
                    .expected("one of the requirement's `defects`")
                    .help("add it to `defects`, or remove it here"),
                );
            }
        }
        let texts = [("text", &requirement.text), ("source", &requirement.source)];
        for (field, text) in texts {
            if text.trim().is_empty() {
                problems.push(
                    Diagnostic::error(
                        code::EMPTY_TEXT,
                        format!("`{field}` is empty"),
                        at(file, &format!("{base}/{field}")),
                    )
                    .expected(match field {
                        "text" => "the sentence that a mesh must satisfy",
                        _ => "where the requirement comes from",
                    }),
                );
            }
        }
    }
    problems
}

/// What a file of the catalogue says of requirements that no file has.
pub(crate) fn neighbours(file: &Plain<Catalogue>, known: &BTreeMap<String, Span>) -> Vec<Diagnostic> {
    let requirements = file.value.requirements.iter().enumerate();
    requirements
        .flat_map(|(index, requirement)| {
            let also = requirement.also.iter().enumerate();
            also.filter_map(move |(position, id)| {
                unknown(file, id, &format!("/requirements/{index}/also/{position}"), Some(known))
            })
        })
        .collect()
}

/// All that is wrong with the profiles.
pub(crate) fn profiles(file: &Plain<Profiles>, known: Option<&BTreeMap<String, Span>>) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    for (index, profile) in file.value.profiles.iter().enumerate() {
        let base = format!("/profiles/{index}");
        let first = file
            .value
            .profiles
            .iter()
            .take(index)
            .position(|other| other.profile == profile.profile);
        if let Some(first) = first {
            problems.push(
                Diagnostic::error(
                    code::DUPLICATE_ID,
                    format!("the profile `{}` is there twice", profile.profile),
                    at(file, &format!("{base}/profile")),
                )
                .also(at(file, &format!("/profiles/{first}/profile")), "first here"),
            );
        }
        if profile.requirements.is_empty() {
            problems.push(
                Diagnostic::error(
                    code::EMPTY_LIST,
                    format!("the profile `{}` requires nothing", profile.profile),
                    at(file, &format!("{base}/requirements")),
                )
                .expected("at least one requirement of the catalogue"),
            );
        }
        for (position, id) in profile.requirements.iter().enumerate() {
            let pointer = format!("{base}/requirements/{position}");
            problems.extend(unknown(file, id, &pointer, known));
            if profile.requirements.iter().take(position).any(|other| other == id) {
                problems.push(
                    Diagnostic::error(
                        code::DUPLICATE_NAME,
                        format!("`{id}` stands twice in the profile `{}`", profile.profile),
                        at(file, &pointer),
                    )
                    .help("remove one"),
                );
            }
        }
    }
    problems
}

/// All that is wrong with the known deviations.
pub(crate) fn deviations(file: &Plain<Deviations>, known: Option<&BTreeMap<String, Span>>) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    for (index, deviation) in file.value.deviations.iter().enumerate() {
        let base = format!("/deviations/{index}");
        problems.extend(unknown(
            file,
            &deviation.requirement,
            &format!("{base}/requirement"),
            known,
        ));
        for (field, text) in [("observed", &deviation.observed), ("upstream", &deviation.upstream)] {
            if text.trim().is_empty() {
                problems.push(
                    Diagnostic::error(
                        code::EMPTY_TEXT,
                        format!("`{field}` is empty"),
                        at(file, &format!("{base}/{field}")),
                    )
                    .expected(match field {
                        "observed" => "what was seen, with numbers",
                        _ => "the issue or commit upstream, or `not reported`",
                    }),
                );
            }
        }
        let same = |other: &crate::catalogue::Deviation| {
            other.requirement == deviation.requirement
                && other.versions == deviation.versions
                && other.defect == deviation.defect
        };
        if file.value.deviations.iter().take(index).any(same) {
            problems.push(
                Diagnostic::error(
                    code::DUPLICATE_NAME,
                    format!("the deviation from `{}` is there twice", deviation.requirement),
                    at(file, &format!("{base}/requirement")),
                )
                .help("remove one"),
            );
        }
    }
    problems
}

fn unknown<T>(
    file: &Plain<T>,
    id: &RequirementId,
    pointer: &str,
    known: Option<&BTreeMap<String, Span>>,
) -> Option<Diagnostic> {
    let known = known?;
    (!known.contains_key(&id.0)).then(|| {
        Diagnostic::error(
            code::UNKNOWN_REQUIREMENT,
            format!("unknown requirement `{id}`"),
            at(file, pointer),
        )
        .label("in no file of the catalogue")
        .did_you_mean(closest_requirement(&id.0, known))
    })
}
