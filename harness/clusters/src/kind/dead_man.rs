//! Faults inside of nodes end when the harness does, however it does. Before a fault is begun, a shell in the node waits for the
//! end of its input, which this process holds open; then it takes the fault back. A process that is killed closes it as well.

use std::collections::BTreeMap;

use meshproof_engine::problem::Problem;
use meshproof_engine::tool::{HeldOpen, Invocation, Tools};

use super::commands::Commands;

/// What the shell prints when it waits.
const ARMED: &str = "armed";

/// Takes faults back when it is dropped, and when this process ends. That they are taken back already is as good.
#[derive(Default)]
pub(super) struct DeadMan(Vec<HeldOpen>);

impl DeadMan {
    /// Waits in each node for its turn. `healing` are commands in nodes, in order.
    ///
    /// # Errors
    /// When a shell can't be started in a node: without it a fault could outlive its run, and must not begin.
    pub(super) async fn arm(tools: &Tools, commands: &Commands, healing: &[Invocation]) -> Result<Self, Problem> {
        let mut by_node: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for command in healing {
            if let Some((node, line)) = in_node(command) {
                by_node.entry(node).or_default().push(line);
            }
        }
        let mut held = Vec::new();
        for (node, lines) in by_node {
            let script = format!("echo {ARMED}; cat > /dev/null; {}", lines.join("; "));
            held.push(tools.hold_open(&commands.wait_in(node, &script), ARMED).await?);
        }
        Ok(Self(held))
    }

    /// Takes the faults back now, and waits until that is done.
    pub(super) async fn end(self) {
        for held in self.0 {
            held.end().await;
        }
    }
}

/// The node of a `docker exec`, and what is run there, as it would be typed there.
fn in_node(command: &Invocation) -> Option<(&str, String)> {
    let mut words = command.arguments.iter().map(String::as_str);
    words.find(|word| *word == "exec")?;
    let node = words.next()?;
    let quoted: Option<Vec<String>> = words
        .map(|word| shlex::try_quote(word).ok().map(std::borrow::Cow::into_owned))
        .collect();
    Some((node, quoted?.join(" ")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use meshproof_engine::tool::Invocation;

    use super::in_node;

    #[test]
    fn commands_are_repeated_as_typed_in_the_node() {
        let arguments = [
            "exec",
            "west-control-plane",
            "iptables",
            "-D",
            "INPUT",
            "!",
            "-i",
            "lo",
            "a b",
        ];
        let command = Invocation::new("docker", arguments, Duration::from_secs(1));
        let (node, line) = in_node(&command).unwrap();
        assert_eq!(node, "west-control-plane");
        assert_eq!(shlex::split(&line).unwrap(), arguments[2..]);
    }
}
