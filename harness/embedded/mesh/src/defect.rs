//! The named ways in which the model can be made wrong.
//!
//! A defect is what a check has to notice: `meshproof prove` switches each on and expects the requirement that it breaks
//! to turn red. Which requirement that is stands in the catalogue, not here. A name that starts with `upstream-` does
//! what the real mesh was seen to do; the clean model does what its documentation promises.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use strum::{EnumIter, EnumMessage, IntoEnumIterator as _, IntoStaticStr};

/// A named defect of the model. Its name on the command line and in the catalogue is the variant's in kebab-case, and what it
/// does is its documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, EnumIter, EnumMessage, IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
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
    /// Workloads trust their own cluster's issuer instead of the shared root; gateways are seen alive all the same.
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
    /// A missing backend of a route fails half of the other backends' requests as well.
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

impl Defect {
    /// All defects, in the order of the catalogue.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::iter()
    }

    /// Name on the command line and in the catalogue, e.g. `weights-ignored`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// What the model does wrong, one sentence.
    #[must_use]
    pub fn summary(self) -> &'static str {
        self.get_documentation().unwrap_or_default()
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
        Self::all()
            .find(|known| known.name() == name)
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
    use super::Defect;

    #[test]
    fn every_name_is_unique_and_reads_back() {
        for defect in Defect::all() {
            assert_eq!(defect.name().parse::<Defect>(), Ok(defect));
            assert!(!defect.summary().is_empty());
        }
        let names: std::collections::BTreeSet<_> = Defect::all().map(Defect::name).collect();
        assert_eq!(names.len(), Defect::all().count());
        assert_eq!(Defect::WeightsIgnored.name(), "weights-ignored");
    }

    #[test]
    fn an_unknown_name_says_where_to_look() {
        let error = "weights-doubled".parse::<Defect>().unwrap_err();
        assert!(error.to_string().contains("prove --list"));
    }
}
