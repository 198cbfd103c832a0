//! The real kubectl, when there is one.
