//! Relays and the agent's image on a real Docker engine. Where none answers, every test says so and is ignored.
//!
//! Everything that the tests make carries [`world::RUN_LABEL`] with a value of their own, and is looked for at the end.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, its helpers included"
)]

mod agents;
mod controller;
mod dns;
mod relays;
mod world;

use std::io::Write;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Completion, Trial};
use tokio::runtime::Runtime;

use world::World;

type Test = for<'a> fn(&'a World) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

/// Name and test. What a test returns as an error is why it can't be run here.
const TESTS: &[(&str, Test)] = &[
    ("image::is_made_once_and_runs_from_scratch", |w| {
        Box::pin(agents::image_runs(w))
    }),
    ("image::agents_call_each_other_by_name", |w| {
        Box::pin(agents::call_by_name(w))
    }),
    ("image::names_are_resolved_as_in_a_pod", |w| {
        Box::pin(agents::resolve_as_in_a_pod(w))
    }),
    ("relay::delays_and_heals", |w| Box::pin(relays::delays(w))),
    ("relay::partitions_and_loses_nothing", |w| {
        Box::pin(relays::partitions(w))
    }),
    ("relay::resets_both_ends", |w| Box::pin(relays::resets(w))),
    ("relay::sees_a_canary_in_plaintext_and_not_in_tls", |w| {
        Box::pin(relays::canaries(w))
    }),
    ("relay::heals_when_its_harness_is_killed", |w| {
        Box::pin(relays::killed_harness(w))
    }),
    ("relay::is_found_again_replaced_and_swept", |w| {
        Box::pin(relays::found_again(w))
    }),
    ("relay::needs_a_network_and_an_image", |w| Box::pin(relays::needs(w))),
];

fn main() -> ExitCode {
    if let Some(order) = controller::order() {
        return controller::obey(&order);
    }
    let arguments = Arguments::from_args();
    let runtime = Arc::new(Runtime::new().unwrap());
    let world = Arc::new(if arguments.list {
        Err("only listed".to_owned())
    } else {
        runtime.block_on(World::find())
    });
    let trials = TESTS
        .iter()
        .map(|(name, test)| {
            let (runtime, world) = (Arc::clone(&runtime), Arc::clone(&world));
            Trial::ignorable_test(*name, move || match &*world {
                Err(reason) => Ok(Completion::ignored_with(reason)),
                Ok(world) => Ok(match runtime.block_on(test(world)) {
                    Ok(()) => Completion::Completed,
                    Err(reason) => Completion::ignored_with(reason),
                }),
            })
        })
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    if let Ok(world) = &*world {
        let left = runtime.block_on(world.clean());
        if !left.is_empty() {
            let _ = writeln!(std::io::stderr(), "left on the Docker engine: {left:?}");
            return ExitCode::FAILURE;
        }
    }
    conclusion.exit_code()
}
