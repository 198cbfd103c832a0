//! What objects and headers must hold: places and comparisons.

use std::ops::Range;

use meshproof_kinds::{ObjectPath, Shape, WrongStep};
use serde_json::Value;

use super::{File, world::World};
use crate::code;
use crate::diagnostic::{Diagnostic, closest};
use crate::fact::{Part, parts};
use crate::scenario::{Expect, HeaderMatcher, Matcher};
use crate::source::Span;
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

/// The place with references put out of the way of its grammar: what they stand for is known only in the run.
pub(super) fn place(path: &str) -> String {
    let mut written = String::new();
    for part in parts(path) {
        match part {
            Part::Literal(text) => written.push_str(text),
            Part::Reference(reference) => written.extend(reference.chars().chain("${}".chars()).map(|_| 'x')),
            Part::Unclosed(text) => written.push_str(text),
        }
    }
    written
}

/// The name of the kind that a check looks at, and its `apiVersion` when it is given.
pub(super) fn kind_of(expect: &Expect) -> Option<(&str, Option<&str>)> {
    match (&expect.object, &expect.objects) {
        (Some(object), _) => Some((&object.kind, object.api.as_deref())),
        (None, Some(objects)) => Some((&objects.kind, objects.api.as_deref())),
        (None, None) => None,
    }
}

/// What the objects that a check looks at may look like: in one of these ways, or in any when there is none.
pub(super) fn shapes_of<'a>(file: &File<'a>, expect: &Expect) -> Vec<&'a Shape> {
    kind_of(expect).map_or_else(Vec::new, |(kind, api)| file.library.kinds.shapes(kind, api))
}

/// What stands at a place in one of these shapes.
///
/// # Errors
/// When it is in none of them: where it goes astray in the last one.
pub(super) fn found_in<'a>(
    shapes: &[&'a Shape],
    path: &ObjectPath,
) -> Result<Vec<&'a Shape>, (Range<usize>, WrongStep)> {
    let mut found = Vec::new();
    let mut astray = None;
    for shape in shapes {
        match path.shape_in(shape) {
            Ok(shape) => found.push(shape),
            Err(wrong) => astray = Some(wrong),
        }
    }
    match astray {
        Some(wrong) if found.is_empty() => Err(wrong),
        _ => Ok(found),
    }
}

/// Places are written as they must be and are in the schema, where it is known; comparisons fit what is there.
pub(super) fn places_and_comparisons_fit(file: &File<'_>, _: &World, problems: &mut Vec<Diagnostic>) {
    for (_, base, expect) in file.expects() {
        let shapes = shapes_of(file, expect);
        for (index, matcher) in expect.r#where.iter().enumerate() {
            let pointer = format!("{base}/where/{index}");
            if matcher.path.trim().is_empty() {
                continue;
            }
            let at = file.at(&format!("{pointer}/path"));
            let path = match ObjectPath::parse(&place(&matcher.path)) {
                Ok(path) => path,
                Err(error) => {
                    problems.push(
                        Diagnostic::error(
                            code::BAD_VALUE,
                            format!("`{}` is no place in an object", matcher.path),
                            caret(&at, &matcher.path, error.position - 1..error.position),
                        )
                        .label(format!("{} was expected here", error.expected))
                        .expected("words joined by `.`, e.g. `spec.ports[*].port`, `metadata.labels.\"a.b/c\"` or `status.conditions[type=Ready].status`"),
                    );
                    continue;
                }
            };
            let found = match found_in(&shapes, &path) {
                Ok(found) => found,
                Err((range, wrong)) => {
                    let kind = kind_of(expect).map_or("object", |(kind, _)| kind);
                    problems.push(no_such_place(kind, matcher, &at, range, &wrong));
                    continue;
                }
            };
            // It fits when it does in one of the forms that the kind has.
            let many = path.is_many();
            let misfits: Option<Vec<_>> = found.iter().map(|shape| misfit(matcher, many, Some(shape))).collect();
            let misfit = match misfits {
                Some(all) if all.is_empty() => misfit(matcher, many, None),
                Some(mut all) => all.pop(),
                None => None,
            };
            if let Some((field, why, help)) = misfit {
                problems.push(
                    Diagnostic::error(
                        code::COMPARISON_SHAPE,
                        format!("`{field}` does not fit `{}`", matcher.path),
                        file.at(&format!("{pointer}/{field}")),
                    )
                    .label(why)
                    .also(at, "the place")
                    .help(help),
                );
            }
        }
        for (header, matcher) in expect.answered.iter().flat_map(|answered| &answered.seen) {
            for (field, text) in [("contains", &matcher.contains), ("excludes", &matcher.excludes)] {
                if text.as_ref().is_some_and(String::is_empty) {
                    let pointer = format!("{base}/answered/seen/{}/{field}", escape(header));
                    problems.push(empty_text(file.at(&pointer)));
                }
            }
        }
    }
}

