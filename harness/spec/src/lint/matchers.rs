//! What objects and headers must hold: places and comparisons.

use super::{File, world::World};
use crate::code;
use crate::diagnostic::Diagnostic;
use crate::scenario::{HeaderMatcher, Matcher};
use crate::structure::list;
use crate::yaml::escape;

/// A matcher has a place and compares once.
pub(super) fn matchers_compare_once(file: &File<'_>, _: &World, problems: &mut Vec<Diagnostic>) {
    for (_, base, expect) in file.expects() {
        for (index, matcher) in expect.r#where.iter().enumerate() {
            let pointer = format!("{base}/where/{index}");
            if matcher.path.trim().is_empty() {
                problems.push(
                    Diagnostic::error(code::MISSING_FIELD, "a matcher without `path`", file.at(&pointer))
                        .expected("the place in the object, e.g. `path: spec.ports[*].port`"),
                );
            } else if let Some(fault) = path_fault(&matcher.path) {
                problems.push(
                    Diagnostic::error(
                        code::BAD_VALUE,
                        format!("`{}` is no place in an object", matcher.path),
                        file.at(&format!("{pointer}/path")),
                    )
                    .label(fault)
                    .expected("words joined by `.`, e.g. `spec.ports[*].port`, `metadata.labels.\"a.b/c\"` or `status.conditions[type=Ready].status`"),
                );
            }
            compare_once(file, &pointer, &comparisons(matcher), &COMPARISONS, problems);
        }
        for (header, matcher) in expect.answered.iter().flat_map(|answered| &answered.seen) {
            let pointer = format!("{base}/answered/seen/{}", escape(header));
            compare_once(
                file,
                &pointer,
                &header_comparisons(matcher),
                &HEADER_COMPARISONS,
                problems,
            );
        }
    }
}

const COMPARISONS: [&str; 9] = [
    "equals", "one_of", "contains", "excludes", "exists", "at_least", "at_most", "length", "same_as",
];
const HEADER_COMPARISONS: [&str; 4] = ["equals", "contains", "excludes", "exists"];

fn comparisons(matcher: &Matcher) -> Vec<&'static str> {
    let given = [
        matcher.equals.is_some(),
        matcher.one_of.is_some(),
        matcher.contains.is_some(),
        matcher.excludes.is_some(),
        matcher.exists.is_some(),
        matcher.at_least.is_some(),
        matcher.at_most.is_some(),
        matcher.length.is_some(),
        matcher.same_as.is_some(),
    ];
    COMPARISONS
        .into_iter()
        .zip(given)
        .filter(|(_, given)| *given)
        .map(|(name, _)| name)
        .collect()
}

fn header_comparisons(matcher: &HeaderMatcher) -> Vec<&'static str> {
    let given = [
        matcher.equals.is_some(),
        matcher.contains.is_some(),
        matcher.excludes.is_some(),
        matcher.exists.is_some(),
    ];
    HEADER_COMPARISONS
        .into_iter()
        .zip(given)
        .filter(|(_, given)| *given)
        .map(|(name, _)| name)
        .collect()
}

fn compare_once(file: &File<'_>, pointer: &str, given: &[&str], known: &[&str], problems: &mut Vec<Diagnostic>) {
    match given {
        [_] => {}
        [] => {
            let null = known.iter().any(|name| file.places.holds(&format!("{pointer}/{name}")));
            let diagnostic = Diagnostic::error(
                code::COMPARISON,
                "a matcher that compares with nothing",
                file.at(pointer),
            )
            .expected(list(known));
            problems.push(if null {
                diagnostic.help("to want that nothing is there, write `exists: false`")
            } else {
                diagnostic
            });
        }
        [first, second, ..] => problems.push(
            Diagnostic::error(
                code::COMPARISON,
                format!("a matcher with two comparisons: `{first}` and `{second}`"),
                file.key(&format!("{pointer}/{second}")),
            )
            .also(file.key(&format!("{pointer}/{first}")), "the first one")
            .help("write a second matcher with the same place"),
        ),
    }
}

/// What is wrong with a path into an object.
fn path_fault(path: &str) -> Option<&'static str> {
    let mut quoted = false;
    let mut bracket = false;
    let mut previous = '.';
    for c in path.chars() {
        match c {
            '"' => quoted = !quoted,
            _ if quoted => {}
            '[' if bracket => return Some("`[` within `[...]`"),
            '[' => bracket = true,
            ']' if !bracket => return Some("`]` without `[`"),
            ']' => {
                if previous == '[' {
                    return Some("`[]` without `*`, an index or a filter");
                }
                bracket = false;
            }
            _ if bracket => {}
            '.' if previous == '.' => return Some("an empty word between dots"),
            '/' => return Some("a word with `/` needs quotes: `metadata.labels.\"a.b/c\"`"),
            c if c.is_whitespace() => return Some("a space outside of quotes"),
            _ => {}
        }
        previous = c;
    }
    if quoted {
        Some("a quote that is not closed")
    } else if bracket {
        Some("`[` without `]`")
    } else if previous == '.' {
        Some("ends with a dot")
    } else {
        None
    }
}

/// Numbers of objects are possible.
pub(super) fn counts_make_sense(file: &File<'_>, _: &World, problems: &mut Vec<Diagnostic>) {
    for (_, base, expect) in file.expects() {
        let Some(count) = &expect.count else { continue };
        let pointer = format!("{base}/count");
        match (count.exactly, count.at_least, count.at_most) {
            (None, None, None) => problems.push(
                Diagnostic::error(code::ASSERTS_NOTHING, "`count` without a number", file.at(&pointer))
                    .expected("`exactly`, `at_least` or `at_most`"),
            ),
            (Some(_), Some(_), _) | (Some(_), _, Some(_)) => problems.push(
                Diagnostic::error(
                    code::CONTRADICTION,
                    "`exactly` together with a bound",
                    file.key(&format!("{pointer}/exactly")),
                )
                .help("keep `exactly`, or `at_least` and `at_most`"),
            ),
            (None, Some(least), Some(most)) if least > most => problems.push(
                Diagnostic::error(
                    code::CONTRADICTION,
                    format!("no number is at least {least} and at most {most}"),
                    file.at(&pointer),
                )
                .help("exchange the two"),
            ),
            (None, Some(0), None) => problems.push(
                Diagnostic::error(
                    code::ASSERTS_NOTHING,
                    "`at_least: 0` is always true",
                    file.at(&format!("{pointer}/at_least")),
                )
                .help("give a number above 0, or `exactly: 0` to want none"),
            ),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::path_fault;
    use rstest::rstest;

    #[rstest]
    #[case("spec.ports[*].port")]
    #[case("metadata.labels.\"a.b/c\"")]
    #[case("status.conditions[type=Ready].status")]
    #[case("subsets[0].addresses[*].ip")]
    #[case("status.mirrorServices[remoteRef.name=depot].conditions[*].status")]
    fn good_paths(#[case] path: &str) {
        assert_eq!(path_fault(path), None);
    }

    #[rstest]
    #[case("spec..ports")]
    #[case("spec.ports[*")]
    #[case("spec.ports[]")]
    #[case("spec.")]
    #[case(".spec")]
    #[case("metadata.labels.a/b")]
    #[case("metadata.labels.\"a")]
    #[case("spec ports")]
    fn bad_paths(#[case] path: &str) {
        assert!(path_fault(path).is_some());
    }
}
