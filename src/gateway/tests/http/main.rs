//! The HTTP server between real clients and real services on loopback; only the API server is not there.
#![allow(clippy::unwrap_used)]

mod access;
mod client;
mod connect;
mod errors;
mod grpc;
mod limits;
mod passing;
mod recordings;
mod reuse;
mod service;
mod ssh;
mod streams;
mod upgrades;
mod waking;
mod websockets;
mod world;
