//! Everything on a real cluster, by the rules that users rely on.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod bad_input;
mod forks;
mod gitops;
mod http;
mod inside;
mod installation;
mod kills;
mod lifecycle;
mod service;
mod ssh;
