use meshproof_verdict::ledger::{Answered, RequestResult, Row};
use rstest::rstest;
use serde_json::{Value, json};

use super::{Redactor, line};

fn shown(value: &Value) -> String {
    Redactor::new().object(value).get().to_string()
}

#[rstest]
#[case::pem(
    "-----BEGIN EC PRIVATE KEY-----\nMHcCCANARY\n-----END EC PRIVATE KEY-----\nrest",
    "rest"
)]
#[case::pem_on_one_line("-----BEGIN PRIVATE KEY----- MHcCCANARY -----END PRIVATE KEY----- rest", "rest")]
#[case::pem_that_was_cut("front -----BEGIN RSA PRIVATE KEY-----\nMHcCCANARY", "front")]
#[case::jwt("a eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4CANARY.c2lnbmF0dXJl b", "a ")]
#[case::bearer("Authorization: Bearer CANARYabcdefghijklmnop, next", ", next")]
#[case::short_bearer("Bearer CANARY07", "Bearer ")]
#[case::basic("Authorization: Basic YWRtaW46Q0FOQVJZLWJhc2ljLTA4CANARY", "Authorization: ")]
#[case::bare_basic("Basic dXNlcjpDQU5BUlktMTIzNDU2", "Basic ")]
#[case::url("https://admin:CANARY-url-09@db.example/path", "db.example/path")]
#[case::url_of_a_token("git clone https://CANARYtoken@github.com/x", "@github.com/x")]
#[case::kubeconfig("users: [{name: a, user: {token: CANARYkube}}] rest", "}}] rest")]
#[case::yaml("  password: CANARY pass phrase\nnext: 1", "next: 1")]
#[case::json(r#"{"clientSecret":"CANARY","a":"b"} and"#, "and")]
#[case::escaped_json(r#"x {\"password\":\"CANARY\",\"a\":\"b\"}"#, r#"\"a\":\"b\""#)]
#[case::assignment("AWS_SECRET_ACCESS_KEY=CANARY12/abc DEBUG=1", "DEBUG=1")]
#[case::query("GET /?token=CANARY&page=2 200", "&page=2 200")]
#[case::cookie("cookie: session=CANARY; other=CANARY", "cookie: ")]
#[case::api_key("x-api-key: CANARY", "x-api-key: ")]
#[case::set("helm upgrade --set a.password=CANARY,keyPEM=CANARY --wait", " --wait")]
#[case::flag("run --token CANARY --verbose", "--verbose")]
#[case::flag_with_equals("run --db-password=CANARY x", " x")]
#[case::aws_id("uses AKIACANARY1234567890", "uses ")]
#[case::github("ghp_CANARYabcdefghijklmnopqrstuvwxyz", "")]
fn secrets_of_texts_are_not_shown(#[case] text: &str, #[case] rest: &str) {
    let shown = Redactor::new().text(text).into_inner();
    assert!(!shown.contains("CANARY"), "{shown}");
    assert!(!shown.contains("YWRtaW4") && !shown.contains("dXNlcjpD"), "{shown}");
    assert!(shown.contains(rest), "{shown}");
    assert!(shown.contains("<not shown: "), "{shown}");
    assert_eq!(
        Redactor::new().text(&shown).into_inner(),
        shown,
        "what is clean stays as it is"
    );
}

#[rstest]
#[case("the Bearer token is missing, Basic authentication is off")]
#[case("secretName: west-credentials, tokenExpirationSeconds: 3600, automountServiceAccountToken: true")]
#[case("pods \"store-7d4b9c-x2x4z\" is forbidden: https://10.0.0.1:6443/api/v1?limit=500&watch=true")]
#[case("sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824")]
#[case("response_total{direction=\"inbound\",dst_namespace=\"mp-b77fbd-failback\"} 12")]
#[case("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----")]
#[case("LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSUIKLS0tLS1FTkQgQ0VSVElGSUNBVEUtLS0tLQo=")]
fn what_is_no_secret_is_shown(#[case] text: &str) {
    assert_eq!(Redactor::new().text(text).into_inner(), text);
}

