//! The identity service of a control plane, as a program in its pod.

use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures::StreamExt as _;
use meshproof_apiserver::store::{Store, WatchKind, WatchStream};
use meshproof_apiserver::{Gvr, Selector, gvr};
use meshproof_cluster::program::{ContainerContext, Exit, Program};
use serde_json::{Value, json};

use super::Authority;
use crate::defect::Defect;
use crate::model::Model;
use crate::names::{IDENTITY_ISSUER, TRUST_ROOTS};

/// Issues certificates from the cluster's own issuer while it runs.
///
/// It reads the issuer from the Secret `linkerd-identity-issuer` (keys `tls.crt`, `tls.key`, or `crt.pem`, `key.pem`) and
/// the trust roots from the ConfigMap `linkerd-identity-trust-roots` (key `ca-bundle.crt`) in its namespace, and follows
/// both. An issuer that it takes while it runs is told by an Event `IssuerUpdated` on its Deployment, one that it can't use by
/// `IssuerUpdateSkipped`; proxies go on with what they have until they renew or restart, and take trust roots only when they
/// start. Argument: `-identity-issuance-lifetime=24h`, in scenario time.
pub struct IdentityProgram {
    model: Model,
}

impl IdentityProgram {
    /// The program for all clusters of `model`.
    #[must_use]
    pub fn new(model: Model) -> Self {
        Self { model }
    }
}

#[async_trait]
impl Program for IdentityProgram {
    async fn run(&self, container: ContainerContext) -> Exit {
        let Some(cluster) = self.model.cluster(&container.cluster) else {
            return Exit::Failed(format!("cluster {} is not attached to the model", container.cluster));
        };
        let lifetime = match issuance_lifetime(&container.args) {
            Ok(lifetime) => lifetime,
            Err(problem) => return Exit::Failed(problem),
        };
        cluster.authority.set_lifetime(container.pace.wall(lifetime));
        let namespace = container.pod["metadata"]["namespace"].as_str().unwrap_or_default();
        let follow = |gvr: &Gvr| cluster.store.informer(gvr, Some(namespace), &Selector::all());
        let (mut secrets, mut config_maps) = match (follow(&gvr::SECRETS), follow(&gvr::CONFIG_MAPS)) {
            (Ok(secrets), Ok(config_maps)) => (secrets, config_maps),
            (Err(error), _) | (_, Err(error)) => return Exit::Failed(format!("cannot watch: {error}")),
        };
        // Both must be known before the first certificate is issued.
        let (mut issuer_seen, mut roots_seen, mut serving) = (false, false, None);
        let mut first_issuer = None;
        loop {
            if issuer_seen && roots_seen && serving.is_none() {
                serving = Some(cluster.authority.serve());
                container.started.cancel();
            }
            tokio::select! {
                () = container.shutdown.cancelled() => return Exit::Done,
                issuer = next_named(&mut secrets, IDENTITY_ISSUER) => match issuer {
                    Some(Item::Object(secret)) => {
                        let taken = self.take_issuer(&cluster.authority, &secret, &mut first_issuer);
                        match &taken {
                            Ok(()) => (container.log)("level=info msg=\"issuer loaded\""),
                            Err(problem) => (container.log)(&format!("level=error msg={problem:?}")),
                        }
                        if issuer_seen {
                            tell(&cluster.store, namespace, taken.as_ref().err());
                        }
                    }
                    Some(Item::Gone) => cluster.authority.clear_issuer("the Secret linkerd-identity-issuer was deleted"),
                    Some(Item::AllSeen) => issuer_seen = true,
                    None => return Exit::Failed("the watch on Secrets ended".to_owned()),
                },
                roots = next_named(&mut config_maps, TRUST_ROOTS) => match roots {
                    Some(Item::Object(roots)) => take_roots(&cluster.authority, &container, &roots),
                    Some(Item::AllSeen) => roots_seen = true,
                    Some(Item::Gone) => {}
                    None => return Exit::Failed("the watch on ConfigMaps ended".to_owned()),
                },
            }
        }
    }
}

/// Deployment of the service, and source of its Events.
const COMPONENT: &str = "linkerd-identity";

enum Item {
    Object(std::sync::Arc<Value>),
    Gone,
    AllSeen,
}

/// The next news of the object `name`; `None` when the watch ended.
async fn next_named(stream: &mut WatchStream, name: &str) -> Option<Item> {
    loop {
        let event = stream.next().await?.ok()?;
        let named = event.object["metadata"]["name"] == name;
        match event.kind {
            WatchKind::Added | WatchKind::Modified if named => return Some(Item::Object(event.object)),
            WatchKind::Deleted if named => return Some(Item::Gone),
            WatchKind::Bookmark => return Some(Item::AllSeen),
            WatchKind::Added | WatchKind::Modified | WatchKind::Deleted => {}
        }
    }
}

