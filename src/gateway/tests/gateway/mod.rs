//! The SSH server of the gateway between OpenSSH's client and guests that speak the connection protocol by the mux.
#![allow(dead_code, clippy::unwrap_used)]

pub mod client;
pub mod guest;
pub mod sparks;
pub mod stranger;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use prometheus_client::registry::Registry;
use sparks_gateway::{
    config::SshLimits,
    secrets::Keys,
    ssh::{self, Metrics, Record, Settings, authorities::Authorities, dial::Guests},
};
use sparks_ssh::transport::{PrivateKey, ssh_key::private::Ed25519Keypair};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use guest::{Behaviour, Guest};
use sparks::FakeSparks;

/// Longest wait for anything that must happen.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Seeds of keys.
pub const GATEWAY_HOST: u8 = 1;
pub const GATEWAY_LOGIN: u8 = 2;
pub const CA: u8 = 3;
pub const ALICE: u8 = 10;
pub const MALLORY: u8 = 11;

pub fn key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

pub fn public(seed: u8) -> String {
    key(seed).public_key().to_openssh().unwrap()
}

/// A gateway, its Sparks, and a folder for clients.
pub struct Gateway {
    pub sparks: FakeSparks,
    pub address: SocketAddr,
    pub folder: TempDir,
    pub metrics: Metrics,
    pub stop: CancellationToken,
    pub server: JoinHandle<()>,
    guest_port: u16,
    guests: std::sync::atomic::AtomicU8,
}

/// What differs between tests.
pub struct Options {
    pub limits: SshLimits,
    pub with_ca: bool,
    pub recorder: Option<Arc<dyn Record>>,
    pub guest_within: Duration,
    pub default_namespace: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        let limits = SshLimits {
            ssh_max_connections: 1000,
            ssh_max_connections_per_namespace: None,
            ssh_max_startups: 100,
            ssh_max_startups_per_source: 100,
            ssh_login_grace: PATIENCE,
            ssh_proxy_protocol: false,
        };
        Self { limits, with_ca: false, recorder: None, guest_within: PATIENCE, default_namespace: None }
    }
}

impl Gateway {
    pub async fn start(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // All guests listen on the same port, of different loopback addresses.
        let probe = TcpListener::bind("127.0.0.2:0").await.unwrap();
        let guest_port = probe.local_addr().unwrap().port();
        drop(probe);
        let ca = options.with_ca.then(|| client::write(folder.path(), "ca.pub", &public(CA)));
        let sparks = FakeSparks::default();
        let metrics = Metrics::new(&mut Registry::default());
        let settings = Settings {
            sparks: sparks.clone(),
            keys: Keys { host: vec![key(GATEWAY_HOST)], certificates: Vec::new(), login: key(GATEWAY_LOGIN) },
            authorities: Authorities::new(ca).unwrap(),
            default_namespace: options.default_namespace,
            limits: options.limits,
            metrics: metrics.clone(),
            recorder: options.recorder,
            guests: Guests { port: guest_port, within: options.guest_within },
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let server = tokio::spawn(ssh::serve(settings, listener, stop.clone()));
        let guests = std::sync::atomic::AtomicU8::new(2);
        let gateway = Self { sparks, address, folder, metrics, stop, server, guest_port, guests };
        gateway.prepare_client();
        gateway
    }

    /// A Spark with a guest, which lets in the keys of these seeds.
    pub async fn spark(&self, name: &str, lines: &[String], behaviour: Behaviour) -> Guest {
        let number = self.guests.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let address = SocketAddr::new([127, 0, 0, number].into(), self.guest_port);
        let guest = Guest::start(address, number + 100, behaviour).await;
        self.sparks.add(name, lines, address.ip(), &public(number + 100));
        guest
    }

    /// A Spark called api.team-a, for Alice.
    pub async fn api(&self) -> Guest {
        self.spark("api.team-a", &[public(ALICE)], Behaviour::Serve).await
    }

    fn prepare_client(&self) {
        let folder = self.folder.path();
        for (name, seed) in [("alice", ALICE), ("mallory", MALLORY), ("ca", CA)] {
            client::write_key(folder, name, &key(seed));
        }
        let hosts: Vec<_> = (2..20)
            .map(|n| format!("*.team-* {}\n", public(n + 100)))
            .chain([format!("[127.0.0.1]:{} {}\n", self.address.port(), public(GATEWAY_HOST))])
            .collect();
        client::write(folder, "known_hosts", &hosts.concat());
        for (file, identity) in [("config", "alice"), ("config-mallory", "mallory")] {
            client::write(folder, file, &self.config(identity));
        }
    }

    fn config(&self, identity: &str) -> String {
        format!(
            "Host gw\n  HostName 127.0.0.1\n  Port {}\nHost *\n  UserKnownHostsFile {}\n  StrictHostKeyChecking yes\n  \
             BatchMode yes\n  IdentitiesOnly yes\n  IdentityFile {}\n  GlobalKnownHostsFile none\n",
            self.address.port(),
            self.path("known_hosts").display(),
            self.path(identity).display(),
        )
    }

    pub fn guest_port(&self) -> u16 {
        self.guest_port
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}
