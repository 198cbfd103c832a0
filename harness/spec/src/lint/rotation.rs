//! `rotate`: what a step of replacing certificates says, and what has to come before it.

use std::collections::BTreeSet;

use super::{File, each, world::World};
use crate::code;
use crate::diagnostic::Diagnostic;
use crate::scalar::{Clusters, Name};
use crate::scenario::{Step, TrustStep};

/// Certificates are replaced in clusters, and credentials on a link; a new root is there before it is used, and used before
/// the old one goes.
pub(super) fn rotations_make_sense(file: &File<'_>, _: &World, problems: &mut Vec<Diagnostic>) {
    let mut added: BTreeSet<&Name> = BTreeSet::new();
    for (step, what) in file.steps() {
        let Step::Rotate(rotate) = what else { continue };
        let base = format!("/steps/{step}/rotate");
        let clusters = match (&rotate.trust, &rotate.r#in) {
            (Some(_), None) => {
                problems.push(
                    Diagnostic::error(
                        code::MISSING_FIELD,
                        "certificates are replaced, and nothing says where",
                        file.at(&format!("{base}/trust")),
                    )
                    .expected("`in` with the clusters, e.g. `rotate: {trust: issuer, in: west}`"),
                );
                continue;
            }
            (None, Some(_)) => {
                problems.push(
                    Diagnostic::error(
                        code::NOT_FOR_SUBJECT,
                        "`in` belongs to `trust` only",
                        file.key(&format!("{base}/in")),
                    )
                    .help("a link's credentials are replaced at both its ends; remove it"),
                );
                continue;
            }
            (_, clusters) => clusters.as_ref(),
        };
        let clusters: Vec<(String, &Name)> = clusters
            .map(|clusters: &Clusters| each(file, &format!("{base}/in"), clusters))
            .unwrap_or_default();
        match rotate.trust {
            Some(TrustStep::AddRoot) => added.extend(clusters.iter().map(|(_, cluster)| *cluster)),
            Some(TrustStep::UseRoot | TrustStep::DropRoot) if !file.incomplete => {
                for (pointer, cluster) in clusters {
                    if !added.contains(cluster) {
                        problems.push(
                            Diagnostic::error(
                                code::CONTRADICTION,
                                format!("`{cluster}` has no new root"),
                                file.at(&pointer),
                            )
                            .help(format!(
                                "add a step before: `- rotate: {{trust: add-root, in: {cluster}}}`"
                            )),
                        );
                    }
                }
            }
            _ => {}
        }
    }
}
