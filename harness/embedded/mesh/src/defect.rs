//! The named ways in which the model can be made wrong.
//!
//! A defect is what a check has to notice: `meshproof prove` switches each on and expects the requirement that it breaks
//! to turn red. Which requirement that is stands in the catalogue, not here. A name that starts with `upstream-` does
//! what the real mesh was seen to do; the clean model does what its documentation promises.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// A named defect of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Defect {
    /// The extension is installed without its local service mirror Deployment.
    InstallOmitsLocalServiceMirror,
    /// The extension is installed without the Servers of the admin ports of controllers and local service mirror.
    InstallOmitsAdminServers,
    /// The gateway Service announces another probe period than the installed one.
    GatewayProbePeriodWrong,
    /// The service-mirror controller's pod has no proxy.
    ControllerNotInjected,
    /// The remote-access ClusterRole may read Secrets.
    RemoteAccessReadsSecrets,
    /// Workloads trust their own cluster's issuer instead of the shared root; probes of gateways work.
    OnlyOwnIssuerTrusted,
    /// Proxies accept peers whose certificates come from a foreign root.
    ForeignRootAccepted,
    /// Of several trust anchors proxies trust only the first, the newest.
    OnlyNewestRootTrusted,
    /// Of several trust anchors proxies trust only the last, the oldest.
    NewRootNotTrusted,
    /// Proxies go on trusting a root that was dropped from the bundle.
    OldRootKept,
    /// The identity service says that it took a new issuer and goes on with the old one.
    IssuerRotationIgnored,
    /// Certificates of a new issuer are handed out with the old issuer's certificate behind them.
    RotatedIssuerKeepsOldChain,
    /// Proxies never renew their certificates.
    CertificatesNotRenewed,
    /// Linking creates a Link in the target cluster as well.
    LinkWritesToTarget,
    /// A link with a ServiceAccount of its own is given the token of the one that all links share.
    LinkAccountsShared,
    /// A controller that started before its credentials never looks for them again.
    MissingCredentialsNeverRetried,
    /// Editing a Link's selector changes nothing.
    LinkEditsIgnored,
    /// An empty selector exports every Service.
    EmptySelectorSelectsAll,
    /// An empty selector for remote discovery exports every Service.
    EmptyDiscoverySelectorSelectsAll,
    /// Of several gateway addresses only the first reaches the Endpoints.
    OnlyFirstGatewayAddress,
    /// A gateway address with a port in it is silently cut and used.
    GatewayAddressPortStripped,
    /// A mirror without Endpoints, for want of a gateway address when it was made, never gets any.
    UpstreamUnfinishedExportForgotten,
    /// A probe period that is no duration is admitted.
    LinkPeriodUnchecked,
    /// An exported Service gets no mirror.
    ExportsIgnored,
    /// The export key as an annotation exports a Service.
    AnnotationExports,
    /// Any value of the export label exports a Service.
    AnyLabelValueExports,
    /// A Service without the export label is mirrored.
    UnlabelledExports,
    /// Mirrors lack the annotation with the remote Service's full name.
    MirrorMetadataMissing,
    /// Mirrors carry the remote Service's selector.
    SelectorCopied,
    /// Only the first port of a Service is mirrored.
    SecondPortDropped,
    /// Labels with the reserved prefix are copied to mirrors.
    ReservedLabelsCopied,
    /// A missing namespace is created in the source cluster.
    NamespaceCreatedSilently,
    /// A namespace that appears later does not get its mirrors.
    LateNamespaceIgnored,
    /// A mirror is exported again to the next cluster.
    MirrorsOfMirrors,
    /// Services of the same name from two clusters end in one mirror.
    SecondTargetOverwritesFirst,
    /// A user's own Service with a mirror's name is taken over.
    UserServiceAdopted,
    /// A user's own Service with a mirror's name is deleted when the remote Service goes.
    UpstreamUserServiceDeleted,
    /// An export whose mirror name is too long stops all later ones.
    LongNameWedgesQueue,
    /// Link.status keeps saying what was true at first.
    LinkStatusStale,
    /// The last entry of a list in Link.status is never taken out.
    UpstreamLastStatusEntryStays,
    /// The entry in Link.status of a Service that went while the controller was down stays.
    UpstreamOrphansStatusEntryStays,
    /// An up-to-date mirror under a Link that was made again never gets into its status.
    UpstreamAdoptedMirrorNotListed,
    /// Changed ports do not reach the mirror.
    PortUpdatesIgnored,
    /// Removing the export label leaves the mirror.
    UnexportIgnored,
    /// An unexported Service's mirror comes back after a while.
    UnexportedMirrorReturns,
    /// Deleting the remote Service leaves the mirror.
    RemoteDeletionIgnored,
    /// Changed annotations do not reach the mirror.
    AnnotationUpdatesIgnored,
    /// Changes made while the controller was down are not applied afterwards.
    ChangesWhileDownMissed,
    /// Mirrors whose remote Service went while the controller was down stay.
    NoOrphanCollectionAtStart,
    /// A Service deleted and created again keeps the old mirror's content.
    RecreatedServiceStuck,
    /// A change of an exported Service without pods fills its mirror Endpoints until the next repair.
    UpstreamUpdateFillsEmptyEndpoints,
    /// A Service that changes while its export waits is mirrored, unmirrored and mirrored again, with any of its states in the end.
    UpstreamQueuedExportsCollide,
    /// Mirror Endpoints lack the gateway's identity.
    GatewayIdentityMissingOnEndpoints,
    /// Mirror Endpoints exclude themselves from EndpointSlice mirroring.
    SlicesNotMirrored,
    /// Mirror Endpoints keep their addresses when the remote Service has no pods.
    EndpointsKeptWhenRemoteEmpty,
    /// Pods that are not ready count as endpoints of an exported Service.
    UnreadyPodsCounted,
    /// Broken mirror Endpoints are never repaired.
    EndpointsRepairOff,
    /// Mirror Endpoints that somebody deleted are never made again.
    UpstreamDeletedEndpointsStay,
    /// Endpoints of headless Services, and such as come or go as a whole, are not followed but looked at by the repair only.
    UpstreamRemoteEndpointsMissed,
    /// The controller reports a gateway dead as soon as it has mirrored a service of it.
    GatewayAliveLostWithMirrors,
    /// A dead gateway's mirrors stay ready.
    GatewayOutageUndetected,
    /// A gateway that came back stays marked dead.
    GatewayRecoveryUnnoticed,
    /// A single failed probe marks the gateway dead.
    FirstFailedProbeFlips,
    /// A restarted controller marks the mirrors of a dead gateway ready.
    UpstreamDeadGatewayTurnsReady,
    /// A restarted controller marks the mirrors of a live gateway not ready for a while.
    RestartBlipsUnready,
    /// A NodePort gateway is never seen alive because the probe Service lacks the probed port.
    UpstreamNodeportProbeDead,
    /// Calls to a mirror are answered by the local Service of the same name.
    MirrorAnswersLocally,
    /// The target sees the mirror's name as Host in gateway mode.
    HostNotRewritten,
    /// HTTP/2 requests arrive as HTTP/1.1.
    Http2Downgraded,
    /// Opaque TCP does not pass the gateway.
    OpaqueTcpBroken,
    /// Every port of a mirror leads to the first target port.
    EveryPortToTheFirst,
    /// A Service without endpoints hangs instead of failing fast.
    FailfastNever,
    /// Proxies talk plaintext to the gateway.
    PlaintextOnLink,
    /// The gateway serves clients without a certificate.
    GatewayAcceptsUnauthenticated,
    /// The gateway does not say for whom it forwards.
    ForwardedMissing,
    /// An identity header sent by the application reaches the target.
    ClientIdentityHeaderTrusted,
    /// A Forwarded header that the application wrote reaches the target beside the gateway's.
    UpstreamForgedForwardedKept,
    /// The gateway proxy's admin port serves everything to anybody.
    AdminPortOpen,
    /// The remote-access credentials may write Services.
    RemoteAccessWritesServices,
    /// Splits are off by five points.
    WeightsOffByFive,
    /// Splits are even whatever the weights.
    WeightsIgnored,
    /// A changed weight has no effect.
    WeightChangesIgnored,
    /// A backend of weight zero gets a few requests.
    ZeroWeightReceives,
    /// A removed route stays in force.
    RouteRemovalIgnored,
    /// A missing backend fails half of the requests to the others too.
    MissingBackendFailsOthers,
    /// A split with weights such as 700m is admitted.
    QuantityWeightsAccepted,
    /// A backend without endpoints keeps its share.
    DeadBackendKept,
    /// A backend that came back gets no traffic.
    FailbackMissing,
    /// A backend of weight zero takes over when the other is gone.
    ZeroWeightTakesOver,
    /// A remote backend without pods keeps its share of a split.
    RemoteEmptyKeepsShare,
    /// A backend behind a dead gateway keeps its share of a split.
    DeadGatewayKeepsShare,
    /// Restarting the controller interrupts traffic to its mirrors.
    ControllerRestartDropsTraffic,
    /// A controller that lost its lease stops working and crashes a minute after regaining it.
    UpstreamLostLeaseCrashesController,
    /// An update whose write was denied once is never applied.
    UpstreamUpdateLostAfterDeniedWrite,
    /// A create that was denied is never tried again.
    DeniedCreateNeverRetried,
    /// A deletion of a mirror that was denied four times at once is given up.
    UpstreamDeniedDeleteGivenUp,
    /// A mirror whose Endpoints could not be created is deleted again, and given up.
    UpstreamDeniedEndpointsUndoMirror,
    /// Rotated credentials are not used until the controller restarts.
    UpstreamRotatedCredentialsIgnored,
    /// Unlinking leaves a credentials Secret behind.
    UnlinkLeavesCredentials,
    /// A mirror is created again ten seconds after it and its link were removed.
    UnlinkedMirrorReturns,
    /// Uninstalling does not mind existing Links.
    UninstallIgnoresLinks,
    /// Unlinking one cluster removes another link's mirrors.
    UnlinkTakesBystander,
    /// Linking again does not bring a mirror up to date that changed meanwhile.
    RelinkKeepsStaleMirror,
    /// Uninstalling leaves a ClusterRoleBinding behind.
    UninstallLeavesClusterRoleBinding,
    /// A controller of the next version makes all its mirrors anew.
    UpgradeRecreatesMirrors,
    /// The next version's gateway gets ready late, and only after the one before it is gone.
    UpgradeDropsTraffic,
    /// Gateways refuse proxies of a later version than their own.
    NewerProxiesRefused,
    /// Proxies of an earlier version than their control plane's learn nothing new from it.
    OlderProxiesNotTold,
}

