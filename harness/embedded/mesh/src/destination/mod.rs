//! Service discovery and policy of one cluster: what proxies are told.
//!
//! [`DestinationProgram`] follows the cluster's API and keeps an [`index`] of it; every change becomes a new immutable
//! [`View`], which all proxies of the cluster read from [`Destinations`]. While the program does not run, proxies keep the
//! last view.

pub mod index;
mod objects;
pub mod policy;
mod program;
pub mod route;
mod view;

use std::sync::Arc;

use tokio::sync::watch;

pub use objects::{Key, Mirror, Namespace, Pod, PortSet, Service, ServicePort};
pub use program::DestinationProgram;
pub(crate) use view::rules_by_precedence;
pub use view::{EndpointTarget, Transport, View};

/// The discovery service of one cluster, as proxies reach it. Cheap to clone; all clones are the same service.
#[derive(Clone, Default)]
pub struct Destinations {
    shared: Arc<Shared>,
    /// Only what the version of the model that is installed at first says: a defect's doing.
    of_first_version: bool,
}

#[derive(Default)]
struct Shared {
    view: watch::Sender<Arc<View>>,
    /// The last view that a service of the first version published.
    of_first_version: watch::Sender<Arc<View>>,
    /// How many pods of the service answer.
    serving: watch::Sender<usize>,
}

impl Destinations {
    /// A service that is not running and knows nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same service as it looks to proxies that learn nothing from a version later than the first.
    #[must_use]
    pub(crate) fn as_of_first_version(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            of_first_version: true,
        }
    }

    fn followed(&self) -> &watch::Sender<Arc<View>> {
        if self.of_first_version {
            &self.shared.of_first_version
        } else {
            &self.shared.view
        }
    }

    /// The present view.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.followed().borrow().clone()
    }

    /// Tells of every later view.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<View>> {
        self.followed().subscribe()
    }

    /// Replaces the view, in the name of a service of the first version.
    pub fn publish(&self, view: View) {
        let view = Arc::new(view);
        self.shared.of_first_version.send_replace(Arc::clone(&view));
        self.shared.view.send_replace(view);
    }

    /// Replaces the view in the name of a later version.
    pub(crate) fn publish_of_later_version(&self, view: View) {
        self.shared.view.send_replace(Arc::new(view));
    }

    /// Answers until the returned guard is dropped; several pods may answer at once.
    pub fn serve(&self) -> Serving {
        self.shared.serving.send_modify(|serving| *serving += 1);
        Serving(self.clone())
    }

    /// Waits until the service answers.
    pub async fn serving(&self) {
        // The sender lives in `self`, so this cannot fail.
        let _ = self.shared.serving.subscribe().wait_for(|serving| *serving > 0).await;
    }
}

/// One pod of the discovery service that answers; it ceases when this is dropped.
#[must_use]
pub struct Serving(Destinations);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0
            .shared
            .serving
            .send_modify(|serving| *serving = serving.saturating_sub(1));
    }
}
