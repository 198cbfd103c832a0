//! Whatever arrives on a port, the agent goes on.

use meshproof_agent::protocol::{CONTROL_PORT, HTTP_PORT, Protocol, TCP_PORT};
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_oneof, proptest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::networks::World;
use crate::setup::{TestAgent, identity, job};

/// Beginnings that lead far into the parsers.
fn beginnings() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(&b""[..]),
        Just(&b"GET / HTTP/1.1\r\nhost: x\r\n"[..]),
        Just(&b"POST /jobs HTTP/1.1\r\nhost: x\r\ncontent-length: 40\r\n\r\n{\"name\":"[..]),
        Just(&b"PUT /behavior HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"[..]),
        Just(&b"GET /ledger?since="[..]),
        Just(&b"DELETE /jobs/"[..]),
        Just(&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..]),
        Just(&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"[..]),
        Just(&b"{\"id\":\"a\",\"run\":"[..]),
        Just(&b"{}\n{}\n"[..]),
        Just(&b"\x16\x03\x01"[..]),
    ]
    .prop_map(<[u8]>::to_vec)
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    (beginnings(), prop::collection::vec(any::<u8>(), 0..600)).prop_map(|(mut bytes, rest)| {
        bytes.extend(rest);
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_kill_the_agent(
        port in prop_oneof![Just(HTTP_PORT), Just(TCP_PORT), Just(CONTROL_PORT)],
        connections in prop::collection::vec((bytes(), any::<bool>()), 1..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let agent = TestAgent::start(&World::in_memory(), "store").await;
            for (bytes, wait) in connections {
                let mut stream = agent.network.connect("store", port).await.unwrap();
                // The agent may close before everything is written; that is its right.
                let _ = stream.write_all(&bytes).await;
                if wait {
                    let _ = stream.shutdown().await;
                    let mut answer = Vec::new();
                    let answer = stream.read_to_end(&mut answer);
                    tokio::time::timeout(std::time::Duration::from_secs(60), answer).await.ok();
                }
            }
            assert_eq!(agent.control().await.identity().await.unwrap(), identity("store"));
            for protocol in [Protocol::Http1, Protocol::Http2, Protocol::Tcp] {
                let finished = agent.run(&job(protocol, 3)).await;
                assert_eq!(finished.answered(200), 3, "{:?}", finished.rows);
            }
            agent.running.shutdown().await;
        });
    }
}
