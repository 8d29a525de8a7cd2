//! Attaching volumes to a pod that was made without Kubernetes. Needs root.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use common::pod::TestPod;
use common::{TestPool, fork_of, spec, write, write_text};
use sparks_host::attach::{AttachError, AttachPlan, AttachReport, HostFile, MountPath, PlannedMount, Step};
use sparks_host::container::Container;
use sparks_host::pool::DiskSource;
use sparks_host::safe_path::Found;

const EMPTY: DiskSource = DiskSource::Empty;

/// A volume with a root as an image has it, and a data disk.
fn volume(pool: &TestPool, uid: &str) {
    pool.create(uid, &[spec("root", EMPTY, None), spec("data", EMPTY, None)]);
    let root = pool.disk(uid, "root");
    for directory in ["etc", "proc", "run", "usr"] {
        fs::create_dir(root.join(directory)).unwrap();
    }
    write_text(&root.join("etc/which"), &format!("{uid}\n"));
    write_text(&pool.disk(uid, "data").join("which"), &format!("data-of-{uid}\n"));
}

/// Attaches, and waits until the old root has gone.
fn attach(container: &Container, plan: &AttachPlan<'_>) -> Result<AttachReport, AttachError> {
    let (cleared, is_cleared) = mpsc::channel();
    let attached = sparks_host::attach::attach(container, plan, move || cleared.send(()).unwrap());
    assert_eq!(is_cleared.recv().is_ok(), attached.is_ok());
    attached
}

fn attach_volume(pod: &TestPod, pool: &TestPool, uid: &str) -> Result<AttachReport, AttachError> {
    attach_at(pod, pool, uid, "/data")
}

fn attach_at(pod: &TestPod, pool: &TestPool, uid: &str, path: &str) -> Result<AttachReport, AttachError> {
    let (root, data) = (pool.open_disk(uid, "root").unwrap(), pool.open_disk(uid, "data").unwrap());
    let file = |name, text: &str| HostFile { name, contents: text.into() };
    let plan = AttachPlan {
        root: root.as_fd(),
        mounts: vec![PlannedMount { disk: data.as_fd(), path: MountPath::parse(path)?, read_only: false }],
        files: vec![file("hosts", "127.0.0.1 localhost\n"), file("resolv.conf", "nameserver 10.0.0.1\n")],
        hostname: Some(format!("host-{uid}")),
    };
    attach(&pod.container, &plan)
}

#[test]
fn the_volume_becomes_the_root_of_the_running_pod() {
    let (pool, mut pod) = (TestPool::new(), TestPod::start());
    volume(&pool, "a");
    let report = attach_volume(&pod, &pool, "a").unwrap();
    assert_eq!(report.warnings, [""; 0]);
    assert!(report.steps.iter().any(|(step, _)| *step == Step::Pivot));

    assert_eq!(pod.read("/etc/which"), "a");
    assert_eq!(pod.read("etc/which"), "a", "the working directory moved too");
    assert_eq!(pod.exec_sees("etc/which").unwrap(), "a\n");
    assert_eq!(pod.read("/data/which"), "data-of-a");
    assert_eq!(pod.read("/etc/hosts"), "127.0.0.1 localhost");
    assert_eq!(pod.read("/proc/sys/kernel/hostname"), "host-a");
    assert_eq!(pod.run("echo x > /dev/null && test -d /dev/shm && test -d /sys/kernel && echo yes"), "yes");
    let token = "/var/run/secrets/kubernetes.io/serviceaccount/token";
    assert_eq!(pod.read(token), "of-the-pod");
}

