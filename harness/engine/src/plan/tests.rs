//! Plans: what is selected, shared, locked, skipped and refused.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshproof_spec::scenario::Scenario;
use meshproof_spec::topology::Topology;
use meshproof_terms::{Level, VersionRange};
use meshproof_verdict::record::RequirementRow;
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

use super::locks::is_outside;
use super::{
    FileSelector, Partition, Plan, PlanError, RunIdentity, Selection, SelectionError, Suite, SuiteScenario,
    Surroundings, namespace, start_order,
};

fn topology() -> Topology {
    serde_json::from_value(json!({
        "topology": "triple",
        "summary": "Three clusters.",
        "clusters": {
            "east": {"pod_cidr": "10.11.0.0/16", "service_cidr": "10.131.0.0/16"},
            "north": {"pod_cidr": "10.12.0.0/16", "service_cidr": "10.132.0.0/16"},
            "west": {"pod_cidr": "10.10.0.0/16", "service_cidr": "10.130.0.0/16"},
        },
        "links": [
            {"from": "east", "to": "west"}, {"from": "north", "to": "east"},
            {"from": "west", "to": "east"}, {"from": "west", "to": "north"},
        ],
    }))
    .unwrap()
}

fn scenario(id: &str, steps: Value, extra: Value) -> Arc<SuiteScenario> {
    let mut scenario = json!({
        "scenario": id, "summary": "A test.", "topology": "triple", "checks": ["MC-A-001"], "tags": ["quick"], "steps": steps,
    });
    json_patch::merge(&mut scenario, &extra);
    let scenario: Scenario = serde_json::from_value(scenario).unwrap();
    Arc::new(SuiteScenario {
        id: id.to_owned(),
        area: "area".to_owned(),
        file: format!("area/{id}.yaml"),
        folder: "area".into(),
        digest: "0".to_owned(),
        lines: (0..scenario.steps.len())
            .map(|index| u32::try_from(index).unwrap() + 8)
            .collect(),
        scenario,
    })
}

fn suite(scenarios: Vec<Arc<SuiteScenario>>) -> Suite {
    Suite {
        scenarios,
        topologies: BTreeMap::from([("triple".to_owned(), topology())]),
        requirements: ["MC-A-001", "MC-B-001"]
            .map(|id| RequirementRow {
                id: id.to_owned(),
                level: Level::Must,
                versions: VersionRange::ALL,
                text: "It works.".to_owned(),
            })
            .into(),
        profiles: BTreeMap::from([("b-only".to_owned(), vec!["MC-B-001".to_owned()])]),
        ..Suite::default()
    }
}

fn surroundings() -> Surroundings {
    Surroundings {
        environment: "embedded".to_owned(),
        pace: 10.0,
        environment_capabilities: ["disposable", "disruptive", "partition"].map(ToOwned::to_owned).into(),
        mesh: "linkerd".to_owned(),
        mesh_capabilities: [
            "export-gateway",
            "install-mesh",
            "link-clusters",
            "rotate-trust",
            "route",
        ]
        .map(ToOwned::to_owned)
        .into(),
        ..Surroundings::default()
    }
}

fn identity() -> RunIdentity {
    RunIdentity {
        run: "2026-run".to_owned(),
        short: "x7".to_owned(),
        seed: 42,
        defects: Vec::new(),
    }
}

fn plan(scenarios: Vec<Arc<SuiteScenario>>, selection: &Selection) -> Result<Plan, PlanError> {
    Plan::new(&suite(scenarios), selection, surroundings(), identity())
}

fn export() -> Value {
    json!([
        {"deploy": {"service": "store", "in": "east"}},
        {"deploy": {"client": "shopper", "in": "west"}},
        {"export": {"service": "store", "from": "east"}},
        {"call": {"name": "c", "from": "shopper", "in": "west", "to": "store@east"}},
        {"expect": {"id": "MC-A-001", "call": "c", "answered": {}}},
    ])
}

