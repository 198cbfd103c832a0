//! The controllers that kube-controller-manager and kube-proxy are made of, as far as scenarios need them.
//!
//! Owner garbage collection, token secrets and namespace termination are the API server's here.

mod deployment;
mod deployment_status;
mod endpoint_slices;
mod endpoints;
mod job;
mod load_balancer;
mod pod_set;
mod replica_set;
mod rollout;
mod service_proxy;
mod slice_mirroring;
mod slices;
mod stateful_set;
mod unsupported;

pub(crate) use deployment::DeploymentController;
pub(crate) use endpoint_slices::EndpointSliceController;
pub(crate) use endpoints::EndpointsController;
pub(crate) use job::JobController;
pub(crate) use load_balancer::LoadBalancerController;
pub(crate) use replica_set::ReplicaSetController;
pub(crate) use service_proxy::ServiceProxy;
pub(crate) use slice_mirroring::SliceMirroringController;
pub(crate) use stateful_set::StatefulSetController;
pub(crate) use unsupported::UnsupportedWorkloads;
