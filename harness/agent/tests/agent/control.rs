//! The control port: each call, and each way to call it wrongly.

use futures::StreamExt;
use meshproof_agent::StartError;
use meshproof_agent::control::{Client, Error};
use meshproof_agent::protocol::{
    Behavior, CONTROL_PORT, DroppedRows, Job, LedgerLine, ProblemReport, Protocol, TcpRequest,
};
use meshproof_agent::{Server, ServerConfig};
use rstest::rstest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::networks::World;
use crate::setup::{Finished, RUN, TestAgent, identity, job, open, pair};

/// Sends a request as it is written; gives back status and body.
async fn call(agent: &TestAgent, name: &str, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = agent.network.connect(name, CONTROL_PORT).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: agent\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    // A body that is too long is refused before all of it has been written.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    let status = response.split(' ').nth(1).unwrap().parse().unwrap();
    (status, response.split_once("\r\n\r\n").unwrap().1.to_owned())
}

const GOOD_JOB: &str = r#"{"name":"j","run":"r","host":"h","port":1,"protocol":"http1",
    "load":{"closed":{"requests":1,"gap_ms":0}},"connections":1,"timeout_ms":1000}"#;

fn changed_job(from: &str, to: &str) -> String {
    assert!(GOOD_JOB.contains(from), "{from}");
    GOOD_JOB.replace(from, to)
}

#[rstest]
#[case("GET", "/nothing", String::new(), 404, "known are /identity")]
#[case("GET", "/", String::new(), 404, "\"/\" is unknown")]
#[case("POST", "/identity", String::new(), 405, "use GET")]
#[case("DELETE", "/behavior", String::new(), 405, "use PUT")]
#[case("GET", "/jobs", String::new(), 405, "use POST")]
#[case("GET", "/jobs/j", String::new(), 405, "use DELETE")]
#[case("PUT", "/ledger", String::new(), 405, "use GET")]
#[case("DELETE", "/jobs/j", String::new(), 404, "no job named \"j\"")]
#[case("PUT", "/behavior", String::new(), 400, "not understood")]
#[case("PUT", "/behavior", "{".to_owned(), 400, "line 1 column 1")]
#[case("PUT", "/behavior", r#"{"dealy_ms":1}"#.to_owned(), 400, "unknown field `dealy_ms`")]
#[case("PUT", "/behavior", r#"{"status":99}"#.to_owned(), 400, "`status` is 99")]
#[case("PUT", "/behavior", r#"{"status":500,"status_share":2}"#.to_owned(), 400, "`status_share` is 2")]
#[case("PUT", "/behavior", r#"{"delay_ms":-1}"#.to_owned(), 400, "invalid value: integer `-1`")]
#[case("PUT", "/behavior", "x".repeat(2_000_000), 413, "longer than")]
#[case("POST", "/jobs", String::new(), 400, "not understood")]
#[case("POST", "/jobs", "{}".to_owned(), 400, "missing field `name`")]
#[case("POST", "/jobs", changed_job("\"port\":1", "\"port\":70000"), 400, "70000")]
#[case(
    "POST",
    "/jobs",
    changed_job("\"port\":1", "\"port\":0"),
    400,
    "job \"j\": `port` is 0"
)]
#[case("POST", "/jobs", changed_job("http1", "http3"), 400, "unknown variant `http3`")]
#[case("POST", "/jobs", changed_job("\"name\":\"j\"", "\"name\":\"../x\""), 400, "`name`")]
#[case(
    "POST",
    "/jobs",
    changed_job("\"connections\":1", "\"connections\":0"),
    400,
    "`connections` is 0"
)]
#[case("POST", "/jobs", changed_job("\"requests\":1", "\"requests\":0"), 400, "requests")]
#[case(
    "POST",
    "/jobs",
    changed_job("\"host\":\"h\"", "\"host\":\"h\",\"retry\":1"),
    400,
    "unknown field `retry`"
)]
#[case("GET", "/ledger?since=x", String::new(), 400, "`since` is \"x\"")]
#[case("GET", "/ledger?until=1", String::new(), 400, "\"until\" is unknown")]
#[tokio::test]
async fn wrong_calls_are_answered_with_the_reason(
    #[case] method: &str,
    #[case] path: &str,
    #[case] body: String,
    #[case] status: u16,
    #[case] reason: &str,
) {
    let agent = TestAgent::start(&World::in_memory(), "store").await;
    let (answered, body) = call(&agent, "store", method, path, &body).await;
    let report: ProblemReport = serde_json::from_str(&body).unwrap();
    assert_eq!(answered, status, "{}", report.problem);
    assert!(report.problem.contains(reason), "{}", report.problem);
    // The control port still works, and nothing has been changed.
    let mut control = agent.control().await;
    assert_eq!(control.identity().await.unwrap(), identity("store"));
    assert!(control.ready().await.unwrap());
}

#[tokio::test]
async fn the_client_tells_the_agents_reason() {
    let agent = TestAgent::start(&World::in_memory(), "store").await;
    let behavior = Behavior {
        status: Some(99),
        ..Behavior::default()
    };
    let mut control = agent.control().await;
    let error = control.set_behavior(&behavior).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the agent refused PUT /behavior with status 400: `status` is 99; expected a final HTTP status, 200 to 599"
    );
    // A refusal does not cost the connection.
    assert_eq!(control.identity().await.unwrap(), identity("store"));
}