#[test]
fn a_plan_is_printed_for_people_and_for_programs() {
    let scenarios = vec![
        scenario("export", export(), json!({})),
        scenario(
            "cut",
            json!([
                {"fault": {"name": "f", "partition": {"from": "west", "to": "east"}}},
                {"expect": {"id": "MC-A-001", "link": {"from": "west", "to": "east"}, "alive": false, "within": "30s", "then_for": "10s"}},
            ]),
            json!({}),
        ),
        scenario(
            "own",
            json!([{"unlink": {"from": "west", "to": "east"}}]),
            json!({"setup": {"trust": "shared"}}),
        ),
        scenario(
            "flat",
            json!([{"export": {"service": "store", "from": "east", "mode": "flat"}}]),
            json!({}),
        ),
    ];
    let plan = plan(scenarios, &Selection::default()).unwrap();
    insta::assert_snapshot!("plan_text", plan.to_string());
    insta::assert_json_snapshot!("plan_json", plan.to_json());
}

fn asked(change: impl FnOnce(&mut Selection)) -> Selection {
    let mut selection = Selection::default();
    change(&mut selection);
    selection
}

#[rstest]
#[case::nothing(asked(|it| it.ids = vec!["nobody".to_owned()]), "`nobody`")]
#[case::one_of_two_names(asked(|it| it.ids = vec!["export".to_owned(), "exprot".to_owned()]), "`exprot` (did you mean `export`?)")]
#[case::no_such_area(asked(|it| it.ids = vec!["export".to_owned(), "gateway/".to_owned()]), "`gateway/`")]
#[case::of_another_area(asked(|it| it.ids = vec!["gateway/export".to_owned()]), "`gateway/export`")]
#[case::no_such_repetition(asked(|it| it.ids = vec!["export#x".to_owned()]), "`export#x`")]
#[case::one_of_two_tags(asked(|it| it.tags = vec!["quick".to_owned(), "quik".to_owned()]), "--tag quik (did you mean `quick`?)")]
#[case::undecided(asked(|it| it.requirements = vec!["MC-A-001".to_owned(), "MC-B-001".to_owned()]), "--requirement MC-B-001")]
#[case::empty_profile(asked(|it| it.profile = Some("b-only".to_owned())), "--profile b-only")]
#[case::empty_file(
    asked(|it| it.files = vec![FileSelector { asked: "x/".to_owned(), files: Vec::new() }]),
    "`x/`, which holds none"
)]
fn whatever_matches_nothing_is_an_error_also_when_something_else_matches(
    #[case] selection: Selection,
    #[case] told: &str,
) {
    let error = plan(vec![scenario("export", export(), json!({}))], &selection).unwrap_err();
    assert!(
        matches!(error, PlanError::Selection(SelectionError::Unmatched(_))) && error.to_string().contains(told),
        "{error}"
    );
}

#[rstest]
#[case::empty_part(asked(|it| it.partition = Partition::new(2, 2)))]
#[case::no_common_one(asked(|it| { it.ids = vec!["cut".to_owned()]; it.tags = vec!["slow".to_owned()]; }))]
fn nothing_that_matches_everything_is_an_error_of_its_own(#[case] selection: Selection) {
    let mut scenarios = vec![scenario("export", export(), json!({"tags": ["slow"]}))];
    if selection.partition.is_none() {
        scenarios.push(scenario("cut", export(), json!({})));
    }
    let error = plan(scenarios, &selection).unwrap_err();
    assert!(
        matches!(error, PlanError::Selection(SelectionError::NothingSelected { .. })),
        "{error}"
    );
}

