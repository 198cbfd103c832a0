//! Clusters made with `kind`.