/// Every defect with its name and what it does, in the order of the catalogue.
const TABLE: &[(Defect, &str, &str)] = &[
    (
        Defect::InstallOmitsLocalServiceMirror,
        "install-omits-local-service-mirror",
        "The extension is installed without its local service mirror Deployment.",
    ),
    (
        Defect::InstallOmitsAdminServers,
        "install-omits-admin-servers",
        "The extension is installed without the Servers of the admin ports of controllers and local service mirror.",
    ),
    (
        Defect::GatewayProbePeriodWrong,
        "gateway-probe-period-wrong",
        "The gateway Service announces another probe period than the installed one.",
    ),
    (
        Defect::ControllerNotInjected,
        "controller-not-injected",
        "The service-mirror controller's pod has no proxy.",
    ),
    (
        Defect::RemoteAccessReadsSecrets,
        "remote-access-reads-secrets",
        "The remote-access ClusterRole may read Secrets.",
    ),
    (
        Defect::OnlyOwnIssuerTrusted,
        "only-own-issuer-trusted",
        "Workloads trust their own cluster's issuer instead of the shared root; gateways are seen alive all the same.",
    ),
    (
        Defect::ForeignRootAccepted,
        "foreign-root-accepted",
        "Proxies accept peers whose certificates come from a foreign root.",
    ),
    (
        Defect::OnlyNewestRootTrusted,
        "only-newest-root-trusted",
        "Of several trust anchors proxies trust only the first, the newest.",
    ),
    (
        Defect::NewRootNotTrusted,
        "new-root-not-trusted",
        "Of several trust anchors proxies trust only the last, the oldest.",
    ),
    (
        Defect::OldRootKept,
        "old-root-kept",
        "Proxies go on trusting a root that was dropped from the bundle.",
    ),
    (
        Defect::IssuerRotationIgnored,
        "issuer-rotation-ignored",
        "The identity service says that it took a new issuer and goes on with the old one.",
    ),
    (
        Defect::RotatedIssuerKeepsOldChain,
        "rotated-issuer-keeps-old-chain",
        "Certificates of a new issuer are handed out with the old issuer's certificate behind them.",
    ),
    (
        Defect::CertificatesNotRenewed,
        "certificates-not-renewed",
        "Proxies never renew their certificates.",
    ),
    (
        Defect::LinkWritesToTarget,
        "link-writes-to-target",
        "Linking creates a Link in the target cluster as well.",
    ),
    (
        Defect::LinkAccountsShared,
        "link-accounts-shared",
        "A link with a ServiceAccount of its own is given the token of the one that all links share.",
    ),
    (
        Defect::MissingCredentialsNeverRetried,
        "missing-credentials-never-retried",
        "A controller that started before its credentials never looks for them again.",
    ),
    (
        Defect::LinkEditsIgnored,
        "link-edits-ignored",
        "Editing a Link's selector changes nothing.",
    ),
    (
        Defect::EmptySelectorSelectsAll,
        "empty-selector-selects-all",
        "An empty selector exports every Service.",
    ),
    (
        Defect::EmptyDiscoverySelectorSelectsAll,
        "empty-discovery-selector-selects-all",
        "An empty selector for remote discovery exports every Service.",
    ),
    (
        Defect::OnlyFirstGatewayAddress,
        "only-first-gateway-address",
        "Of several gateway addresses only the first reaches the Endpoints.",
    ),
    (
        Defect::GatewayAddressPortStripped,
        "gateway-address-port-stripped",
        "A gateway address with a port in it is silently cut and used.",
    ),
    (
        Defect::UpstreamUnfinishedExportForgotten,
        "upstream-unfinished-export-forgotten",
        "A mirror without Endpoints, for want of a gateway address when it was made, never gets any.",
    ),
    (
        Defect::LinkPeriodUnchecked,
        "link-period-unchecked",
        "A probe period that is no duration is admitted.",
    ),
    (
        Defect::ExportsIgnored,
        "exports-ignored",
        "An exported Service gets no mirror.",
    ),
    (
        Defect::AnnotationExports,
        "annotation-exports",
        "The export key as an annotation exports a Service.",
    ),
    (
        Defect::AnyLabelValueExports,
        "any-label-value-exports",
        "Any value of the export label exports a Service.",
    ),
    (
        Defect::UnlabelledExports,
        "unlabelled-exports",
        "A Service without the export label is mirrored.",
    ),
    (
        Defect::MirrorMetadataMissing,
        "mirror-metadata-missing",
        "Mirrors lack the annotation with the remote Service's full name.",
    ),
    (
        Defect::SelectorCopied,
        "selector-copied",
        "Mirrors carry the remote Service's selector.",
    ),
    (
        Defect::SecondPortDropped,
        "second-port-dropped",
        "Only the first port of a Service is mirrored.",
    ),
    (
        Defect::ReservedLabelsCopied,
        "reserved-labels-copied",
        "Labels with the reserved prefix are copied to mirrors.",
    ),
    (
        Defect::NamespaceCreatedSilently,
        "namespace-created-silently",
        "A missing namespace is created in the source cluster.",
    ),
    (
        Defect::LateNamespaceIgnored,
        "late-namespace-ignored",
        "A namespace that appears later does not get its mirrors.",
    ),
    (
        Defect::MirrorsOfMirrors,
        "mirrors-of-mirrors",
        "A mirror is exported again to the next cluster.",
    ),
    (
        Defect::SecondTargetOverwritesFirst,
        "second-target-overwrites-first",
        "Services of the same name from two clusters end in one mirror.",
    ),
    (
        Defect::UserServiceAdopted,
        "user-service-adopted",
        "A user's own Service with a mirror's name is taken over.",
    ),
    (
        Defect::UpstreamUserServiceDeleted,
        "upstream-user-service-deleted",
        "A user's own Service with a mirror's name is deleted when the remote Service goes.",
    ),
    (
        Defect::LongNameWedgesQueue,
        "long-name-wedges-queue",
        "An export whose mirror name is too long stops all later ones.",
    ),
    (
        Defect::LinkStatusStale,
        "link-status-stale",
        "Link.status keeps saying what was true at first.",
    ),
    (
        Defect::UpstreamLastStatusEntryStays,
        "upstream-last-status-entry-stays",
        "The last entry of a list in Link.status is never taken out.",
    ),
    (
        Defect::UpstreamOrphansStatusEntryStays,
        "upstream-orphans-status-entry-stays",
        "The entry in Link.status of a Service that went while the controller was down stays.",
    ),
    (
        Defect::UpstreamAdoptedMirrorNotListed,
        "upstream-adopted-mirror-not-listed",
        "An up-to-date mirror under a Link that was made again never gets into its status.",
    ),
    (
        Defect::PortUpdatesIgnored,
        "port-updates-ignored",
        "Changed ports do not reach the mirror.",
    ),
    (
        Defect::UnexportIgnored,
        "unexport-ignored",
        "Removing the export label leaves the mirror.",
    ),
    (
        Defect::UnexportedMirrorReturns,
        "unexported-mirror-returns",
        "An unexported Service's mirror comes back after a while.",
    ),
    (
        Defect::RemoteDeletionIgnored,
        "remote-deletion-ignored",
        "Deleting the remote Service leaves the mirror.",
    ),
    (
        Defect::AnnotationUpdatesIgnored,
        "annotation-updates-ignored",
        "Changed annotations do not reach the mirror.",
    ),
    (
        Defect::ChangesWhileDownMissed,
        "changes-while-down-missed",
        "Changes made while the controller was down are not applied afterwards.",
    ),
    (
        Defect::NoOrphanCollectionAtStart,
        "no-orphan-collection-at-start",
        "Mirrors whose remote Service went while the controller was down stay.",
    ),
    (
        Defect::RecreatedServiceStuck,
        "recreated-service-stuck",
        "A Service deleted and created again keeps the old mirror's content.",
    ),
    (
        Defect::UpstreamUpdateFillsEmptyEndpoints,
        "upstream-update-fills-empty-endpoints",
        "A change of an exported Service without pods fills its mirror Endpoints until the next repair.",
    ),
    (
        Defect::UpstreamQueuedExportsCollide,
        "upstream-queued-exports-collide",
        "A Service that changes while its export waits is mirrored, unmirrored and mirrored again, with any of its states in the end.",
    ),
    (
        Defect::GatewayIdentityMissingOnEndpoints,
        "gateway-identity-missing-on-endpoints",
        "Mirror Endpoints lack the gateway's identity.",
    ),
    (
        Defect::SlicesNotMirrored,
        "slices-not-mirrored",
        "Mirror Endpoints exclude themselves from EndpointSlice mirroring.",
    ),
    (
        Defect::EndpointsKeptWhenRemoteEmpty,
        "endpoints-kept-when-remote-empty",
        "Mirror Endpoints keep their addresses when the remote Service has no pods.",
    ),
    (
        Defect::UnreadyPodsCounted,
        "unready-pods-counted",
        "Pods that are not ready count as endpoints of an exported Service.",
    ),
    (
        Defect::EndpointsRepairOff,
        "endpoints-repair-off",
        "Broken mirror Endpoints are never repaired.",
    ),
    (
        Defect::UpstreamDeletedEndpointsStay,
        "upstream-deleted-endpoints-stay",
        "Mirror Endpoints that somebody deleted are never made again.",
    ),
    (
        Defect::UpstreamRemoteEndpointsMissed,
        "upstream-remote-endpoints-missed",
        "Endpoints of headless Services, and such as come or go as a whole, are not followed but looked at by the repair only.",
    ),
    (
        Defect::GatewayAliveLostWithMirrors,
        "gateway-alive-lost-with-mirrors",
        "The controller reports a gateway dead as soon as it has mirrored a service of it.",
    ),
    (
        Defect::GatewayOutageUndetected,
        "gateway-outage-undetected",
        "A dead gateway's mirrors stay ready.",
    ),
    (
        Defect::GatewayRecoveryUnnoticed,
        "gateway-recovery-unnoticed",
        "A gateway that came back stays marked dead.",
    ),
    (
        Defect::FirstFailedProbeFlips,
        "first-failed-probe-flips",
        "A single failed probe marks the gateway dead.",
    ),
    (
        Defect::UpstreamDeadGatewayTurnsReady,
        "upstream-dead-gateway-turns-ready",
        "A restarted controller marks the mirrors of a dead gateway ready.",
    ),
    (
        Defect::RestartBlipsUnready,
        "restart-blips-unready",
        "A restarted controller marks the mirrors of a live gateway not ready for a while.",
    ),
    (
        Defect::UpstreamNodeportProbeDead,
        "upstream-nodeport-probe-dead",
        "A NodePort gateway is never seen alive because the probe Service lacks the probed port.",
    ),
    (
        Defect::MirrorAnswersLocally,
        "mirror-answers-locally",
        "Calls to a mirror are answered by the local Service of the same name.",
    ),
    (
        Defect::HostNotRewritten,
        "host-not-rewritten",
        "The target sees the mirror's name as Host in gateway mode.",
    ),
    (
        Defect::Http2Downgraded,
        "http2-downgraded",
        "HTTP/2 requests arrive as HTTP/1.1.",
    ),
    (
        Defect::OpaqueTcpBroken,
        "opaque-tcp-broken",
        "Opaque TCP does not pass the gateway.",
    ),
    (
        Defect::EveryPortToTheFirst,
        "every-port-to-the-first",
        "Every port of a mirror leads to the first target port.",
    ),
    (
        Defect::FailfastNever,
        "failfast-never",
        "A Service without endpoints hangs instead of failing fast.",
    ),
    (
        Defect::PlaintextOnLink,
        "plaintext-on-link",
        "Proxies talk plaintext to the gateway.",
    ),
    (
        Defect::GatewayAcceptsUnauthenticated,
        "gateway-accepts-unauthenticated",
        "The gateway serves clients without a certificate.",
    ),
    (
        Defect::ForwardedMissing,
        "forwarded-missing",
        "The gateway does not say for whom it forwards.",
    ),
    (
        Defect::ClientIdentityHeaderTrusted,
        "client-identity-header-trusted",
        "An identity header sent by the application reaches the target.",
    ),
    (
        Defect::UpstreamForgedForwardedKept,
        "upstream-forged-forwarded-kept",
        "A Forwarded header that the application wrote reaches the target beside the gateway's.",
    ),
    (
        Defect::AdminPortOpen,
        "admin-port-open",
        "The gateway proxy's admin port serves everything to anybody.",
    ),
    (
        Defect::RemoteAccessWritesServices,
        "remote-access-writes-services",
        "The remote-access credentials may write Services.",
    ),
    (
        Defect::WeightsOffByFive,
        "weights-off-by-five",
        "Splits are off by five points.",
    ),
    (
        Defect::WeightsIgnored,
        "weights-ignored",
        "Splits are even whatever the weights.",
    ),
    (
        Defect::WeightChangesIgnored,
        "weight-changes-ignored",
        "A changed weight has no effect.",
    ),
    (
        Defect::ZeroWeightReceives,
        "zero-weight-receives",
        "A backend of weight zero gets a few requests.",
    ),
    (
        Defect::RouteRemovalIgnored,
        "route-removal-ignored",
        "A removed route stays in force.",
    ),
    (
        Defect::MissingBackendFailsOthers,
        "missing-backend-fails-others",
        "A missing backend of a route fails half of the other backends' requests as well.",
    ),
    (
        Defect::QuantityWeightsAccepted,
        "quantity-weights-accepted",
        "A split with weights such as 700m is admitted.",
    ),
    (
        Defect::DeadBackendKept,
        "dead-backend-kept",
        "A backend without endpoints keeps its share.",
    ),
    (
        Defect::FailbackMissing,
        "failback-missing",
        "A backend that came back gets no traffic.",
    ),
    (
        Defect::ZeroWeightTakesOver,
        "zero-weight-takes-over",
        "A backend of weight zero takes over when the other is gone.",
    ),
    (
        Defect::RemoteEmptyKeepsShare,
        "remote-empty-keeps-share",
        "A remote backend without pods keeps its share of a split.",
    ),
    (
        Defect::DeadGatewayKeepsShare,
        "dead-gateway-keeps-share",
        "A backend behind a dead gateway keeps its share of a split.",
    ),
    (
        Defect::ControllerRestartDropsTraffic,
        "controller-restart-drops-traffic",
        "Restarting the controller interrupts traffic to its mirrors.",
    ),
    (
        Defect::UpstreamLostLeaseCrashesController,
        "upstream-lost-lease-crashes-controller",
        "A controller that lost its lease stops working and crashes a minute after regaining it.",
    ),
    (
        Defect::UpstreamUpdateLostAfterDeniedWrite,
        "upstream-update-lost-after-denied-write",
        "An update whose write was denied once is never applied.",
    ),
    (
        Defect::DeniedCreateNeverRetried,
        "denied-create-never-retried",
        "A create that was denied is never tried again.",
    ),
    (
        Defect::UpstreamDeniedDeleteGivenUp,
        "upstream-denied-delete-given-up",
        "A deletion of a mirror that was denied four times at once is given up.",
    ),
    (
        Defect::UpstreamDeniedEndpointsUndoMirror,
        "upstream-denied-endpoints-undo-mirror",
        "A mirror whose Endpoints could not be created is deleted again, and given up.",
    ),
    (
        Defect::UpstreamRotatedCredentialsIgnored,
        "upstream-rotated-credentials-ignored",
        "Rotated credentials are not used until the controller restarts.",
    ),
    (
        Defect::UnlinkLeavesCredentials,
        "unlink-leaves-credentials",
        "Unlinking leaves a credentials Secret behind.",
    ),
    (
        Defect::UnlinkedMirrorReturns,
        "unlinked-mirror-returns",
        "A mirror is created again ten seconds after it and its link were removed.",
    ),
    (
        Defect::UninstallIgnoresLinks,
        "uninstall-ignores-links",
        "Uninstalling does not mind existing Links.",
    ),
    (
        Defect::UnlinkTakesBystander,
        "unlink-takes-bystander",
        "Unlinking one cluster removes another link's mirrors.",
    ),
    (
        Defect::RelinkKeepsStaleMirror,
        "relink-keeps-stale-mirror",
        "Linking again does not bring a mirror up to date that changed meanwhile.",
    ),
    (
        Defect::UninstallLeavesClusterRoleBinding,
        "uninstall-leaves-cluster-role-binding",
        "Uninstalling leaves a ClusterRoleBinding behind.",
    ),
    (
        Defect::UpgradeRecreatesMirrors,
        "upgrade-recreates-mirrors",
        "A controller of the next version makes all its mirrors anew.",
    ),
    (
        Defect::UpgradeDropsTraffic,
        "upgrade-drops-traffic",
        "The next version's gateway gets ready late, and only after the one before it is gone.",
    ),
    (
        Defect::NewerProxiesRefused,
        "newer-proxies-refused",
        "Gateways refuse proxies of a later version than their own.",
    ),
    (
        Defect::OlderProxiesNotTold,
        "older-proxies-not-told",
        "Proxies of an earlier version than their control plane's learn nothing new from it.",
    ),
];

