//! Prometheus metrics in the text format, shared by the proxies and the controllers of the model.
//!
//! A series is looked up once and then counted through its handle, so that counting a request takes one atomic addition.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// All metrics of one process. Cheap to clone; all clones are the same registry.
#[derive(Clone, Default)]
pub struct Registry {
    families: Arc<Mutex<BTreeMap<&'static str, Family>>>,
}

struct Family {
    help: &'static str,
    kind: &'static str,
    series: BTreeMap<Labels, Entry>,
}

struct Entry {
    series: Series,
    /// What it was when it was last seen to be in use, and when that was.
    used: Option<(u64, Instant)>,
}

enum Series {
    Counter(Counter),
    Gauge(Gauge),
    Histogram(Histogram),
}

impl Series {
    /// A number that differs after every use, but for a gauge that is set to what it was.
    fn state(&self) -> u64 {
        match self {
            Self::Counter(counter) => counter.value(),
            Self::Gauge(gauge) => gauge.value().to_bits(),
            Self::Histogram(histogram) => histogram.count(),
        }
    }

    /// Whether anybody has a handle to count with.
    fn is_held(&self) -> bool {
        let handles = match self {
            Self::Counter(counter) => Arc::strong_count(&counter.0),
            Self::Gauge(gauge) => Arc::strong_count(&gauge.0),
            Self::Histogram(histogram) => Arc::strong_count(&histogram.0),
        };
        handles > 1
    }
}

/// The labels of one series, in the order in which they are printed.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(String);

impl Labels {
    /// No labels.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// These labels and one more at the end.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut text = String::with_capacity(self.0.len() + name.len() + value.len() + 4);
        text.push_str(&self.0);
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(name);
        text.push_str("=\"");
        for character in value.chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                other => text.push(other),
            }
        }
        text.push('"');
        Self(text)
    }

    /// These labels followed by `others`.
    #[must_use]
    pub fn and(&self, others: &Self) -> Self {
        match (self.0.is_empty(), others.0.is_empty()) {
            (true, _) => others.clone(),
            (_, true) => self.clone(),
            _ => Self(format!("{},{}", self.0, others.0)),
        }
    }

    /// As they stand between the braces.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Labels {
    fn from(pairs: [(&str, &str); N]) -> Self {
        pairs
            .iter()
            .fold(Self::new(), |labels, (name, value)| labels.with(name, value))
    }
}

/// A number that only grows.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `amount`.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// The present value.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<AtomicU64>);

impl Gauge {
    /// Replaces the value.
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    /// Adds `amount`, which may be negative.
    pub fn add(&self, amount: f64) {
        let step = |bits| Some((f64::from_bits(bits) + amount).to_bits());
        // The closure always returns a value, so the update cannot be refused.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step);
    }