#[rstest]
#[case(&["export"], &[], &["export"])]
#[case(&["area/export"], &[], &["export"])]
#[case(&["export#3"], &[], &["export"])]
#[case(&["area/export#3"], &[], &["export"])]
#[case(&["area/"], &[], &["cut", "export", "rows.a", "rows.b"])]
#[case(&["area"], &[], &["cut", "export", "rows.a", "rows.b"])]
#[case(&["area/rows.*"], &[], &["rows.a", "rows.b"])]
#[case(&["rows"], &[], &["rows.a", "rows.b"])]
#[case(&["rows.a", "c*"], &[], &["cut", "rows.a"])]
#[case(&["cut"], &["area/export.yaml"], &["cut", "export"])]
#[case(&[], &["area/export.yaml"], &["export"])]
fn printed_names_select_and_add_up_with_files(
    #[case] names: &[&str],
    #[case] files: &[&str],
    #[case] expected: &[&str],
) {
    let row = |id: &str| {
        let mut row = Arc::unwrap_or_clone(scenario("rows", export(), json!({})));
        row.id = id.to_owned();
        Arc::new(row)
    };
    let scenarios = vec![
        scenario("export", export(), json!({})),
        scenario("cut", export(), json!({})),
        row("rows.a"),
        row("rows.b"),
    ];
    let selection = asked(|it| {
        it.ids = names.iter().map(|name| (*name).to_owned()).collect();
        it.files = files
            .iter()
            .map(|file| FileSelector {
                asked: format!("./{file}"),
                files: vec![(*file).to_owned()],
            })
            .collect();
    });
    let plan = plan(scenarios, &selection).unwrap();
    let ids: Vec<&str> = plan.scenarios.iter().map(|one| one.scenario.id.as_str()).collect();
    assert_eq!(ids, expected);
}

#[test]
fn unknown_names_are_told_apart_from_empty_selections() {
    let one = || vec![scenario("export", export(), json!({}))];
    let profile = Selection {
        profile: Some("gold".to_owned()),
        ..Selection::default()
    };
    let error = plan(one(), &profile).unwrap_err().to_string();
    assert!(error.contains("gold") && error.contains("b-only"), "{error}");
    let requirement = Selection {
        requirements: vec!["MC-X-001".to_owned()],
        ..Selection::default()
    };
    assert!(matches!(
        plan(one(), &requirement),
        Err(PlanError::Selection(SelectionError::UnknownRequirement { .. }))
    ));
    assert!(matches!(
        plan(Vec::new(), &Selection::default()),
        Err(PlanError::Selection(SelectionError::EmptySuite))
    ));
}

#[rstest]
#[case("link", json!({"from": "west", "to": "east"}))]
#[case("unlink", json!({"from": "west", "to": "east"}))]
#[case("install", json!({"in": "west"}))]
#[case("uninstall", json!({"in": "west"}))]
#[case("rotate", json!({"trust": "issuer", "in": "west"}))]
fn what_changes_shared_clusters_for_good_needs_clusters_of_its_own(#[case] verb: &str, #[case] arguments: Value) {
    let steps = json!([{verb: arguments}]);
    let error = plan(vec![scenario("s", steps.clone(), json!({}))], &Selection::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("area/s.yaml:8") && error.contains(verb) && error.contains("setup"),
        "{error}"
    );
    let own = plan(
        vec![scenario("s", steps, json!({"setup": {"bare": true}}))],
        &Selection::default(),
    )
    .unwrap();
    assert!(own.environments["triple.s"].own);
}

#[rstest]
#[case("link", json!({"from": "west", "to": "east"}), json!({"unlinked": true}), "link-clusters")]
#[case("install", json!({"in": "west"}), json!({"bare": true}), "install-mesh, link-clusters")]
fn what_a_mesh_that_others_manage_can_not_do_is_skipped(
    #[case] verb: &str,
    #[case] arguments: Value,
    #[case] setup: Value,
    #[case] needed: &str,
) {
    let mut managed = surroundings();
    managed.mesh_capabilities = ["export-gateway".to_owned()].into();
    let scenarios = vec![scenario("s", json!([{verb: arguments}]), json!({"setup": setup}))];
    let plan = Plan::new(&suite(scenarios), &Selection::default(), managed, identity()).unwrap();
    let skip = plan.scenarios[0].skip.as_ref().unwrap();
    assert_eq!(skip.code, "capability-missing");
    assert!(skip.reason.contains(&format!("needs {needed},")), "{}", skip.reason);
}

#[rstest]
#[case("flat")]
#[case("federated")]
fn exports_without_a_gateway_need_pods_that_reach_each_other(#[case] mode: &str) {
    let mut exporting = surroundings();
    exporting.mesh_capabilities.insert(format!("export-{mode}"));
    let export = json!([{"export": {"service": "store", "from": "east", "mode": mode}}]);
    let planned = |surroundings| {
        let scenarios = vec![scenario("s", export.clone(), json!({}))];
        Plan::new(&suite(scenarios), &Selection::default(), surroundings, identity()).unwrap()
    };
    let plan = planned(exporting.clone());
    let skip = plan.scenarios[0].skip.as_ref().unwrap();
    assert_eq!(skip.code, "capability-missing");
    assert!(skip.reason.contains("needs flat-network,"), "{}", skip.reason);
    exporting.environment_capabilities.insert("flat-network".to_owned());
    assert_eq!(planned(exporting).scenarios[0].skip, None);
}

