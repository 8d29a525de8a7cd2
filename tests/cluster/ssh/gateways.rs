//! Replicas of the gateway are equal, and one that dies takes only its own connections along.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Lines, Write},
    os::unix::fs::chown,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::{Value, json};
use sparks_tests::{
    Said, apply, eventually, get, get_spark, inside, kubectl, run, select, shared, until_reason,
};

use super::{Door, door, enterable};

const SYSTEM: &str = "sparks-system";
/// Whom the gateway's processes run as.
const GATEWAY_USER: u32 = 65532;

/// Two replicas of the gateway that is installed, beside it: those who use that one must not notice what is done to these.
struct Replicas {
    name: &'static str,
}

impl Replicas {
    /// Each with a folder of recordings of its own.
    fn apart(name: &'static str) -> Self {
        Self::new(name, &json!({"emptyDir": {}}))
    }

    /// Both with this folder for recordings.
    fn sharing(name: &'static str, folder: &Path) -> Self {
        chown(folder, Some(GATEWAY_USER), Some(GATEWAY_USER)).unwrap();
        Self::new(name, &json!({"hostPath": {"path": folder, "type": "Directory"}}))
    }

    fn new(name: &'static str, recordings: &Value) -> Self {
        let replicas = Self { name };
        replicas.delete().ok();
        let labels = json!({"sparks-test": name});
        let mut template = get(SYSTEM, "deployment", "sparks-gateway").unwrap()["spec"]["template"].clone();
        template["metadata"]["labels"] = labels.clone();
        template["spec"]["terminationGracePeriodSeconds"] = json!(1);
        let volumes = template["spec"]["volumes"].as_array_mut().unwrap();
        let volume = volumes.iter_mut().find(|volume| volume["name"] == "recordings").unwrap();
        *volume = recordings.clone();
        volume["name"] = json!("recordings");
        let ports = json!([{"name": "ssh", "port": 22, "targetPort": "ssh"}, {"name": "http", "port": 80, "targetPort": "http"}]);
        let metadata = json!({"name": name, "namespace": SYSTEM});
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
            "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}});
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"selector": labels, "ports": ports}});
        apply(&json!([deployment, service])).ok();
        kubectl(&["-n", SYSTEM, "rollout", "status", &format!("deployment/{name}")]).ok();
        replicas
    }

    fn delete(&self) -> Said {
        kubectl(&["-n", SYSTEM, "delete", "deployment,service", self.name, "--ignore-not-found"])
    }

    /// The pods, once there are two with an address.
    fn pods(&self) -> [Value; 2] {
        let selector = format!("sparks-test={}", self.name);
        eventually("two replicas", || select(SYSTEM, "pods", &selector).try_into().ok())
    }

    fn service(&self) -> String {
        get(SYSTEM, "service", self.name).unwrap()["spec"]["clusterIP"].as_str().unwrap().to_owned()
    }
}

impl Drop for Replicas {
    fn drop(&mut self) {
        let _ = self.delete();
    }
}

fn address(pod: &Value) -> &str {
    pod["status"]["podIP"].as_str().unwrap()
}

/// Kills the process of a replica, as the kernel does when there is no memory left.
fn kill(pod: &Value) {
    let id = pod["status"]["containerStatuses"][0]["containerID"].as_str().unwrap();
    let id = id.trim_start_matches("containerd://");
    assert_eq!(id.len(), 64, "{id}");
    let find = format!("grep -ls {id} /proc/[0-9]*/cgroup | cut -d/ -f3 | xargs kill -KILL");
    run("sh", &["-c", &find], "").ok();
}

/// `ssh` by one gateway. All of them are known by one name, so that a second host key would be refused.
fn ssh(door: &Door, spark: &str, host: &str, port: &str, command: &str) -> Command {
    let place = format!("{spark}.{}@{host}", shared());
    let mut ssh = Command::new("ssh");
    ssh.args(door.options("key")).args(["-o", "HostKeyAlias=any-gateway", "-p", port, &place, command]);
    ssh
}

/// A session that says back what it is told.
struct Session {
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Session {
    fn new(mut ssh: Command) -> Self {
        let mut child = ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, input, lines: BufReader::new(output).lines() }
    }

