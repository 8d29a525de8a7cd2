//! What Sparks does to a Linux node: btrfs volumes, and attaching them to pods that already run.
//!
//! Start at [`host`] for the two traits the node agent's reconciler uses ([`Volumes`], [`Containers`]), with
//! [`LinuxHost`] as the real implementation and [`FakeHost`] for tests. Below them, each module can be used alone:
//!
//! | module | what it knows |
//! |---|---|
//! | [`btrfs`] | the ioctls: subvolumes, snapshots, simple quotas |
//! | [`pool`] | the on-disk layout of one node's volumes, images and trash |
//! | [`safe_path`] | paths below a root that a tenant wrote |
//! | [`container`] | from a container ID to a process, and into its namespaces |
//! | [`attach`] | a volume becomes the root filesystem of a running pod |
//! | [`copy`] | an image's tree becomes a subvolume |
//!
//! All calls block; an async caller puts them on a blocking thread. Everything needs root in the initial user
//! namespace and, for [`container`], the host's PID namespace. Minimum kernel: 6.7 (btrfs simple quotas).

pub mod attach;
pub mod btrfs;
pub mod container;
pub mod copy;
pub mod fake;
pub mod host;
pub mod linux;
pub mod pool;
pub mod safe_path;
mod sys;

pub use fake::FakeHost;
pub use host::{Containers, Host, HostError, Volumes};
pub use linux::LinuxHost;
