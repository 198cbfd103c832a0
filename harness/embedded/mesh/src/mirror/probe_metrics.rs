//! The controller's metrics about the gateway of its target.

use std::time::Duration;

use crate::metrics::{Counter, Labels, Registry};

const ENABLED: &str = "gateway_enabled";
const ALIVE: &str = "gateway_alive";
const LATENCY: &str = "gateway_latency";
const LATENCIES: &str = "gateway_probe_latency_ms";

/// Bounds of the latency histogram in milliseconds.
const BUCKETS: &[f64] = &[
    1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 100.0, 200.0, 300.0, 400.0, 500.0, 1000.0, 2000.0, 3000.0,
    4000.0, 5000.0, 10_000.0, 20_000.0, 30_000.0, 40_000.0, 50_000.0,
];

/// Series of one target cluster.
#[derive(Clone)]
pub(super) struct ProbeMetrics {
    registry: Registry,
    labels: Labels,
    cluster: String,
}

impl ProbeMetrics {
    /// Registers the series for a target; `enabled` when it has a gateway to probe.
    pub(super) fn register(registry: &Registry, cluster: &str, enabled: bool) -> Self {
        let metrics = Self {
            registry: registry.clone(),
            labels: Labels::from([("target_cluster_name", cluster)]),
            cluster: cluster.to_owned(),
        };
        metrics.enabled(if enabled { 1.0 } else { 0.0 });
        metrics.alive(0.0);
        metrics
    }

    /// Takes the series out again, except the counters, as the real controller does.
    pub(super) fn unregister(&self) {
        for name in [ENABLED, ALIVE, LATENCY, LATENCIES] {
            self.registry.remove(name, &self.labels);
        }
    }

    /// A probe that counts as failed.
    pub(super) fn failed(&self) {
        self.alive(0.0);
        self.probes("false").increment();
    }

    /// A probe that was answered after `latency` (scenario time). `truthful` is whether that may be told.
    pub(super) fn succeeded(&self, latency: Duration, truthful: bool) {
        let millis = latency.as_secs_f64() * 1000.0;
        self.alive(if truthful { 1.0 } else { 0.0 });
        self.registry
            .gauge(
                LATENCY,
                "A gauge which is the latency of the last probe to the gateway.",
                &self.labels,
            )
            .set(millis.floor());
        self.registry
            .histogram(
                LATENCIES,
                "A histogram of latencies to a gateway in a target cluster.",
                &self.labels,
                BUCKETS,
            )
            .observe(millis.floor());
        self.probes("true").increment();
    }

    /// How often mirror Endpoints were repaired.
    pub(super) fn repairs(&self) -> Counter {
        self.registry.counter(
            "service_mirror_endpoint_repairs",
            "Increments when the service mirror controller attempts to repair mirror endpoints",
            &self.labels,
        )
    }

    fn enabled(&self, value: f64) {
        let help = "A gauge which is 1 if the gateway is enabled, and 0 if it is not";
        self.registry.gauge(ENABLED, help, &self.labels).set(value);
    }

    fn alive(&self, value: f64) {
        let help = "A gauge which is 1 if the gateway is alive and 0 if it is not.";
        self.registry.gauge(ALIVE, help, &self.labels).set(value);
    }

    fn probes(&self, successful: &str) -> Counter {
        self.registry.counter(
            "gateway_probes",
            "A counter for the number of actual performed probes to a gateway",
            &Labels::from([("probe_successful", successful), ("target_cluster_name", &self.cluster)]),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::ProbeMetrics;
    use crate::metrics::Registry;
    use std::time::Duration;

    #[test]
    fn series_are_named_as_the_real_ones() {
        let registry = Registry::new();
        let metrics = ProbeMetrics::register(&registry, "east", true);
        metrics.succeeded(Duration::from_micros(7_900), true);
        metrics.failed();
        metrics.repairs().increment();
        let page = registry.render();
        for line in [
            "gateway_enabled{target_cluster_name=\"east\"} 1",
            "gateway_alive{target_cluster_name=\"east\"} 0",
            "gateway_latency{target_cluster_name=\"east\"} 7",
            "gateway_probe_latency_ms_bucket{target_cluster_name=\"east\",le=\"5\"} 0",
            "gateway_probe_latency_ms_bucket{target_cluster_name=\"east\",le=\"10\"} 1",
            "gateway_probe_latency_ms_bucket{target_cluster_name=\"east\",le=\"50000\"} 1",
            "gateway_probes{probe_successful=\"false\",target_cluster_name=\"east\"} 1",
            "gateway_probes{probe_successful=\"true\",target_cluster_name=\"east\"} 1",
            "service_mirror_endpoint_repairs{target_cluster_name=\"east\"} 1",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} in\n{page}");
        }
        metrics.unregister();
        let page = registry.render();
        assert!(!page.contains("gateway_alive") && !page.contains("gateway_enabled"));
        assert!(page.contains("gateway_probes"));
    }
}
