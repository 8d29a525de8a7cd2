//! The Sparks, the keys and the configuration of ssh that everything here shares.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;
use serde_json::{Value, json};
use sparks_tests::{
    Space, apply, eventually, get, get_spark, inside, pool, run, select, spark, spark_object, until_reason,
};

use crate::{
    Arguments, http,
    route::{ALL, Route},
};

/// Port of the sshd.
const SSHD_PORT: u16 = 2200;
/// What is read in a Spark: a file of holes, which comes out of the page cache and never from a disk.
pub const FAR_FILE: &str = "/srv/data";
/// What our server and OpenSSH's client of before 9.9 agree on. Newer ones agree on mlkem768x25519-sha256, as their sshd.
pub const ALIKE_CIPHER: &str = "aes256-gcm@openssh.com";
/// The key exchange.
pub const ALIKE_EXCHANGE: &str = "curve25519-sha256";
/// Warm pods.
const POOL: i32 = 3;

/// A namespace with Sparks, and how they are reached.
pub struct World {
    space: Space,
    folder: tempfile::TempDir,
    gateway_url: String,
    /// Versions of OpenSSH: the client's and the sshd's.
    pub versions: [String; 2],
}

impl World {
    /// Makes the Sparks, and waits until each can be reached by every way.
    pub fn prepare(arguments: &Arguments) -> anyhow::Result<Self> {
        // In memory, so that what is sent and received here doesn't wait for a disk.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())?;
        let (space, client) = (Space::new("bench-ssh"), run("ssh", &["-V"], "").err);
        let gateway_url = format!("http://{}", arguments.gateway_http);
        let versions = [client.trim().to_owned(), String::new()];
        let mut world = Self { space, folder, gateway_url, versions };
        apply(&pool(world.namespace(), POOL)).ok();
        world.make_key();
        world.make_origin(arguments)?;
        world.make_sparks()?;
        world.write_configuration(arguments)?;
        write_zeros(&world.near_file(), arguments.mib)?;
        for route in ALL {
            eventually(route.title(), || {
                world.ssh(route).arg("true").output().ok()?.status.success().then_some(())
            });
        }
        world.check_spark()?;
        Ok(world)
    }

    /// It says nothing when it goes by way of the API server instead, where a connection has no address.
    fn check_spark(&self) -> anyhow::Result<()> {
        let said = self.ssh(Route::Spark).arg("echo $SSH_CONNECTION").output()?;
        anyhow::ensure!(!said.stdout.starts_with(b"127.0.0.1 65535 "), "`spark ssh` can't reach the gateway");
        Ok(())
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.space.0
    }

    /// A file of this name, in memory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What is sent to a Spark.
    pub fn near_file(&self) -> PathBuf {
        self.path("data")
    }

    /// `ssh`, `scp` or `sftp` with our configuration, or as a verb of `spark`.
    pub fn openssh(&self, program: &str, route: Route) -> Command {
        let mut command = Command::new(if route == Route::Spark { "spark" } else { program });
        if route == Route::Spark {
            command.env("HOME", self.folder.path()).env("SPARKS_GATEWAY_URL", &self.gateway_url);
            command.args(["-n", self.namespace(), program]);
        } else {
            command.arg("-F").arg(self.path("config"));
        }
        command
    }

    /// `ssh` by this way; a command comes behind it.
    pub fn ssh(&self, route: Route) -> Command {
        let mut command = self.openssh("ssh", route);
        command.arg(route.host());
        command
    }