#[test]
fn repetitions_have_keys_namespaces_and_clusters_of_their_own() {
    let scenarios = vec![
        scenario("export", export(), json!({})),
        scenario(
            "own",
            json!([{"unlink": {"from": "west", "to": "east"}}]),
            json!({"setup": {"unlinked": true}}),
        ),
    ];
    let plan = plan(
        scenarios,
        &Selection {
            repeat: 3,
            ..Selection::default()
        },
    )
    .unwrap();
    let keys: Vec<&str> = plan.scenarios.iter().map(|scenario| scenario.key.as_str()).collect();
    assert_eq!(keys, ["export#1", "own#1", "export#2", "own#2", "export#3", "own#3"]);
    let namespaces: BTreeSet<&str> = plan
        .scenarios
        .iter()
        .map(|scenario| scenario.namespace.as_str())
        .collect();
    assert_eq!(namespaces.len(), 6);
    let environments: Vec<&String> = plan.environments.keys().collect();
    assert_eq!(environments, ["triple", "triple.own#1", "triple.own#2", "triple.own#3"]);
}

/// Looks at objects.
fn seen(objects: Value) -> Value {
    json!([{"expect": {"id": "MC-X-001", "objects": objects, "count": {"at_least": 1}, "within": "5s"}}])
}

#[rstest]
#[case::exports_of_different_clusters(export(), json!([{"export": {"service": "store", "from": "north"}}]), false)]
#[case::the_same_link_twice_shared(export(), export(), false)]
#[case::a_link_that_is_cut(export(), json!([{"fault": {"name": "f", "partition": {"from": "east", "to": "west"}}}]), true)]
#[case::another_link_is_cut(export(), json!([{"fault": {"name": "f", "partition": {"from": "west", "to": "north"}}}]), false)]
#[case::the_gateway_is_scaled(export(), json!([{"scale": {"component": "gateway", "in": "east", "to": 0}}]), true)]
#[case::another_gateway_is_scaled(export(), json!([{"scale": {"component": "gateway", "in": "north", "to": 0}}]), false)]
#[case::its_controller_restarts(export(), json!([{"restart": {"component": "controller", "of": "east", "in": "west"}}]), true)]
#[case::its_own_service_is_scaled(export(), json!([{"scale": {"service": "store", "in": "east", "to": 0}}]), false)]
#[case::an_api_server_stops(export(), json!([{"fault": {"name": "f", "pause_api": "north"}}]), true)]
#[case::everything_is_counted(export(), json!([{"inventory": {"name": "i", "in": "east"}}]), true)]
#[case::an_object_elsewhere(export(), json!([{"patch": {"in": "east", "object": {"kind": "Service", "name": "g", "namespace": "linkerd-multicluster"}, "merge": {}}}]), true)]
#[case::an_object_of_its_own(export(), json!([{"patch": {"in": "east", "object": {"kind": "Service", "name": "g", "namespace": "${namespace}"}, "merge": {}}}]), false)]
#[case::credentials_are_rotated(export(), json!([{"rotate": {"credentials": {"from": "west", "to": "east"}}}]), true)]
#[case::the_mesh_of_its_cluster_is_upgraded(export(), json!([{"upgrade": {"in": "east"}}]), true)]
#[case::pods_of_the_mesh_are_looked_at(seen(json!({"in": "west", "kind": "Pod", "namespace": "linkerd-multicluster"})), json!([{"restart": {"component": "controller", "of": "east", "in": "west"}}]), true)]
#[case::and_the_gateway_is_scaled(seen(json!({"in": "east", "kind": "Pod", "namespace": "linkerd-multicluster"})), json!([{"scale": {"component": "gateway", "in": "east", "to": 0}}]), true)]
#[case::pods_of_its_own_are_looked_at(seen(json!({"in": "west", "kind": "Pod"})), json!([{"restart": {"component": "controller", "of": "east", "in": "west"}}]), false)]
fn scenarios_conflict_when_one_disturbs_what_the_other_uses(
    #[case] one: Value,
    #[case] other: Value,
    #[case] expected: bool,
) {
    let locks = |steps: Value| super::Locks::of(&scenario("s", steps, json!({})).scenario, &topology());
    let (one, other) = (locks(one), locks(other));
    assert_eq!(one.conflicts_with(&other), expected);
    assert_eq!(
        other.conflicts_with(&one),
        expected,
        "a conflict is one from both sides"
    );
}