fn empty_text(span: Span) -> Diagnostic {
    Diagnostic::error(code::EMPTY_TEXT, "every text contains an empty one", span)
        .help("write the text that is looked for, or `exists: true`")
}

/// A part of a value, by characters, when it stands in the file as it is.
fn caret(at: &Span, written: &str, range: Range<usize>) -> Span {
    let offset = |chars: usize| {
        written
            .char_indices()
            .nth(chars)
            .map_or(written.len(), |(offset, _)| offset)
    };
    let place = at.find(written);
    if place.text() != written {
        return at.clone();
    }
    let start = place.range.start + offset(range.start);
    let end = place.range.start + offset(range.end);
    // Behind the last character, the caret stands on it.
    let start = if start == end {
        start.saturating_sub(1).max(place.range.start)
    } else {
        start
    };
    Span::new(&place.source, start..end)
}

fn no_such_place(kind: &str, matcher: &Matcher, at: &Span, range: Range<usize>, wrong: &WrongStep) -> Diagnostic {
    let word: String = matcher.path.chars().skip(range.start).take(range.len()).collect();
    let diagnostic = Diagnostic::error(
        code::NO_SUCH_PLACE,
        format!("a {kind} has nothing at `{}`", matcher.path),
        caret(at, &matcher.path, range),
    );
    match wrong {
        WrongStep::UnknownField(fields) => {
            let known: Vec<&str> = fields.iter().map(|(name, _)| name).collect();
            diagnostic
                .label("no such field")
                .expected(list(&known))
                .did_you_mean(closest(&word, known))
        }
        WrongStep::NoFields(shape @ Shape::List(_)) => diagnostic
            .label(format!("{} stands before this", shape.words()))
            .help("write `[*]` for all of its items, `[0]` for the first, or `[path=value]` for some"),
        WrongStep::NoFields(shape) => diagnostic
            .label(format!("{} stands before this, which has no fields", shape.words()))
            .help("end the path before it"),
        WrongStep::NoItems(shape) => diagnostic
            .label(format!("{} stands before this, which has no items", shape.words()))
            .help("remove the brackets"),
    }
}