    /// The present value.
    #[must_use]
    pub fn value(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

/// Observations sorted into buckets.
#[derive(Clone, Debug)]
pub struct Histogram(Arc<HistogramCells>);

#[derive(Debug)]
struct HistogramCells {
    bounds: &'static [f64],
    counts: Vec<AtomicU64>,
    sum: Gauge,
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        Self(Arc::new(HistogramCells {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: Gauge::default(),
        }))
    }

    /// Takes one observation.
    pub fn observe(&self, value: f64) {
        let bucket = self.0.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.0.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.0.sum.add(value);
    }

    /// How many observations there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

impl Registry {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn families(&self) -> MutexGuard<'_, BTreeMap<&'static str, Family>> {
        self.families.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn series<T>(
        &self,
        (name, help, kind): (&'static str, &'static str, &'static str),
        labels: &Labels,
        create: impl FnOnce() -> (T, Series),
        existing: impl FnOnce(&Series) -> Option<T>,
    ) -> T {
        let mut families = self.families();
        let family = families.entry(name).or_insert_with(|| Family {
            help,
            kind,
            series: BTreeMap::new(),
        });
        if let Some(handle) = family.series.get(labels).and_then(|entry| existing(&entry.series)) {
            return handle;
        }
        let (handle, series) = create();
        family.series.insert(labels.clone(), Entry { series, used: None });
        handle
    }

    /// The counter `name` with `labels`; the same handle every time.
    #[must_use]
    pub fn counter(&self, name: &'static str, help: &'static str, labels: &Labels) -> Counter {
        self.series(
            (name, help, "counter"),
            labels,
            || {
                let counter = Counter::default();
                (counter.clone(), Series::Counter(counter))
            },
            |series| match series {
                Series::Counter(counter) => Some(counter.clone()),
                Series::Gauge(_) | Series::Histogram(_) => None,
            },
        )
    }

    /// The gauge `name` with `labels`; the same handle every time.
    #[must_use]
    pub fn gauge(&self, name: &'static str, help: &'static str, labels: &Labels) -> Gauge {
        self.series(
            (name, help, "gauge"),
            labels,
            || {
                let gauge = Gauge::default();
                (gauge.clone(), Series::Gauge(gauge))
            },
            |series| match series {
                Series::Gauge(gauge) => Some(gauge.clone()),
                Series::Counter(_) | Series::Histogram(_) => None,
            },
        )
    }

    /// The histogram `name` with `labels`; the same handle every time. `bounds` are the buckets' upper bounds, ascending.
    #[must_use]
    pub fn histogram(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &Labels,
        bounds: &'static [f64],
    ) -> Histogram {
        self.series(
            (name, help, "histogram"),
            labels,
            || {
                let histogram = Histogram::new(bounds);
                (histogram.clone(), Series::Histogram(histogram))
            },
            |series| match series {
                Series::Histogram(histogram) => Some(histogram.clone()),
                Series::Counter(_) | Series::Gauge(_) => None,
            },
        )
    }

    /// Takes one series out, as a process does that stops reporting it. Tells whether it was there.
    pub fn remove(&self, name: &str, labels: &Labels) -> bool {
        self.families()
            .get_mut(name)
            .is_some_and(|family| family.series.remove(labels).is_some())
    }

    /// Drops every series that nobody has a handle of and that has not been used for `idle`, as far as earlier calls saw;
    /// what has no labels is about the process itself and stays. One that is used again starts at zero.
    pub fn forget_idle(&self, now: Instant, idle: Duration) {
        for family in self.families().values_mut() {
            family.series.retain(|labels, entry| {
                let state = entry.series.state();
                let since = entry
                    .used
                    .filter(|(known, _)| *known == state && !entry.series.is_held());
                let (_, since) = *entry.used.insert(since.unwrap_or((state, now)));
                labels.0.is_empty() || now.saturating_duration_since(since) < idle
            });
        }
    }

    /// The page that `/metrics` serves.
    #[must_use]
    pub fn render(&self) -> String {
        let mut page = String::new();
        for (name, family) in self.families().iter() {
            if family.series.is_empty() {
                continue;
            }
            let _ = writeln!(page, "# HELP {name} {}", family.help);
            let _ = writeln!(page, "# TYPE {name} {}", family.kind);
            for (labels, entry) in &family.series {
                match &entry.series {
                    Series::Counter(counter) => sample(&mut page, name, "", labels, counter.value()),
                    Series::Gauge(gauge) => sample(&mut page, name, "", labels, gauge.value()),
                    Series::Histogram(histogram) => render_histogram(&mut page, name, labels, histogram),
                }
            }
        }
        page
    }
}

fn sample(page: &mut String, name: &str, suffix: &str, labels: &Labels, value: impl std::fmt::Display) {
    let _ = if labels.0.is_empty() {
        writeln!(page, "{name}{suffix} {value}")
    } else {
        writeln!(page, "{name}{suffix}{{{}}} {value}", labels.0)
    };
}

fn render_histogram(page: &mut String, name: &str, labels: &Labels, histogram: &Histogram) {
    let mut total = 0;
    let bounds = histogram.0.bounds.iter().map(f64::to_string);
    for (count, bound) in histogram.0.counts.iter().zip(bounds.chain(["+Inf".to_owned()])) {
        total += count.load(Ordering::Relaxed);
        sample(page, name, "_bucket", &labels.with("le", &bound), total);
    }
    sample(page, name, "_sum", labels, histogram.0.sum.value());
    sample(page, name, "_count", labels, total);
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Labels, Registry};

    #[test]
    fn the_same_series_is_counted_through_every_handle() {
        let registry = Registry::new();
        let labels = Labels::from([("direction", "outbound"), ("tls", "true")]);
        registry.counter("request_total", "Requests.", &labels).increment();
        registry.counter("request_total", "Requests.", &labels).add(2);
        assert!(registry.render().contains(
            "# HELP request_total Requests.\n# TYPE request_total counter\nrequest_total{direction=\"outbound\",tls=\"true\"} 3\n"
        ));
    }

    #[test]
    fn a_removed_series_is_no_longer_printed_and_starts_again_at_zero() {
        let registry = Registry::new();
        let labels = Labels::from([("target_cluster_name", "east")]);
        registry.gauge("gateway_alive", "Alive.", &labels).set(1.0);
        assert!(registry.remove("gateway_alive", &labels));
        assert!(!registry.remove("gateway_alive", &labels));
        assert_eq!(registry.render(), "");
        assert_eq!(registry.gauge("gateway_alive", "Alive.", &labels).value(), 0.0);
    }

    #[test]
    fn what_nobody_counts_any_more_is_forgotten_after_a_while() {
        let registry = Registry::new();
        let named = |name: &str| Labels::from([("name", name)]);
        let count = |name: &str| registry.counter("request_total", "Requests.", &named(name));
        let (start, idle) = (Instant::now(), Duration::from_secs(600));
        let held = count("held");
        count("used").increment();
        count("gone").increment();
        registry.gauge("started", "When.", &Labels::new()).set(1.0);

        let look = |seconds: u64| {
            registry.forget_idle(start + Duration::from_secs(seconds), idle);
            registry.render()
        };
        assert!(look(0).contains("gone"));
        assert!(look(599).contains("gone"));
        count("used").increment();
        let page = look(600);
        assert!(!page.contains("gone"), "{page}");
        assert!(
            page.contains("used\"} 2") && page.contains("held") && page.contains("started 1"),
            "{page}"
        );
        drop(held);
        let page = look(1200);
        assert!(!page.contains("held") && !page.contains("used"), "{page}");
        count("used").increment();
        assert!(look(1201).contains("used\"} 1"));
    }

    #[test]
    fn buckets_are_cumulative_and_include_their_bound() {
        let registry = Registry::new();
        let histogram = registry.histogram("latency_ms", "Latency.", &Labels::new(), &[1.0, 5.0]);
        for value in [1.0, 2.0, 50.0] {
            histogram.observe(value);
        }
        assert!(registry.render().ends_with(
            "latency_ms_bucket{le=\"1\"} 1\nlatency_ms_bucket{le=\"5\"} 2\nlatency_ms_bucket{le=\"+Inf\"} 3\nlatency_ms_sum 53\nlatency_ms_count 3\n"
        ));
        assert_eq!(histogram.count(), 3);
    }

    #[test]
    fn label_values_are_escaped() {
        assert_eq!(Labels::from([("a", "x\"y\\z\n")]).as_str(), "a=\"x\\\"y\\\\z\\n\"");
    }
}
