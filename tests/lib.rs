//! Helpers of the tests on a real cluster: they use it as people do, with `kubectl` and `spark`.
//!
//! `make test` sets up the cluster and names it in `KUBECONFIG`, the image of the Sparks in `SPARKS_BASE_IMAGE`, and
//! puts both programs on the `PATH`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod report;

use std::{
    io::Write,
    process::{Command, Output, Stdio},
    sync::OnceLock,
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;

/// Longest that anything may take here. Nothing is measured by it; it only ends a test that hangs.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Namespace that the tests share; it has a pool and a Spark `source`.
pub const SHARED: &str = "sparks-tests";

/// The image that Sparks of the tests are made from.
#[must_use]
pub fn image() -> String {
    std::env::var("SPARKS_BASE_IMAGE")
        .expect("SPARKS_BASE_IMAGE names the image of the tests' Sparks: run `make test`")
}

/// What a program said.
#[derive(Debug)]
pub struct Said {
    /// Exit code; -1 when a signal ended it.
    pub code: i32,
    /// Standard output, without the white space at its end.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Said {
    /// Its standard output.
    ///
    /// # Panics
    /// When the program failed.
    #[allow(clippy::must_use_candidate, reason = "most callers only want it to succeed")]
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}\n{}", self.out, self.err);
        self.out
    }

    /// Its standard error.
    ///
    /// # Panics
    /// When the program did not fail.
    #[must_use]
    #[track_caller]
    pub fn refused(self) -> String {
        assert_ne!(self.code, 0, "it should have been refused, but said {}", self.out);
        self.err
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        Self {
            code: output.status.code().unwrap_or(-1),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }
}

/// Runs a program with an input.
#[must_use]
pub fn run(program: &str, args: &[&str], input: &str) -> Said {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}; run `make test`"));
    // A program that ends early closes its input; what it says tells why.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap().into()
}

/// Runs `kubectl`.
#[must_use]
pub fn kubectl(args: &[&str]) -> Said {
    run("kubectl", args, "")
}

/// Runs `spark` in a namespace.
#[must_use]
pub fn spark(namespace: &str, args: &[&str]) -> Said {
    run("spark", &[&["-n", namespace], args].concat(), "")
}

/// Runs a shell command inside a Spark.
#[must_use]
pub fn inside(namespace: &str, name: &str, script: &str) -> Said {
    spark(namespace, &["exec", name, "--", "sh", "-c", script])
}

/// `kubectl apply` of these objects.
#[must_use]
pub fn apply(objects: &Value) -> Said {
    run("kubectl", &["apply", "-f", "-"], &list(objects).to_string())
}

fn list(objects: &Value) -> Value {
    match objects {
        Value::Array(items) => serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items}),
        one => one.clone(),
    }
}

/// An object as the API server has it.
#[must_use]
pub fn get(namespace: &str, kind: &str, name: &str) -> Option<Value> {
    let said = kubectl(&["-n", namespace, "get", kind, name, "-o", "json", "--ignore-not-found"]).ok();
    (!said.is_empty()).then(|| serde_json::from_str(&said).unwrap())
}

/// The objects of a kind that carry a label.
#[must_use]
pub fn select(namespace: &str, kind: &str, selector: &str) -> Vec<Value> {
    let said = kubectl(&["-n", namespace, "get", kind, "-l", selector, "-o", "json"]).ok();
    serde_json::from_str::<Value>(&said).unwrap()["items"].as_array().unwrap().clone()
}

/// A Spark as the API server has it.
///
/// # Panics
/// When it isn't there.
#[must_use]
#[track_caller]
pub fn get_spark(namespace: &str, name: &str) -> Value {
    get(namespace, "sparks.sparks.loop.work", name)
        .unwrap_or_else(|| panic!("there is no Spark {namespace}/{name}"))
}

/// A condition's `(status, reason, message)`.
#[must_use]
pub fn condition(object: &Value, kind: &str) -> Option<(String, String, String)> {
    let all = object["status"]["conditions"].as_array()?;
    let found = all.iter().find(|condition| condition["type"] == kind)?;
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    Some((text("status"), text("reason"), text("message")))
}

/// What kstatus and Argo CD say of each object of a list, by its kind and name.
#[must_use]
#[track_caller]
pub fn verdicts(list: &str) -> Vec<((String, String), (String, String))> {
    let scripts = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/argocd");
    let said = run("kstatus", &["-argocd", scripts], list).ok();
    let all: Vec<Value> = serde_json::from_str(&said).unwrap();
    let text = |one: &Value, key: &str| one[key].as_str().unwrap_or_default().to_owned();
    let pair = |one: &Value, a: &str, b: &str| (text(one, a), text(one, b));
    all.iter().map(|one| (pair(one, "kind", "name"), pair(one, "kstatus", "health"))).collect()
}

/// Asks again until there is an answer.
///
/// # Panics
/// When there is none within [`PATIENCE`].
#[track_caller]
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        sleep(Duration::from_millis(50));
    }
}

/// Waits until a Spark's condition Ready has this reason, and gives the message.
#[track_caller]
pub fn until_reason(namespace: &str, name: &str, reason: &str) -> String {
    let mut last = None;
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        last = condition(&get_spark(namespace, name), "Ready");
        if let Some((_, _, message)) = last.as_ref().filter(|(_, found, _)| found == reason) {
            return message.clone();
        }
        sleep(Duration::from_millis(50));
    }
    panic!("{namespace}/{name} never said {reason}, but {last:?}");
}

/// A namespace of a test's own that enforces Pod Security *baseline* and is deleted at the end.
pub struct Space(pub String);

impl Space {
    /// Makes it.
    ///
    /// # Panics
    /// When it can't be made.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let name = format!("sparks-test-{name}");
        make_namespace(&name);
        Self(name)
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = kubectl(&["delete", "namespace", &self.0, "--wait=false"]);
    }
}

fn make_namespace(name: &str) {
    kubectl(&["delete", "namespace", name, "--ignore-not-found"]).ok();
    let labels = serde_json::json!({"pod-security.kubernetes.io/enforce": "baseline"});
    apply(&serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})).ok();
    // Pods are refused until the controller manager has made the account.
    eventually("the default service account", || get(name, "serviceaccount", "default"));
}

/// The shared namespace, with a pool of four and the Spark `source`; made once in each run.
pub fn shared() -> &'static str {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| {
        make_namespace(SHARED);
        apply(&pool(SHARED, 4)).ok();
        spark(SHARED, &["new", "source", "--image", &image()]).ok();
        inside(SHARED, "source", "echo from the source > /root/greeting").ok();
    });
    SHARED
}

/// A pool of warm pods.
#[must_use]
pub fn pool(namespace: &str, size: i32) -> Value {
    serde_json::json!({
        "apiVersion": "sparks.loop.work/v1alpha1", "kind": "SparkPool",
        "metadata": {"name": "warm", "namespace": namespace}, "spec": {"size": size}
    })
}

/// A Spark object.
#[must_use]
pub fn spark_object(namespace: &str, name: &str, spec: &Value) -> Value {
    serde_json::json!({
        "apiVersion": "sparks.loop.work/v1alpha1", "kind": "Spark",
        "metadata": {"name": name, "namespace": namespace}, "spec": spec
    })
}