    fn make_key(&self) {
        let path = self.path("key").display().to_string();
        run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &path], "").ok();
    }

    fn public_key(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.path("key.pub"))?.trim().to_owned())
    }

    /// The Spark that the others are forks of: with OpenSSH's sshd, which trusts the key.
    fn make_origin(&mut self, arguments: &Arguments) -> anyhow::Result<()> {
        let namespace = self.namespace();
        spark(namespace, &["new", "origin", "--image", &arguments.image]).ok();
        let key = self.public_key()?;
        let said = inside(
            namespace,
            "origin",
            &format!(
                "set -e; export DEBIAN_FRONTEND=noninteractive
                apt-get update -qq; apt-get install -y -qq --no-install-recommends openssh-server
                mkdir -p -m 700 /root/.ssh; echo '{key}' > /root/.ssh/authorized_keys
                mkdir -p /srv; truncate -s {}M {FAR_FILE}; sync",
                arguments.mib
            ),
        );
        anyhow::ensure!(said.code == 0, "can't install openssh-server in the Spark: {}", said.err);
        self.versions[1] = inside(namespace, "origin", "dpkg-query -Wf '${Version}' openssh-server").ok();
        Ok(())
    }

    /// Makes a fork of the origin with what the spec says.
    fn fork(&self, name: &str, mut spec: Value) {
        spec["from"] = json!({"spark": "origin"});
        apply(&spark_object(self.namespace(), name, &spec)).ok();
    }

    /// Makes further Sparks that the key can enter, and waits for them.
    pub fn enterable(&self, names: &[String]) -> anyhow::Result<()> {
        let key = self.public_key()?;
        for name in names {
            self.fork(name, json!({"ssh": {"authorizedKeys": [key]}}));
        }
        for name in names {
            let mut ssh = self.ssh_to(name);
            ssh.arg("true");
            eventually(name, || ssh.output().ok()?.status.success().then_some(()));
        }
        Ok(())
    }

    /// `ssh` to this Spark through the gateway.
    pub fn ssh_to(&self, name: &str) -> Command {
        let mut command = self.openssh("ssh", Route::Gateway);
        command.args(["-l", &format!("{name}.{}", self.namespace()), Route::Gateway.host()]);
        command
    }

    fn make_sparks(&self) -> anyhow::Result<()> {
        let key = self.public_key()?;
        let namespace = self.namespace();
        let ssh = json!({"authorizedKeys": [key]});
        // Room for the file in the page cache.
        let resources = json!({"requests": {"memory": "256Mi"}, "limits": {"memory": "6Gi"}});
        let sshd = format!("mkdir -p /run/sshd; exec /usr/sbin/sshd -D -p {SSHD_PORT}");
        let doze = json!({"idleTimeout": "1s"});
        let sleepy_service = http::service(http::own_start(namespace));
        let all = [
            ("sshd", json!({"service": {"command": ["sh", "-c", sshd]}, "resources": resources})),
            ("here", json!({"ssh": ssh, "resources": resources})),
            ("sleeper", json!({"ssh": ssh, "lifecycle": doze})),
            (http::NAME, json!({"service": sleepy_service, "lifecycle": doze})),
        ];
        for (name, spec) in all {
            self.fork(name, spec);
        }
        for name in ["sshd", "here"] {
            until_reason(namespace, name, "Running");
            inside(namespace, name, &format!("cat {FAR_FILE} > /dev/null")).ok();
        }
        Ok(())
    }

    fn write_configuration(&self, arguments: &Arguments) -> anyhow::Result<()> {
        let gateway = arguments.gateway_ssh.rsplit_once(':');
        let (host, port) = gateway.context("the gateway's address is HOST:PORT")?;
        let (namespace, folder) = (self.namespace(), self.folder.path().display());
        let ip = pod_ip(namespace, "sshd");
        let text = format!(
            "Host *-alike\n  Ciphers {ALIKE_CIPHER}\n  KexAlgorithms {ALIKE_EXCHANGE}\n\
             Host sshd sshd-alike\n  HostName {ip}\n  Port {SSHD_PORT}\n  User root\n\
             Host gateway gateway-alike\n  HostName {host}\n  Port {port}\n  User here.{namespace}\n\
             Host door door-alike\n  HostName {host}\n  Port {port}\n  User jump\n\
             Host jump\n  ProxyJump door\n\
             Host jump-alike\n  ProxyJump door-alike\n\
             Host jump jump-alike\n  HostName here.{namespace}\n  User root\n\
             Host *\n  IdentityFile {folder}/key\n  IdentitiesOnly yes\n  StrictHostKeyChecking accept-new\n  \
             UserKnownHostsFile {folder}/known_hosts\n  LogLevel ERROR\n  BatchMode yes\n  \
             IgnoreUnknown ObscureKeystrokeTiming\n  ObscureKeystrokeTiming no\n"
        );
        Ok(std::fs::write(self.path("config"), text)?)
    }

    /// Waits until a Spark sleeps and nothing else goes on: no pod of it, and the pool full.
    pub fn until_asleep(&self, name: &str) {
        let namespace = self.namespace();
        until_reason(namespace, name, "Sleeping");
        eventually("the end of its pod", || {
            select(namespace, "pods", &format!("sparks.loop.work/spark={name}")).is_empty().then_some(())
        });
        eventually("a full pool", || {
            let status = get(namespace, "sparkpools.sparks.loop.work", "warm")?["status"].clone();
            (status["warm"] == POOL && status["starting"].as_i64().unwrap_or(0) == 0).then_some(())
        });
        // What the end of a pod leaves to do for the kubelet is not the next one's start.
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}

/// The address of a Spark's pod.
pub fn pod_ip(namespace: &str, name: &str) -> String {
    let known = |spark: &Value| spark["status"]["podIP"].as_str().map(str::to_owned);
    eventually("the address of a pod", || known(&get_spark(namespace, name)))
}

/// Not a hole: what is sent shall be read from memory.
fn write_zeros(path: &Path, mib: u64) -> anyhow::Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let zeros = vec![0; 1 << 20];
    for _ in 0..mib {
        file.write_all(&zeros)?;
    }
    Ok(file.flush()?)
}
