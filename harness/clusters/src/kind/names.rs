//! Names of environments, kind clusters and nodes: short enough for all that is derived from them, and distinct.

use sha2::{Digest, Sha256};

/// Longest name of a kind cluster: with `-control-plane` it is a node's name, which Kubernetes also writes into a label
/// (63 characters).
const LONGEST_CLUSTER: usize = 48;

/// Longest name of an environment: room for a short name of a cluster behind it.
const LONGEST_ENVIRONMENT: usize = 34;

/// `<prefix>-<key>`, in characters that kind and Docker take.
pub(super) fn environment(prefix: &str, key: &str) -> String {
    let slug: String = key
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let plain = format!("{prefix}-{slug}");
    if slug == key {
        short(&plain, key, LONGEST_ENVIRONMENT)
    } else {
        // Keys that differ only in what was replaced would look the same.
        cut(&plain, key, LONGEST_ENVIRONMENT)
    }
}

/// `<environment>-<cluster>`.
pub(super) fn cluster(environment: &str, cluster: &str) -> String {
    let plain = format!("{environment}-{cluster}");
    short(&plain, &plain, LONGEST_CLUSTER)
}

/// Names that kind gives to nodes of these roles, in order: `x-control-plane`, `x-worker`, `x-worker2` …
pub(super) fn nodes(cluster: &str, workers: usize) -> Vec<String> {
    let mut names = vec![format!("{cluster}-control-plane")];
    names.extend((1..=workers).map(|number| match number {
        1 => format!("{cluster}-worker"),
        _ => format!("{cluster}-worker{number}"),
    }));
    names
}

fn short(plain: &str, distinct: &str, longest: usize) -> String {
    if plain.len() <= longest {
        plain.to_owned()
    } else {
        cut(plain, distinct, longest)
    }
}

fn cut(plain: &str, distinct: &str, longest: usize) -> String {
    let digest = hex(&Sha256::digest(distinct.as_bytes()));
    let room = longest - 7;
    let kept: String = plain.chars().take(room).collect();
    format!("{}-{}", kept.trim_end_matches('-'), &digest[..6])
}

/// Bytes as lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{LONGEST_CLUSTER, LONGEST_ENVIRONMENT, cluster, environment, nodes};

    #[test]
    fn plain_keys_are_readable() {
        assert_eq!(environment("meshproof", "pair"), "meshproof-pair");
        assert_eq!(cluster("meshproof-pair", "west"), "meshproof-pair-west");
        assert_eq!(
            nodes("meshproof-pair-west", 2),
            [
                "meshproof-pair-west-control-plane",
                "meshproof-pair-west-worker",
                "meshproof-pair-west-worker2"
            ]
        );
    }

    #[test]
    fn keys_that_look_alike_stay_apart() {
        assert_ne!(environment("m", "pair.a"), environment("m", "pair-a"));
        assert_ne!(environment("m", "pair.a"), environment("m", "pair#a"));
    }

    proptest! {
        #[test]
        fn names_are_valid_and_fit(key in "[a-z][a-zA-Z0-9.#-]{0,80}", name in "[a-z][a-z0-9-]{0,38}[a-z0-9]") {
            let environment = environment("meshproof", &key);
            prop_assert!(environment.len() <= LONGEST_ENVIRONMENT);
            let cluster = cluster(&environment, &name);
            prop_assert!(cluster.len() <= LONGEST_CLUSTER);
            let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            prop_assert!(cluster.chars().all(fine), "{}", cluster);
            let node = nodes(&cluster, 1).remove(0);
            prop_assert!(node.len() <= 63 && !node.starts_with('-') && !node.ends_with('-'));
        }

        #[test]
        fn clusters_of_an_environment_are_distinct(one in "[a-z][a-z0-9-]{30,38}", other in "[a-z][a-z0-9-]{30,38}") {
            prop_assume!(one != other);
            prop_assert_ne!(cluster("meshproof-pair", &one), cluster("meshproof-pair", &other));
        }
    }
}
