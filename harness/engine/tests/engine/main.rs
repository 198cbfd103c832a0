//! The engine against real API servers and pods, without a mesh.

mod endings;
mod scenarios;
mod watching;
mod world;
