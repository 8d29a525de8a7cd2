//! A pod without Kubernetes: a shell as PID 1 in user, mount, network, PID and UTS namespaces of its own, in a small
//! root that it pivoted into, as runc does it. It runs the lines it is sent; after the pivot these can only be what
//! the shell has built in.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use sparks_host::container::Container;

/// Host ID of the pod's root user.
pub const ID_BASE: u32 = 100_000;

/// `$1` is an empty directory.
const INIT: &str = r#"
set -e
cd "$1"
mount --bind . .
cd "$1"
mkdir -p proc sys dev old etc bin lib usr var/run/secrets/kubernetes.io/serviceaccount
for d in bin lib lib64 usr; do
  if [ -d "/$d" ]; then mkdir -p "$d"; mount --rbind "/$d" "$d"; fi
done
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t tmpfs -o mode=755 tmpfs dev
touch dev/null
mount --bind /dev/null dev/null
mkdir dev/shm
mount -t tmpfs shm dev/shm
mount -t tmpfs tmpfs var/run/secrets/kubernetes.io/serviceaccount
echo of-the-pod > var/run/secrets/kubernetes.io/serviceaccount/token
echo pod-resolv > resolv
touch etc/resolv.conf
mount --bind resolv etc/resolv.conf
pivot_root . old
cd /
umount -l /old
echo ready
while IFS= read -r line; do
  set +e
  eval "$line"
  echo "end-of-answer"
done
"#;

pub struct TestPod {
    unshare: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    pub container: Container,
    _root: tempfile::TempDir,
}

impl TestPod {
    pub fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        super::make_public(root.path());
        std::os::unix::fs::chown(root.path(), Some(ID_BASE), Some(ID_BASE)).unwrap();
        // The shell waits for its ID map, then becomes root in it.
        let wait = r#"read go; exec setpriv --reuid 0 --regid 0 --clear-groups sh -c "$0" init "$1""#;
        let mut unshare = Command::new("unshare")
            .args(["--user", "--keep-caps", "--mount", "--net", "--pid", "--uts", "--fork"])
            .args(["sh", "-c", wait, INIT])
            .arg(root.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let input = unshare.stdin.take().unwrap();
        let output = BufReader::new(unshare.stdout.take().unwrap());
        let pid = first_child(unshare.id());
        fs::write(format!("/proc/{pid}/uid_map"), format!("0 {ID_BASE} 65536")).unwrap();
        fs::write(format!("/proc/{pid}/gid_map"), format!("0 {ID_BASE} 65536")).unwrap();
        let container = Container::of_process("test", pid).unwrap();
        let mut pod = Self { unshare, input, output, container, _root: root };
        writeln!(pod.input, "go").unwrap();
        let mut line = String::new();
        pod.output.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "the test pod did not start");
        pod
    }

    /// Runs a line in PID 1 and returns what it printed.
    pub fn run(&mut self, line: &str) -> String {
        writeln!(self.input, "{line}").unwrap();
        let mut answer = String::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "the pod ended; so far: {answer}");
            if line == "end-of-answer\n" {
                return answer.trim_end().to_owned();
            }
            answer.push_str(&line);
        }
    }

    /// The first line of a file as PID 1 sees it.
    pub fn read(&mut self, path: &str) -> String {
        self.run(&format!("read -r it < {path}; echo \"$it\""))
    }

    /// What is mounted in the pod: mount points in order.
    pub fn mounts(&self) -> Vec<String> {
        let info = fs::read_to_string(format!("/proc/{}/mountinfo", self.container.pid())).unwrap();
        info.lines().filter_map(|line| Some(line.split(' ').nth(4)?.to_owned())).collect()
    }

    /// What a process that is started in the pod (kubectl exec) finds in its root.
    pub fn exec_sees(&self, path: &str) -> std::io::Result<String> {
        use rustix::thread::{ThreadNameSpaceType, UnshareFlags};
        let pid = rustix::process::Pid::from_raw(self.container.pid()).unwrap();
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        let path = path.to_owned();
        let enter = move || {
            // SAFETY: only the root and the working directory of this new thread are unshared.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }?;
            let kind = ThreadNameSpaceType::MOUNT;
            rustix::thread::move_into_thread_name_spaces(std::os::fd::AsFd::as_fd(&pidfd), kind)?;
            fs::read_to_string(Path::new("/").join(path))
        };
        std::thread::spawn(enter).join().unwrap()
    }

    pub fn stop(&mut self) {
        self.kill();
        assert!(self.container.wait_gone(Duration::from_secs(10)).unwrap());
    }

    /// unshare ends with its child.
    fn kill(&mut self) {
        if self.container.is_alive() {
            let pid = rustix::process::Pid::from_raw(self.container.pid()).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        let _ = self.unshare.wait();
    }
}

impl Drop for TestPod {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A cgroup named as a container runtime names it, in whichever hierarchy this machine has.
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    pub fn new(id: &str) -> Self {
        let base = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"].map(PathBuf::from);
        let base = base.into_iter().find(|base| base.join("cgroup.procs").exists()).unwrap();
        let path = base.join(format!("sparks-test-{id}")).join(id);
        fs::create_dir_all(&path).unwrap();
        Self { path }
    }

    pub fn add(&self, pid: i32) {
        fs::write(self.path.join("cgroup.procs"), pid.to_string()).unwrap();
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for _ in 0..100 {
            let parent = self.path.parent().unwrap().to_owned();
            if fs::remove_dir(&self.path).is_ok() && fs::remove_dir(parent).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

fn first_child(parent: u32) -> i32 {
    for _ in 0..1000 {
        let children =
            fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        if let Some(pid) = children.split_whitespace().next() {
            return pid.parse().unwrap();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("unshare made no child");
}
