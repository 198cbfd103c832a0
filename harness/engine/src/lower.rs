//! From an `expect` to the question that it asks, and what has to be looked at to answer it. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use meshproof_spec::scalar::{Name, Target};
use meshproof_spec::scenario::{
    self, CallProtocol, Expect, ExportMode, HeaderMatcher, LinkSubject, MtlsSubject, ObjectSubject, ObjectsSubject,
    Presence, RejectedSubject, ServedBy, SplitSubject,
};
use meshproof_verdict::question::{
    self, ALPHA, AccessQuestion, AnsweredPattern, Comparison, FailsPattern, HeaderPattern, InventoryQuestion, Matcher,
    MtlsQuestion, NumberQuestion, ObjectsQuestion, Question, RejectedQuestion, RequestPattern, RequestsQuestion,
    ServingPattern, ServingQuestion, SplitQuestion, Timing,
};
use meshproof_verdict::statistics::power::{POWER, requests_needed};

use crate::clock::micros;
use crate::driver::{Counter, Flow, MeshDriver};
use crate::problem::{self, Problem};

/// Requests of an encryption proof, by the meshed client and by the stranger.
pub(crate) const MTLS_REQUESTS: u64 = 100;
/// Smallest wrong share that a split notices unless the scenario says otherwise, percentage points.
pub(crate) const DETECT_POINTS: f64 = 5.0;

/// What lowering has to know besides the `expect` itself.
pub(crate) trait Surroundings {
    /// The scenario's namespace.
    fn namespace(&self) -> &str;
    /// The mesh.
    fn driver(&self) -> &dyn MeshDriver;
    /// Position of the step, which makes the names of a check's own ledgers unique.
    fn step(&self) -> u32;
    /// Start of the last disturbance, or of the traffic if that is later (scenario µs).
    fn since_us(&self, traffic: &str) -> u64;
    /// Place of a call or traffic, for people: `west → east`.
    fn place_of(&self, ledger: &str) -> Option<String>;
    /// Cluster of a client.
    ///
    /// # Errors
    /// When it is not deployed, or in several clusters and none is named.
    fn client_cluster(&self, client: &Name, named: Option<&Name>) -> Result<String, Problem>;
    /// Port of a service that is called when none is named.
    ///
    /// # Errors
    /// When no such service was deployed.
    fn port_of(&self, target: &Target) -> Result<u16, Problem>;
    /// How a target is exported to clients of `cluster`; absent when it is called in its own cluster.
    fn export_of(&self, cluster: &str, target: &Target) -> Option<ExportMode>;
    /// Whether the environment can watch bytes between clusters.
    fn can_tap(&self) -> bool;
}

/// A check, ready to be asked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Lowered {
    /// Requirement that it decides.
    pub(crate) requirement: String,
    /// Its name.
    pub(crate) name: Option<String>,
    /// Link or cluster that it is about.
    pub(crate) place: String,
    /// Names of checks or ledgers that prove the way.
    pub(crate) control: Vec<String>,
    /// What it wants to know.
    pub(crate) question: Question,
    /// What has to be looked at.
    pub(crate) look: Look,
}

/// What has to be looked at to answer a question.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Look {
    /// Objects of a cluster.
    Objects(ObjectsLook),
    /// What the mesh publishes about a link's gateway.
    LinkAlive {
        /// Cluster that consumes.
        from: String,
        /// Cluster that exports.
        to: String,
    },
    /// Rows of ledgers that are being written already.
    Ledger,
    /// A split: requests of its own.
    Split(SplitLook),
    /// An encryption proof: requests of its own, counters, a tap.
    Mtls(MtlsLook),
    /// An access review.
    Access(scenario::AccessSubject),
    /// An attempt to create something.
    Rejected(RejectedSubject),
    /// A comparison with an inventory.
    Unchanged {
        /// Its name.
        since: String,
        /// Clusters.
        clusters: Vec<String>,
    },
    /// What is left of a link.
    LinkResidue {
        /// Cluster that consumed.
        from: String,
        /// Cluster that exported.
        to: String,
    },
    /// What is left of the mesh.
    MeshResidue {
        /// Clusters.
        clusters: Vec<String>,
    },
}

