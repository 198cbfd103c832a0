//! The image of the traffic agent and the relay: one static binary and nothing else.

use std::path::{Path, PathBuf};
use std::time::Duration;

use meshproof_engine::plain_file;
use meshproof_engine::problem::{self, Problem};
use meshproof_engine::tool::{Invocation, Tools, unreadable};
use object::Endianness;
use object::elf::{EM_AARCH64, EM_X86_64, FileHeader64, PT_INTERP};
use object::read::elf::{FileHeader, ProgramHeader};
use sha2::{Digest, Sha256};

/// The image, unless told otherwise: its tag is the version of the harness, because both speak the same protocol.
pub const DEFAULT_IMAGE: &str = concat!("meshproof-agent:", env!("CARGO_PKG_VERSION"));
/// Label of an image with the SHA-256 of the binary in it.
pub const BINARY_LABEL: &str = "dev.meshproof.agent-binary";

/// How the image is made from a binary. Nobody's user id: clusters may refuse pods that run as root.
pub const DOCKERFILE: &str = "\
FROM scratch
COPY meshproof-agent /meshproof-agent
USER 65532:65532
ENTRYPOINT [\"/meshproof-agent\"]
";

/// Most bytes of a binary.
const LARGEST: u64 = 256 << 20;
/// Time for a call of the docker CLI.
const DOCKER_TIME: Duration = Duration::from_secs(60);
/// Time for building the image: copying a few megabytes to the engine.
const BUILD_TIME: Duration = Duration::from_secs(120);

/// Makes sure that the local engine has the image. With a `binary`, the image is made from it unless it already is; without
/// one it has to be there.
///
/// # Errors
/// Of class environment: `agent-image-missing`, `agent-binary-unreadable`, `agent-binary-dynamic`, `agent-binary-foreign`,
/// and those of the docker CLI.
pub async fn ensure(tools: &Tools, image: &str, binary: Option<PathBuf>) -> Result<(), Problem> {
    let Some(binary) = binary else {
        return needs(tools, image).await.map(drop);
    };
    let content = read(&binary)?;
    let architecture = architecture(&binary, &content)?;
    let digest = format!("{:x}", Sha256::digest(&content));
    if label(tools, image).await?.is_some_and(|of| of == digest) {
        return Ok(());
    }
    fits(tools, &binary, architecture).await?;
    let context = folder(&content)
        .await
        .map_err(|error| problem::harness("agent-image-context", format!("a temporary folder: {error}"), None))?;
    tools.run(&build(image, &digest, context.path())).await?;
    needs(tools, image).await.map(drop)
}

/// Looks whether an image can be made from a binary: the architecture that it is for. Nothing is made.
///
/// # Errors
/// `agent-binary-unreadable`, `agent-binary-dynamic`, `agent-binary-foreign`, and those of the docker CLI.
pub async fn examine(tools: &Tools, binary: &Path) -> Result<&'static str, Problem> {
    let architecture = architecture(binary, &read(binary)?)?;
    fits(tools, binary, architecture).await?;
    Ok(architecture)
}

fn read(binary: &Path) -> Result<Vec<u8>, Problem> {
    plain_file::read(binary, LARGEST).map_err(|error| unusable("agent-binary-unreadable", binary, &error.to_string()))
}

async fn fits(tools: &Tools, binary: &Path, architecture: &str) -> Result<(), Problem> {
    let engine = engine_architecture(tools).await?;
    if engine == architecture {
        return Ok(());
    }
    let what = format!("is for {architecture}, and the Docker engine runs {engine}");
    Err(unusable("agent-binary-foreign", binary, &what))
}

/// The commands of [`ensure`] with a binary, for printing.
#[must_use]
pub fn commands(image: &str) -> Vec<Invocation> {
    vec![build(
        image,
        "<sha256 of the binary>",
        Path::new("<folder with the binary>"),
    )]
}

/// The id of an image that has to be there.
///
/// # Errors
/// `agent-image-missing`, and those of the docker CLI.
pub(crate) async fn needs(tools: &Tools, image: &str) -> Result<String, Problem> {
    id(tools, image).await?.ok_or_else(|| {
        problem::environment(
            "agent-image-missing",
            format!("the Docker engine has no image `{image}`"),
            Some(&format!(
                "build it with `docker build --file harness/agent/Dockerfile --tag {image} .` in a checkout of meshproof, or, without a network, give a static binary of the agent with --agent-binary"
            )),
        )
    })
}