#[test]
fn nothing_of_the_old_root_stays_mounted() {
    let (pool, mut pod) = (TestPool::new(), TestPod::start());
    volume(&pool, "a");
    let before = pod.mounts();
    assert!(before.iter().any(|mount| mount == "/usr"));
    attach_volume(&pod, &pool, "a").unwrap();
    let mut expected = [
        "/",
        "/proc",
        "/sys",
        "/dev",
        "/dev/null",
        "/dev/shm",
        "/var/run/secrets/kubernetes.io/serviceaccount",
        "/etc/sparks",
        "/data",
    ]
    .map(String::from);
    expected.sort();
    let mut after = pod.mounts();
    after.sort();
    assert_eq!(after, expected);
    assert_eq!(pod.run("test -e /etc/resolv.conf && test ! -e /resolv && echo yes"), "yes");
}

#[test]
fn files_of_the_pods_root_user_belong_to_root_on_disk_and_the_other_way_round() {
    let (pool, mut pod) = (TestPool::new(), TestPod::start());
    volume(&pool, "a");
    attach_volume(&pod, &pool, "a").unwrap();
    pod.run("echo made-inside > /data/new");
    let meta = fs::metadata(pool.disk("a", "data").join("new")).unwrap();
    assert_eq!((meta.uid(), meta.gid()), (0, 0));
    assert_eq!(pod.run("test -O /etc/which && echo mine"), "mine");
}

#[test]
fn set_user_id_works_inside_and_device_nodes_do_not() {
    let (pool, pod) = (TestPool::new(), TestPod::start());
    volume(&pool, "a");
    // As somebody else may have mounted a pool's filesystem.
    use rustix::mount::{MountFlags, MountPropagationFlags, mount_change, mount_remount};
    mount_remount(pool.mount_point(), MountFlags::empty(), c"").unwrap();
    mount_change(pool.mount_point(), MountPropagationFlags::SHARED).unwrap();
    attach_volume(&pod, &pool, "a").unwrap();
    let info = fs::read_to_string(format!("/proc/{}/mountinfo", pod.container.pid())).unwrap();
    let root = info.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
    let options = root.split(' ').nth(5).unwrap();
    assert!(options.contains("nodev") && options.contains("rw"), "{options}");
    assert!(!options.contains("nosuid") && !options.contains("noexec"), "{options}");
    assert!(!root.contains("shared:") && !root.contains("master:"), "private: {root}");
    assert!(root.contains("idmapped"), "{root}");
}

#[test]
fn a_read_only_mount_can_not_be_written() {
    let (pool, mut pod) = (TestPool::new(), TestPod::start());
    volume(&pool, "a");
    let (root, data) = (pool.open_disk("a", "root").unwrap(), pool.open_disk("a", "data").unwrap());
    let path = MountPath::parse("/srv/data").unwrap();
    let mounts = vec![PlannedMount { disk: data.as_fd(), path, read_only: true }];
    let plan = AttachPlan { root: root.as_fd(), mounts, files: vec![], hostname: None };
    attach(&pod.container, &plan).unwrap();
    assert_eq!(pod.read("/srv/data/which"), "data-of-a");
    assert!(pod.run("(echo x > /srv/data/new) 2>&1").contains("Read-only"));
    assert!(!pool.disk("a", "data").join("new").exists());
}

#[test]
fn a_mount_inside_another_mount_works_in_any_order() {
    let (pool, mut pod) = (TestPool::new(), TestPod::start());
    volume(&pool, "a");
    volume(&pool, "b");
    let open = |uid, disk| pool.open_disk(uid, disk).unwrap();
    let (root, outer, inner) = (open("a", "root"), open("a", "data"), open("b", "data"));
    let mount = |disk, path| PlannedMount { disk, path: MountPath::parse(path).unwrap(), read_only: false };
    let mounts = vec![mount(inner.as_fd(), "/data/deep/inner"), mount(outer.as_fd(), "/data")];
    attach(&pod.container, &AttachPlan { root: root.as_fd(), mounts, files: vec![], hostname: None })
        .unwrap();
    assert_eq!(pod.read("/data/which"), "data-of-a");
    assert_eq!(pod.read("/data/deep/inner/which"), "data-of-b");
}