/// See [`Look::Objects`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectsLook {
    /// Cluster.
    pub(crate) cluster: String,
    /// Kind.
    pub(crate) kind: String,
    /// `group/version`.
    pub(crate) api: Option<String>,
    /// Namespace; all when absent.
    pub(crate) namespace: Option<String>,
    /// Name; any when absent.
    pub(crate) name: Option<String>,
    /// Label selector.
    pub(crate) labels: Option<String>,
}

/// See [`Look::Split`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SplitLook {
    /// Ledger that is written.
    pub(crate) ledger: String,
    /// Client.
    pub(crate) client: String,
    /// Its cluster.
    pub(crate) cluster: String,
    /// Service that is called.
    pub(crate) service: String,
    /// Its port.
    pub(crate) port: u16,
    /// Connections.
    pub(crate) connections: u32,
    /// Requests.
    pub(crate) requests: u64,
    /// Clusters that shall have a share.
    pub(crate) backends: BTreeSet<String>,
}

/// See [`Look::Mtls`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MtlsLook {
    /// The meshed client and what it calls.
    pub(crate) flow: Flow,
    /// What is called.
    pub(crate) target: Target,
    /// The client without the mesh.
    pub(crate) stranger: String,
    /// Ledger of the client.
    pub(crate) ledger: String,
    /// Ledger of the stranger.
    pub(crate) stranger_ledger: String,
    /// Counters that must move.
    pub(crate) counters: Vec<Counter>,
    /// Header in which the target names its peer.
    pub(crate) peer_header: Option<String>,
    /// Whether a tap is to be used.
    pub(crate) tap: bool,
}

/// Lowers an `expect` whose references are resolved.
///
/// # Errors
/// When it names nothing or something that does not exist (which lint tells earlier, with its place).
pub(crate) fn lower(expect: &Expect, around: &dyn Surroundings) -> Result<Lowered, Problem> {
    let requirement = expect
        .id
        .as_ref()
        .ok_or_else(|| broken("it names no requirement"))?
        .0
        .clone();
    let (place, question, look) = lower_subject(expect, around)?;
    Ok(Lowered {
        requirement,
        name: expect.name.as_ref().map(|name| name.0.clone()),
        place,
        control: expect.control.iter().map(|name| name.0.clone()).collect(),
        question,
        look,
    })
}

fn broken(what: &str) -> Problem {
    problem::harness(
        "check-incomplete",
        format!("the `expect` can't be asked: {what}"),
        Some("run `meshproof lint` on the file"),
    )
}

fn arrow(from: &str, to: &str) -> String {
    format!("{from} → {to}")
}

