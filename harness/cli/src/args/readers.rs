//! Which environments, and which ways of installing the mesh, read an option. An option that the chosen ones don't read is a
//! wrong command line: what is asked for is done or refused. One that stands in no row is read by none, so that a new one can't
//! be forgotten.

use clap::parser::ValueSource;
use clap::{ArgMatches, Command, ValueEnum};

use super::environment::{MeshFrom, On};

/// Who reads some options.
struct Readers {
    /// The options, by the names of their fields.
    options: &'static [&'static str],
    /// Environments that read them.
    on: &'static [On],
    /// Ways of installing the mesh with which they are read, where it is real; any when empty.
    from: &'static [MeshFrom],
}

const REAL: &[On] = &[On::Kind, On::Contexts];

const READERS: &[Readers] = &[
    Readers {
        options: &["on", "seed"],
        on: &[On::Embedded, On::Kind, On::Contexts],
        from: &[],
    },
    Readers {
        options: &["defects"],
        on: &[On::Embedded],
        from: &[],
    },
    Readers {
        options: &["pace"],
        on: &[On::Embedded, On::Contexts],
        from: &[],
    },
    Readers {
        options: &[
            "node_image",
            "load_images",
            "load_archives",
            "registry_mirror",
            "registry_caches",
            "reuse",
            "at_once",
            "no_relay",
            "kind_path",
            "agent_binary",
            "clusters",
        ],
        on: &[On::Kind],
        from: &[],
    },
    Readers {
        options: &["contexts", "apis", "node_addresses", "disruptive"],
        on: &[On::Contexts],
        from: &[],
    },
    Readers {
        options: &["from", "agent_image", "tool_deadline"],
        on: REAL,
        from: &[],
    },
    Readers {
        options: &[
            "gateway_api_crds",
            "set",
            "multicluster_set",
            // With charts, for links alone.
            "linkerd",
            "linkerd_version",
            "linkerd_sha256",
        ],
        on: REAL,
        from: &[MeshFrom::Cli, MeshFrom::Helm],
    },
    Readers {
        options: &["helm", "chart_crds", "chart_control_plane", "chart_multicluster"],
        on: REAL,
        from: &[MeshFrom::Helm],
    },
    // Scenarios with `upgrade` want clusters of their own, which contexts never are.
    Readers {
        options: &["upgrade_linkerd", "to", "sha256"],
        on: &[On::Kind],
        from: &[MeshFrom::Cli, MeshFrom::Helm],
    },
    Readers {
        options: &["crds", "upgrade_control_plane", "upgrade_multicluster"],
        on: &[On::Kind],
        from: &[MeshFrom::Helm],
    },
];

/// What is wrong with a command's options, if the environment that it chooses does not read one of them. Commands without an
/// environment read all that they have.
#[must_use]
pub fn unread(command: &Command, given: &ArgMatches) -> Option<String> {
    let on = *given.try_get_one::<On>("on").ok()??;
    let usual = match on {
        On::Embedded => None,
        On::Kind => Some(MeshFrom::Cli),
        On::Contexts => Some(MeshFrom::Preinstalled),
    };
    let from = given.get_one::<MeshFrom>("from").copied().or(usual);
    let said = |id: &str| given.value_source(id) == Some(ValueSource::CommandLine);
    options(command)
        .filter(|(id, _)| said(id))
        .find_map(|(id, flag)| refusal(id, flag, on, from))
}

/// The options of a command that an environment may read: ids and names on the command line.
fn options(command: &Command) -> impl Iterator<Item = (&str, &str)> {
    let of_environment = |id: &str| {
        let environment = <super::EnvironmentArgs as clap::Args>::augment_args(Command::new(""));
        id == "clusters" || environment.get_arguments().any(|known| known.get_id() == id)
    };
    command
        .get_arguments()
        .filter_map(|argument| Some((argument.get_id().as_str(), argument.get_long()?)))
        .filter(move |(id, _)| of_environment(id))
}

fn refusal(id: &str, flag: &str, on: On, from: Option<MeshFrom>) -> Option<String> {
    let readers = READERS.iter().find(|readers| readers.options.contains(&id));
    let Some(readers) = readers else {
        return Some(format!("--{flag} is read by no environment"));
    };
    if !readers.on.contains(&on) {
        return Some(format!(
            "--{flag} is not read with --on {}; it is for --on {}",
            name(on),
            names(readers.on)
        ));
    }
    let from = from.filter(|from| !readers.from.is_empty() && !readers.from.contains(from))?;
    Some(format!(
        "--{flag} is not read with --mesh-from {}; it is for --mesh-from {}",
        name(from),
        names(readers.from)
    ))
}

fn name(value: impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map(|value| value.get_name().to_owned()).unwrap_or_default()
}