#[test]
fn secrets_under_base64_are_not_shown() {
    use base64::Engine as _;
    let redactor = Redactor::new();
    for secret in [
        "-----BEGIN EC PRIVATE KEY-----\nMHcC\n-----END EC PRIVATE KEY-----\n",
        "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJjYW5hcnlKV1QifQ.c2lnbmF0dXJlY2FuYXJ5",
        "apiVersion: v1\nkind: Config\nusers: [{user: {token: hunter2-in-kubeconfig}}]\n",
    ] {
        let once = base64::engine::general_purpose::STANDARD.encode(secret);
        let twice = base64::engine::general_purpose::STANDARD.encode(&once);
        for encoded in [once, twice] {
            let shown = redactor.text(&format!("a: {encoded} b")).into_inner();
            assert!(!shown.contains(&encoded[4..20]) && shown.ends_with(" b"), "{shown}");
        }
    }
    let wrapped =
        "LS0tLS1CRUdJTiBFQyBQUklWQVRFIEtFWS0tLS0tCk1IY0NBUUVFSU5zUk54\n  bDZzYUZZbEhOdmVLWE1uRFRrVjNTbjRPYWRXL0pW\nend";
    let shown = redactor.text(wrapped).into_inner();
    assert!(!shown.contains("bDZzYUZZ") && shown.ends_with("\nend"), "{shown}");
}

#[rstest]
#[case::secret_data(json!({"kind": "Secret", "metadata": {"name": "s"}, "data": {"password": "Q0FOQVJZ"}}), &["Q0FOQVJZ"])]
#[case::secret_strings(json!({"kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "CANARY"}}), &["CANARY"])]
#[case::annotations_of_secrets(json!({"kind": "Secret", "metadata": {"name": "s", "annotations": {"x.io/y": "CANARY"}, "labels": {"l": "CANARY"}}}), &["CANARY"])]
#[case::unknown_members_of_secrets(json!({"kind": "Secret", "metadata": {"name": "s"}, "extra": {"deep": ["CANARY"]}}), &["CANARY"])]
#[case::lists_of_secrets(json!({"kind": "List", "items": [{"kind": "Secret", "metadata": {"name": "s"}, "data": {"a": "CANARY"}}]}), &["CANARY"])]
#[case::patches_of_secrets(json!({"patch": {"in": "west", "object": {"kind": "Secret", "name": "s"}, "merge": {"data": {"a": "CANARY"}, "immutable": true}}}), &["CANARY"])]
#[case::comparisons_with_secrets(json!({"expect": {"object": {"kind": "Secret", "name": "s"}, "where": [{"path": "data.a", "equals": "CANARY"}]}}), &["CANARY"])]
#[case::last_applied(json!({"kind": "ConfigMap", "metadata": {"name": "s", "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{\"kind\":\"Secret\",\"data\":{\"a\":\"CANARY\"}}"}}}), &["CANARY"])]
#[case::kubeconfigs(json!({"kind": "ConfigMap", "data": {"kubeconfig": "users: [{name: a, user: {token: CANARY}}]"}}), &["CANARY"])]
#[case::named_data(json!({"kind": "ConfigMap", "data": {"db-password": "CANARY one two"}}), &["CANARY"])]
#[case::environment(json!({"kind": "Pod", "spec": {"containers": [{"name": "c", "env": [{"name": "DB_PASSWORD", "value": "CANARY"}, {"name": "ANYTHING", "value": "CANARY"}, {"name": "PORT", "value": "8080"}]}]}}), &["CANARY"])]
#[case::arguments(json!({"kind": "Pod", "spec": {"containers": [{"name": "c", "args": ["--token=CANARY", "--password", "CANARY", "serve"], "command": ["sh", "-c", "x --api-key CANARY"]}]}}), &["CANARY"])]
#[case::headers(json!({"call": {"headers": {"Authorization": "Bearer CANARY", "cookie": "session=CANARY", "x-api-key": "CANARY"}, "path": "/?token=CANARY"}}), &["CANARY"])]
#[case::json_patches(json!([{"op": "add", "path": "/data/password", "value": "CANARY"}]), &["CANARY"])]
#[case::matchers(json!({"where": [{"path": "data.password", "equals": "CANARY"}]}), &["CANARY"])]
fn secrets_of_objects_are_not_shown(#[case] object: Value, #[case] secrets: &[&str]) {
    let text = shown(&object);
    for secret in secrets {
        assert!(!text.contains(secret), "{text}");
    }
    assert!(text.contains("<not shown: "), "{text}");
}

#[test]
fn what_a_secret_is_can_still_be_seen() {
    let text = shown(&json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": "s", "namespace": "shop"}, "data": {"a": "Q0FOQVJZ"},
    }));
    for part in ["\"name\":\"s\"", "\"namespace\":\"shop\"", "Opaque", "\"a\":"] {
        assert!(text.contains(part), "{text}");
    }
    let pod = json!({"kind": "Pod", "spec": {"containers": [{"name": "c", "image": "x", "env": [
        {"name": "PORT", "value": "8080"},
        {"name": "FROM", "valueFrom": {"secretKeyRef": {"name": "s", "key": "a"}}},
    ], "args": ["--listen=0.0.0.0:80", "serve"]}]}});
    assert_eq!(shown(&pod), pod.to_string());
}

