//! The lab, and what the end-to-end tests share.
//!
//! On a host whose processor has no vmx and no svm, `/dev/kvm` may open but no
//! Linux guest gets through its boot. [`lab`] makes such a host able to run
//! and test the microVM all the same; [`host::Host`] says which of the two
//! ways a host has to go.

pub mod conformance;
pub mod debian_system;
pub mod fixtures;
pub mod host;
pub mod kernels;
pub mod lab;
pub mod native;
pub mod tap;
