//! `docker exec` on a node: the few programs whose effects the network model has. Everything else is refused.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use meshproof_cluster::fabric::{Effect, EffectGuard, PathSelector};

use crate::exchange::{Failure, Terminal, not_modelled};
use crate::node_network::Consequence;
use crate::world::{Container, World};

/// Folder of a node in which a registry's mirrors are configured.
const REGISTRIES: &str = "/etc/containerd/certs.d/";

/// Runs a command on a node.
pub(super) async fn run(
    world: &World,
    terminal: &Terminal,
    container: &str,
    interactive: bool,
    command: &[&str],
) -> Result<(), Failure> {
    let node = world.state().container(container).cloned();
    let node =
        node.ok_or_else(|| Failure::new(format!("Error response from daemon: No such container: {container}")))?;
    if node.paused {
        return Err(Failure::new(format!(
            "Error response from daemon: container {} is paused, unpause the container before exec",
            node.id
        )));
    }
    let printed = match command {
        ["iptables", arguments @ ..] => lock(&node).iptables(arguments),
        ["iptables-save"] => Ok(lock(&node).iptables_save()),
        ["tc", arguments @ ..] => lock(&node).tc(arguments),
        ["pkill", signal @ ("-STOP" | "-CONT"), "kube-apiserver"] => {
            lock(&node).api_stopped = *signal == "-STOP";
            Ok(String::new())
        }
        ["ip", "route", operation @ ("replace" | "del"), range, rest @ ..] => {
            route(world, &node, operation, range, rest)
        }
        // Where images come from is decided by what was loaded, whatever a mirror is configured to.
        ["mkdir", "-p", path] if path.starts_with(REGISTRIES) => Ok(String::new()),
        ["cp", "/dev/stdin", path] if path.starts_with(REGISTRIES) && interactive => {
            let text = terminal.input().await;
            let mut files = node.files.lock().unwrap_or_else(PoisonError::into_inner);
            files.insert((*path).to_owned(), text);
            Ok(String::new())
        }
        // A dead man's switch: commands that wait for the end of the input.
        ["sh", "-c", script] if interactive => return wait_and_run(world, terminal, container, script).await,
        other => Err(not_modelled(&format!("`docker exec {container} {}`", other.join(" ")))),
    };
    terminal.out(&printed?);
    apply(world, &node).await;
    Ok(())
}

/// `echo WORD; cat > /dev/null; COMMAND; …`: says the word, and runs the commands when the input ends.
async fn wait_and_run(world: &World, terminal: &Terminal, container: &str, script: &str) -> Result<(), Failure> {
    let unknown = || not_modelled(&format!("`docker exec {container} sh -c {script}`"));
    let mut commands = script.split("; ");
    let word = commands.next().and_then(|first| first.strip_prefix("echo "));
    terminal.line(word.ok_or_else(unknown)?);
    if commands.next() != Some("cat > /dev/null") {
        return Err(unknown());
    }
    terminal.input().await;
    for command in commands {
        let words = shlex::split(command).ok_or_else(unknown)?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        // As in a shell, what fails does not keep the rest from being done.
        let _ = Box::pin(run(world, terminal, container, false, &words)).await;
    }
    Ok(())
}

fn lock(node: &Container) -> std::sync::MutexGuard<'_, crate::node_network::NodeNetwork> {
    node.shaping.lock().unwrap_or_else(PoisonError::into_inner)
}

fn route(world: &World, node: &Container, operation: &str, range: &str, rest: &[&str]) -> Result<String, Failure> {
    let unknown = || not_modelled(&format!("`ip route {operation} {range} {}`", rest.join(" ")));
    let range = range.parse().map_err(|_| unknown())?;
    match (operation, rest) {
        ("replace", ["via", gateway]) => {
            let state = world.state();
            let gateway_is_a_node = state
                .containers
                .values()
                .any(|other| other.address.to_string() == *gateway);
            if !gateway_is_a_node {
                return Err(Failure {
                    code: 2,
                    message: "Error: Nexthop has invalid gateway.".to_owned(),
                });
            }
            world.fabric.add_pod_route(&node.cluster, range);
            Ok(String::new())
        }
        ("del", []) if world.fabric.remove_pod_route(&node.cluster, range) => Ok(String::new()),
        ("del", []) => Err(Failure {
            code: 2,
            message: "RTNETLINK answers: No such process".to_owned(),
        }),
        _ => Err(unknown()),
    }
}

/// Puts into force what follows from the state of a node, and ends what no longer does.
pub(super) async fn apply(world: &World, node: &Container) {
    let mut wanted = lock(node).consequences();
    if node.paused {
        wanted.insert(Consequence::ApiUnreachable);
    }
    let unreachable = wanted.contains(&Consequence::ApiUnreachable);
    impose(world, node, &wanted);
    if let Some(cluster) = node.served.lock().await.as_ref() {
        if unreachable {
            cluster.api().pause();
        } else {
            cluster.api().resume();
        }
    }
}

fn impose(world: &World, node: &Container, wanted: &BTreeSet<Consequence>) {
    let mut shaping = lock(node);
    shaping.effects.retain(|consequence, _| wanted.contains(consequence));
    for consequence in wanted {
        if !shaping.effects.contains_key(consequence) {
            let guards = guards(world, node, *consequence);
            shaping.effects.insert(*consequence, guards);
        }
    }
}

fn guards(world: &World, node: &Container, consequence: Consequence) -> Vec<EffectGuard> {
    let (address, effect) = match consequence {
        Consequence::Cut(address) => (address, Effect::Blackhole),
        // What leaves a node late is late in one direction: of the connections that it opens, the requests, of those that
        // it answers, the replies. The model delays both directions of a connection, so each gets half. The delay is
        // what the caller measures: wall time.
        Consequence::Late(address, delay) => (
            address,
            Effect::Delay {
                each_way: delay.mul_f64(world.pace.factor() / 2.0),
                jitter: std::time::Duration::ZERO,
            },
        ),
        Consequence::ApiUnreachable => return Vec::new(),
    };
    let state = world.state();
    let peer = state.containers.values().find(|other| other.address == address);
    // An address that nobody has is nobody's loss.
    peer.map_or_else(Vec::new, |peer| {
        [(node, peer), (peer, node)]
            .map(|(from, to)| {
                world
                    .fabric
                    .impose(PathSelector::between(&from.cluster, &to.cluster), effect)
            })
            .into()
    })
}
