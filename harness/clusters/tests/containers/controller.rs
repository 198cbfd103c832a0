//! A harness in a process of its own, to be killed: the test program, started anew with an order in its environment.

use std::io::Write;
use std::process::ExitCode;

use meshproof_clusters::relay::{Fault, Relay, RelaySpec};
use meshproof_engine::tool::Tools;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::world::RUN_LABEL;

const ORDER: &str = "MESHPROOF_TEST_ORDER";
const HELD: &str = "held";

/// What this process is to do instead of testing.
pub(crate) fn order() -> Option<String> {
    std::env::var(ORDER).ok()
}

/// Starts a process that takes a relay over, holds everything back, and does not end. Returns once it does.
pub(crate) async fn hold(spec: &RelaySpec) -> Child {
    let forward = &spec.forwards[0];
    let parts = [
        &spec.from,
        &spec.name,
        &spec.image,
        &spec.network,
        &spec.labels[RUN_LABEL],
        &forward.host,
        &forward.to_port.to_string(),
        &spec.lifetime.as_secs().to_string(),
    ];
    let order = parts.map(String::as_str).join(" ");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .env(ORDER, order)
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some(HELD));
    child
}

/// Does what the order says; ends only by being killed.
pub(crate) fn obey(order: &str) -> ExitCode {
    let [from, name, image, network, run, host, port, lifetime] =
        order.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let spec = RelaySpec {
        from: from.to_owned(),
        to: "east".to_owned(),
        name: name.to_owned(),
        image: image.to_owned(),
        network: network.to_owned(),
        labels: [(RUN_LABEL.to_owned(), run.to_owned())].into(),
        forwards: vec![meshproof_clusters::relay::Forward {
            port: 4143,
            host: host.to_owned(),
            to_port: port.parse().unwrap(),
        }],
        lifetime: std::time::Duration::from_secs(lifetime.parse().unwrap()),
    };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let relay = Relay::start(&Tools::default(), &spec).await.unwrap();
        let _fault = relay.impose(Fault::Blackhole).await.unwrap();
        output(HELD);
        std::future::pending().await
    })
}

fn output(line: &str) {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}").unwrap();
}
