//! The two traits: the real host from an image to an attached Spark, and the fake held to the same rules.
//! Needs root.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use common::pod::{Cgroup, TestPod};
use common::{MIB, TestPool, fork_of, request, spec, write};
use serde_json::json;
use sparks_host::attach::{AttachError, HostFile};
use sparks_host::container::ContainerError;
use sparks_host::fake::Operation;
use sparks_host::host::{AttachRequest, AttachedDisk, DiskMount, ImageSource};
use sparks_host::pool::{DiskSource, Pool, PoolError, PoolStats};
use sparks_host::{Containers, FakeHost, Host, HostError, LinuxHost, Volumes};

fn linux_host(pool: &TestPool) -> LinuxHost {
    let path = pool.mount_point().join("inner");
    fs::create_dir(&path).unwrap();
    let source = sparks_host::pool::PoolSource::Path { path: path.clone() };
    LinuxHost::new(Pool::open(&source, &path, 0).unwrap())
}

fn container_id(test: u32) -> String {
    format!("{:060x}{test:04x}", std::process::id())
}

fn request_for(uid: &str, mount: &str) -> AttachRequest {
    let mounts = vec![DiskMount { disk: "data".into(), path: mount.into(), read_only: false }];
    let files = vec![HostFile { name: "hostname", contents: b"api\n".to_vec() }];
    AttachRequest {
        volume_uid: uid.into(),
        root_disk: "root".into(),
        mounts,
        files,
        hostname: Some("api".into()),
    }
}

#[test]
fn an_image_becomes_the_root_of_a_running_pod() {
    let (pool, mut pod) = (TestPool::new(), TestPod::start());
    let host = linux_host(&pool);
    let id = container_id(1);
    let cgroup = Cgroup::new(&id);
    cgroup.add(pod.container.pid());

    // The pod's own small root is the image: its bind mounts are left out.
    pod.run("mkdir -p /image/etc; echo from-the-image > /image/etc/which");
    let source = ImageSource { container_id: id.clone(), path: PathBuf::from("/image") };
    let report = host.import_image("img", &source, json!(null)).unwrap().unwrap();
    assert_eq!(report.files, 1);
    assert!(host.import_image("img", &source, json!(null)).unwrap().is_none(), "it is there already");

    let image = DiskSource::Image { key: "img".into() };
    let disks = [spec("root", image, None), spec("data", DiskSource::Empty, None)];
    host.create_volume(&request("a", &disks)).unwrap();
    assert_eq!(host.read_file(&id, "/resolv").unwrap().unwrap(), b"pod-resolv\n");
    assert_eq!(host.attached_disk(&id).unwrap(), None);
    assert!(host.attach(&id, &request_for("a", "/data"), Box::new(|| ())).unwrap().warnings.is_empty());
    let attached = AttachedDisk { volume_uid: "a".into(), disk: "root".into() };
    assert_eq!(host.attached_disk(&id).unwrap(), Some(attached));
    assert_eq!(pod.read("/etc/which"), "from-the-image");
    assert_eq!(pod.run("test -O /etc/which && echo mine"), "mine", "IDs were mapped back");
    assert_eq!(pod.read("/etc/hostname"), "api");

    let error = host.attach(&id, &request_for("a", "/proc/x"), Box::new(|| ())).unwrap_err();
    assert!(matches!(error, HostError::Attach(AttachError::MountPath { .. })), "{error}");
    assert!(!host.wait_gone(&id, Duration::from_millis(1)).unwrap());
    pod.stop();
    assert!(host.wait_gone(&id, Duration::from_secs(1)).unwrap());
}