fn names<T: ValueEnum>(values: &[T]) -> String {
    let names: Vec<String> = values.iter().cloned().map(name).collect();
    names.join(" or ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::{Args, Command, CommandFactory, ValueEnum};
    use rstest::rstest;

    use super::{READERS, name, unread};
    use crate::args::{Cli, DoctorArgs, EnvironmentArgs, On};

    fn told(words: &[&str]) -> Option<String> {
        let mut cli = Cli::command();
        let given = cli
            .try_get_matches_from_mut([&["meshproof"], words].concat())
            .unwrap_or_else(|error| panic!("{words:?}: {error}"));
        let (command, given) = given.subcommand().unwrap();
        unread(cli.find_subcommand(command).unwrap(), given)
    }

    #[test]
    fn every_option_has_readers_once() {
        let environment = EnvironmentArgs::augment_args(Command::new(""));
        let mut options: BTreeSet<&str> = environment
            .get_arguments()
            .map(|argument| argument.get_id().as_str())
            .collect();
        options.insert("clusters");
        let rows: Vec<&str> = READERS.iter().flat_map(|readers| readers.options).copied().collect();
        assert_eq!(rows.iter().copied().collect::<BTreeSet<_>>(), options);
        assert_eq!(rows.len(), options.len(), "an option stands in two rows");
    }

    /// Every option in every environment, through the parser.
    #[test]
    fn an_option_is_read_or_refused_everywhere() {
        let doctor = DoctorArgs::augment_args(Command::new(""));
        let environment = EnvironmentArgs::augment_args(Command::new(""));
        let mut tried = 0;
        for argument in doctor.get_arguments() {
            let (id, Some(flag)) = (argument.get_id().as_str(), argument.get_long()) else {
                continue;
            };
            let of_environment = environment.get_arguments().any(|known| known.get_id() == id) || id == "clusters";
            if id == "on" || !of_environment {
                continue;
            }
            let flag = format!("--{flag}");
            let value = match id {
                "pace" | "seed" | "at_once" | "tool_deadline" | "clusters" => "7",
                "from" => "helm",
                _ => "a=b",
            };
            for on in On::value_variants() {
                let on_name = name(*on);
                let mut words = vec!["doctor", "--on", &on_name, &flag];
                if argument.get_action().takes_values() {
                    words.push(value);
                }
                // What clap itself wants beside some.
                match id {
                    "linkerd_sha256" => words.extend(["--linkerd-version", "x"]),
                    "sha256" => words.extend(["--upgrade-to", "x"]),
                    "crds" | "upgrade_control_plane" | "upgrade_multicluster" => {
                        let all = [
                            "--upgrade-chart-crds",
                            "--upgrade-chart-control-plane",
                            "--upgrade-chart-multicluster",
                        ];
                        words.extend(
                            all.into_iter()
                                .filter(|other| *other != flag)
                                .flat_map(|other| [other, "x"]),
                        );
                    }
                    _ => {}
                }
                if id != "from" && *on != On::Embedded {
                    words.extend(["--mesh-from", "helm"]);
                }
                let readers = READERS.iter().find(|readers| readers.options.contains(&id)).unwrap();
                let said = told(&words);
                assert_eq!(said.is_none(), readers.on.contains(on), "{words:?}: {said:?}");
                tried += 1;
            }
        }
        assert!(tried > 90, "{tried}");
    }

    #[rstest]
    #[case(
        "run --context west=eks-west --context east=eks-east",
        "--context is not read with --on embedded; it is for --on contexts"
    )]
    #[case(
        "run --multicluster-set a=true",
        "--multicluster-set is not read with --on embedded; it is for --on kind or contexts"
    )]
    #[case("run --on embedded --node-image none", "--node-image")]
    #[case("up --linkerd /nonexistent", "--linkerd")]
    #[case("plan --on kind --pace 10", "--pace")]
    #[case("images --on kind --disruptive", "--disruptive")]
    #[case("run --on contexts --defect weights-ignored", "--defect")]
    #[case("run --on contexts --agent-binary x", "--agent-binary")]
    #[case(
        "run --on contexts --set a=b",
        "--set is not read with --mesh-from preinstalled; it is for --mesh-from cli or helm"
    )]
    #[case(
        "run --on kind --chart-crds x",
        "--chart-crds is not read with --mesh-from cli; it is for --mesh-from helm"
    )]
    #[case("run --on kind --helm x", "--helm")]
    #[case("run --on contexts --mesh-from cli --upgrade-to x", "--upgrade-to")]
    #[case("doctor --clusters 4", "--clusters")]
    fn what_nobody_reads_is_told_with_who_would(#[case] words: &str, #[case] expected: &str) {
        let words: Vec<&str> = words.split(' ').collect();
        let told = told(&words).unwrap_or_default();
        assert!(told.contains(expected), "{told}");
    }

    #[rstest]
    #[case("run")]
    #[case("run --pace 10 --seed 3 --defect weights-ignored")]
    #[case("run --on kind --set a=b --linkerd x --upgrade-linkerd y --at-once 2")]
    #[case("run --on kind --mesh-from helm --linkerd x --chart-crds y")]
    #[case("run --on contexts --context a=b --agent-image x --tool-deadline 5")]
    #[case("run --on contexts --mesh-from cli --set a=b --linkerd x")]
    #[case("gc --context a=b")]
    #[case("list --tag smoke")]
    fn what_is_read_is_taken(#[case] words: &str) {
        let words: Vec<&str> = words.split(' ').collect();
        assert_eq!(told(&words), None);
    }
}