impl Defect {
    /// All defects.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|(defect, _, _)| *defect)
    }

    fn row(self) -> (&'static str, &'static str) {
        TABLE
            .iter()
            .find(|(defect, _, _)| *defect == self)
            .map_or(("", ""), |(_, name, summary)| (*name, *summary))
    }

    /// Name on the command line and in the catalogue, e.g. `weights-ignored`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// What the model does wrong, one sentence.
    #[must_use]
    pub fn summary(self) -> &'static str {
        self.row().1
    }

    /// Whether the real mesh was seen to do this.
    #[must_use]
    pub fn is_upstream(self) -> bool {
        self.name().starts_with("upstream-")
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no defect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no defect is called `{0}`; `meshproof prove --list` prints all of them")]
pub struct UnknownDefect(pub String);

impl FromStr for Defect {
    type Err = UnknownDefect;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        TABLE
            .iter()
            .find(|(_, known, _)| *known == name)
            .map(|(defect, _, _)| *defect)
            .ok_or_else(|| UnknownDefect(name.to_owned()))
    }
}

/// The defects that are switched on in one environment; none in the clean model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Defects(BTreeSet<Defect>);

impl Defects {
    /// Whether `defect` is switched on.
    #[must_use]
    pub fn has(&self, defect: Defect) -> bool {
        self.0.contains(&defect)
    }

    /// The defects, in order.
    pub fn iter(&self) -> impl Iterator<Item = Defect> + '_ {
        self.0.iter().copied()
    }
}

impl FromIterator<Defect> for Defects {
    fn from_iter<I: IntoIterator<Item = Defect>>(defects: I) -> Self {
        Self(defects.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::{Defect, TABLE};

    #[test]
    fn every_name_is_unique_and_reads_back() {
        for defect in Defect::all() {
            assert_eq!(defect.name().parse::<Defect>(), Ok(defect));
            assert!(!defect.summary().is_empty());
        }
        let names: std::collections::BTreeSet<_> = TABLE.iter().map(|(_, name, _)| name).collect();
        assert_eq!(names.len(), TABLE.len());
    }

    #[test]
    fn an_unknown_name_says_where_to_look() {
        let error = "weights-doubled".parse::<Defect>().unwrap_err();
        assert!(error.to_string().contains("prove --list"));
    }
}
