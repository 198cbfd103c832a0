//! Which program stands for which container image.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::program::Program;
use crate::programs::{AGENT_IMAGE, AgentProgram, PAUSE_IMAGE, PauseProgram};

/// Programs by image name. Clones are the same registry.
///
/// A name is registered as `repository/name` without registry and tag; `docker.io/meshproof/agent:0.1` and
/// `localhost:5000/meshproof/agent@sha256:…` both run what is registered as `meshproof/agent`. The longest registered
/// name that the image ends with wins.
#[derive(Clone, Default)]
pub struct ProgramRegistry {
    programs: Arc<RwLock<HashMap<String, Arc<dyn Program>>>>,
}

impl ProgramRegistry {
    /// An empty registry: every image is unknown.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The programs that every cluster can run: [`AGENT_IMAGE`] and [`PAUSE_IMAGE`].
    #[must_use]
    pub fn standard() -> Self {
        let registry = Self::new();
        registry.register(AGENT_IMAGE, Arc::new(AgentProgram));
        registry.register(PAUSE_IMAGE, Arc::new(PauseProgram));
        registry
    }

    /// Runs `program` for containers of this image from now on; replaces an earlier one of that name.
    pub fn register(&self, image: &str, program: Arc<dyn Program>) {
        self.programs
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(untagged(image).to_owned(), program);
    }

    /// Containers of this image cannot be started any more; running ones go on.
    pub fn unregister(&self, image: &str) {
        self.programs
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(untagged(image));
    }

    /// The program for an image with any registry prefix and tag.
    #[must_use]
    pub fn find(&self, image: &str) -> Option<Arc<dyn Program>> {
        let programs = self.programs.read().unwrap_or_else(PoisonError::into_inner);
        let mut name = untagged(image);
        loop {
            if let Some(program) = programs.get(name) {
                return Some(Arc::clone(program));
            }
            name = name.split_once('/')?.1;
        }
    }
}

impl std::fmt::Debug for ProgramRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let programs = self.programs.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_set().entries(programs.keys()).finish()
    }
}

/// The image without digest and tag. A colon before the last slash belongs to a registry's port.
fn untagged(image: &str) -> &str {
    let image = image.split_once('@').map_or(image, |(name, _)| name);
    let last = image.rfind('/').map_or(0, |slash| slash + 1);
    image[last..].find(':').map_or(image, |colon| &image[..last + colon])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::{ContainerContext, Exit};
    use rstest::rstest;

    struct Nothing;

    #[async_trait::async_trait]
    impl Program for Nothing {
        async fn run(&self, _: ContainerContext) -> Exit {
            Exit::Done
        }
    }

    #[rstest]
    #[case("meshproof/agent", true)]
    #[case("meshproof/agent:0.1", true)]
    #[case("docker.io/meshproof/agent:0.1", true)]
    #[case("localhost:5000/meshproof/agent", true)]
    #[case("localhost:5000/a/b/meshproof/agent:x@sha256:00", true)]
    #[case("meshproof/agent2", false)]
    #[case("notmeshproof/agent", false)]
    #[case("agent", false)]
    #[case("", false)]
    fn images_are_found_by_their_last_parts(#[case] image: &str, #[case] known: bool) {
        let registry = ProgramRegistry::new();
        registry.register("meshproof/agent", Arc::new(Nothing));
        assert_eq!(registry.find(image).is_some(), known);
        registry.unregister("meshproof/agent:latest");
        assert!(registry.find(image).is_none());
    }
}
