//! The built-in kinds of Kubernetes and the schemas of their objects, and those of custom kinds.
//!
//! **Responsible for** which kinds Kubernetes itself has in its stable versions ([`Kind`]), which fields their objects have
//! ([`Shape`], [`openapi`]), and how a place in an object is written ([`ObjectPath`]). The first two are taken from `k8s-openapi`, which is generated from Kubernetes' own
//! OpenAPI document; nothing is written down a second time. Custom kinds ([`CustomKind`]) have the shape that their
//! CustomResourceDefinition declares; which there are is told by whoever has the definitions.
//!
//! **Must not know** of clusters, scenarios, or which kinds a server serves. No I/O.
//!
//! Shapes are made for all kinds together when the first one is asked for, are small (no descriptions) and shared by the whole
//! process. Documents for clients ([`openapi`]) are made anew at each call, because they are large and rarely wanted.
//!
//! ```
//! use meshproof_kinds::{Kind, Step};
//!
//! let service = Kind::find("v1", "Service").unwrap();
//! let path = [Step::Field("spec"), Step::Field("ports"), Step::Item, Step::Field("port")];
//! assert!(service.resolve(&path).unwrap().is_scalar());
//! let typo = service.resolve(&[Step::Field("spec"), Step::Field("port")]).unwrap_err();
//! assert_eq!(typo.step, 1);
//! ```

mod custom;
mod kind;
mod object_path;
pub mod openapi;
mod path;
mod shape;

pub use custom::CustomKind;
pub use kind::Kind;
pub use object_path::{Found, ObjectPath, ObjectPathError};
pub use path::{PathError, Step, WrongStep};
pub use shape::{Field, Fields, Scalar, Shape};
