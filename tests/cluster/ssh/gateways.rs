//! Replicas of the gateway are equal, and one that dies takes only its own connections along.

use std::{
    io::{BufRead, BufReader, Lines, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::{Value, json};
use sparks_tests::{Said, apply, eventually, get, inside, kubectl, run, select, shared, until_reason};

use super::{Door, enterable};

const SYSTEM: &str = "sparks-system";
const NAME: &str = "sparks-gateway-tested";

/// Two replicas of the gateway that is installed, beside it: those who use that one must not notice what is done to these.
struct Replicas;

impl Replicas {
    fn new() -> Self {
        Self::delete();
        let labels = json!({"sparks-test": NAME});
        let mut template = get(SYSTEM, "deployment", "sparks-gateway").unwrap()["spec"]["template"].clone();
        template["metadata"]["labels"] = labels.clone();
        template["spec"]["terminationGracePeriodSeconds"] = json!(1);
        let ports = json!([{"name": "ssh", "port": 22, "targetPort": "ssh"}, {"name": "http", "port": 80, "targetPort": "http"}]);
        let metadata = json!({"name": NAME, "namespace": SYSTEM});
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
            "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}});
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"selector": labels, "ports": ports}});
        let replicas = Self;
        apply(&json!([deployment, service])).ok();
        kubectl(&["-n", SYSTEM, "rollout", "status", &format!("deployment/{NAME}")]).ok();
        replicas
    }

    fn delete() {
        kubectl(&["-n", SYSTEM, "delete", "deployment,service", NAME, "--ignore-not-found"]).ok();
    }

    /// The pods, once there are two with an address.
    fn pods() -> [Value; 2] {
        let selector = format!("sparks-test={NAME}");
        eventually("two replicas", || select(SYSTEM, "pods", &selector).try_into().ok())
    }

    fn service() -> String {
        get(SYSTEM, "service", NAME).unwrap()["spec"]["clusterIP"].as_str().unwrap().to_owned()
    }
}

impl Drop for Replicas {
    fn drop(&mut self) {
        let _ = kubectl(&["-n", SYSTEM, "delete", "deployment,service", NAME]);
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
fn ssh(door: &Door, host: &str, port: &str, command: &str) -> Command {
    let place = format!("steady.{}@{host}", shared());
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
    let _replicas = Replicas::new();
    let [first, second] = Replicas::pods();
    let mut sessions = [&first, &second].map(|pod| Session::new(ssh(door, address(pod), "2222", "cat")));
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
    let enters =
        || ssh(door, &Replicas::service(), "22", "echo in").output().ok().filter(|o| o.stdout == b"in\n");
    eventually("a login by the Service", enters);
    kept.echoes("still");
    drop(kept.input);
    assert!(kept.child.wait().unwrap().success());
}
