//! Clusters that exist already, by kubeconfig context.
