//! Named volumes, without contents. A node's volume is anonymous and goes with it.

use clap::Subcommand;
use serde_json::{Value, json};

use super::{filtered, labels, print_rows};
use crate::exchange::{Failure, Terminal};
use crate::world::World;

/// `docker volume`.
#[derive(Subcommand)]
pub(super) enum Volume {
    Create {
        #[arg(long)]
        label: Vec<String>,
        name: String,
    },
    Ls {
        #[arg(short, long)]
        quiet: bool,
        #[arg(long)]
        filter: Vec<String>,
        #[arg(long)]
        format: Option<String>,
    },
    Rm {
        names: Vec<String>,
    },
}

pub(super) fn volume(world: &World, terminal: &Terminal, command: Volume) -> Result<(), Failure> {
    match command {
        Volume::Create { label, name } => {
            // One that is there stays as it is.
            world
                .state()
                .volumes
                .entry(name.clone())
                .or_insert_with(|| labels(&label));
            terminal.line(&name);
            Ok(())
        }
        Volume::Ls { quiet, filter, format } => {
            let rows: Vec<Value> = {
                let state = world.state();
                let row = |(name, labels)| json!({"ID": name, "Name": name, "Driver": "local", "Labels": labels});
                state.volumes.iter().map(row).collect()
            };
            let rows = filtered(rows, &filter, "Name")?;
            let columns = [("DRIVER", "Driver"), ("VOLUME NAME", "Name")];
            print_rows(terminal, &rows, format.as_deref(), quiet, &columns)
        }
        Volume::Rm { names } => {
            for name in names {
                let mut state = world.state();
                let user = state.registries.values().find(|user| user.volumes.contains(&name));
                if let Some(user) = user {
                    return Err(Failure::new(format!(
                        "Error response from daemon: remove {name}: volume is in use - [{}]",
                        user.id
                    )));
                }
                if state.volumes.remove(&name).is_none() {
                    return Err(Failure::new(format!(
                        "Error response from daemon: get {name}: no such volume"
                    )));
                }
                terminal.line(&name);
            }
            Ok(())
        }
    }
}
