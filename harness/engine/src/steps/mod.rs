//! The verbs of a scenario. One file per verb or family; each ends when what it does has become true, and none polls.

pub(crate) mod deploy;
pub(crate) mod exports;
pub(crate) mod fault;
pub(crate) mod mesh;
pub(crate) mod namespace;
pub(crate) mod objects;
pub(crate) mod probing;
pub(crate) mod route;
pub(crate) mod traffic;
pub(crate) mod workloads;

use meshproof_spec::scenario::Step;

use crate::inventory;
use crate::problem::{self, Problem};
use crate::scene::Scene;

/// Does a step other than `expect`, whose references are resolved.
pub(crate) async fn perform(scene: &mut Scene, step: &Step) -> Result<(), Problem> {
    match step {
        Step::Deploy(step) => deploy::deploy(scene, step).await,
        Step::Export(step) => exports::export(scene, step).await,
        Step::Unexport(step) => exports::unexport(scene, step).await,
        Step::Route(step) => route::route(scene, step).await,
        Step::Unroute(step) => route::unroute(scene, step).await,
        Step::Scale(step) => workloads::scale(scene, step).await,
        Step::Restart(step) => workloads::restart(scene, step).await,
        Step::Behave(step) => workloads::behave(scene, step).await,
        Step::Call(step) => traffic::call(scene, step).await,
        Step::Traffic(step) => traffic::traffic(scene, step).await,
        Step::Stop(step) => traffic::stop(scene, step).await,
        Step::Fault(step) => fault::fault(scene, step).await,
        Step::Heal(step) => fault::heal(scene, &step.fault.0).await,
        Step::Link(step) => mesh::link(scene, step).await,
        Step::Unlink(step) => mesh::unlink(scene, step).await,
        Step::Install(step) => mesh::install(scene, step).await,
        Step::Upgrade(step) => mesh::upgrade(scene, step).await,
        Step::Uninstall(step) => mesh::uninstall(scene, step).await,
        Step::Rotate(step) => mesh::rotate(scene, step).await,
        Step::Inventory(step) => inventory::remember(scene, step).await,
        Step::Namespace(step) => namespace::create_in(scene, &step.create_in).await,
        Step::Apply(step) => objects::apply(scene, step).await,
        Step::Patch(step) => objects::patch(scene, step).await,
        Step::Delete(step) => objects::delete(scene, step).await,
        Step::Expect(_) | Step::Use(_) => Err(problem::harness(
            "unsupported-step",
            "this step can't be performed",
            Some("report this as a defect of meshproof"),
        )),
    }
}