#[rstest]
#[case("Service", None, false)]
#[case("Service", Some("${namespace}"), false)]
#[case("Service", Some("kube-system"), true)]
#[case("ClusterRole", None, true)]
#[case("Namespace", None, true)]
#[case("ClusterRole", Some("${namespace}"), true)]
fn objects_are_inside_or_outside(#[case] kind: &str, #[case] namespace: Option<&str>, #[case] expected: bool) {
    assert_eq!(is_outside(kind, namespace), expected);
}

#[rstest]
#[case(json!([]), json!({"needs": ["relay"]}), Some("capability-missing"))]
#[case(json!([{"fault": {"name": "f", "pause_api": "west"}}]), json!({}), Some("capability-missing"))]
#[case(json!([{"fault": {"name": "f", "partition": {"from": "west", "to": "east"}}}]), json!({}), None)]
#[case(json!([]), json!({"setup": {"trust": "separate"}}), Some("capability-missing"))]
#[case(json!([{"export": {"service": "store", "from": "east", "mode": "flat"}}]), json!({}), Some("capability-missing"))]
#[case::no_version_to_go_to(json!([{"upgrade": {"in": "west"}}]), json!({"setup": {}}), Some("capability-missing"))]
#[case(json!([]), json!({"mesh": "istio"}), Some("other-mesh"))]
#[case(json!([]), json!({"mesh": "linkerd"}), None)]
fn what_can_not_run_here_is_skipped_with_a_code(
    #[case] steps: Value,
    #[case] extra: Value,
    #[case] code: Option<&str>,
) {
    let plan = plan(vec![scenario("s", steps, extra)], &Selection::default()).unwrap();
    let skip = plan.scenarios[0].skip.as_ref().map(|skip| skip.code.as_str());
    assert_eq!(skip, code);
    assert_eq!(
        plan.environments.is_empty(),
        code.is_some(),
        "no clusters are brought up for what is skipped"
    );
}

#[rstest]
#[case::scales_the_gateway(json!([{"scale": {"component": "gateway", "in": "east", "to": 0}}]), json!({}), Some("gateway east"))]
#[case::restarts_a_controller(json!([{"restart": {"component": "controller", "of": "east", "in": "west"}}]), json!({}), Some("link west → east"))]
#[case::steals_a_lease(json!([{"fault": {"name": "f", "steal_lease": {"from": "west", "to": "east"}}}]), json!({"needs": []}), Some("link west → east"))]
#[case::objects_of_the_whole_cluster(json!([{"apply": {"in": "west", "manifest": {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}}}}]), json!({}), Some("cluster west"))]
#[case::its_own_namespace(export(), json!({}), None)]
#[case::clusters_of_its_own(json!([{"unlink": {"from": "west", "to": "east"}}]), json!({"setup": {}}), None)]
fn what_disturbs_others_needs_consent(#[case] steps: Value, #[case] extra: Value, #[case] disturbed: Option<&str>) {
    let mut without = surroundings();
    without.environment_capabilities.remove("disruptive");
    without.mesh_capabilities.insert("steal-lease".to_owned());
    let planned = |surroundings| {
        let scenarios = vec![scenario("s", steps.clone(), extra.clone())];
        let plan = Plan::new(&suite(scenarios), &Selection::default(), surroundings, identity()).unwrap();
        plan.scenarios[0].skip.clone()
    };
    let skip = planned(without.clone());
    assert_eq!(
        skip.as_ref().map(|skip| skip.code.as_str()),
        disturbed.map(|_| "consent-missing")
    );
    if let (Some(skip), Some(disturbed)) = (skip, disturbed) {
        assert!(skip.reason.contains(disturbed), "{}", skip.reason);
    }
    without.environment_capabilities.insert("disruptive".to_owned());
    assert_eq!(planned(without), None);
}

