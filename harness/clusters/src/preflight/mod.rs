//! What has to be true of the host and the clusters before a run.