/// What a reconciler relies on.
fn volumes_keep_their_promises(host: &dyn Host) {
    let empty = |name| spec(name, DiskSource::Empty, Some(64 * MIB));
    assert!(host.create_volume(&request("a", &[empty("root")])).unwrap().created);
    assert!(!host.create_volume(&request("a", &[empty("root")])).unwrap().created);
    let fork = host.create_volume(&request("b", &[spec("root", fork_of("a", "root"), None)])).unwrap();
    assert_eq!(fork.volume.disks[0].source, fork_of("a", "root"));
    assert_eq!(host.volumes().unwrap().len(), 2);

    let refused = |source| host.create_volume(&request("c", &[spec("root", source, None)])).unwrap_err();
    assert!(matches!(refused(fork_of("x", "root")), HostError::Pool(PoolError::NoVolume { .. })));
    assert!(matches!(refused(fork_of("a", "x")), HostError::Pool(PoolError::NoDisk { .. })));
    let image = DiskSource::Image { key: "x".into() };
    assert!(matches!(refused(image), HostError::Pool(PoolError::NoImage { .. })));

    host.set_limit("a", "root", Some(32 * MIB)).unwrap();
    assert_eq!(host.usage("a").unwrap()[0].limit_bytes, Some(32 * MIB));
    assert!(matches!(host.usage("x"), Err(HostError::Pool(PoolError::NoVolume { .. }))));

    host.trash_volume("a", 10).unwrap();
    host.trash_volume("a", 20).unwrap();
    assert_eq!(host.trash().unwrap()[0].deadline, 10);
    let again = host.create_volume(&request("a", &[empty("root")])).unwrap_err();
    assert!(matches!(again, HostError::Pool(PoolError::InTrash { .. })));
    assert!(host.reap_trash(9).unwrap().deleted.is_empty());
    assert_eq!(host.undelete_volume("a").unwrap().uid, "a");
    assert!(matches!(host.undelete_volume("a"), Err(HostError::Pool(PoolError::NotInTrash { .. }))));
    host.trash_volume("a", 10).unwrap();
    assert_eq!(host.reap_trash(10).unwrap().deleted, ["a"]);
    assert!(matches!(host.trash_volume("a", 1), Err(HostError::Pool(PoolError::NoVolume { .. }))));

    host.remove_image("none").unwrap();
    assert!(host.images().unwrap().is_empty());
    let nowhere = "0123456789abcdef";
    assert!(host.wait_gone(nowhere, Duration::ZERO).unwrap());
    let request = AttachRequest { mounts: vec![], ..request_for("b", "/data") };
    let error = host.attach(nowhere, &request, Box::new(|| ())).unwrap_err();
    assert!(matches!(error, HostError::Container(ContainerError::NotFound(_))), "{error}");
}

#[test]
fn the_real_host_keeps_its_promises() {
    let pool = TestPool::new();
    volumes_keep_their_promises(&linux_host(&pool));
}

#[test]
fn the_fake_host_keeps_the_same_promises() {
    volumes_keep_their_promises(&FakeHost::default());
}

#[test]
fn the_fake_host_fails_when_it_is_told_to_and_only_then() {
    let host = FakeHost::default();
    host.fail_next(Operation::CreateVolume, PoolError::Full { free: 1, reserve: 2 }.into());
    let disks = [spec("root", DiskSource::Empty, None)];
    let error = host.create_volume(&request("a", &disks)).unwrap_err();
    assert!(matches!(error, HostError::Pool(PoolError::Full { free: 1, reserve: 2 })));
    assert!(host.create_volume(&request("a", &disks)).unwrap().created);
    host.set_stats(PoolStats { size_bytes: 10, free_bytes: 1, reserve_bytes: 5 });
    assert!(matches!(
        host.create_volume(&request("b", &disks)),
        Err(HostError::Pool(PoolError::Full { free: 1, reserve: 5 }))
    ));
    host.set_usage("a", "root", 100);
    assert_eq!(host.usage("a").unwrap()[0].exclusive_bytes, 100);
    assert!(matches!(
        host.set_limit("a", "root", Some(99)),
        Err(HostError::Pool(PoolError::LimitBelowUsage { .. }))
    ));
}

#[test]
fn the_fake_host_remembers_what_was_attached_and_connected() {
    let host = FakeHost::default();
    host.add_container("c", &[("/etc/resolv.conf", b"nameserver 10.0.0.1\n")]);
    let disks = [spec("root", DiskSource::Empty, None), spec("data", DiskSource::Empty, None)];
    host.create_volume(&request("a", &disks)).unwrap();
    assert_eq!(host.attached_disk("c").unwrap(), None);
    host.attach("c", &request_for("a", "/data"), Box::new(|| ())).unwrap();
    assert_eq!(host.attaches("c"), [request_for("a", "/data")]);
    assert_eq!(host.attached_disk("c").unwrap().unwrap().volume_uid, "a");
    assert_eq!(host.read_file("c", "/etc/resolv.conf").unwrap().unwrap(), b"nameserver 10.0.0.1\n");
    assert_eq!(host.read_file("c", "/etc/hosts").unwrap(), None);

    host.connect("c", "guest").unwrap().write_all(b"hello").unwrap();
    let mut heard = String::new();
    host.accepted("c", "guest").remove(0).read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "hello");
    host.remove_container("c");
    assert!(host.wait_gone("c", Duration::ZERO).unwrap());
}

#[test]
fn what_a_disk_uses_is_told_through_the_trait() {
    let pool = TestPool::new();
    let host = linux_host(&pool);
    host.create_volume(&request("a", &[spec("root", DiskSource::Empty, None)])).unwrap();
    write(&host.pool().disk_path("a", "root").unwrap().join("file"), 4 * MIB).unwrap();
    common::sync(&pool.mount_point());
    assert!(host.usage("a").unwrap()[0].exclusive_bytes >= 4 * MIB);
    assert!(host.stats().unwrap().free_bytes > 0);
}