#[rstest]
#[case::all_of_the_topology(&["east", "north", "west", "spare"], None)]
#[case::not_all(&["east", "west"], Some("cluster-missing"))]
fn a_topology_needs_all_its_clusters(#[case] given: &[&str], #[case] code: Option<&str>) {
    let surroundings = Surroundings {
        clusters: Some(given.iter().map(|name| (*name).to_owned()).collect()),
        ..surroundings()
    };
    let scenarios = vec![scenario("s", export(), json!({}))];
    let plan = Plan::new(&suite(scenarios), &Selection::default(), surroundings, identity()).unwrap();
    let skip = plan.scenarios[0].skip.as_ref();
    assert_eq!(skip.map(|skip| skip.code.as_str()), code);
    assert!(skip.is_none_or(|skip| skip.reason.contains("north")), "{skip:?}");
}

#[test]
fn the_busiest_clusters_come_first_and_then_what_takes_longest_in_each_repetition() {
    let holds = |time: &str| json!([{"expect": {"id": "MC-A-001", "object": {"in": "west", "kind": "Service", "name": "s"}, "within": "1s", "then_for": time}}]);
    let own = json!({"setup": {}});
    let scenarios = vec![
        scenario("short", holds("10s"), json!({})),
        scenario("alone", holds("50s"), own.clone()),
        scenario("long", holds("40s"), json!({})),
        scenario("skipped", holds("300s"), json!({"mesh": "istio", "setup": {}})),
        scenario("alone-briefly", holds("20s"), own),
    ];
    let selection = Selection {
        repeat: 2,
        ..Selection::default()
    };
    let plan = plan(scenarios, &selection).unwrap();
    let order: Vec<&str> = start_order(&plan)
        .iter()
        .map(|scenario| scenario.key.as_str())
        .collect();
    let expected = [
        "long#1",
        "skipped#1",
        "alone#1",
        "alone-briefly#1",
        "short#1",
        "skipped#2",
        "alone#2",
        "long#2",
        "alone-briefly#2",
        "short#2",
    ];
    assert_eq!(order, expected);
}

proptest! {
    #[test]
    fn names_of_namespaces_are_valid_and_distinct(
        ids in prop::collection::btree_set("[a-z][a-z0-9]{0,20}(-[a-z0-9]{1,20}){0,3}(\\.[a-z][a-z0-9-]{0,18}[a-z0-9])?", 2..12),
        repetitions in 1..4_u32,
    ) {
        let mut names = BTreeSet::new();
        for id in &ids {
            for repetition in 1..=repetitions {
                let name = namespace("abcdefgh", id, (repetitions > 1).then_some(repetition));
                prop_assert!(name.len() <= 63, "{name}");
                let valid = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
                prop_assert!(valid && !name.ends_with('-'), "{name}");
                prop_assert!(names.insert(name.clone()), "{name} is there twice");
            }
        }
    }

    #[test]
    fn shards_together_run_everything_once(count in 1..20_usize, shards in 1..6_usize) {
        let scenarios: Vec<_> = (0..count).map(|index| scenario(&format!("s{index}"), json!([]), json!({}))).collect();
        let mut ran = Vec::new();
        for shard in 1..=shards {
            let selection = Selection { partition: Partition::new(shard, shards), ..Selection::default() };
            match plan(scenarios.clone(), &selection) {
                Ok(plan) => ran.extend(plan.scenarios.into_iter().map(|scenario| scenario.key)),
                Err(PlanError::Selection(SelectionError::NothingSelected { .. })) => prop_assert!(count < shards),
                Err(error) => prop_assert!(false, "{error}"),
            }
        }
        ran.sort_unstable();
        let mut expected: Vec<_> = scenarios.iter().map(|scenario| scenario.id.clone()).collect();
        expected.sort_unstable();
        prop_assert_eq!(ran, expected);
    }
}