#[tokio::test]
async fn something_else_behind_the_port_is_not_understood() {
    let world = World::in_memory();
    let network = world.pod("store");
    let mut listener = network.listen(CONTROL_PORT).await.unwrap();
    tokio::spawn(async move {
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
            "nonsense\r\n\r\n",
            "",
        ] {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let mut errors = Vec::new();
    for _ in 0..3 {
        let stream = network.connect("store", CONTROL_PORT).await.unwrap();
        errors.push(Client::connect(stream).await.unwrap().identity().await.unwrap_err());
    }
    assert!(
        matches!(&errors[0], Error::NotUnderstood { detail, .. } if detail.contains("hello")),
        "{errors:?}"
    );
    assert!(matches!(errors[1], Error::Connection(_)), "{errors:?}");
    assert!(matches!(errors[2], Error::Connection(_)), "{errors:?}");
}

#[tokio::test]
async fn a_name_can_be_taken_only_once_at_a_time() {
    let (client, _server) = pair(&World::in_memory()).await;
    let endless = open(job(Protocol::Http1, 0), 100.0, None);
    let first = client.start_job(&endless).await;
    let error = client.control().await.start_job(&endless).await.err().unwrap();
    assert!(matches!(error, Error::Refused { status: 409, .. }), "{error}");
    let other = client
        .start_job(&Job {
            name: "other".to_owned(),
            ..endless.clone()
        })
        .await;
    for (name, stream) in [("steady", first), ("other", other)] {
        assert!(client.control().await.stop_job(name).await.unwrap());
        Finished::read(stream).await;
    }
    let again = client.start_job(&endless).await;
    drop(again);
}

#[tokio::test]
async fn a_ledger_that_has_given_rows_up_says_so() {
    let world = World::in_memory();
    let client = TestAgent::start(&world, "shopper").await;
    let server = TestAgent::start_with(&world, "store", |config| config.ledger_capacity = 100).await;
    let mut follower = server.control().await.follow_ledger(Some(RUN), 0).await.unwrap();
    let follow = async {
        for expected in 0..250 {
            match follower.next().await.unwrap().unwrap() {
                LedgerLine::Row(row) => assert_eq!(row.index, expected),
                LedgerLine::Dropped { dropped } => panic!("a follower lost rows: {dropped:?}"),
            }
        }
    };
    let slowly = open(job(Protocol::Http1, 0), 1000.0, Some(250));
    let (_, ()) = tokio::join!(client.run(&slowly), follow);
    let ledger = server.ledger().await;
    assert_eq!(ledger.dropped, Some(DroppedRows { from: 0, to: 150 }));
    assert_eq!(
        ledger.rows.iter().map(|row| row.index).collect::<Vec<_>>(),
        (150..250).collect::<Vec<_>>()
    );
    let recent = server.control().await.server_ledger(Some(RUN), 200).await.unwrap();
    assert_eq!((recent.rows.len(), recent.dropped), (50, None));
    let other = server.control().await.server_ledger(Some("other"), 150).await.unwrap();
    assert_eq!((other.rows.len(), other.dropped), (0, None));
}

#[tokio::test]
async fn requests_are_logged_only_if_asked_for() {
    let world = World::in_memory();
    let client = TestAgent::start(&world, "shopper").await;
    let server = TestAgent::start_with(&world, "store", |config| config.log_requests = true).await;
    client.run(&job(Protocol::Tcp, 3)).await;
    let requests = |agent: &TestAgent| {
        agent
            .log
            .lines()
            .iter()
            .filter(|line| line.starts_with("request "))
            .count()
    };
    assert_eq!((requests(&server), requests(&client)), (3, 0));
    let client_log = client.log.lines();
    assert!(client_log[0].contains("west/shop/shopper-0 of run run-1 listens: http [8080], tcp [9090], control 4180"));
    assert!(
        client_log[1].contains("job steady started: Tcp to store:9090, 3 requests"),
        "{client_log:?}"
    );
    assert!(
        client_log[2].contains("job steady ended: 3 requests sent, 3 answered, 0 failed"),
        "{client_log:?}"
    );
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let world = World::in_memory();
    let config = ServerConfig {
        http_ports: vec![80],
        tcp_ports: vec![80],
        ..ServerConfig::new(identity("store"))
    };
    let error: StartError = Server::start(world.pod("store"), config).await.err().unwrap();
    assert_eq!(error.port, 80);
    assert!(error.to_string().starts_with("cannot listen on port 80"), "{error}");
}

#[tokio::test]
async fn a_tcp_line_that_is_no_request_is_answered_with_the_reason() {
    let world = World::in_memory();
    let agent = TestAgent::start(&world, "store").await;
    for (line, reason) in [
        ("hello\n".to_owned(), "not a request line"),
        (format!("{}\n", "x".repeat(70_000)), "longer than"),
    ] {
        let mut stream = agent.network.connect("store", 9090).await.unwrap();
        stream.write_all(line.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let report: ProblemReport = serde_json::from_str(&answer).unwrap();
        assert!(report.problem.contains(reason), "{}", report.problem);
    }
    // Everything in a request line is optional.
    assert_eq!(serde_json::from_str::<TcpRequest>("{}").unwrap(), TcpRequest::default());
}
