//! Connections that go from nodes and pods of one cluster straight to nodes of another, as those of controllers to the peer's API
//! server do: relays do not carry them.
//!
//! A pod has a network namespace of its own, and its sockets are only there; so every namespace of a node is looked at. A socket is
//! ended by `ss --kill`, which takes a kernel with `CONFIG_INET_DIAG_DESTROY` and does nothing without it: what counts is what is
//! listed afterwards.

use std::collections::BTreeSet;

use meshproof_engine::problem::{Problem, without_effect};
use meshproof_engine::tool::{Invocation, Tools};

use super::answers::Node;
use super::commands::Commands;

/// A connection as a node sees it: the node, its end and the peer's.
type Seen = (String, String, String);

/// What is done with the connections that are found.
#[derive(Clone, Copy)]
enum Doing {
    List,
    Kill,
}

/// A command that does it with all connections between a node, its pods and these peers.
fn command(commands: &Commands, node: &Node, peers: &[Node], doing: Doing) -> Invocation {
    let peers: Vec<String> = peers.iter().map(|peer| format!("dst {}", peer.address)).collect();
    let what = match doing {
        Doing::List => "state established",
        Doing::Kill => "--kill state connected",
    };
    // A namespace that is gone by the time it is entered took its sockets along.
    let script = format!(
        "for pid in $(lsns --noheadings --type net --output PID); do \
         nsenter --target \"$pid\" --net ss --no-header --tcp --numeric {what} '( {} )'; done; exit 0",
        peers.join(" or ")
    );
    commands.exec(&node.name, ["sh", "-c", &script])
}

/// Local and peer's address of each line of `ss`. An address of IPv4 may be written as one of IPv6.
fn ends(output: &str) -> impl Iterator<Item = (String, String)> {
    output.lines().filter_map(|line| {
        let mut addresses = line.split_whitespace().filter(|word| word.contains(':'));
        Some((addresses.next()?.to_owned(), addresses.next()?.to_owned()))
    })
}

/// Ends all connections between two clusters that no relay carries, and looks whether they are gone.
///
/// # Errors
/// Code `fault-without-effect` when there was none, or one of them is still there.
pub(super) async fn reset(
    tools: &Tools,
    commands: &Commands,
    (one, ones): (&str, &[Node]),
    (other, others): (&str, &[Node]),
) -> Result<(), Problem> {
    let ways = [(ones, others), (others, ones)];
    let before = list(tools, commands, &ways).await?;
    let what = format!("the reset between {one} and {other}");
    if before.is_empty() {
        return Err(without_effect(
            &what,
            "no connection is open between their nodes and pods",
        ));
    }
    for (here, there) in ways {
        for node in here {
            tools.run(&command(commands, node, there, Doing::Kill)).await?;
        }
    }
    let after = list(tools, commands, &ways).await?;
    match before.intersection(&after).next() {
        None => Ok(()),
        Some((node, local, peer)) => Err(without_effect(
            &what,
            &format!(
                "the connection from {local} to {peer} in {node} is still open; the kernel may lack CONFIG_INET_DIAG_DESTROY"
            ),
        )),
    }
}

async fn list(tools: &Tools, commands: &Commands, ways: &[(&[Node], &[Node])]) -> Result<BTreeSet<Seen>, Problem> {
    let mut seen = BTreeSet::new();
    for (here, there) in ways {
        for node in *here {
            let answer = tools.run(&command(commands, node, there, Doing::List)).await?;
            seen.extend(ends(&answer.stdout).map(|(local, peer)| (node.name.clone(), local, peer)));
        }
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::{Doing, Node, command, ends};
    use crate::kind::KindOptions;
    use crate::kind::commands::Commands;

    #[test]
    fn all_network_namespaces_of_a_node_are_looked_at() {
        let commands = Commands::new(&KindOptions::new("/configs", "/state"));
        let node = |name: &str, last: u8| Node {
            name: name.to_owned(),
            address: [172, 18, 0, last].into(),
            control_plane: true,
        };
        let peers = [node("east-control-plane", 3), node("east-worker", 4)];
        let listed = command(&commands, &node("west-control-plane", 2), &peers, Doing::List);
        assert_eq!(
            listed.arguments.last().unwrap(),
            "for pid in $(lsns --noheadings --type net --output PID); do nsenter --target \"$pid\" --net ss --no-header --tcp \
             --numeric state established '( dst 172.18.0.3 or dst 172.18.0.4 )'; done; exit 0"
        );
        let killed = command(&commands, &node("west-control-plane", 2), &peers, Doing::Kill);
        assert!(
            killed
                .arguments
                .last()
                .unwrap()
                .contains("--kill state connected '( dst 172.18.0.3")
        );
    }

    #[test]
    fn the_ends_of_connections_are_read() {
        let said = "0      0          10.10.0.7:41234       172.18.0.3:6443 \n\
                    0      0      [::ffff:172.18.0.2]:6443  [::ffff:172.18.0.3]:50112\n\n";
        let ends: Vec<(String, String)> = ends(said).collect();
        assert_eq!(
            ends,
            [
                ("10.10.0.7:41234".to_owned(), "172.18.0.3:6443".to_owned()),
                (
                    "[::ffff:172.18.0.2]:6443".to_owned(),
                    "[::ffff:172.18.0.3]:50112".to_owned()
                ),
            ]
        );
    }
}
