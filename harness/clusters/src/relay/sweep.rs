//! Removing relays that nobody owns any more.

use meshproof_engine::problem::Problem;
use meshproof_engine::tool::{Invocation, Tools};

use super::container::remove;
use super::{DOCKER_TIME, LINK_LABEL};

/// Removes all relays with a label, given as Docker filters take it: `<name>` or `<name>=<value>`. Returns their names.
/// Containers that are no relays are left alone.
///
/// # Errors
/// Those of the docker CLI; `relay-left` when one can't be removed.
pub async fn sweep(tools: &Tools, label: &str) -> Result<Vec<String>, Problem> {
    let list = Invocation::new(
        "docker",
        [
            "ps",
            "--all",
            "--filter",
            &format!("label={LINK_LABEL}"),
            "--filter",
            &format!("label={label}"),
            "--format",
            "{{.Names}}",
        ],
        DOCKER_TIME,
    );
    let output = tools.run(&list).await?;
    let names: Vec<String> = output.stdout.lines().map(|line| line.trim().to_owned()).collect();
    for name in &names {
        remove(tools, name).await?;
    }
    Ok(names)
}
