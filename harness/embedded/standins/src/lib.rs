//! Stand-ins for the commands `kind`, `docker`, `linkerd` and `helm`, backed by embedded clusters.
//!
//! # What it is responsible for
//! Letting the whole kind path run where no container engine and no vendor tool is. One thread serves embedded clusters
//! with the model mesh; a tiny program answers under the names of the commands by handing its arguments to that thread and
//! printing what comes back, so that all state and all sense is in one place. Output, streams and exit codes are the real
//! commands'; any call can be told to fail, hang or print garbage. What is not modelled is refused with exit code 126 and
//! a message that starts with `stand-in:`, so that no test takes it for an answer of the real command.
//!
//! # What it must not know
//! The harness: neither its engine nor its environments. It knows only what the commands' documentation says.
//!
//! # Use in tests
//! ```no_run
//! let folder = std::env::temp_dir().join("standins");
//! let standins = meshproof_standins::Standins::start(&folder, 10.0).unwrap();
//! standins.add_agent_image("meshproof/agent:test");
//! standins.fault("kind create cluster @2 = exit 1 no space left on device").unwrap();
//! // … run something with `standins.path_dir()` first on its PATH, or with the paths of `standins.tools()` …
//! assert!(standins.leftovers().clusters.is_empty(), "{:?}", standins.leftovers());
//! assert_eq!(standins.calls()[0].line(), "kind version");
//! ```
//! The program is compiled by this crate's build script (it uses the standard library only) and found at the path that the
//! build script tells, so a test of any package needs no more than a dev-dependency on this crate. It finds the serving
//! thread through the folder above the one it was called in, or through `MESHPROOF_STANDIN_DIR`.
//!
//! By hand: `cargo run -p meshproof-standins -- serve DIR` serves until it is interrupted and says what to put on the `PATH`.
//!
//! # Folder
//! | file | what |
//! |---|---|
//! | `bin/` | the commands |
//! | `serving` | address and token of the serving process, mode 0600; gone when nothing serves |
//! | `faults` | rules of faults, read at every call; `MESHPROOF_STANDIN_FAULT` in a command's environment has more, and wins |
//! | `calls.log` | one JSON object a line for every call that ended: `tool`, `args`, `exit` (`null` when it was killed) |
//!
//! # Rules of faults
//! `<words> = exit <code> [message] | hang | garbage | missing`, one a line. The words up to the first option are the
//! command and its subcommands, the rest must occur in the call in this order; `@2` limits the rule to the second call that
//! fits. `hang` of `kind create cluster` leaves its node, as a kind that is killed half-way.
//!
//! # Differences from the real commands
//! Clusters have one node. The model's version is everywhere (`linkerd version`, charts, annotations), so that no report
//! can be taken for one about a release. Images have no contents: what an image runs is its entry point's name
//! (`meshproof-agent`, the mesh's own, `pause`, `registry`), tags are not compared, and an image that was not loaded onto a node stays
//! `ImagePullBackOff` there. A delay on a node's interface is spread over both directions. `~/.kube/config` is not touched.

mod docker;
mod exchange;
mod fault;
mod helm;
mod kind;
mod linkerd;
mod manifests;
mod node_network;
mod server;
mod standins;
mod values;
mod world;

pub use fault::BadRule;
pub use server::LoggedCall;
pub use standins::{NEXT_LINKERD, Standins, StandinsError, TOOLS};
pub use world::Leftovers;