fn lower_subject(expect: &Expect, around: &dyn Surroundings) -> Result<(String, Question, Look), Problem> {
    let timing = timing(expect);
    if let Some(object) = &expect.object {
        return lower_object(expect, object, timing, around);
    }
    if let Some(objects) = &expect.objects {
        return lower_objects(expect, objects, timing, around);
    }
    if let Some(call) = &expect.call {
        let question = RequestsQuestion {
            ledger: call.0.clone(),
            every: request_pattern(expect)?,
        };
        let place = around.place_of(&call.0).unwrap_or_default();
        return Ok((place, Question::Requests(question), Look::Ledger));
    }
    if let Some(traffic) = &expect.traffic {
        let question = ServingQuestion {
            ledger: traffic.0.clone(),
            since_us: around.since_us(&traffic.0),
            pattern: serving_pattern(expect)?,
            lost_at_most: expect.lost_at_most,
            timing,
        };
        let place = around.place_of(&traffic.0).unwrap_or_default();
        return Ok((place, Question::Serving(question), Look::Ledger));
    }
    if let Some(split) = &expect.split {
        return lower_split(split, around);
    }
    if let Some(mtls) = &expect.mtls {
        return lower_mtls(mtls, around);
    }
    if let Some(link) = &expect.link {
        let alive = expect.alive.ok_or_else(|| broken("`link` needs `alive`"))?;
        let question = NumberQuestion {
            subject: format!("gateway of link {} counts as alive", arrow(&link.from.0, &link.to.0)),
            holds: Comparison::Equals(serde_json::json!(f64::from(u8::from(alive)))),
            timing,
        };
        let look = Look::LinkAlive {
            from: link.from.0.clone(),
            to: link.to.0.clone(),
        };
        return Ok((arrow(&link.from.0, &link.to.0), Question::Number(question), look));
    }
    if let Some(access) = &expect.access {
        let allowed = expect.allowed.ok_or_else(|| broken("`access` needs `allowed`"))?;
        let place = access.namespace.as_deref().unwrap_or("all namespaces");
        let resource = match &access.group {
            Some(group) if !group.is_empty() => format!("{}.{group}", access.resource),
            _ => access.resource.clone(),
        };
        let subject = format!(
            "{} {} {resource} in {place} of {}",
            access.user, access.verb, access.r#in
        );
        let question = AccessQuestion { subject, allowed };
        return Ok((
            access.r#in.0.clone(),
            Question::Access(question),
            Look::Access(access.clone()),
        ));
    }
    if let Some(rejected) = &expect.rejected {
        let question = RejectedQuestion {
            subject: rejected_subject(rejected, around),
            message: rejected.message.clone(),
        };
        return Ok((
            rejected.r#in.0.clone(),
            Question::Rejected(question),
            Look::Rejected(rejected.clone()),
        ));
    }
    if let Some(unchanged) = &expect.unchanged {
        let clusters: Vec<String> = unchanged.r#in.0.iter().map(|name| name.0.clone()).collect();
        let question = InventoryQuestion {
            subject: format!(
                "objects of {} as in inventory `{}`",
                clusters.join(", "),
                unchanged.since
            ),
            timing,
        };
        let look = Look::Unchanged {
            since: unchanged.since.0.clone(),
            clusters: clusters.clone(),
        };
        return Ok((clusters.join(", "), Question::Inventory(question), look));
    }
    if let Some(residue) = &expect.residue {
        return match (&residue.link, &residue.mesh) {
            (Some(LinkSubject { from, to }), None) => {
                let subject = format!("objects of link {}", arrow(&from.0, &to.0));
                let look = Look::LinkResidue {
                    from: from.0.clone(),
                    to: to.0.clone(),
                };
                Ok((
                    arrow(&from.0, &to.0),
                    Question::Inventory(InventoryQuestion { subject, timing }),
                    look,
                ))
            }
            (None, Some(clusters)) => {
                let clusters: Vec<String> = clusters.0.iter().map(|name| name.0.clone()).collect();
                let subject = format!("objects of {} in {}", around.driver().name(), clusters.join(", "));
                let look = Look::MeshResidue {
                    clusters: clusters.clone(),
                };
                Ok((
                    clusters.join(", "),
                    Question::Inventory(InventoryQuestion { subject, timing }),
                    look,
                ))
            }
            _ => Err(broken("`residue` needs either `link` or `mesh`")),
        };
    }
    Err(broken("it has no subject"))
}

fn timing(expect: &Expect) -> Timing {
    let us = |span: Option<meshproof_spec::scalar::TimeSpan>| span.map(|span| micros(span.0));
    Timing {
        within_us: us(expect.within),
        then_for_us: us(expect.then_for),
        never_for_us: us(expect.never_for),
    }
}