/// The id of an image; `None` when the engine has none of this name.
///
/// # Errors
/// Those of the docker CLI.
pub(crate) async fn id(tools: &Tools, image: &str) -> Result<Option<String>, Problem> {
    inspect(tools, image, "{{.Id}}").await
}

/// Name and tag of an image reference without a digest.
pub(crate) fn name_and_tag(image: &str) -> (String, String) {
    match image.rsplit_once(':') {
        // A slash behind it: the colon is a registry's port.
        Some((name, tag)) if !tag.contains('/') => (name.to_owned(), tag.to_owned()),
        _ => (image.to_owned(), "latest".to_owned()),
    }
}

/// The digest of the binary that an image was made from.
async fn label(tools: &Tools, image: &str) -> Result<Option<String>, Problem> {
    inspect(
        tools,
        image,
        &format!("{{{{index .Config.Labels \"{BINARY_LABEL}\"}}}}"),
    )
    .await
}

/// What an image says of itself; `None` when there is none of this name.
async fn inspect(tools: &Tools, image: &str, format: &str) -> Result<Option<String>, Problem> {
    let inspect = Invocation::new("docker", ["image", "inspect", image, "--format", format], DOCKER_TIME);
    let output = tools.try_run(&inspect).await?;
    if output.success() {
        return Ok(Some(output.stdout.trim().to_owned()));
    }
    if output.stderr.to_lowercase().contains("no such image") {
        return Ok(None);
    }
    // The engine may be gone: that tells nothing about the image.
    Err(meshproof_engine::tool::failed(&inspect, &output))
}

fn build(image: &str, digest: &str, context: &Path) -> Invocation {
    Invocation::new(
        "docker",
        [
            "build",
            "--quiet",
            "--tag",
            image,
            "--label",
            &format!("{BINARY_LABEL}={digest}"),
            &context.display().to_string(),
        ],
        BUILD_TIME,
    )
}

/// A build context.
async fn folder(binary: &[u8]) -> std::io::Result<tempfile::TempDir> {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir()?;
    tokio::fs::write(folder.path().join("Dockerfile"), DOCKERFILE).await?;
    let path = folder.path().join("meshproof-agent");
    tokio::fs::write(&path, binary).await?;
    // Others have to be allowed to run it: the container's user is nobody.
    tokio::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).await?;
    Ok(folder)
}

/// The architecture that the engine runs, as Go names it.
async fn engine_architecture(tools: &Tools) -> Result<String, Problem> {
    let version = Invocation::new("docker", ["version", "--format", "{{.Server.Arch}}"], DOCKER_TIME);
    let output = tools.run(&version).await?;
    match output.stdout.trim() {
        "" => Err(unreadable(&version, &output.stdout, "an architecture")),
        architecture => Ok(architecture.to_owned()),
    }
}

/// The architecture that a static Linux binary is for, as Go names it.
///
/// # Errors
/// `agent-binary-unreadable` when it is no such program, `agent-binary-dynamic` when it needs an interpreter, which an empty
/// image does not have.
fn architecture(path: &Path, content: &[u8]) -> Result<&'static str, Problem> {
    let no_program = |_| unusable("agent-binary-unreadable", path, "is not a 64-bit Linux program");
    let header = FileHeader64::<Endianness>::parse(content).map_err(no_program)?;
    let endian = header.endian().map_err(no_program)?;
    let segments = header.program_headers(endian, content).map_err(no_program)?;
    if segments.iter().any(|segment| segment.p_type(endian) == PT_INTERP) {
        let what = "needs a dynamic linker, which an image from scratch does not have";
        return Err(unusable("agent-binary-dynamic", path, what));
    }
    match header.e_machine(endian) {
        EM_X86_64 => Ok("amd64"),
        EM_AARCH64 => Ok("arm64"),
        other => {
            let what = format!("is for the ELF machine {other}; expected x86-64 or AArch64");
            Err(unusable("agent-binary-foreign", path, &what))
        }
    }
}