#[test]
fn a_root_is_replaced_in_place() {
    let (pool, mut pod) = (TestPool::new(), TestPod::start());
    volume(&pool, "a");
    volume(&pool, "b");
    attach_volume(&pod, &pool, "a").unwrap();
    let mounts = pod.mounts().len();
    for uid in ["b", "a", "b"] {
        attach_volume(&pod, &pool, uid).unwrap();
        assert_eq!(pod.read("/etc/which"), uid);
        assert_eq!(pod.exec_sees("etc/which").unwrap(), format!("{uid}\n"));
        assert_eq!(pod.read("/data/which"), format!("data-of-{uid}"));
        assert_eq!(pod.read("/proc/sys/kernel/hostname"), format!("host-{uid}"));
        assert_eq!(pod.run("test -c /dev/null && test -d /dev/shm && echo yes"), "yes");
        assert_eq!(pod.mounts().len(), mounts, "{:?}", pod.mounts());
    }
}

#[test]
fn the_service_account_comes_along_where_var_run_is_a_link() {
    let (pool, mut pod) = (TestPool::new(), TestPod::start());
    for uid in ["a", "b"] {
        volume(&pool, uid);
        fs::create_dir(pool.disk(uid, "root").join("var")).unwrap();
        symlink("/run", pool.disk(uid, "root").join("var/run")).unwrap();
        // The second time the source is at run/secrets.
        attach_volume(&pod, &pool, uid).unwrap();
        assert_eq!(pod.read("/var/run/secrets/kubernetes.io/serviceaccount/token"), "of-the-pod", "{uid}");
    }
}

#[test]
fn the_agent_can_tell_which_disk_a_pod_stands_in() {
    let (pool, pod) = (TestPool::new(), TestPod::start());
    volume(&pool, "a");
    assert_eq!(pod.container.root_subvolume().unwrap(), None);
    attach_volume(&pod, &pool, "a").unwrap();
    let subvolume = pod.container.root_subvolume().unwrap().unwrap();
    let (volume, disk) = pool.find_disk(subvolume).unwrap().unwrap();
    assert_eq!((volume.uid.as_str(), disk.name.as_str()), ("a", "root"));
    assert_eq!(TestPool::new().find_disk(subvolume).unwrap(), None, "another pool does not know it");
}

/// Attaches a volume whose root was changed, and checks that the pod did not notice the failure.
fn refused(change: impl FnOnce(&Path), mount: &str) -> AttachError {
    let (pool, mut pod) = (TestPool::new(), TestPod::start());
    volume(&pool, "good");
    volume(&pool, "bad");
    attach_volume(&pod, &pool, "good").unwrap();
    let before = (pod.mounts(), pod.run("echo /*"));
    change(&pool.disk("bad", "root"));
    let error = attach_at(&pod, &pool, "bad", mount).unwrap_err();
    assert_eq!((pod.mounts(), pod.run("echo /*")), before, "after {error}");
    assert_eq!(pod.read("/etc/which"), "good");
    assert_eq!(pod.exec_sees("etc/which").unwrap(), "good\n");
    error
}

fn assert_unsafe(error: &AttachError, wanted: &str, kind: Found) {
    let matches =
        matches!(error, AttachError::UnsafeRoot { path, found } if path == wanted && *found == kind);
    assert!(matches, "{error:?}");
    assert!(error.to_string().starts_with(&format!("/{wanted} in the root is ")), "{error}");
}

#[test]
fn a_link_at_proc_is_refused_and_leads_nowhere() {
    let error = refused(
        |root| {
            fs::remove_dir(root.join("proc")).unwrap();
            symlink("/etc", root.join("proc")).unwrap();
        },
        "/data",
    );
    assert_unsafe(&error, "proc", Found::SymbolicLink);
}

#[test]
fn a_link_at_a_mount_path_is_refused_and_leads_nowhere() {
    let link = |root: &Path| symlink("../../../../etc", root.join("data")).unwrap();
    assert_unsafe(&refused(link, "/data"), "data", Found::SymbolicLink);
    assert_unsafe(&refused(link, "/data/inner"), "data", Found::SymbolicLink);
}