fn lower_object(
    expect: &Expect,
    object: &ObjectSubject,
    timing: Timing,
    around: &dyn Surroundings,
) -> Result<(String, Question, Look), Problem> {
    let namespace = object
        .namespace
        .clone()
        .unwrap_or_else(|| around.namespace().to_owned());
    let count = match expect.is.unwrap_or(Presence::Present) {
        Presence::Present => 1,
        Presence::Absent => 0,
    };
    let question = ObjectsQuestion {
        subject: format!("{} {} {namespace}/{}", object.r#in, object.kind, object.name),
        count: question::Count {
            exactly: Some(count),
            ..question::Count::default()
        },
        each: matchers(&expect.r#where)?,
        timing,
    };
    let look = ObjectsLook {
        cluster: object.r#in.0.clone(),
        kind: object.kind.clone(),
        api: object.api.clone(),
        namespace: Some(namespace),
        name: Some(object.name.clone()),
        labels: None,
    };
    Ok((object.r#in.0.clone(), Question::Objects(question), Look::Objects(look)))
}

fn lower_objects(
    expect: &Expect,
    objects: &ObjectsSubject,
    timing: Timing,
    around: &dyn Surroundings,
) -> Result<(String, Question, Look), Problem> {
    let namespace = match objects.namespace.as_deref() {
        Some("*") => None,
        Some(other) => Some(other.to_owned()),
        None => Some(around.namespace().to_owned()),
    };
    let count = match &expect.count {
        Some(count) => question::Count {
            exactly: count.exactly,
            at_least: count.at_least,
            at_most: count.at_most,
        },
        None => question::Count {
            at_least: Some(1),
            ..question::Count::default()
        },
    };
    let mut subject = format!(
        "{} {} in {}",
        objects.r#in,
        objects.kind,
        namespace.as_deref().unwrap_or("all namespaces")
    );
    if let Some(labels) = &objects.labels {
        subject = format!("{subject} with {labels}");
    }
    let question = ObjectsQuestion {
        subject,
        count,
        each: matchers(&expect.r#where)?,
        timing,
    };
    let look = ObjectsLook {
        cluster: objects.r#in.0.clone(),
        kind: objects.kind.clone(),
        api: objects.api.clone(),
        namespace,
        name: None,
        labels: objects.labels.clone(),
    };
    Ok((objects.r#in.0.clone(), Question::Objects(question), Look::Objects(look)))
}

fn matchers(matchers: &[scenario::Matcher]) -> Result<Vec<Matcher>, Problem> {
    matchers
        .iter()
        .map(|matcher| {
            Ok(Matcher {
                path: matcher.path.clone(),
                holds: comparison(matcher)?,
            })
        })
        .collect()
}

fn comparison(matcher: &scenario::Matcher) -> Result<Comparison, Problem> {
    let mut found = Vec::new();
    found.extend(matcher.equals.clone().map(Comparison::Equals));
    found.extend(matcher.one_of.clone().map(Comparison::OneOf));
    found.extend(matcher.contains.clone().map(Comparison::Contains));
    found.extend(matcher.excludes.clone().map(Comparison::Excludes));
    found.extend(matcher.exists.map(Comparison::Exists));
    found.extend(matcher.at_least.map(Comparison::AtLeast));
    found.extend(matcher.at_most.map(Comparison::AtMost));
    found.extend(matcher.length.map(Comparison::Length));
    match (found.pop(), found.is_empty()) {
        (Some(comparison), true) => Ok(comparison),
        _ => Err(broken(&format!("`{}` needs exactly one comparison", matcher.path))),
    }
}

fn request_pattern(expect: &Expect) -> Result<RequestPattern, Problem> {
    match (&expect.answered, &expect.fails, expect.refused) {
        (Some(answered), None, false) => Ok(RequestPattern::Answered(answered_pattern(answered)?)),
        (None, Some(fails), false) => Ok(RequestPattern::Fails(fails_pattern(fails))),
        (None, None, true) => Ok(RequestPattern::Refused),
        _ => Err(broken("`call` needs exactly one of `answered`, `fails` and `refused`")),
    }
}

fn serving_pattern(expect: &Expect) -> Result<ServingPattern, Problem> {
    let mut found = Vec::new();
    if let Some(ServedBy { only, each }) = &expect.served_by {
        let names = |clusters: &meshproof_spec::scalar::Clusters| {
            clusters.0.iter().map(|name| name.0.clone()).collect::<Vec<_>>()
        };
        found.extend(only.as_ref().map(|clusters| ServingPattern::Only(names(clusters))));
        found.extend(each.as_ref().map(|clusters| ServingPattern::Each(names(clusters))));
    }
    if expect.lossless {
        found.push(ServingPattern::Lossless);
    }
    if let Some(fails) = &expect.fails {
        found.push(ServingPattern::Fails(fails_pattern(fails)));
    }
    if let Some(answered) = &expect.answered {
        found.push(ServingPattern::Answered(answered_pattern(answered)?));
    }
    if expect.refused {
        found.push(ServingPattern::Refused);
    }
    match (found.pop(), found.is_empty()) {
        (Some(pattern), true) => Ok(pattern),
        _ => Err(broken(
            "`traffic` needs exactly one of `served_by`, `lossless`, `fails`, `answered` and `refused`",
        )),
    }
}

fn answered_pattern(answered: &scenario::Answered) -> Result<AnsweredPattern, Problem> {
    let seen = answered
        .seen
        .iter()
        .map(|(header, matcher)| Ok((header.to_ascii_lowercase(), header_pattern(header, matcher)?)))
        .collect::<Result<_, Problem>>()?;
    Ok(AnsweredPattern {
        status: if answered.status.is_empty() {
            vec![200]
        } else {
            answered.status.clone()
        },
        by: answered
            .by
            .iter()
            .flat_map(|clusters| clusters.0.iter().map(|name| name.0.clone()))
            .collect(),
        by_mesh: answered.by_mesh,
        host: answered.host.clone(),
        protocol: answered.protocol.map(|protocol| protocol_name(protocol).to_owned()),
        port: answered.port,
        seen,
    })
}

fn header_pattern(header: &str, matcher: &HeaderMatcher) -> Result<HeaderPattern, Problem> {
    let mut found = Vec::new();
    found.extend(matcher.equals.clone().map(HeaderPattern::Equals));
    found.extend(matcher.contains.clone().map(HeaderPattern::Contains));
    found.extend(matcher.excludes.clone().map(HeaderPattern::Excludes));
    found.extend(matcher.exists.map(HeaderPattern::Exists));
    match (found.pop(), found.is_empty()) {
        (Some(pattern), true) => Ok(pattern),
        _ => Err(broken(&format!("header `{header}` needs exactly one comparison"))),
    }
}

fn fails_pattern(fails: &scenario::Fails) -> FailsPattern {
    FailsPattern {
        status: fails.status.clone(),
        header: fails.header.as_ref().map(|header| header.to_ascii_lowercase()),
        faster_than_us: fails.faster_than.map(|span| micros(span.0)),
        share: fails.share,
    }
}

/// A protocol as ledgers name it.
#[must_use]
pub(crate) fn protocol_name(protocol: CallProtocol) -> &'static str {
    match protocol {
        CallProtocol::Http1 => "http1",
        CallProtocol::Http2 => "http2",
        CallProtocol::Tcp => "tcp",
    }
}

fn lower_split(split: &SplitSubject, around: &dyn Surroundings) -> Result<(String, Question, Look), Problem> {
    let cluster = around.client_cluster(&split.from, split.r#in.as_ref())?;
    let target = Target {
        service: split.to.clone(),
        cluster: None,
    };
    let detect_points = split.detect_points.unwrap_or(DETECT_POINTS);
    let weights: BTreeMap<String, u32> = split
        .weights
        .iter()
        .map(|(name, weight)| (name.0.clone(), *weight))
        .collect();
    let requests =
        requests_needed(&weights, detect_points, ALPHA, POWER).map_err(|error| broken(&error.to_string()))?;
    let backends = weights
        .iter()
        .filter(|(_, weight)| **weight > 0)
        .map(|(cluster, _)| cluster.clone())
        .collect();
    let ledger = format!("split-{}", around.step());
    let question = SplitQuestion {
        ledger: ledger.clone(),
        weights,
        requests,
        detect_points,
        alpha: ALPHA,
    };
    let look = SplitLook {
        ledger,
        client: split.from.0.clone(),
        port: around.port_of(&target)?,
        service: split.to.0.clone(),
        connections: split.connections.unwrap_or(4),
        requests,
        backends,
        cluster: cluster.clone(),
    };
    Ok((cluster, Question::Split(question), Look::Split(look)))
}

fn lower_mtls(mtls: &MtlsSubject, around: &dyn Surroundings) -> Result<(String, Question, Look), Problem> {
    let client_cluster = around.client_cluster(&mtls.from, mtls.r#in.as_ref())?;
    let server_cluster = mtls
        .to
        .cluster
        .as_ref()
        .map_or_else(|| client_cluster.clone(), |name| name.0.clone());
    let flow = Flow {
        namespace: around.namespace().to_owned(),
        client_cluster: client_cluster.clone(),
        client: mtls.from.0.clone(),
        server_cluster: server_cluster.clone(),
        service: mtls.to.service.0.clone(),
        port: around.port_of(&mtls.to)?,
        export: around.export_of(&client_cluster, &mtls.to),
    };
    let counters = around.driver().counters(&flow);
    let peer = around.driver().peer_identity(&flow);
    // Only what travels between clusters can be tapped.
    let tap = around.can_tap() && client_cluster != server_cluster;
    let ledger = format!("mtls-{}", around.step());
    let stranger_ledger = format!("mtls-{}-stranger", around.step());
    let question = MtlsQuestion {
        ledger: ledger.clone(),
        stranger_ledger: stranger_ledger.clone(),
        requests: MTLS_REQUESTS,
        peer_header: peer.clone(),
        counters: counters.iter().map(|counter| counter.name.clone()).collect(),
        tapped: tap,
    };
    let place = if client_cluster == server_cluster {
        client_cluster
    } else {
        arrow(&client_cluster, &server_cluster)
    };
    let look = MtlsLook {
        flow,
        target: mtls.to.clone(),
        stranger: mtls.stranger.0.clone(),
        ledger,
        stranger_ledger,
        counters,
        peer_header: peer.map(|(header, _)| header),
        tap,
    };
    Ok((place, Question::Mtls(question), Look::Mtls(look)))
}

fn rejected_subject(rejected: &RejectedSubject, around: &dyn Surroundings) -> String {
    if rejected.uninstall {
        return format!("uninstalling {} from {}", around.driver().name(), rejected.r#in);
    }
    match (&rejected.manifest, &rejected.file) {
        (Some(manifest), _) => {
            let kind = manifest
                .get("kind")
                .and_then(serde_json::Value::as_str)
                .unwrap_or("object");
            format!("{kind} {} in {}", crate::api::full_name(manifest), rejected.r#in)
        }
        (None, Some(file)) => format!("{file} in {}", rejected.r#in),
        (None, None) => format!("nothing in {}", rejected.r#in),
    }
}

/// Scenario time after which an expectation that was never decided has certainly run out: its own time and the grace for
/// outcomes of requests.
#[must_use]
pub(crate) fn longest(question: &Question) -> Duration {
    let timing = match question {
        Question::Objects(question) => question.timing,
        Question::Number(question) => question.timing,
        Question::Serving(question) => question.timing,
        Question::Inventory(question) => question.timing,
        Question::Requests(_)
        | Question::Split(_)
        | Question::Mtls(_)
        | Question::Access(_)
        | Question::Rejected(_) => Timing::default(),
    };
    let own = [timing.within_us, timing.then_for_us, timing.never_for_us]
        .into_iter()
        .flatten()
        .sum::<u64>();
    Duration::from_micros(own.saturating_add(2 * meshproof_verdict::judge::OUTCOME_GRACE_US))
}
