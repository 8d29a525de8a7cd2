//! SSH into Sparks with the real OpenSSH client: through the gateway, by the gateway as a jump host, and by `spark ssh`.

mod editors;
mod entering;
mod files;
mod forwarding;
mod gateways;
mod many;
mod openssh;
mod recording;
mod refused;
mod sleeping;
mod terminal;
mod with_spark;

use std::{path::PathBuf, process::Command, sync::OnceLock};

use serde_json::{Value, json};
use sparks_tests::{Said, apply, eventually, get_spark, inside, run, shared, spark_object};

/// A key, and where the gateway is.
pub struct Door {
    folder: tempfile::TempDir,
    host: String,
    port: String,
}

/// The key that all Sparks of these tests trust.
pub fn door() -> &'static Door {
    static MADE: OnceLock<Door> = OnceLock::new();
    MADE.get_or_init(|| {
        let gateway = std::env::var("SPARKS_GATEWAY_SSH")
            .expect("SPARKS_GATEWAY_SSH names the gateway's host:port: run `make test`");
        let (host, port) = gateway.rsplit_once(':').unwrap();
        let folder = tempfile::tempdir().unwrap();
        let door = Door { host: host.into(), port: port.into(), folder };
        door.new_key("key");
        door
    })
}

impl Door {
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// A new key pair; gives the public half.
    pub fn new_key(&self, name: &str) -> String {
        let path = self.text(name);
        run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", &path], "").ok();
        self.public(name)
    }

    pub fn public(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(&format!("{name}.pub"))).unwrap().trim().to_owned()
    }

    /// Options of every OpenSSH program here, with this key.
    pub fn options(&self, key: &str) -> Vec<String> {
        let known = format!("UserKnownHostsFile={}", self.text("known_hosts"));
        let mut all: Vec<String> = ["-F", "none", "-i"].map(String::from).into();
        all.push(self.text(key));
        for option in ["IdentitiesOnly=yes", "StrictHostKeyChecking=accept-new", "LogLevel=ERROR", &known] {
            all.extend(["-o".to_owned(), option.to_owned()]);
        }
        all
    }

    /// Where a Spark is entered.
    pub fn place(&self, login: &str) -> String {
        format!("{login}@{}", self.host)
    }

    /// The words of `ssh` to this login, without a command.
    pub fn words(&self, key: &str, options: &[&str], login: &str) -> Vec<String> {
        let mut words = self.options(key);
        words.extend(["-p".into(), self.port.clone()]);
        words.extend(options.iter().map(|option| (*option).to_owned()));
        words.push(self.place(login));
        words
    }

    pub fn ssh(&self, options: &[&str], name: &str, command: &str, input: &str) -> Said {
        let mut words = self.words("key", options, &format!("{name}.{}", shared()));
        words.push(command.to_owned());
        run("ssh", &words.iter().map(String::as_str).collect::<Vec<_>>(), input)
    }

    /// `ssh` to a Spark, to be run with pipes of one's own.
    pub fn command(&self, options: &[&str], name: &str, command: &[&str]) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.args(self.words("key", options, &format!("{name}.{}", shared()))).args(command);
        ssh
    }

    /// `scp` or `sftp` with these arguments; `GATEWAY` in them stands for the Spark.
    pub fn copy(&self, program: &str, name: &str, arguments: &[&str], input: &str) -> Said {
        let mut words = self.options("key");
        words.extend(["-P".into(), self.port.clone()]);
        let place = self.place(&format!("{name}.{}", shared()));
        words.extend(arguments.iter().map(|argument| argument.replace("GATEWAY", &place)));
        run(program, &words.iter().map(String::as_str).collect::<Vec<_>>(), input)
    }
}

/// A fork of the tests' source that trusts the key. `more` goes over the spec.
pub fn enterable(name: &str, more: &Value) -> &'static Door {
    let mut spec = json!({"from": {"spark": "source"}, "ssh": {"authorizedKeys": [door().public("key")]}});
    if let (Some(spec), Some(more)) = (spec.as_object_mut(), more.as_object()) {
        spec.extend(more.clone());
    }
    apply(&spark_object(shared(), name, &spec)).ok();
    until_enterable(name);
    door()
}

/// The gateway knows of a Spark's keys through its status.
pub fn until_enterable(name: &str) {
    eventually("the Spark's keys in its status", || {
        let spark = get_spark(shared(), name);
        let ready = spark["status"]["phase"] == "Running" && spark["status"]["ssh"]["hostKey"].is_string();
        ready.then_some(())
    });
}

/// The user `dev` in the Spark that several tests enter.
pub fn another_user() {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| {
        inside(shared(), "house", "id dev || useradd -m -s /bin/bash dev").ok();
    });
}

/// A Spark that several tests enter and none changes in a way that another would notice.
pub fn guest_house() -> &'static Door {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| {
        enterable("house", &json!({}));
    });
    door()
}