    fn echoes(&mut self, word: &str) {
        writeln!(self.input, "{word}").unwrap();
        assert_eq!(self.lines.next().unwrap().unwrap(), word);
    }
}

/// Answers each request at once, but for /hang, which it notes.
const SERVICE: &str = r#"
import http.server, os, time
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/hang":
            open("/root/hanging", "w").close()
            time.sleep(100000)
        self.send_response(204)
        self.end_headers()
http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), H).serve_forever()
"#;

#[test]
fn a_gateway_that_is_killed_takes_only_its_own_connections_along() {
    let service = json!({"command": ["python3", "-c", SERVICE], "readinessPath": "/", "public": true});
    let door = enterable("steady", &json!({"service": service}));
    until_reason(shared(), "steady", "Running");
    let replicas = Replicas::apart("sparks-gateway-killed");
    let [first, second] = replicas.pods();
    let mut sessions =
        [&first, &second].map(|pod| Session::new(ssh(door, "steady", address(pod), "2222", "cat")));
    sessions.iter_mut().for_each(|session| session.echoes("before"));
    let [mut lost, mut kept] = sessions;

    let (url, host) =
        (format!("http://{}:8080/hang", address(&first)), format!("Host: steady--{}.localhost", shared()));
    let mut curl = Command::new("curl");
    let curl =
        curl.args(["-sS", "-H", &host, &url]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("the request at the service", || {
        (inside(shared(), "steady", "test -e /root/hanging").code == 0).then_some(())
    });

    kill(&first);
    let said = Said::from(curl.wait_with_output().unwrap());
    // No answer, or a connection that was reset.
    assert!(matches!(said.code, 52 | 56) && said.out.is_empty(), "{said:?}");
    assert_eq!(lost.child.wait().unwrap().code(), Some(255));
    kept.echoes("after");
    let enters = || {
        ssh(door, "steady", &replicas.service(), "22", "echo in")
            .output()
            .ok()
            .filter(|o| o.stdout == b"in\n")
    };
    eventually("a login by the Service", enters);
    kept.echoes("still");
    drop(kept.input);
    assert!(kept.child.wait().unwrap().success());
}

/// Recordings that have ended: the hash of each, and the hash that its last line names.
fn recordings(folder: &Path) -> HashMap<String, String> {
    let casts = run("find", &[folder.to_str().unwrap(), "-name", "*.cast"], "").ok();
    casts.lines().map(|path| (hash(path), previous(path))).collect()
}

fn hash(path: &str) -> String {
    run("sha256sum", &[path], "").ok().split(' ').next().unwrap().to_owned()
}

fn previous(path: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let last = text.lines().last().unwrap().trim_start_matches("# sparks ").to_owned();
    serde_json::from_str::<Value>(&last).unwrap()["previous"].as_str().unwrap().to_owned()
}

#[test]
fn what_two_replicas_record_on_one_volume_is_one_chain_also_when_one_is_killed() {
    let door =
        enterable("chained", &json!({"ssh": {"authorizedKeys": [door().public("key")], "recording": "On"}}));
    let folder = tempfile::tempdir().unwrap();
    let replicas = Replicas::sharing("sparks-gateway-chained", folder.path());
    let [first, second] = replicas.pods();
    let enter = |pod: &Value, command: &str| ssh(door, "chained", address(pod), "2222", command);
    let mut lost = Session::new(enter(&first, "cat"));
    lost.echoes("before");
    let at_once: Vec<Child> = (0..8)
        .map(|n| enter([&first, &second][n % 2], "echo recorded").stdout(Stdio::null()).spawn().unwrap())
        .collect();
    for mut session in at_once {
        assert!(session.wait().unwrap().success());
    }
    kill(&first);
    assert_eq!(lost.child.wait().unwrap().code(), Some(255));
    let chain = eventually("an end of every recording", || {
        Some(recordings(folder.path())).filter(|recordings| recordings.len() == 9)
    });
    let status = get_spark(shared(), "chained")["status"]["recordings"].clone();
    assert_eq!(status["count"], 9);
    let mut link = status["head"].as_str().unwrap();
    let mut links = 0;
    while let Some(before) = chain.get(link) {
        (link, links) = (before, links + 1);
    }
    assert_eq!((link, links), ("", 9), "from the head in the status to the first: {chain:?}");
}