fn unusable(code: &str, path: &Path, what: &str) -> Problem {
    problem::environment(
        code,
        format!("{}: {what}", path.display()),
        Some(
            "build a static one: `cargo build --package meshproof-agent --profile dist --target x86_64-unknown-linux-musl` (or aarch64-…); for a gnu target with RUSTFLAGS=\"-C target-feature=+crt-static\"",
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// A program of 64 bit, little endian, with these segments.
    fn program(machine: u16, segments: &[u32]) -> Vec<u8> {
        let mut bytes = vec![0x7f, b'E', b'L', b'F', 2, 1, 1];
        bytes.resize(64 + 56 * segments.len(), 0);
        bytes[16..18].copy_from_slice(&3u16.to_le_bytes());
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes[20..24].copy_from_slice(&1u32.to_le_bytes());
        bytes[32..40].copy_from_slice(&64u64.to_le_bytes());
        bytes[52..54].copy_from_slice(&64u16.to_le_bytes());
        bytes[54..56].copy_from_slice(&56u16.to_le_bytes());
        bytes[56..58].copy_from_slice(&u16::try_from(segments.len()).unwrap().to_le_bytes());
        for (index, kind) in segments.iter().enumerate() {
            let at = 64 + 56 * index;
            bytes[at..at + 4].copy_from_slice(&kind.to_le_bytes());
        }
        bytes
    }

    fn judge(content: &[u8]) -> Result<&'static str, String> {
        architecture(Path::new("agent"), content).map_err(|problem| problem.code)
    }

    #[test]
    fn static_programs_are_taken_for_what_they_are() {
        // A static program may well have a dynamic section: it relocates itself (static-pie).
        assert_eq!(judge(&program(62, &[1, 2])), Ok("amd64"));
        assert_eq!(judge(&program(183, &[1])), Ok("arm64"));
    }

    #[rstest]
    #[case(program(62, &[1, 3]), "agent-binary-dynamic")]
    #[case(program(243, &[1]), "agent-binary-foreign")]
    #[case(b"#!/bin/sh\n".to_vec(), "agent-binary-unreadable")]
    #[case(Vec::new(), "agent-binary-unreadable")]
    #[case(program(62, &[1])[..70].to_vec(), "agent-binary-unreadable")]
    fn other_files_are_refused(#[case] content: Vec<u8>, #[case] code: &str) {
        assert_eq!(judge(&content), Err(code.to_owned()));
    }

    #[test]
    fn this_very_program_is_dynamic() {
        let content = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let problem = architecture(Path::new("test"), &content).unwrap_err();
        assert_eq!(problem.code, "agent-binary-dynamic");
        assert!(problem.remedy.unwrap().contains("--target x86_64-unknown-linux-musl"));
    }

    #[rstest]
    #[case("meshproof-agent:0.1.0", "meshproof-agent", "0.1.0")]
    #[case("meshproof-agent", "meshproof-agent", "latest")]
    #[case("localhost:5000/agent", "localhost:5000/agent", "latest")]
    #[case("localhost:5000/a/agent:x", "localhost:5000/a/agent", "x")]
    fn references_are_taken_apart(#[case] image: &str, #[case] name: &str, #[case] tag: &str) {
        assert_eq!(name_and_tag(image), (name.to_owned(), tag.to_owned()));
    }

    #[test]
    fn the_build_prints_as_typed() {
        let printed: Vec<String> = commands(DEFAULT_IMAGE).iter().map(ToString::to_string).collect();
        let version = env!("CARGO_PKG_VERSION");
        let expected = format!(
            "docker build --quiet --tag meshproof-agent:{version} --label 'dev.meshproof.agent-binary=<sha256 of the binary>' '<folder with the binary>'"
        );
        assert_eq!(printed, [expected]);
    }

    /// The last lines of the recipe for users make the same image.
    #[test]
    fn the_recipe_for_users_makes_the_same_image() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let recipe = std::fs::read_to_string(root.join("harness/agent/Dockerfile")).unwrap();
        let (build, image) = recipe.split_once("FROM scratch\n").unwrap();
        let own = DOCKERFILE.strip_prefix("FROM scratch\n").unwrap();
        let copied = image.replace("COPY --from=build /src/target/meshproof-agent", "COPY meshproof-agent");
        assert_eq!(copied, own);

        let toolchain = std::fs::read_to_string(root.join("rust-toolchain.toml")).unwrap();
        let version = toolchain.split('"').nth(1).unwrap();
        assert!(
            build.contains(&format!("FROM rust:{version}-alpine AS build\n")),
            "{build}"
        );
        assert!(
            build.contains("cargo build --locked --package meshproof-agent --profile dist\n"),
            "{build}"
        );
        let ignored = std::fs::read_to_string(root.join("harness/agent/Dockerfile.dockerignore")).unwrap();
        assert!(
            ignored.starts_with("*\n"),
            "everything but what is listed stays out: {ignored}"
        );
    }
}