#[test]
fn a_file_or_a_fifo_at_a_mount_point_is_refused() {
    let error = refused(|root| write_text(&root.join("sys"), ""), "/data");
    assert_unsafe(&error, "sys", Found::File);
    let fifo = |root: &Path| {
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, root.join("data"), kind, 0o644.into(), 0).unwrap();
    };
    assert_unsafe(&refused(fifo, "/data"), "data", Found::Special);
}

#[test]
fn links_at_the_hosts_files_are_replaced_and_a_directory_is_only_a_warning() {
    let (pool, mut pod) = (TestPool::new(), TestPod::start());
    volume(&pool, "a");
    let outside = tempfile::NamedTempFile::new().unwrap();
    let root = pool.disk("a", "root");
    symlink(outside.path(), root.join("etc/resolv.conf")).unwrap();
    fs::create_dir(root.join("etc/hosts")).unwrap();
    let report = attach_volume(&pod, &pool, "a").unwrap();
    assert_eq!(report.warnings.len(), 1, "{report:?}");
    assert!(report.warnings[0].contains("/etc/hosts in the root is a directory"), "{report:?}");
    assert_eq!(pod.read("/etc/resolv.conf"), "nameserver 10.0.0.1");
    assert_eq!(fs::metadata(outside.path()).unwrap().len(), 0);
}

#[test]
fn the_attach_of_a_fork_writes_nothing_to_its_disks() {
    let (pool, pod) = (TestPool::new(), TestPod::start());
    volume(&pool, "a");
    attach_volume(&pod, &pool, "a").unwrap();
    pool.create("b", &[spec("root", fork_of("a", "root"), None), spec("data", fork_of("a", "data"), None)]);
    let before = (pool.own_bytes("b", "root"), pool.own_bytes("b", "data"));
    let mut other = TestPod::start();
    attach_volume(&other, &pool, "b").unwrap();
    assert_eq!(other.read("/etc/hosts"), "127.0.0.1 localhost");
    assert_eq!((pool.own_bytes("b", "root"), pool.own_bytes("b", "data")), before);
}

#[test]
fn the_pods_files_can_be_written_and_replaced_until_the_next_attach() {
    let (pool, mut pod) = (TestPool::new(), TestPod::start());
    volume(&pool, "a");
    attach_volume(&pod, &pool, "a").unwrap();
    assert_eq!(pod.run("test -O /etc/hosts && echo other > /etc/hosts && echo yes"), "yes");
    assert_eq!(pod.read("/etc/hosts"), "other");
    let etc = pool.disk("a", "root").join("etc");
    write_text(&etc.join("new"), "another\n");
    fs::rename(etc.join("new"), etc.join("resolv.conf")).unwrap();
    assert_eq!(pod.read("/etc/resolv.conf"), "another");
    let mut next = TestPod::start();
    pod.stop();
    attach_volume(&next, &pool, "a").unwrap();
    assert_eq!(next.read("/etc/hosts"), "127.0.0.1 localhost");
    assert_eq!(next.read("/etc/resolv.conf"), "nameserver 10.0.0.1");
}

#[test]
fn where_something_else_is_in_the_place_of_the_pods_files_they_are_on_the_disk() {
    let (pool, mut pod) = (TestPool::new(), TestPod::start());
    volume(&pool, "a");
    let outside = tempfile::tempdir().unwrap();
    symlink(outside.path(), pool.disk("a", "root").join("etc/sparks")).unwrap();
    let report = attach_volume(&pod, &pool, "a").unwrap();
    assert!(report.warnings[0].contains("/etc/sparks"), "{report:?}");
    assert_eq!(pod.run("test ! -L /etc/hosts && echo yes"), "yes");
    assert_eq!(pod.read("/etc/hosts"), "127.0.0.1 localhost");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn a_fifo_at_the_hosts_file_does_not_block() {
    let (pool, mut pod) = (TestPool::new(), TestPod::start());
    volume(&pool, "a");
    let fifo = pool.disk("a", "root").join("etc/hosts");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o644.into(), 0).unwrap();
    attach_volume(&pod, &pool, "a").unwrap();
    assert_eq!(pod.read("/etc/hosts"), "127.0.0.1 localhost");
}