/// A comparison that can't hold, or always holds, whatever the object is: its field, why, and what to write.
fn misfit(matcher: &Matcher, many: bool, shape: Option<&Shape>) -> Option<(&'static str, String, String)> {
    use meshproof_kinds::Scalar;
    let is_list = many || matches!(shape, Some(Shape::List(_)));
    let scalar = match shape {
        Some(Shape::Scalar(scalar)) => Some(*scalar),
        _ => None,
    };
    let one = scalar.is_some() && !many;
    // What the entries of the list are, when the schema says so.
    let entry = match shape {
        Some(Shape::List(entry)) if !many => match entry.as_ref() {
            Shape::Scalar(scalar) => Some(*scalar),
            _ => None,
        },
        _ => scalar.filter(|_| many),
    };
    let no_entry = |value: &Value| entry.is_some_and(|entry| !is_of(value, entry));
    let no_such_value = |field| {
        Some((
            field,
            "no such value can be in that list".to_owned(),
            "compare with a value of the field's type; text that looks like a number needs quotes".to_owned(),
        ))
    };
    let list_help =
        |value: &Value| format!("write `[{value}]` to compare with all that is found, or `contains: {value}`");
    if let Some(value) = &matcher.equals {
        match value {
            Value::Array(_) if one => {
                return Some((
                    "equals",
                    "one value stands there, not a list".to_owned(),
                    "write the value without brackets".to_owned(),
                ));
            }
            Value::Array(values) if values.iter().any(no_entry) => return no_such_value("equals"),
            Value::Array(_) => {}
            value if is_list => return Some(("equals", "the place yields a list".to_owned(), list_help(value))),
            value => {
                if let Some(scalar) = scalar.filter(|scalar| !is_of(value, *scalar)) {
                    return Some((
                        "equals",
                        format!("{} stands there", Shape::Scalar(scalar).words()),
                        "compare with a value of that type; text that looks like a number needs quotes".to_owned(),
                    ));
                }
            }
        }
    }
    if let Some(values) = &matcher.one_of {
        if values.is_empty() {
            return Some((
                "one_of",
                "nothing is one of no values".to_owned(),
                "name the values".to_owned(),
            ));
        }
        if let Some(value) = values.iter().find(|value| is_list && !value.is_array()) {
            return Some(("one_of", "the place yields a list".to_owned(), list_help(value)));
        }
        let lists = values.iter().filter_map(Value::as_array);
        if lists.flatten().any(no_entry) {
            return no_such_value("one_of");
        }
        let wrong = |value: &&Value| !value.is_null() && scalar.is_some_and(|scalar| !is_of(value, scalar));
        if one && values.iter().any(|value| wrong(&value)) {
            return Some((
                "one_of",
                "no such value can stand there".to_owned(),
                "compare with values of the field's type".to_owned(),
            ));
        }
    }
    for (field, value) in [("contains", &matcher.contains), ("excludes", &matcher.excludes)] {
        let Some(value) = value else { continue };
        if value.as_str() == Some("") && !is_list {
            return Some((
                field,
                "every text contains an empty one".to_owned(),
                "write the text that is looked for, or use `exists`".to_owned(),
            ));
        }
        let in_text = matches!(
            scalar,
            Some(
                Scalar::Text | Scalar::Bytes | Scalar::IntOrText | Scalar::Quantity | Scalar::Time | Scalar::MicroTime
            )
        );
        if one && !(in_text && value.is_string()) {
            return Some((
                field,
                "only text and lists contain something".to_owned(),
                "use `equals`".to_owned(),
            ));
        }
        if no_entry(value) {
            return no_such_value(field);
        }
    }
    for (field, given) in [
        ("at_least", matcher.at_least.is_some()),
        ("at_most", matcher.at_most.is_some()),
    ] {
        let number = matches!(
            scalar,
            None | Some(Scalar::Int32 | Scalar::Int64 | Scalar::Number | Scalar::IntOrText | Scalar::Quantity)
        );
        if given && (is_list || !number || matches!(shape, Some(Shape::Object(_) | Shape::Map(_)))) {
            let what = if is_list {
                "a list"
            } else {
                shape.map_or("something else", Shape::words)
            };
            return Some((
                field,
                format!("{what} stands there, not a number"),
                "compare a number; for a list use `length`".to_owned(),
            ));
        }
    }
    if matcher.length.is_some()
        && !is_list
        && matches!(shape, Some(Shape::Scalar(_) | Shape::Object(_) | Shape::Map(_)))
    {
        let what = shape.map_or("something else", Shape::words);
        return Some((
            "length",
            format!("{what} stands there, which has no length"),
            "use `exists` or `equals`".to_owned(),
        ));
    }
    None
}

/// Whether a value may stand where the schema has such a scalar. A reference may become anything that is text.
pub(super) fn is_of(value: &Value, scalar: meshproof_kinds::Scalar) -> bool {
    use meshproof_kinds::Scalar;
    match scalar {
        Scalar::Text | Scalar::Bytes | Scalar::Time | Scalar::MicroTime => value.is_string(),
        Scalar::Int32 | Scalar::Int64 | Scalar::Number => value.is_number(),
        Scalar::Boolean => value.is_boolean(),
        Scalar::IntOrText | Scalar::Quantity => value.is_number() || value.is_string(),
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
