//! Paths into objects, held against their shape.

use crate::kind::Kind;
use crate::shape::{Fields, Shape};
use std::fmt;

/// One step of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// The field, or the key of a map, with this name.
    Field(&'a str),
    /// Some or all items of a list.
    Item,
}

/// A path that leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathError {
    /// Position of the step that is wrong, from 0.
    pub step: usize,
    /// What is wrong with it.
    pub wrong: WrongStep,
}

/// What is wrong with a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WrongStep {
    /// There is no such field among these.
    UnknownField(Fields),
    /// A field was named where something without fields stands: [`Shape::Scalar`] or [`Shape::List`].
    NoFields(Shape),
    /// Items were named where no list stands.
    NoItems(Shape),
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.wrong {
            WrongStep::UnknownField(fields) => {
                let known: Vec<&str> = fields.iter().map(|(name, _)| name).collect();
                write!(f, "no such field; there are {}", known.join(", "))
            }
            WrongStep::NoFields(shape) => write!(f, "{} stands here, which has no fields", shape.words()),
            WrongStep::NoItems(shape) => write!(f, "{} stands here, which has no items", shape.words()),
        }
    }
}

impl Kind {
    /// What stands at `path` in objects of this kind. Below a place that the schema leaves open, everything is
    /// [`Shape::FreeForm`].
    pub fn resolve(&'static self, path: &[Step<'_>]) -> Result<&'static Shape, PathError> {
        self.shape().resolve(path)
    }
}

impl Shape {
    /// As [`Kind::resolve`], from a place inside an object.
    pub fn resolve(&self, path: &[Step<'_>]) -> Result<&Shape, PathError> {
        let mut here = self;
        for (step, name) in path.iter().enumerate() {
            let wrong = |wrong| PathError { step, wrong };
            here = match (here, name) {
                (Shape::FreeForm, _) => here,
                (Shape::List(item), Step::Item) => item,
                (Shape::Map(value), Step::Field(_)) => value,
                (Shape::Object(fields), Step::Field(field)) => {
                    let found = fields
                        .get(field)
                        .ok_or_else(|| wrong(WrongStep::UnknownField(fields.clone())))?;
                    &found.shape
                }
                (_, Step::Field(_)) => return Err(wrong(WrongStep::NoFields(here.clone()))),
                (_, Step::Item) => return Err(wrong(WrongStep::NoItems(here.clone()))),
            };
        }
        Ok(here)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Step::{Field, Item};

    fn wrong(path: &[Step<'_>]) -> (usize, String) {
        let error = Kind::find("v1", "Endpoints").unwrap().resolve(path).unwrap_err();
        (error.step, error.to_string())
    }

    #[test]
    fn a_wrong_step_is_named() {
        assert_eq!(
            wrong(&[Field("subset")]),
            (
                0,
                "no such field; there are apiVersion, kind, metadata, subsets".to_owned()
            )
        );
        assert_eq!(
            wrong(&[Field("subsets"), Field("addresses")]),
            (1, "a list stands here, which has no fields".to_owned())
        );
        assert_eq!(
            wrong(&[Field("metadata"), Item]),
            (1, "an object stands here, which has no items".to_owned())
        );
        assert_eq!(
            wrong(&[Field("metadata"), Field("name"), Field("x")]),
            (2, "text stands here, which has no fields".to_owned())
        );
    }

    #[test]
    fn keys_of_maps_are_free() {
        let path = [Field("metadata"), Field("labels"), Field("anything.at/all")];
        assert!(
            Kind::find("v1", "Endpoints")
                .unwrap()
                .resolve(&path)
                .unwrap()
                .is_scalar()
        );
    }
}