#[test]
fn a_full_disk_can_still_be_attached() {
    let (pool, mut pod) = (TestPool::new(), TestPod::start());
    volume(&pool, "source");
    let limit = Some(4 * common::MIB);
    pool.create("a", &[spec("root", fork_of("source", "root"), limit), spec("data", EMPTY, None)]);
    let root = pool.disk("a", "root");
    for directory in ["sys", "dev", "data", "var/run/secrets/kubernetes.io/serviceaccount"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    let fill = (0..1000).find_map(|at| write(&root.join(format!("fill-{at}")), 64 << 10).err());
    assert!(common::is_disk_quota(&fill.unwrap()));
    let report = attach_volume(&pod, &pool, "a").unwrap();
    assert_eq!(pod.read("/etc/which"), "source");
    assert!(report.warnings.iter().all(|warning| warning.contains("quota")), "{report:?}");
}

#[test]
fn a_mount_that_the_pod_lost_is_named_and_the_pod_is_left_alone() {
    let (pool, mut pod) = (TestPool::new(), TestPod::start());
    volume(&pool, "a");
    pod.run("umount -l /sys");
    let before = pod.mounts();
    let error = attach_volume(&pod, &pool, "a").unwrap_err();
    assert!(matches!(error, AttachError::MissingMount { path: "sys" }), "{error}");
    assert_eq!(pod.mounts(), before);
    assert_eq!(pod.run("cat /resolv"), "pod-resolv");
}

#[test]
fn a_process_without_namespaces_of_its_own_is_never_attached() {
    let pool = TestPool::new();
    volume(&pool, "a");
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let container = Container::of_process("x", child.id() as i32).unwrap();
    let root = pool.open_disk("a", "root").unwrap();
    let plan = AttachPlan { root: root.as_fd(), mounts: vec![], files: vec![], hostname: Some("x".into()) };
    let error = attach(&container, &plan).unwrap_err();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(matches!(error, AttachError::NotIsolated { namespace: "user" }), "{error}");
}

#[test]
fn a_pod_that_ended_is_gone() {
    let (pool, mut pod) = (TestPool::new(), TestPod::start());
    volume(&pool, "a");
    assert!(!pod.container.wait_gone(Duration::from_millis(1)).unwrap());
    pod.stop();
    let error = attach_volume(&pod, &pool, "a").unwrap_err();
    assert!(matches!(error, AttachError::Gone), "{error}");
}

#[test]
fn mount_paths_that_are_not_the_tenants_are_refused() {
    for path in [
        "", "/", "data", "//data", "/data/", "/a//b", "/a/./b", "/a/../b", "/..", "/proc", "/proc/x",
        "/sys/fs", "/dev/shm", "/a\0b",
    ] {
        assert!(matches!(MountPath::parse(path), Err(AttachError::MountPath { .. })), "{path}");
    }
    for path in ["/data", "/processes", "/var/lib/postgresql", "/a.b/..c"] {
        assert_eq!(MountPath::parse(path).unwrap().relative(), &path[1..]);
    }
}

#[test]
fn two_disks_at_one_path_are_refused() {
    let (pool, pod) = (TestPool::new(), TestPod::start());
    volume(&pool, "a");
    let (root, data) = (pool.open_disk("a", "root").unwrap(), pool.open_disk("a", "data").unwrap());
    let mount =
        || PlannedMount { disk: data.as_fd(), path: MountPath::parse("/data").unwrap(), read_only: false };
    let plan =
        AttachPlan { root: root.as_fd(), mounts: vec![mount(), mount()], files: vec![], hostname: None };
    assert!(matches!(attach(&pod.container, &plan), Err(AttachError::MountPath { .. })));
}
