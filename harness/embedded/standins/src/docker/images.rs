//! Images of the container engine: names, ids and entry points, without contents.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Build, ImageCommand, describe, labels, print_inspected};
use crate::exchange::{Call, Failure, Terminal, not_modelled};
use crate::world::{Image, World, tagged};

/// `docker image`.
pub(super) fn image(world: &World, terminal: &Terminal, command: ImageCommand) -> Result<(), Failure> {
    match command {
        ImageCommand::Inspect(options) => {
            let (mut found, mut missing) = (Vec::new(), None);
            for name in &options.names {
                match world.state().image(name) {
                    Some(image) => found.push(describe::image(image)),
                    None => {
                        let message = format!("Error response from daemon: No such image: {}", tagged(name));
                        missing = missing.or(Some(message));
                    }
                }
            }
            print_inspected(terminal, options.format.as_deref(), &found, missing)
        }
        ImageCommand::Ls => {
            list_images(world, terminal);
            Ok(())
        }
        ImageCommand::Rm { names } => {
            for name in names {
                let mut state = world.state();
                let found = state.image(&name).map(|image| image.name.clone());
                let found = found.ok_or_else(|| {
                    Failure::new(format!("Error response from daemon: No such image: {}", tagged(&name)))
                })?;
                state.images.retain(|image| image.name != found);
                terminal.line(&format!("Untagged: {found}"));
            }
            Ok(())
        }
    }
}

/// `docker image ls`.
pub(super) fn list_images(world: &World, terminal: &Terminal) {
    terminal.line("IMAGE                                  ID");
    for image in &world.state().images {
        terminal.line(&format!("{:38} {}", image.name, image.id.get(..12).unwrap_or_default()));
    }
}

/// An image of the file's last `ENTRYPOINT`, without anything in it. Nothing is run and nothing is pulled.
pub(super) async fn build(world: &World, call: &Call, terminal: &Terminal, options: &Build) -> Result<(), Failure> {
    let text = match (options.file.as_deref(), options.context.as_str()) {
        (Some("-"), _) | (None, "-") => terminal.input().await,
        (Some(file), _) => call.read(file)?,
        (None, context) => call.read(&format!("{context}/Dockerfile"))?,
    };
    if options.tag.is_empty() {
        return Err(not_modelled("docker build without --tag"));
    }
    let entry_point = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("ENTRYPOINT"))
        .filter_map(|words| serde_json::from_str::<Vec<String>>(words.trim()).ok())
        .filter_map(|words| words.first()?.rsplit('/').next().map(ToOwned::to_owned))
        .next_back();
    let mut state = world.state();
    let id = state.id(&text);
    for name in &options.tag {
        state.add_image(Image {
            id: id.clone(),
            name: tagged(name),
            entry_point: entry_point.clone(),
            labels: labels(&options.label),
            created: jiff::Timestamp::now(),
        });
    }
    if options.quiet {
        terminal.line(&format!("sha256:{id}"));
    } else {
        terminal.note(&format!("#1 writing image sha256:{id} done"));
    }
    Ok(())
}

/// What stands in an archive of `docker save` here.
#[derive(Serialize, Deserialize)]
struct Archived {
    id: String,
    name: String,
    entry_point: Option<String>,
}

/// `docker save`.
pub(super) fn save(world: &World, call: &Call, output: &str, names: &[String]) -> Result<(), Failure> {
    let mut archive = Vec::new();
    for name in names {
        let image = world.state().image(name).cloned();
        let image = image
            .ok_or_else(|| Failure::new(format!("Error response from daemon: reference does not exist: {name}")))?;
        archive.push(Archived {
            id: image.id,
            name: image.name,
            entry_point: image.entry_point,
        });
    }
    let text = serde_json::to_string(&archive).map_err(|error| Failure::new(error.to_string()))?;
    std::fs::write(call.path(output), text).map_err(|error| Failure::new(format!("open {output}: {error}")))
}

/// The images of an archive that `docker save` wrote here; `None` for any other file.
pub(crate) fn read_archive(text: &str) -> Option<Vec<Image>> {
    let archive: Vec<Archived> = serde_json::from_str(text).ok()?;
    let image = |archived: Archived| Image {
        id: archived.id,
        name: archived.name,
        entry_point: archived.entry_point,
        labels: BTreeMap::new(),
        created: jiff::Timestamp::now(),
    };
    Some(archive.into_iter().map(image).collect())
}