#[test]
fn what_was_seen_in_a_secret_is_known_elsewhere() {
    let redactor = Redactor::new();
    let _ = redactor.object(&json!({"kind": "Secret", "stringData": {"a": "correct horse battery"}}));
    let _ = redactor.object(&json!({"kind": "Secret", "data": {"a": "c3RhcGxlLWluLXRoZS1oYXk=", "namespace": "bGlua2VyZC1tdWx0aWNsdXN0ZXI="}}));
    let shown = redactor
        .text(
            "said correct horse battery and Y29ycmVjdCBob3JzZSBiYXR0ZXJ5 and staple-in-the-hay in linkerd-multicluster",
        )
        .into_inner();
    for secret in ["correct horse", "Y29ycmVjdCBob3", "staple-in"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(shown.ends_with("in linkerd-multicluster"), "{shown}");
}

#[test]
fn equal_secrets_have_equal_marks_and_others_have_not() {
    let redactor = Redactor::new();
    let mark = |value: &str| {
        let secret = redactor
            .object(&json!({"kind": "Secret", "stringData": {"a": value}}))
            .into_inner();
        secret["stringData"]["a"].as_str().unwrap().to_owned()
    };
    assert_eq!(mark("hunter2-hunter2"), mark("hunter2-hunter2"));
    assert_ne!(mark("hunter2-hunter2"), mark("hunter3-hunter3"));
    let encoded = redactor
        .object(&json!({"kind": "Secret", "data": {"a": "aHVudGVyMi1odW50ZXIy"}}))
        .into_inner();
    assert_eq!(encoded["data"]["a"], mark("hunter2-hunter2"));
    let other = Redactor::new()
        .object(&json!({"kind": "Secret", "stringData": {"a": "hunter2-hunter2"}}))
        .into_inner();
    assert_ne!(
        other["stringData"]["a"],
        mark("hunter2-hunter2"),
        "the key is the run's"
    );
}

#[test]
fn rows_show_no_secret_headers() {
    let redactor = Redactor::new();
    let row = Row {
        id: "a.b-0".to_owned(),
        intended_us: 0,
        started_us: 0,
        ended_us: 0,
        client: "west/a/c".to_owned(),
        connection: 0,
        result: RequestResult::Answered(Answered {
            seen: [
                ("authorization".to_owned(), vec!["Bearer CANARY-in-header".to_owned()]),
                (
                    "l5d-client-id".to_owned(),
                    vec!["shopper.a.serviceaccount.identity".to_owned()],
                ),
            ]
            .into(),
            ..Answered::default()
        }),
    };
    let text = serde_json::to_string(redactor.row(row).get()).unwrap();
    assert!(
        !text.contains("CANARY") && text.contains("shopper.a.serviceaccount"),
        "{text}"
    );
    assert!(!redactor.text("later: CANARY-in-header").get().contains("CANARY"));
}

#[test]
fn command_lines_keep_names() {
    let given = [
        "run",
        "--set",
        "identity.issuer.tls.keyPEM=CANARY,a=true",
        "--multicluster-set=x.y=CANARY-set-42",
        "--url",
        "https://a:CANARY@b",
    ];
    let given: Vec<String> = given.map(ToOwned::to_owned).into();
    super::remember_own(&given);
    let shown = super::arguments(&given).join(" ");
    assert!(!shown.contains("CANARY"), "{shown}");
    let handed_on = [
        "install",
        "--set",
        "gateway.port=4143,x.y=CANARY-set-42",
        "--set",
        "controllers[0].link.ref.name=east",
    ];
    let handed_on = super::arguments(&handed_on.map(ToOwned::to_owned)).join(" ");
    assert!(
        handed_on.contains("gateway.port=4143,x.y=<not shown") && handed_on.ends_with("link.ref.name=east"),
        "{handed_on}"
    );
    for part in [
        "run --set identity.issuer.tls.keyPEM=<",
        ",a=true",
        "--multicluster-set=x.y=<",
        "@b",
    ] {
        assert!(shown.contains(part), "{shown}");
    }
    assert_eq!(line("nothing to hide"), "nothing to hide");
}
