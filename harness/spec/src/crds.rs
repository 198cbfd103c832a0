//! `scenarios/crds/`: CustomResourceDefinitions, as Kubernetes has them, of the kinds that scenarios use and Kubernetes itself
//! does not have. Places in objects of these kinds are checked as those of built-in kinds are; kinds that are in neither are not.

use std::sync::Arc;

use meshproof_kinds::{CustomKind, Kind, Shape};

use crate::code;
use crate::diagnostic::Diagnostic;
use crate::source::Source;
use crate::yaml::{self, Limits, SourceMap};

/// The folder of a suite.
pub(crate) const FOLDER: &str = "crds";

/// Bounds of a file: definitions are large where every field has a description.
pub(crate) const LIMITS: Limits = Limits {
    bytes: 4 * 1024 * 1024,
    depth: 64,
    nodes: 200_000,
};

/// The kinds that a suite defines.
#[derive(Clone, Debug, Default)]
pub struct CustomKinds(Vec<CustomKind>);

impl CustomKinds {
    /// Adds what a file defines, or says what is wrong with it.
    pub(crate) fn add(&mut self, source: &Arc<Source>) -> Vec<Diagnostic> {
        let node = match yaml::read(source, LIMITS) {
            Ok(node) => node,
            Err(problems) => return problems,
        };
        let places = SourceMap::of(&node);
        let at = |pointer: &str| places.value(pointer).unwrap_or(&node.span).first_line();
        match CustomKind::declared_by(&node.to_value()) {
            Ok(kind) => {
                let same = |other: &CustomKind| other.group == kind.group && other.kind == kind.kind;
                if self.0.iter().any(same) {
                    return vec![
                        Diagnostic::error(
                            code::DUPLICATE_NAME,
                            format!("`{}` of `{}` is defined twice", kind.kind, kind.group),
                            at("/spec/names/kind"),
                        )
                        .help("keep one of the files"),
                    ];
                }
                self.0.push(kind);
                Vec::new()
            }
            Err(pointer) => vec![
                Diagnostic::error(
                    code::MISSING_FIELD,
                    "a file of `crds/` that defines no kind",
                    at(pointer),
                )
                .label(format!("has no `{}`", pointer.trim_start_matches('/').replace('/', ".")))
                .expected("one CustomResourceDefinition of `apiextensions.k8s.io/v1`, e.g. from `kubectl get crd <name> -o yaml`"),
            ],
        }
    }

    /// The kinds.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &CustomKind> {
        self.0.iter()
    }

    /// What objects of a kind may look like: one shape when its `apiVersion` is given, else those of all groups and versions
    /// that have a kind of this name. None when nobody knows the kind.
    pub(crate) fn shapes(&self, kind: &str, api_version: Option<&str>) -> Vec<&Shape> {
        let fits = |of_shape: &str| api_version.is_none_or(|wanted| wanted == of_shape);
        let built_in = Kind::named(kind).filter(|built_in| fits(built_in.api_version));
        let custom = self.0.iter().filter(|custom| custom.kind == kind).flat_map(|custom| {
            let shapes = custom.shapes();
            shapes.filter(|(version, _)| fits(&format!("{}/{version}", custom.group)))
        });
        let built_in = built_in.map(|kind| -> &Shape { kind.shape() });
        built_in.chain(custom.map(|(_, shape)| shape)).collect()
    }
}
