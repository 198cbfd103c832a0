//! `expect: {split: …}`: one measurement, its size fixed beforehand.

use std::collections::BTreeMap;

use meshproof_spec::scalar::{Name, Target};
use meshproof_spec::scenario::CallProtocol;

use crate::lower::SplitLook;
use crate::problem::Problem;
use crate::scene::Scene;
use crate::steps::traffic::{Pace, REQUEST_TIMEOUT, Sending, send_all};

/// Sends the requests. Routes are live already: the step that made them has waited for their marker.
pub(super) async fn measure(scene: &mut Scene, look: &SplitLook) -> Result<(), Problem> {
    let pod = scene.sender(&look.cluster, &look.client).await?;
    let text = format!(
        "{} ({}) → {}, {} requests for shares",
        look.client, look.cluster, look.service, look.requests
    );
    let sending = Sending {
        ledger: look.ledger.clone(),
        pod,
        target: Target {
            service: Name(look.service.clone()),
            cluster: None,
        },
        port: look.port,
        protocol: CallProtocol::Http1,
        pace: Pace::Closed(look.requests),
        connections: look.connections,
        timeout: REQUEST_TIMEOUT,
        path: "/".to_owned(),
        headers: BTreeMap::new(),
        record: Vec::new(),
    };
    send_all(scene, sending, &text).await
}