impl IdentityProgram {
    /// Takes the issuer from its Secret. `first` is the certificate of the first one.
    fn take_issuer(&self, authority: &Authority, secret: &Value, first: &mut Option<String>) -> Result<(), String> {
        let field = |names: [&str; 2]| {
            names.iter().find_map(|name| {
                let bytes = BASE64_STANDARD.decode(secret["data"][name].as_str()?).ok()?;
                String::from_utf8(bytes).ok()
            })
        };
        let (Some(certificate), Some(key)) = (field(["tls.crt", "crt.pem"]), field(["tls.key", "key.pem"])) else {
            let problem = "the Secret linkerd-identity-issuer lacks tls.crt and tls.key";
            authority.clear_issuer(problem);
            return Err(problem.to_owned());
        };
        let Some(first) = first else {
            *first = Some(certificate.clone());
            return authority.set_issuer(&certificate, &key);
        };
        if self.model.has(Defect::IssuerRotationIgnored) {
            return Ok(());
        }
        authority.set_issuer(&certificate, &key)?;
        if self.model.has(Defect::RotatedIssuerKeepsOldChain) {
            authority.present(first)?;
        }
        Ok(())
    }
}

/// Leaves an Event that the issuer was taken, or why not.
fn tell(store: &Store, namespace: &str, problem: Option<&String>) {
    let now = jiff::Timestamp::now();
    let (kind, reason, message) = match problem {
        None => ("Normal", "IssuerUpdated", "Updated identity issuer".to_owned()),
        Some(problem) => (
            "Warning",
            "IssuerUpdateSkipped",
            format!("Skipping issuer update as certs could not be read from disk: {problem}"),
        ),
    };
    let event = json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": format!("{COMPONENT}.{:x}", now.as_nanosecond()), "namespace": namespace},
        "involvedObject": {"apiVersion": "apps/v1", "kind": "Deployment", "namespace": namespace, "name": COMPONENT},
        "type": kind,
        "reason": reason,
        "message": message,
        "source": {"component": COMPONENT},
        "firstTimestamp": now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "lastTimestamp": now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "count": 1
    });
    if let Err(status) = store.create(&gvr::EVENTS, Some(namespace), event) {
        tracing::warn!(?status, "the Event of a new issuer was refused");
    }
}

fn take_roots(authority: &Authority, container: &ContainerContext, roots: &Value) {
    let bundle = roots["data"]["ca-bundle.crt"].as_str().unwrap_or_default();
    match authority.set_trust_roots(bundle) {
        Ok(()) => (container.log)("level=info msg=\"trust roots loaded\""),
        Err(problem) => (container.log)(&format!("level=error msg={problem:?}")),
    }
}

/// The lifetime from the arguments; 24 h without one.
fn issuance_lifetime(args: &[String]) -> Result<Duration, String> {
    const FLAG: &str = "-identity-issuance-lifetime=";
    let Some(text) = args
        .iter()
        .find_map(|arg| arg.trim_start_matches('-').strip_prefix(&FLAG[1..]))
    else {
        return Ok(Duration::from_secs(24 * 3600));
    };
    go_duration(text)
        .filter(|lifetime| !lifetime.is_zero())
        .ok_or_else(|| format!("{FLAG}{text}: expected a duration such as 24h0m0s"))
}

/// A duration as Go writes it: `24h0m0s`, `90s`, `1m30s`, `250ms`.
fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest.get(..digits)?.parse().ok()?;
        let tail = rest.get(digits..)?;
        let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let unit = match tail.get(..unit_end)? {
            "h" => Duration::from_secs(3600),
            "m" => Duration::from_secs(60),
            "s" => Duration::from_secs(1),
            "ms" => Duration::from_millis(1),
            _ => return None,
        };
        total = total.checked_add(unit.checked_mul(u32::try_from(number).ok()?)?)?;
        rest = tail.get(unit_end..)?;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::{go_duration, issuance_lifetime};
    use std::time::Duration;

    #[test]
    fn lifetimes_are_read_as_go_writes_them() {
        assert_eq!(go_duration("24h0m0s"), Some(Duration::from_secs(86400)));
        assert_eq!(go_duration("1m30s"), Some(Duration::from_secs(90)));
        assert_eq!(go_duration("250ms"), Some(Duration::from_millis(250)));
        for wrong in ["24", "h", "1x", "-5s", "1.5h"] {
            assert_eq!(go_duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_wrong_lifetime_is_refused() {
        let args = |text: &str| vec![text.to_owned()];
        assert_eq!(issuance_lifetime(&[]), Ok(Duration::from_secs(86400)));
        assert_eq!(
            issuance_lifetime(&args("-identity-issuance-lifetime=10s")),
            Ok(Duration::from_secs(10))
        );
        assert!(issuance_lifetime(&args("-identity-issuance-lifetime=soon")).is_err());
        assert!(issuance_lifetime(&args("-identity-issuance-lifetime=0s")).is_err());
    }
}
