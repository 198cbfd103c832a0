//! `same_as`: values that an earlier check saw, put where a later one compares with them.

use meshproof_spec::scenario::Expect;
use meshproof_verdict::history::CheckHistory;
use meshproof_verdict::question::Observation;
use meshproof_verdict::{Found, ObjectPath};
use serde_json::Value;

use crate::problem::{self, Problem};

/// The check with every `same_as` replaced by what the named check saw last, so that its question is complete in itself.
///
/// # Errors
/// When the named check saw no object, or nothing at that place: then there is nothing to compare with.
pub(super) fn recalled(expect: &Expect, checks: &[CheckHistory]) -> Result<Expect, Problem> {
    let mut expect = expect.clone();
    for matcher in &mut expect.r#where {
        let Some(name) = matcher.same_as.take() else { continue };
        matcher.equals = Some(seen(&name.0, &matcher.path, checks)?);
    }
    Ok(expect)
}

fn seen(name: &str, path: &str, checks: &[CheckHistory]) -> Result<Value, Problem> {
    let nothing = |what: &str| {
        problem::mesh(
            "nothing-to-compare",
            format!("the check `{name}` saw {what}, so nothing can be the same as `{path}` of it"),
            Some("see why that check saw nothing else"),
        )
    };
    let check = checks
        .iter()
        .rev()
        .find(|check| check.opened.name.as_deref() == Some(name));
    let objects = check.and_then(|check| {
        let observed = check.observations.iter().rev();
        observed
            .map(|(_, observation)| observation)
            .find_map(|observation| match observation {
                Observation::Objects(objects) => Some(objects),
                _ => None,
            })
    });
    let [object] = objects.map(Vec::as_slice).unwrap_or_default() else {
        return Err(nothing("not exactly one object"));
    };
    let path = ObjectPath::parse(path).map_err(|error| {
        problem::harness(
            "path-malformed",
            error.to_string(),
            Some("run `meshproof lint` on the file"),
        )
    })?;
    match path.find(object) {
        Found::Nothing => Err(nothing("an object without it")),
        Found::One(value) => Ok(value.clone()),
        Found::Many(values) => Ok(Value::Array(values.into_iter().cloned().collect())),
    }
}

#[cfg(test)]
mod tests {
    use meshproof_spec::scenario::Expect;
    use meshproof_verdict::history::CheckHistory;
    use meshproof_verdict::question::{ObjectsQuestion, Observation, Question};
    use meshproof_verdict::record::CheckOpened;
    use serde_json::{Value, json};

    use super::recalled;

    fn check(observations: Vec<Value>) -> CheckHistory {
        let question = Question::Objects(ObjectsQuestion {
            subject: "west Service shop/store".to_owned(),
            count: Default::default(),
            each: Vec::new(),
            timing: Default::default(),
        });
        let mut check = CheckHistory::new(
            0,
            CheckOpened {
                scenario: String::new(),
                check: 1,
                line: 0,
                requirement: "MC-X-001".to_owned(),
                name: Some("mirrored".to_owned()),
                place: "west".to_owned(),
                control: Vec::new(),
                question: Box::new(question),
                proves: None,
            },
        );
        check.observations = observations
            .into_iter()
            .map(|objects| (0, Observation::Objects(serde_json::from_value(objects).unwrap())))
            .collect();
        check
    }

    fn later(path: &str) -> Expect {
        let text = json!({
            "id": "MC-X-001", "object": {"in": "west", "kind": "Service", "name": "store"},
            "where": [{"path": path, "same_as": "mirrored"}], "within": "5s",
        });
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn what_was_seen_last_is_compared_with() {
        let seen = [check(vec![
            json!([]),
            json!([{"metadata": {"uid": "a"}, "spec": {"ports": [{"port": 1}, {"port": 2}]}}]),
        ])];
        let matcher = |path: &str| recalled(&later(path), &seen).unwrap().r#where.remove(0);
        assert_eq!(matcher("metadata.uid").equals, Some(json!("a")));
        assert_eq!(matcher("metadata.uid").same_as, None);
        assert_eq!(matcher("spec.ports[*].port").equals, Some(json!([1, 2])));
    }

    #[test]
    fn nothing_seen_is_nothing_to_compare_with() {
        let code = |checks: &[CheckHistory]| recalled(&later("metadata.uid"), checks).unwrap_err().code;
        assert_eq!(code(&[]), "nothing-to-compare");
        assert_eq!(code(&[check(vec![json!([])])]), "nothing-to-compare");
        assert_eq!(code(&[check(vec![json!([{"metadata": {}}])])]), "nothing-to-compare");
        let two = json!([{"metadata": {"uid": "a"}}, {"metadata": {"uid": "b"}}]);
        assert_eq!(code(&[check(vec![two])]), "nothing-to-compare");
    }
}
